//! A real directory behind the interface of the core, to compare the model with the kernel.
//!
//! Every inode that was ever handed out is held by an `O_PATH` descriptor, so that the kernel does
//! not give its number to another file and an unlinked one can still be reached. Give it a
//! directory on tmpfs or ext4, or one inside a mounted view. Where the kernel cannot be asked for
//! what the interface promises (owners of new files, who is privileged), it is set afterwards.
//! What still differs from the model stands in `difference.rs`, with reasons.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use spfs_vfs::api::{
    Access, Attr, Cookie, DirEntry, Error, FileType, Ino, Name, New, NewKind, Remove, Replace,
    Result, SetAttr, SetTime, Statfs, Timestamp, Vfs, XattrMode,
};

mod convert;
mod difference;
mod file;
mod listing;

use convert::{Stat, error_of, stat_of};
pub use difference::{excuse_outcome, excuse_times, keeps_cookies};
pub use file::HostFile;

/// A real directory as a file system.
pub struct HostFs {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    privileged: bool,
}

/// The inodes that were handed out.
struct Table {
    by_ino: HashMap<Ino, Entry>,
    by_key: HashMap<Key, Ino>,
    next: u64,
}

struct Entry {
    fd: Arc<OwnedFd>,
    key: Key,
    pins: u64,
    open_files: u64,
}

/// What the kernel calls an inode: device and number.
type Key = (u64, u64);

impl fmt::Debug for HostFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFs").field("inodes", &self.shared.table.lock().by_ino.len()).finish()
    }
}

impl HostFs {
    /// Serves the directory `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let fd = rustix::fs::openat(CWD, root, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(error_of("open the root"))?;
        let key = stat_of(&fd)?.key;
        let root = Entry { fd: Arc::new(fd), key, pins: 1, open_files: 0 };
        let table = Table {
            by_ino: HashMap::from([(Ino::ROOT, root)]),
            by_key: HashMap::from([(key, Ino::ROOT)]),
            next: Ino::ROOT.0 + 1,
        };
        let privileged = rustix::process::geteuid().is_root();
        Ok(Self { shared: Arc::new(Shared { table: Mutex::new(table), privileged }) })
    }

    /// Whether owners can be given away and devices made.
    pub fn privileged(&self) -> bool {
        self.shared.privileged
    }

    /// Whether the directory is on a tmpfs.
    pub fn is_tmpfs(&self) -> bool {
        /// include/uapi/linux/magic.h
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        let figures = self.fd(Ino::ROOT).map(rustix::fs::fstatfs);
        matches!(figures, Ok(Ok(figures)) if figures.f_type as u64 == TMPFS_MAGIC)
    }

    fn fd(&self, ino: Ino) -> Result<Arc<OwnedFd>> {
        self.shared.fd(ino)
    }

    /// Returns what a name stands for, with its number.
    fn find(&self, dir: &OwnedFd, name: Name<'_>) -> Result<(Ino, Stat)> {
        let fd = rustix::fs::openat(dir, name.as_bytes(), PATH_ONLY, Mode::empty())
            .map_err(error_of("look up"))?;
        self.shared.enter(fd)
    }

    /// Gives a new inode the owner and permissions asked for; what the kernel made of a
    /// set-group-id parent stays.
    fn dress(&self, fd: &OwnedFd, parent: &Stat, new: &New<'_>) -> Result<()> {
        let made = stat_of(fd)?;
        if self.shared.privileged {
            let inherited = parent.attr.perm & 0o2000 != 0;
            let gid = if inherited { made.attr.owner.gid } else { new.owner.gid };
            chown(fd, Some(new.owner.uid), Some(gid))?;
        }
        if made.attr.file_type == FileType::Symlink {
            return Ok(());
        }
        chmod(fd, new.perm | made.attr.perm & 0o2000)
    }
}

