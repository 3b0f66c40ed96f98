//! FICLONE and FICLONERANGE.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

pub(crate) fn clone_file(src: &File, dst: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(dst, src)?)
}

pub(crate) fn clone_range(
    src: &File,
    src_offset: u64,
    dst: &File,
    dst_offset: u64,
    len: u64,
) -> io::Result<()> {
    let range = libc::file_clone_range {
        src_fd: i64::from(src.as_raw_fd()),
        src_offset,
        src_length: len,
        dest_offset: dst_offset,
    };
    // SAFETY: the kernel reads one `file_clone_range` through the pointer, which is valid.
    match unsafe { libc::ioctl(dst.as_raw_fd(), libc::FICLONERANGE, &raw const range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn clone_new(src: &File, dst: &Path) -> io::Result<File> {
    crate::reflink::clone_into_new(src, dst)
}
