//! Where the bytes of changed files live: numbered files, never paths or names of the user's.
//!
//! A name of the user's never reaches the disk below (it may fold case or normalise names), and
//! owners, modes, devices and extended attributes are metadata, never real ones on scratch files.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::api::Statfs;

/// The number of a scratch file; never given twice in the life of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScratchId(pub u64);

impl fmt::Display for ScratchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes keyed by number.
pub trait Scratch: fmt::Debug + Send + Sync {
    /// Makes a new, empty file.
    fn create(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>>;
    /// Opens a file to read and write.
    fn open(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>>;
    /// Removes a file.
    fn remove(&self, id: ScratchId) -> io::Result<()>;
    /// The path of a file, for moving or cloning it into a repository.
    fn path(&self, id: ScratchId) -> PathBuf;
    /// All files that are there.
    fn list(&self) -> io::Result<Vec<ScratchId>>;
    /// Makes the names of all files durable, and with `contents` what they hold.
    fn sync(&self, contents: bool) -> io::Result<()>;
    /// Figures of the volume.
    fn statfs(&self) -> io::Result<Statfs>;
}

/// One open scratch file.
pub trait ScratchFile: fmt::Debug + Send + Sync {
    /// Reads at an offset; fewer bytes only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads what memory holds; `None` when it might have to wait.
    fn read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let _ = (buf, offset);
        Ok(None)
    }
    /// Writes all bytes at an offset.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes, allocated 512-byte blocks, number of names.
    fn stat(&self) -> io::Result<ScratchStat>;
    /// Reserves space; the length stays.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Gives space back; the range reads as zeros, the length stays.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()>;
    /// The next data at or behind an offset.
    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>>;
    /// The next hole at or behind an offset.
    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>>;
    /// Shares all blocks of `source` (FICLONE, clonefile).
    fn clone_from(&self, source: &File) -> io::Result<()>;
    /// Sets the time of the last change of content: seconds and nanoseconds.
    fn set_mtime(&self, mtime: (i64, u32)) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes content, length and times durable.
    fn sync_all(&self) -> io::Result<()>;
}

/// What a scratch file is like on disk.
#[derive(Debug, Clone, Copy)]
pub struct ScratchStat {
    /// Length in bytes.
    pub len: u64,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Number of names; above 1 a repository shares the file, and it must not be written.
    pub links: u64,
    /// Last change of content: seconds and nanoseconds.
    pub mtime: (i64, u32),
}

/// Scratch files in a directory: `<number>` each.
#[derive(Debug)]
pub struct DirScratch {
    dir: PathBuf,
    handle: File,
}

impl DirScratch {
    /// Uses a directory, made when it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(Self { dir: dir.to_owned(), handle: File::open(dir)? })
    }

    fn file(&self, id: ScratchId, create: bool) -> io::Result<Box<dyn ScratchFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create).mode(0o666);
        Ok(Box::new(DirScratchFile { file: options.open(self.path(id))? }))
    }
}

impl Scratch for DirScratch {
    fn create(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>> {
        self.file(id, true)
    }

    fn open(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>> {
        self.file(id, false)
    }

    fn remove(&self, id: ScratchId) -> io::Result<()> {
        fs::remove_file(self.path(id))
    }

    fn path(&self, id: ScratchId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn list(&self) -> io::Result<Vec<ScratchId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
                ids.push(ScratchId(id));
            }
        }
        Ok(ids)
    }

    fn sync(&self, contents: bool) -> io::Result<()> {
        if contents {
            spfs_sys::files::syncfs(&self.handle)
        } else {
            spfs_sys::files::sync_all(&self.handle)
        }
    }

    fn statfs(&self) -> io::Result<Statfs> {
        let figures = spfs_sys::files::fstatvfs(&self.handle)?;
        Ok(Statfs {
            block_size: u32::try_from(figures.block_size).unwrap_or(4096),
            blocks: figures.blocks,
            blocks_free: figures.blocks_free,
            blocks_available: figures.blocks_available,
            files: figures.files,
            files_free: figures.files_free,
        })
    }
}

#[derive(Debug)]
struct DirScratchFile {
    file: File,
}

impl ScratchFile for DirScratchFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(&self.file, buf, offset)
    }

    fn read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        spfs_sys::files::read_now(&self.file, buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn stat(&self) -> io::Result<ScratchStat> {
        let stat = self.file.metadata()?;
        let mtime = (stat.mtime(), stat.mtime_nsec() as u32);
        Ok(ScratchStat { len: stat.len(), blocks: stat.blocks(), links: stat.nlink(), mtime })
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        spfs_sys::files::allocate(&self.file, offset, len, true)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        spfs_sys::files::punch_hole(&self.file, offset, len)
    }

    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>> {
        spfs_sys::files::seek_data(&self.file, offset)
    }

    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        spfs_sys::files::seek_hole(&self.file, offset)
    }

    fn clone_from(&self, source: &File) -> io::Result<()> {
        spfs_sys::reflink::clone_file(source, &self.file)
    }

    fn set_mtime(&self, mtime: (i64, u32)) -> io::Result<()> {
        spfs_sys::files::set_mtime(&self.file, mtime)
    }

    fn sync_data(&self) -> io::Result<()> {
        spfs_sys::files::sync_data(&self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        spfs_sys::files::sync_all(&self.file)
    }
}

/// How many bytes are written again at a time.
const AGAIN_BYTES: usize = 1 << 20;

/// Writes to a file what it holds. After a sync that failed, the system may take what it could not write for
/// written (ext4 and XFS on Linux do): only bytes that were written since are tried again by the next one.
pub(crate) fn write_again(file: &dyn ScratchFile) -> io::Result<()> {
    let stat = file.stat()?;
    let mut at = 0;
    while let Some(start) = file.seek_data(at)? {
        at = file.seek_hole(start)?.unwrap_or(stat.len);
        write_range_again(
            start..at,
            |buf, at| file.read_at(buf, at),
            |data, at| file.write_all_at(data, at),
        )?;
    }
    file.set_mtime(stat.mtime)
}

/// Writes what `read` finds in a range to the same place.
pub(crate) fn write_range_again(
    range: Range<u64>,
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    write: impl Fn(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = vec![0; AGAIN_BYTES];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(AGAIN_BYTES as u64) as usize;
        let read = read(&mut bytes[..len], at)?;
        if read == 0 {
            break;
        }
        write(&bytes[..read], at)?;
        at += read as u64;
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends.
pub(crate) fn read_full(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