/// Not opened at all, only held; a symbolic link itself, not what it leads to.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Shared {
    fn fd(&self, ino: Ino) -> Result<Arc<OwnedFd>> {
        let table = self.table.lock();
        table.by_ino.get(&ino).map(|entry| Arc::clone(&entry.fd)).ok_or(Error::Stale)
    }

    /// Takes an inode in, or finds the number that it already has.
    fn enter(&self, fd: OwnedFd) -> Result<(Ino, Stat)> {
        let mut stat = stat_of(&fd)?;
        let mut table = self.table.lock();
        let ino = match table.by_key.get(&stat.key) {
            Some(&ino) => ino,
            None => {
                let ino = Ino(table.next);
                table.next += 1;
                let entry = Entry { fd: Arc::new(fd), key: stat.key, pins: 0, open_files: 0 };
                table.by_ino.insert(ino, entry);
                table.by_key.insert(stat.key, ino);
                ino
            }
        };
        stat.attr.ino = ino;
        Ok((ino, stat))
    }

    fn with_entry(&self, ino: Ino, change: impl FnOnce(&mut Entry)) {
        let mut table = self.table.lock();
        if let Some(entry) = table.by_ino.get_mut(&ino) {
            change(entry);
        }
    }

    /// Lets go of an inode without names, pins and open files: from now on it is stale.
    fn reap(&self, ino: Ino) {
        let mut table = self.table.lock();
        let Some(entry) = table.by_ino.get(&ino) else { return };
        let unnamed = stat_of(&entry.fd).is_ok_and(|stat| stat.attr.nlink == 0);
        if unnamed && entry.pins == 0 && entry.open_files == 0 {
            let key = entry.key;
            table.by_key.remove(&key);
            table.by_ino.remove(&ino);
        }
    }
}

/// The path under which the kernel lets operations reach a descriptor that was opened `O_PATH`.
fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn chmod(fd: &OwnedFd, perm: u16) -> Result<()> {
    rustix::fs::chmod(proc_path(fd), Mode::from_raw_mode(u32::from(perm)))
        .map_err(error_of("change the mode"))
}

fn chown(fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let uid = uid.map(rustix::fs::Uid::from_raw);
    let gid = gid.map(rustix::fs::Gid::from_raw);
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
        .map_err(error_of("change the owner"))
}

fn set_times(fd: &OwnedFd, atime: Option<SetTime>, mtime: Option<SetTime>) -> Result<()> {
    let spec = |time: Option<SetTime>| match time {
        None => rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(SetTime::Now) => rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(SetTime::At(Timestamp { secs, nanos })) => {
            rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos.into() }
        }
    };
    let times = rustix::fs::Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH).map_err(error_of("set the times"))
}

/// Runs `call` without CAP_FSETID when privileges are to be killed, as the kernel would run it
/// for a caller without it. Capabilities belong to the thread.
fn as_caller<T>(kill_privileges: bool, call: impl FnOnce() -> Result<T>) -> Result<T> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    if !kill_privileges {
        return call();
    }
    let before = capabilities(None).map_err(error_of("read the capabilities"))?;
    let mut without = before;
    without.effective.remove(CapabilitySet::FSETID);
    set_capabilities(None, without).map_err(error_of("drop CAP_FSETID"))?;
    let result = call();
    set_capabilities(None, before).map_err(error_of("take CAP_FSETID back"))?;
    result
}

fn set_size(fd: &OwnedFd, size: u64, kill_privileges: bool) -> Result<()> {
    must_be_regular(&stat_of(fd)?)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, proc_path(fd), flags, Mode::empty())
        .map_err(error_of("open to truncate"))?;
    as_caller(kill_privileges, || rustix::fs::ftruncate(&file, size).map_err(error_of("truncate")))
}

/// Opening a pipe or a device would do more than fail.
fn must_be_regular(stat: &Stat) -> Result<()> {
    match stat.attr.file_type {
        FileType::Regular => Ok(()),
        FileType::Directory => Err(Error::IsDirectory),
        _ => Err(Error::Invalid),
    }
}

