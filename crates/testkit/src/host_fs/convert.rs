//! The kernel's values as values of the core.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dev, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use spfs_vfs::api::{Attr, Error, FileType, Ino, NewKind, Owner, Result, Timestamp};

use super::Key;

/// What the kernel tells of an inode; `attr.ino` is not yet the number that the file system gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) key: Key,
    pub(super) attr: Attr,
}

pub(super) fn stat_of(fd: &OwnedFd) -> Result<Stat> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, flags).map_err(error_of("stat"))?;
    let mode = u32::from(stat.stx_mode);
    let attr = Attr {
        ino: Ino(0),
        file_type: type_of(rustix::fs::FileType::from_raw_mode(mode))?,
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        owner: Owner { uid: stat.stx_uid, gid: stat.stx_gid },
        rdev: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time_of(stat.stx_atime),
        mtime: time_of(stat.stx_mtime),
        ctime: time_of(stat.stx_ctime),
        crtime: time_of(stat.stx_btime),
    };
    let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Ok(Stat { key: (dev, stat.stx_ino), attr })
}

fn time_of(time: StatxTimestamp) -> Timestamp {
    Timestamp { secs: time.tv_sec, nanos: time.tv_nsec }
}

pub(super) fn type_of(file_type: rustix::fs::FileType) -> Result<FileType> {
    Ok(match file_type {
        rustix::fs::FileType::RegularFile => FileType::Regular,
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::Fifo,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::Unknown => return Err(Error::NotSupported),
    })
}

/// Returns what mknod(2) needs for a kind that it makes.
pub(super) fn device_of(kind: NewKind<'_>) -> Option<(rustix::fs::FileType, Dev)> {
    match kind {
        NewKind::Fifo => Some((rustix::fs::FileType::Fifo, 0)),
        NewKind::Socket => Some((rustix::fs::FileType::Socket, 0)),
        NewKind::CharDevice(rdev) => Some((rustix::fs::FileType::CharacterDevice, rdev)),
        NewKind::BlockDevice(rdev) => Some((rustix::fs::FileType::BlockDevice, rdev)),
        NewKind::Regular | NewKind::Directory | NewKind::Symlink(_) => None,
    }
}

/// Names an errno as the core does.
pub(super) fn error_of(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::NOENT => Error::NotFound,
        Errno::EXIST => Error::Exists,
        Errno::NOTDIR => Error::NotDirectory,
        Errno::ISDIR => Error::IsDirectory,
        Errno::NOTEMPTY => Error::NotEmpty,
        Errno::ROFS => Error::ReadOnly,
        Errno::INVAL => Error::Invalid,
        Errno::PERM => Error::NotPermitted,
        Errno::MLINK => Error::TooManyLinks,
        Errno::NAMETOOLONG => Error::NameTooLong,
        Errno::NODATA => Error::NoAttribute,
        Errno::TOOBIG => Error::AttributeTooLarge,
        Errno::FBIG => Error::FileTooLarge,
        Errno::NXIO => Error::NoSuchAddress,
        Errno::OPNOTSUPP => Error::NotSupported,
        Errno::STALE => Error::Stale,
        other => Error::scratch(doing, io::Error::from(other)),
    }
}
