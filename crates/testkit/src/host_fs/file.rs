//! Open files of a real directory.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;
use spfs_vfs::api::{Allocate, Error, File, Ino, Result, Seek};

use super::convert::error_of;
use super::{Shared, as_caller};

/// An open file of a [`HostFs`](super::HostFs).
pub struct HostFile {
    fd: OwnedFd,
    shared: Arc<Shared>,
    ino: Ino,
}

impl fmt::Debug for HostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFile({})", self.ino)
    }
}

impl HostFile {
    pub(super) fn new(fd: OwnedFd, shared: Arc<Shared>, ino: Ino) -> Self {
        Self { fd, shared, ino }
    }

    /// tmpfs has no FALLOC_FL_ZERO_RANGE.
    fn zero_by_hand(&self, offset: u64, len: u64, grows: bool) -> Result<()> {
        let stat = rustix::fs::fstat(&self.fd).map_err(error_of("stat"))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let end = offset + len;
        if grows && size < end {
            rustix::fs::ftruncate(&self.fd, end).map_err(error_of("grow"))?;
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.fd, hole, offset, len).map_err(error_of("zero"))
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        self.shared.with_entry(self.ino, |entry| entry.open_files -= 1);
        self.shared.reap(self.ino);
    }
}

impl File for HostFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let read = rustix::io::pread(&self.fd, &mut buf[done..], offset + done as u64)
                .map_err(error_of("read"))?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, data: &[u8], kill_privileges: bool) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            done += as_caller(kill_privileges, || {
                rustix::io::pwrite(&self.fd, &data[done..], offset + done as u64)
                    .map_err(error_of("write"))
            })?;
        }
        Ok(())
    }

    fn write_back(&self, offset: u64, data: &[u8]) -> Result<()> {
        let stat = rustix::fs::fstat(&self.fd).map_err(error_of("stat"))?;
        self.write_at(offset, data, false)?;
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        let times = Timestamps { last_access: omit, last_modification: mtime };
        rustix::fs::futimens(&self.fd, &times).map_err(error_of("set the times"))
    }

    fn allocate(&self, offset: u64, len: u64, how: Allocate, kill_privileges: bool) -> Result<()> {
        let (flags, zeroes) = match how {
            Allocate::Extend => (FallocateFlags::empty(), false),
            Allocate::KeepSize => (FallocateFlags::KEEP_SIZE, false),
            Allocate::PunchHole => (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, false),
            Allocate::ZeroRange => (FallocateFlags::ZERO_RANGE, true),
            Allocate::ZeroRangeKeepSize => {
                (FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, true)
            }
        };
        as_caller(kill_privileges, || match rustix::fs::fallocate(&self.fd, flags, offset, len) {
            Err(Errno::OPNOTSUPP) if zeroes && len > 0 => {
                self.zero_by_hand(offset, len, how == Allocate::ZeroRange)
            }
            result => result.map_err(error_of("allocate")),
        })
    }

    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        let whence = match what {
            Seek::Data => SeekFrom::Data(offset),
            Seek::Hole => SeekFrom::Hole(offset),
        };
        rustix::fs::seek(&self.fd, whence).map_err(error_of("seek"))
    }

    fn sync(&self) -> Result<()> {
        match rustix::fs::fsync(&self.fd) {
            Err(Errno::INVAL) => Err(Error::NotSupported),
            result => result.map_err(error_of("sync")),
        }
    }
}
