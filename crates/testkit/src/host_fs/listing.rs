//! Reading a real directory from a cookie on.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use spfs_vfs::api::{Cookie, DirEntry, Ino, Name, Result};

use super::convert::{Stat, error_of};

/// Opens a directory that is held by an `O_PATH` descriptor.
pub(super) fn open(dir: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
    rustix::fs::openat(dir, c".", flags, Mode::empty()).map_err(error_of("open a directory"))
}

/// Calls `each` for the entries after `after`; `find` tells what a name stands for.
///
/// The descriptor is opened anew every time, so nothing but the cookie says where to go on.
pub(super) fn read(
    dir: &OwnedFd,
    after: Cookie,
    find: &dyn Fn(Name<'_>) -> Result<(Ino, Stat)>,
    each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let dir = open(dir)?;
    rustix::fs::seek(&dir, SeekFrom::Start(after.0)).map_err(error_of("seek in a directory"))?;
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(error_of("read a directory"))?;
        let cookie = Cookie(entry.next_entry_cookie());
        // What is no name is `.` or `..`.
        let Ok(name) = Name::new(entry.file_name().to_bytes()) else { continue };
        let (ino, stat) = find(name)?;
        let file_type = stat.attr.file_type;
        if each(DirEntry { name, ino, file_type, cookie }).is_break() {
            break;
        }
    }
    Ok(())
}
