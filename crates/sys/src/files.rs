//! Content of open files: holes, space, durability; and the figures of a volume.
//!
//! Offsets and lengths are bytes. Functions named `seek_…` move the descriptor's own position:
//! everything else in this project reads and writes at explicit offsets.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use crate::platform;

/// Makes a range read as zeros and gives its space back; the size stays.
///
/// # Errors
/// `EOPNOTSUPP` where the volume has no holes ([`crate::reflink::is_unsupported`]).
pub fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    platform::files::punch_hole(file, offset, len)
}

/// Makes the first `len` bytes read as zeros, to which the file grows: it asks the file
/// system for just that and tries nothing else.
///
/// # Errors
/// `EOPNOTSUPP` where the file system does not know this.
pub fn zero_all(file: &File, len: u64) -> io::Result<()> {
    platform::files::zero_all(file, len)
}

/// Opens a file for reading and writing by a path below an open directory, on the same mount and
/// without following a symbolic link. Does not wait for a pipe's other end.
///
/// # Errors
/// `ELOOP`, `EXDEV` for what is not so; as open(2).
pub fn open_beneath(dir: &File, path: &Path) -> io::Result<File> {
    platform::files::open_beneath(dir, path)
}

/// Reserves space for a range. Unless `keep_size`, the file grows to the end of the range.
///
/// # Errors
/// `ENOSPC` when the volume is full, `EOPNOTSUPP` where it cannot reserve.
pub fn allocate(file: &File, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
    platform::files::allocate(file, offset, len, keep_size)
}

/// Returns the first offset at or after `offset` that holds data; `None` when none follows.
///
/// # Errors
/// When the file cannot seek.
pub fn seek_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    found(rustix::fs::seek(file, SeekFrom::Data(offset)))
}

/// Returns the first offset at or after `offset` that lies in a hole, the end of the file counting
/// as one; `None` beyond the end.
///
/// # Errors
/// When the file cannot seek.
pub fn seek_hole(file: &File, offset: u64) -> io::Result<Option<u64>> {
    found(rustix::fs::seek(file, SeekFrom::Hole(offset)))
}

fn found(result: rustix::io::Result<u64>) -> io::Result<Option<u64>> {
    match result {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sets the modification time of an open file: seconds since the epoch and nanoseconds. The access
/// time stays.
///
/// # Errors
/// As futimens(2).
pub fn set_mtime(file: &File, (seconds, nanoseconds): (i64, u32)) -> io::Result<()> {
    modify(file, Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() })
}

/// Gives an open file the present time of its volume as modification time.
///
/// # Errors
/// As futimens(2).
pub fn renew(file: &File) -> io::Result<()> {
    modify(file, Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW })
}

fn modify(file: &File, last_modification: Timespec) -> io::Result<()> {
    let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?)
}

/// Makes the content of a file, and what is needed to read it, survive a power loss.
///
/// # Errors
/// When the device reports that it could not write: what was written before is then in doubt.
pub fn sync_data(file: &File) -> io::Result<()> {
    platform::files::sync_data(file)
}

/// Lets the system begin to write what a file was given, so that a sync which follows soon has less to
/// wait for. Makes nothing durable; where it cannot be asked for, nothing happens.
pub fn begin_write_back(file: &File) {
    platform::files::begin_write_back(file);
}

/// Makes content and all attributes of a file or directory survive a power loss.
///
/// # Errors
/// As [`sync_data`].
pub fn sync_all(file: &File) -> io::Result<()> {
    platform::files::sync_all(file)
}

/// Reads at `offset` what memory holds, and returns how many bytes; `None` where that would have to
/// wait for a disk or a server, or the system cannot tell.
///
/// # Errors
/// When reading fails.
pub fn read_now(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    platform::files::read_now(file, buffer, offset)
}

/// Begins to bring the first `len` bytes of a file into memory, without waiting for them; nothing
/// where the system does not do that.
pub fn will_need(file: &File, len: u64) {
    platform::files::will_need(file, len);
}

/// Makes everything on the volume of `file` survive a power loss.
///
/// # Errors
/// As [`sync_data`]. On Linux before 5.8 write errors of other files are not reported.
pub fn syncfs(file: &File) -> io::Result<()> {
    platform::files::syncfs(file)
}

/// The figures of a volume, in units of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Unit of the block counts, in bytes.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, in bytes.
    pub name_max: u64,
}

/// Returns the figures of the volume that holds an open file or directory.
///
/// # Errors
/// When the volume does not answer.
pub fn fstatvfs(file: impl AsFd) -> io::Result<Figures> {
    Ok(figures(&rustix::fs::fstatvfs(file)?))
}

fn figures(stat: &rustix::fs::StatVfs) -> Figures {
    Figures {
        block_size: stat.f_frsize,
        blocks: stat.f_blocks,
        blocks_free: stat.f_bfree,
        blocks_available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        name_max: stat.f_namemax,
    }
}

#[cfg(test)]
mod tests;
