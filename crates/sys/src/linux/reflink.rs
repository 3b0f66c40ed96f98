//! FICLONE.

use std::fs::File;
use std::io;
use std::path::Path;

pub(crate) fn clone_file(src: &File, dst: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(dst, src)?)
}

pub(crate) fn clone_new(src: &File, dst: &Path) -> io::Result<File> {
    crate::reflink::clone_into_new(src, dst)
}
