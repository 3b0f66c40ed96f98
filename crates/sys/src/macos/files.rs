//! Holes and space by fcntl(2), and syncs that reach the drive.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// Blocks of APFS: F_PUNCHHOLE takes whole ones only.
const BLOCK_BYTES: u64 = 4096;

pub(crate) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let end = offset.checked_add(len).ok_or(Errno::FBIG)?.min(file.metadata()?.len());
    if offset >= end {
        return Ok(());
    }
    let inner_start = offset.next_multiple_of(BLOCK_BYTES);
    let inner_end = end - end % BLOCK_BYTES;
    if inner_start >= inner_end {
        return write_zeros(file, offset, end);
    }
    write_zeros(file, offset, inner_start)?;
    write_zeros(file, inner_end, end)?;
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: signed(inner_start)?,
        fp_length: signed(inner_end - inner_start)?,
    };
    // SAFETY: the kernel reads one `fpunchhole_t` through the pointer, which is valid.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } {
        -1 => write_zeros(file, inner_start, inner_end),
        _ => Ok(()),
    }
}

pub(crate) fn zero_all(_file: &File, _len: u64) -> io::Result<()> {
    Err(Errno::NOTSUP.into())
}

pub(crate) fn open_beneath(_dir: &File, _path: &std::path::Path) -> io::Result<File> {
    Err(Errno::NOTSUP.into())
}

fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let zeros = [0; BLOCK_BYTES as usize];
    let mut at = start;
    while at < end {
        let count = (end - at).min(BLOCK_BYTES) as usize;
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

pub(crate) fn allocate(file: &File, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
    let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
    let size = file.metadata()?.len();
    if end > size {
        // Counted from the end of what the file has; holes inside stay holes.
        let store = libc::fstore_t {
            fst_flags: libc::F_ALLOCATEALL,
            fst_posmode: libc::F_PEOFPOSMODE,
            fst_offset: 0,
            fst_length: signed(end - size)?,
            fst_bytesalloc: 0,
        };
        // SAFETY: the kernel reads and writes one `fstore_t` through the pointer, which is valid.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw const store) } == -1 {
            return Err(io::Error::last_os_error());
        }
        if !keep_size {
            file.set_len(end)?;
        }
    }
    Ok(())
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| Errno::FBIG.into())
}

/// macOS cannot tell what memory holds.
pub(crate) fn read_now(_: &File, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
    Ok(None)
}

pub(crate) fn will_need(_file: &File, _len: u64) {}

pub(crate) fn begin_write_back(_file: &File) {}

pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    sync_all(file)
}

/// fsync(2) on macOS only hands the data to the drive, which may keep it in its cache.
pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    match rustix::fs::fcntl_fullfsync(file) {
        Ok(()) => Ok(()),
        // Network volumes have no drive to flush.
        Err(Errno::NOTSUP | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => {
            Ok(rustix::fs::fsync(file)?)
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn syncfs(file: &File) -> io::Result<()> {
    // unistd.h; waits for the volume and flushes the drive's cache.
    const SYNC_VOLUME_FULLSYNC: libc::c_int = 0x01;
    const SYNC_VOLUME_WAIT: libc::c_int = 0x02;
    unsafe extern "C" {
        fn fsync_volume_np(fd: libc::c_int, flags: libc::c_int) -> libc::c_int;
    }
    // SAFETY: takes numbers only.
    let code =
        unsafe { fsync_volume_np(file.as_raw_fd(), SYNC_VOLUME_FULLSYNC | SYNC_VOLUME_WAIT) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