impl Vfs for HostFs {
    type File = HostFile;

    fn statfs(&self) -> Result<Statfs> {
        let figures = rustix::fs::fstatvfs(self.fd(Ino::ROOT)?).map_err(error_of("statfs"))?;
        Ok(Statfs {
            block_size: u32::try_from(figures.f_frsize).unwrap_or(u32::MAX),
            blocks: figures.f_blocks,
            blocks_free: figures.f_bfree,
            blocks_available: figures.f_bavail,
            files: figures.f_files,
            files_free: figures.f_ffree,
        })
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        let fd = self.fd(ino)?;
        Ok(Attr { ino, ..stat_of(&fd)?.attr })
    }

    fn setattr(&self, ino: Ino, set: &SetAttr) -> Result<Attr> {
        let fd = self.fd(ino)?;
        if let Some(size) = set.size {
            set_size(&fd, size, set.kill_privileges)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            let before = stat_of(&fd)?.attr;
            as_caller(set.kill_privileges, || chown(&fd, set.uid, set.gid))?;
            // The kernel kills privileges on chown whoever calls (chown_common in fs/open.c).
            if !set.kill_privileges && before.file_type != FileType::Symlink {
                chmod(&fd, before.perm)?;
            }
        }
        if let Some(perm) = set.perm {
            chmod(&fd, perm)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            set_times(&fd, set.atime, set.mtime)?;
        }
        self.getattr(ino)
    }

    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        let fd = self.fd(ino)?;
        let mut value = vec![0; 65536];
        let len = rustix::fs::getxattr(proc_path(&fd), name, &mut value[..])
            .map_err(error_of("read an attribute"))?;
        value.truncate(len);
        Ok(value.into())
    }

    fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let fd = self.fd(ino)?;
        let flags = match mode {
            XattrMode::Set => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        rustix::fs::setxattr(proc_path(&fd), name, value, flags)
            .map_err(error_of("set an attribute"))
    }

    fn listxattr(&self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        let fd = self.fd(ino)?;
        let mut names = vec![0; 65536];
        let len = rustix::fs::listxattr(proc_path(&fd), &mut names[..])
            .map_err(error_of("list attributes"))?;
        let named = names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
        // Labels and access lists come from the system, not from a test.
        let ours = named.filter(|name| !name.starts_with(b"security.s") && !is_system(name));
        Ok(ours.map(Into::into).collect())
    }

    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let fd = self.fd(ino)?;
        rustix::fs::removexattr(proc_path(&fd), name).map_err(error_of("remove an attribute"))
    }

    fn lookup(&self, dir: Ino, name: Name<'_>) -> Result<Attr> {
        Ok(self.find(&*self.fd(dir)?, name)?.1.attr)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        let fd = self.fd(dir)?;
        if dir == Ino::ROOT {
            return Ok(dir);
        }
        let parent = rustix::fs::openat(&fd, c"..", PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(error_of("open the parent"))?;
        Ok(self.shared.enter(parent)?.0)
    }

    fn readdir(
        &self,
        dir: Ino,
        after: Cookie,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let fd = self.fd(dir)?;
        if stat_of(&fd)?.attr.file_type != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        listing::read(&fd, after, &|name| self.find(&fd, name), each)
    }

    fn create(&self, dir: Ino, name: Name<'_>, new: New<'_>) -> Result<Attr> {
        let dir = self.fd(dir)?;
        let parent = stat_of(&dir)?;
        let mode = Mode::from_raw_mode(0o600);
        let mut node = (rustix::fs::FileType::Fifo, 0);
        let made = match new.kind {
            NewKind::Regular => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&dir, name.as_bytes(), flags, mode).map(drop)
            }
            NewKind::Directory => {
                rustix::fs::mkdirat(&dir, name.as_bytes(), Mode::from_raw_mode(0o700))
            }
            NewKind::Symlink(target) => rustix::fs::symlinkat(target, &dir, name.as_bytes()),
            special => {
                node = convert::device_of(special).unwrap_or(node);
                rustix::fs::mknodat(&dir, name.as_bytes(), node.0, mode, node.1)
            }
        };
        made.map_err(error_of("make an inode"))?;
        let fd = rustix::fs::openat(&dir, name.as_bytes(), PATH_ONLY, Mode::empty())
            .map_err(error_of("open a new inode"))?;
        self.dress(&fd, &parent, &new)?;
        Ok(self.shared.enter(fd)?.1.attr)
    }

    fn link(&self, ino: Ino, dir: Ino, name: Name<'_>) -> Result<Attr> {
        let (fd, dir) = (self.fd(ino)?, self.fd(dir)?);
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, proc_path(&fd), &dir, name.as_bytes(), follow)
            .map_err(error_of("link"))?;
        self.getattr(ino)
    }

    fn remove(&self, dir: Ino, name: Name<'_>, what: Remove) -> Result<()> {
        let dir = self.fd(dir)?;
        let (victim, _) = self.find(&dir, name)?;
        let flags = match what {
            Remove::File => AtFlags::empty(),
            Remove::Directory => AtFlags::REMOVEDIR,
        };
        rustix::fs::unlinkat(&dir, name.as_bytes(), flags).map_err(error_of("remove"))?;
        self.shared.reap(victim);
        Ok(())
    }

    fn rename(&self, from: (Ino, Name<'_>), to: (Ino, Name<'_>), replace: Replace) -> Result<()> {
        let (from_dir, to_dir) = (self.fd(from.0)?, self.fd(to.0)?);
        let victim = self.find(&to_dir, to.1).ok();
        let flags = match replace {
            Replace::Allow => RenameFlags::empty(),
            Replace::Refuse => RenameFlags::NOREPLACE,
            Replace::Exchange => RenameFlags::EXCHANGE,
        };
        let (from_name, to_name) = (from.1.as_bytes(), to.1.as_bytes());
        rustix::fs::renameat_with(&from_dir, from_name, &to_dir, to_name, flags)
            .map_err(error_of("rename"))?;
        if let Some((victim, _)) = victim {
            self.shared.reap(victim);
        }
        Ok(())
    }

    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        let fd = self.fd(ino)?;
        match rustix::fs::readlinkat(&fd, c"", Vec::new()) {
            Ok(target) => Ok(target.into_bytes().into()),
            // readlink(2) tells an empty path apart from a name.
            Err(Errno::NOENT) => Err(Error::Invalid),
            Err(errno) => Err(error_of("read a link")(errno)),
        }
    }

    fn open(self: &Arc<Self>, ino: Ino, access: Access) -> Result<HostFile> {
        let fd = self.fd(ino)?;
        must_be_regular(&stat_of(&fd)?)?;
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        // The core leaves access times alone: the kernel above keeps them.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOATIME;
        let file = rustix::fs::openat(CWD, proc_path(&fd), flags, Mode::empty())
            .map_err(error_of("open"))?;
        self.shared.with_entry(ino, |entry| entry.open_files += 1);
        Ok(HostFile::new(file, Arc::clone(&self.shared), ino))
    }

    fn sync(&self) -> Result<()> {
        // The whole volume is not ours to sync; of a mounted view the root stands for everything.
        let root = listing::open(&*self.fd(Ino::ROOT)?)?;
        rustix::fs::fsync(root).map_err(error_of("sync"))
    }

    fn sync_names(&self) -> Result<()> {
        self.sync()
    }

    fn pin(&self, ino: Ino) {
        self.shared.with_entry(ino, |entry| entry.pins += 1);
    }

    fn unpin(&self, ino: Ino) {
        self.shared.with_entry(ino, |entry| entry.pins -= 1);
        self.shared.reap(ino);
    }
}

fn is_system(name: &[u8]) -> bool {
    name.starts_with(b"system.")
}
