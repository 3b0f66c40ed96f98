//! The mount table: /proc/self/mountinfo, as proc_pid_mountinfo(5) describes it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::mount::{MountEntry, MountError};

/// A line of the table: the entry and the options of the mount itself (not of its file system).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) entry: MountEntry,
    options: Vec<u8>,
}

impl Row {
    /// `36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/sda1 rw`, with any number of
    /// fields before the dash.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let target = PathBuf::from(unescape(fields.nth(3)?));
        let options = fields.next()?.to_vec();
        fields.by_ref().find(|field| *field == b"-")?;
        let file_system = unescape(fields.next()?);
        let source = unescape(fields.next().unwrap_or_default());
        let read_only = has(&options, "ro");
        let owner = fields.next().and_then(user_id);
        let entry = MountEntry { target, file_system, source, read_only, owner, id };
        Some(Self { entry, options })
    }

    /// The options as flags for a remount that changes nothing.
    pub(super) fn flags(&self) -> MountFlags {
        const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);
        let mut flags = MountFlags::empty();
        for (name, flag) in [
            ("ro", MountFlags::RDONLY),
            ("nosuid", MountFlags::NOSUID),
            ("nodev", MountFlags::NODEV),
            ("noexec", MountFlags::NOEXEC),
            ("noatime", MountFlags::NOATIME),
            ("nodiratime", MountFlags::NODIRATIME),
            ("relatime", MountFlags::RELATIME),
            ("nosymfollow", NOSYMFOLLOW),
        ] {
            flags.set(flag, has(&self.options, name));
        }
        // strictatime is shown as neither of the two, and giving neither would mean relatime.
        flags.set(
            MountFlags::STRICTATIME,
            !flags.intersects(MountFlags::NOATIME | MountFlags::RELATIME),
        );
        flags
    }
}

fn has(options: &[u8], name: &str) -> bool {
    options.split(|&byte| byte == b',').any(|option| option == name.as_bytes())
}

/// The user who mounted, as a FUSE file system tells in its own options.
fn user_id(options: &[u8]) -> Option<u32> {
    let mut options = options.split(|&byte| byte == b',');
    let id = options.find_map(|option| option.strip_prefix(b"user_id="))?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// Blanks, tabs, newlines, backslashes and `#` stand there as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| byte == b'\\');
        match digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok()) {
            Some(code) => {
                text.push(code);
                rest = &tail[3..];
            }
            None => {
                text.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(text)
}

pub(super) fn rows() -> Result<Vec<Row>, MountError> {
    let table = fs::read("/proc/self/mountinfo").map_err(|source| MountError::Table { source })?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(Row::parse).collect())
}

/// Finds the mount by its number, which the kernel tells of a descriptor: several mounts may stand
/// at one path, and the table does not say which is on top.
pub(super) fn row_at(path: &Path) -> Result<Option<Row>, MountError> {
    let look =
        |source: io::Error| MountError::Mount { step: "look at", path: path.to_owned(), source };
    let top = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| look(e.into()))?;
    let number = top.as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).map_err(look)?;
    let Some(id) = info.lines().find_map(|line| line.strip_prefix("mnt_id:")) else {
        return Err(look(io::Error::new(io::ErrorKind::InvalidData, "no mnt_id in fdinfo")));
    };
    let id = id.trim().parse::<u64>().map_err(|e| look(io::Error::other(e)))?;
    let place = fs::read_link(format!("/proc/self/fd/{number}")).map_err(look)?;
    let row = rows()?.into_iter().find(|row| row.entry.id == id);
    Ok(row.filter(|row| row.entry.target == place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Row {
        Row::parse(line.as_bytes()).expect("a line of the table")
    }

    #[test]
    fn lines_with_and_without_optional_fields_are_read() {
        let row =
            parse("36 35 98:0 / /spfs ro,nosuid,nodev,relatime - fuse.spfs spfs rw,user_id=0");
        assert_eq!(row.entry.target, Path::new("/spfs"));
        assert_eq!(row.entry.file_system, "fuse.spfs");
        assert_eq!(row.entry.source, "spfs");
        assert_eq!(row.entry.id, 36);
        assert!(row.entry.read_only && row.entry.is_fuse());
        assert_eq!(row.entry.owner, Some(0));
        let row = parse("36 35 98:0 /r /a rw shared:1 master:2 - ext4 /dev/sda1 ro,errors=x");
        assert!(!row.entry.read_only, "the file system's own option is another matter");
        assert_eq!((row.entry.file_system.to_str(), row.entry.owner), (Some("ext4"), None));
    }

    #[test]
    fn escaped_names_are_restored() {
        let row = parse(r"1 2 0:1 / /a\040b\134c\012d\011e rw - tmpfs x\040y rw");
        assert_eq!(row.entry.target, Path::new("/a b\\c\nd\te"));
        assert_eq!(row.entry.source, "x y");
        assert_eq!(unescape(br"end\04"), r"end\04");
        assert_eq!(unescape(br"\999"), r"\999");
    }

    #[test]
    fn all_flags_are_kept_by_a_remount() {
        let flags = |options: &str| parse(&format!("1 2 0:1 / /a {options} - tmpfs x rw")).flags();
        assert_eq!(
            flags("ro,nosuid,nodev,noexec,noatime,nodiratime"),
            MountFlags::RDONLY
                | MountFlags::NOSUID
                | MountFlags::NODEV
                | MountFlags::NOEXEC
                | MountFlags::NOATIME
                | MountFlags::NODIRATIME
        );
        assert_eq!(flags("rw,relatime"), MountFlags::RELATIME);
        assert_eq!(flags("rw"), MountFlags::STRICTATIME);
    }

    #[test]
    fn torn_lines_are_left_out() {
        for line in ["", "36", "36 35 98:0 /", "x 35 98:0 / /a rw - ext4 s rw", "1 2 0:1 / /a rw"] {
            assert_eq!(Row::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn the_root_is_a_mount_and_a_folder_in_it_is_none() {
        let root = row_at(Path::new("/proc")).unwrap().expect("/proc is mounted");
        assert_eq!(root.entry.file_system, "proc");
        assert_eq!(row_at(Path::new("/proc/self")).unwrap(), None);
    }
}
