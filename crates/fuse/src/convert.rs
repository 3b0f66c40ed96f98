//! Values of the protocol and values of the core.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, INodeNo, TimeOrNow};
use spfs_model::mode;
use spfs_vfs::api::{Attr, FileType, NewKind, SetTime, Timestamp};

/// What stat(2) tells as the preferred size of a read or write. The kernel also takes it for the
/// granularity of its partly written pages, so it is one page and not more.
const BLOCK_SIZE: u32 = 4096;

pub(crate) fn attr(id: INodeNo, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: id,
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.crtime),
        kind: file_type(attr.file_type),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.owner.uid,
        gid: attr.owner.gid,
        // The protocol has 32 bits; the kernel's own device numbers have no more.
        rdev: attr.rdev as u32,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// Attributes of which only the type and the number are looked at: those of `.` and `..` in a
/// listing, and those of a name that does not exist.
pub(crate) fn bare_attr(id: INodeNo, kind: fuser::FileType) -> FileAttr {
    FileAttr {
        ino: id,
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(crate) fn file_type(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
    }
}

/// What MKNOD makes; `None` for what it cannot.
pub(crate) fn new_kind(mode: u32, rdev: u32) -> Option<NewKind<'static>> {
    // The protocol's types are the same numbers on every system.
    const FIFO: u32 = 0o010_000;
    const CHAR_DEVICE: u32 = 0o020_000;
    const BLOCK_DEVICE: u32 = 0o060_000;
    const SOCKET: u32 = 0o140_000;
    let device = u64::from(rdev);
    match mode & mode::TYPE {
        // mknod(2): no type stands for a regular file.
        mode::REGULAR | 0 => Some(NewKind::Regular),
        FIFO => Some(NewKind::Fifo),
        SOCKET => Some(NewKind::Socket),
        CHAR_DEVICE => Some(NewKind::CharDevice(device)),
        BLOCK_DEVICE => Some(NewKind::BlockDevice(device)),
        _ => None,
    }
}

/// The permission bits of a mode.
pub(crate) fn permissions(mode: u32) -> u16 {
    // 12 bits.
    (mode & mode::PERMISSIONS) as u16
}

/// A time as fuser takes it: its way out handles every time right.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A time as fuser 0.18 gives it. Its way in takes the nanoseconds of a time before the epoch off
/// where they belong on top (-2 s and 0.8 s become -2.8 s); the exact inverse is taken here.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp {
            secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            Timestamp {
                secs: 0_i64.checked_sub_unsigned(before.as_secs()).unwrap_or(i64::MIN),
                nanos: before.subsec_nanos(),
            }
        }
    }
}

pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64, nanos: u32) -> Timestamp {
        Timestamp { secs, nanos }
    }

    #[test]
    fn times_after_the_epoch_survive_both_ways() {
        for time in [at(0, 0), at(0, 1), at(1_700_000_000, 999_999_999), at(i64::MAX, 0)] {
            assert_eq!(timestamp(system_time(time)), time);
        }
    }

    #[test]
    fn a_time_before_the_epoch_goes_out_as_it_is() {
        let out = system_time(at(-2, 800_000_000));
        assert_eq!(
            SystemTime::UNIX_EPOCH.duration_since(out).unwrap(),
            Duration::from_millis(1200)
        );
        assert_eq!(SystemTime::UNIX_EPOCH, system_time(at(0, 0)));
        // No panic at the ends of what a time can say.
        system_time(at(i64::MIN, 0));
        system_time(at(i64::MAX, 999_999_999));
    }

    #[test]
    fn a_time_before_the_epoch_comes_in_as_fuser_garbles_it() {
        // What fuser 0.18 makes of -2 s + 0.8 s on the wire.
        let garbled = SystemTime::UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(timestamp(garbled), at(-2, 800_000_000));
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH - Duration::new(1, 0)), at(-1, 0));
    }
}
