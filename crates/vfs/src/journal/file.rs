//! The file below a journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::scratch::{read_full, write_range_again};

/// What a journal needs of its file.
pub trait LogFile: Send + Sync {
    /// Writes all bytes at an offset.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves space up to `end`; the length stays. Where the volume cannot, that is no error.
    fn reserve(&self, end: u64) -> io::Result<()>;
    /// Lets what was written be on its way to the disk; a hint.
    fn begin_sync(&self) {}
    /// Makes everything written durable.
    fn sync(&self) -> io::Result<()>;
    /// Writes the first `end` bytes to where they are: after a sync that failed the next one would
    /// not try them again.
    fn write_again(&self, end: u64) -> io::Result<()>;
}

/// A journal in a real file.
#[derive(Debug)]
pub struct JournalFile(pub File);

impl LogFile for JournalFile {
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn reserve(&self, end: u64) -> io::Result<()> {
        match spfs_sys::files::allocate(&self.0, 0, end, true) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            other => other,
        }
    }

    fn begin_sync(&self) {
        spfs_sys::files::begin_write_back(&self.0);
    }

    fn sync(&self) -> io::Result<()> {
        spfs_sys::files::sync_data(&self.0)
    }

    fn write_again(&self, end: u64) -> io::Result<()> {
        write_range_again(
            0..end,
            |buf, at| read_full(&self.0, buf, at),
            |data, at| self.0.write_all_at(data, at),
        )
    }
}
