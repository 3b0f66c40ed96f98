//! fallocate(2), fdatasync(2), sync_file_range(2).

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

pub(crate) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
}

pub(crate) fn allocate(file: &File, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
    fallocate(file, size_flag(keep_size), offset, len)
}

pub(crate) fn zero_all(file: &File, len: u64) -> io::Result<()> {
    fallocate(file, FallocateFlags::ZERO_RANGE, 0, len)
}

pub(crate) fn open_beneath(dir: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = || rustix::fs::openat2(dir, path, flags, Mode::empty(), how);
    Ok(File::from(retry_on_intr(open)?))
}

fn size_flag(keep_size: bool) -> FallocateFlags {
    if keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() }
}

fn fallocate(file: &File, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
    if len == 0 {
        // fallocate(2) calls an empty range an error; for us it is nothing to do.
        return Ok(());
    }
    Ok(retry_on_intr(|| rustix::fs::fallocate(file, flags, offset, len))?)
}

/// RWF_NOWAIT, which begins to read ahead what is not there.
pub(crate) fn read_now(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    let mut buffers = [IoSliceMut::new(buffer)];
    match rustix::io::preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        Ok(count) => Ok(Some(count)),
        // EOPNOTSUPP: a file system that cannot tell. EINVAL: a kernel that does not know the flag.
        Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn will_need(file: &File, len: u64) {
    // Advice: where it cannot be followed, reading is as slow as without it.
    let _ = rustix::fs::fadvise(file, 0, NonZeroU64::new(len), Advice::WillNeed);
}

/// sync_file_range(2) without waiting.
pub(crate) fn begin_write_back(file: &File) {
    // SAFETY: the call takes a descriptor that is open while `file` lives, and numbers.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fdatasync(file))?)
}

pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fsync(file))?)
}

pub(crate) fn syncfs(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::syncfs(file))?)
}
