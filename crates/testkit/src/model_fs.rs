//! A file system in memory, as plain as possible: the definition of what is right.
//!
//! One lock, nested maps, whole contents as `Vec<u8>`; no layers, no copy-on-write, nothing on
//! disk. Rules and the order of errors are Linux's (fs/namei.c), so that whatever is compared with
//! this file system is compared with the kernel; `tests/model_against_host.rs` proves it.
//!
//! **Invariant:** every rule is written down once, where a reader looks for it; speed is no goal.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use spfs_vfs::api::{
    Access, Attr, Cookie, DirEntry, Error, FileType, Ino, Name, New, NewKind, Owner, Remove,
    Replace, Result, SetAttr, SetTime, Statfs, Timestamp, Vfs, XattrMode,
};

mod file;
mod names;
mod state;

pub use file::ModelFile;
use state::{Body, Node, State, Times};

/// The longest target of a symbolic link: PATH_MAX without the NUL (fs/namei.c, getname).
const SYMLINK_TARGET_MAX: usize = 4095;

/// The largest value of an extended attribute: XATTR_SIZE_MAX (include/uapi/linux/limits.h).
const XATTR_VALUE_MAX: usize = 65536;

/// The largest file: contents are kept whole in memory, and a test that wants more is a mistake.
const FILE_SIZE_MAX: u64 = 1 << 30;

/// Tells the time; called once for each operation that changes something.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Returns a clock that gives every call a time of its own: one second after the last.
pub fn counting_clock(start_secs: i64) -> Clock {
    let calls = AtomicU64::new(0);
    Arc::new(move || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        Timestamp { secs: start_secs.saturating_add_unsigned(call), nanos: 0 }
    })
}

/// The model file system; clones share one tree.
#[derive(Clone)]
pub struct ModelFs {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: Clock,
}

impl fmt::Debug for ModelFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFs").field("inodes", &self.shared.state.lock().nodes.len()).finish()
    }
}

impl ModelFs {
    /// Makes an empty file system whose root directory has these permissions.
    pub fn new(clock: Clock, root_perm: u16, owner: Owner) -> Self {
        let now = clock();
        let state = State::new(root_perm, owner, now);
        Self { shared: Arc::new(Shared { state: Mutex::new(state), clock }) }
    }

    /// Makes an empty file system with the system's clock and a root of mode 0777 owned by root.
    pub fn with_system_clock() -> Self {
        let clock = || {
            let now = spfs_sys::clock::now();
            Timestamp { secs: now.secs, nanos: now.nanos }
        };
        Self::new(Arc::new(clock), 0o777, Owner { uid: 0, gid: 0 })
    }

    /// Whether anything may be changed; it may from the start.
    pub fn editable(&self) -> bool {
        self.shared.state.lock().editable
    }

    /// Allows or forbids changes. Files that are open for writing stay writable: bytes that a
    /// program wrote before are on their way.
    pub fn set_editable(&self, editable: bool) {
        self.shared.state.lock().editable = editable;
    }

    /// Gives a file this content, as if it had always been so.
    pub fn take_content(&self, ino: Ino, content: Vec<u8>) -> Result<()> {
        match &mut self.look().node_mut(ino)?.body {
            Body::Regular(old) => *old = content,
            _ => return Err(Error::Invalid),
        }
        Ok(())
    }

    /// Gives a file these permissions, and takes its capabilities unless it has any.
    pub fn take_privileges(&self, ino: Ino, perm: u16, capable: bool) -> Result<()> {
        let mut state = self.look();
        let node = state.node_mut(ino)?;
        node.perm = perm;
        if !capable {
            node.xattrs.remove(state::CAPABILITY);
        }
        Ok(())
    }

    /// Returns the type and whether the inode still has a name; `None` when it is gone.
    pub fn peek(&self, ino: Ino) -> Option<(FileType, bool)> {
        let state = self.shared.state.lock();
        let node = state.node(ino).ok()?;
        Some((node.file_type(), node.is_named()))
    }

    /// Returns the paths of everything with a name, parents first; the root has the empty path.
    pub fn paths(&self) -> Vec<(Vec<u8>, Ino)> {
        self.shared.state.lock().paths()
    }

    /// Recomputes what can be derived and reports the first difference.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.shared.state.lock().check_invariants()
    }

    /// Gives every inode these times: what a tree of layers shows before anything is changed.
    pub fn stamp_all(&self, time: Timestamp) {
        self.shared.state.lock().stamp_all(time);
    }

    /// Gives one inode the times of another file system's, as if it had been there before.
    pub fn take_times(&self, ino: Ino, attr: &Attr) -> Result<()> {
        let Attr { atime, mtime, ctime, crtime, .. } = *attr;
        self.look().node_mut(ino)?.times = Times { atime, mtime, ctime, crtime };
        Ok(())
    }

    fn look(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Locks the state for a change at the time that it is given.
    fn change(&self) -> Result<(MutexGuard<'_, State>, Timestamp)> {
        let state = self.shared.state.lock();
        if !state.editable {
            return Err(Error::ReadOnly);
        }
        let now = (self.shared.clock)();
        Ok((state, now))
    }
}

impl Vfs for ModelFs {
    type File = ModelFile;

    fn statfs(&self) -> Result<Statfs> {
        let files = self.look().nodes.len() as u64;
        Ok(Statfs {
            block_size: 4096,
            blocks: 1 << 20,
            blocks_free: 1 << 19,
            blocks_available: 1 << 19,
            files: files + (1 << 20),
            files_free: 1 << 20,
        })
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.look().attr(ino)
    }

    fn setattr(&self, ino: Ino, set: &SetAttr) -> Result<Attr> {
        let (mut state, now) =
            if is_write_back(set) { (self.look(), (self.shared.clock)()) } else { self.change()? };
        let node = state.node_mut(ino)?;
        if let Some(size) = set.size {
            node.body.may_truncate(size)?;
        }
        apply(node, set, now);
        state.attr(ino)
    }

    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        let state = self.look();
        state.node(ino)?.xattrs.get(name).cloned().ok_or(Error::NoAttribute)
    }

    fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let (mut state, now) = self.change()?;
        let node = state.node_mut(ino)?;
        if value.len() > XATTR_VALUE_MAX {
            return Err(Error::AttributeTooLarge);
        }
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Error::Exists),
            (XattrMode::Replace, false) => return Err(Error::NoAttribute),
            _ => {}
        }
        node.xattrs.insert(name.into(), value.into());
        node.times.ctime = now;
        Ok(())
    }

    fn listxattr(&self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        Ok(self.look().node(ino)?.xattrs.keys().cloned().collect())
    }

    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let (mut state, now) = self.change()?;
        let node = state.node_mut(ino)?;
        node.xattrs.remove(name).ok_or(Error::NoAttribute)?;
        node.times.ctime = now;
        Ok(())
    }

    fn lookup(&self, dir: Ino, name: Name<'_>) -> Result<Attr> {
        let state = self.look();
        let child = state.child(dir, name)?;
        state.attr(child)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        Ok(self.look().directory(dir)?.parent)
    }

    fn readdir(
        &self,
        dir: Ino,
        after: Cookie,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let state = self.look();
        let by_cookie: BTreeMap<_, _> = state
            .directory(dir)?
            .entries
            .iter()
            .filter(|(_, entry)| entry.cookie > after)
            .map(|(name, entry)| (entry.cookie, (name, entry.ino)))
            .collect();
        for (cookie, (name, ino)) in by_cookie {
            let file_type = state.node(ino)?.file_type();
            if each(DirEntry { name: name.as_name(), ino, file_type, cookie }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn create(&self, dir: Ino, name: Name<'_>, new: New<'_>) -> Result<Attr> {
        let (mut state, now) = self.change()?;
        state.may_create(dir, name)?;
        let body = body_of(new.kind, dir)?;
        let parent = state.node(dir)?;
        let mut owner = new.owner;
        let mut perm = new.perm & 0o7777;
        // inode_init_owner (fs/inode.c)
        if parent.perm & 0o2000 != 0 {
            owner.gid = parent.owner.gid;
            if matches!(body, Body::Directory(_)) {
                perm |= 0o2000;
            }
        }
        let ino = state.insert(Node::new(body, perm, owner, now));
        state.attach(dir, name, ino);
        state.touch_directory(dir, now);
        state.attr(ino)
    }

    fn link(&self, ino: Ino, dir: Ino, name: Name<'_>) -> Result<Attr> {
        let (mut state, now) = self.change()?;
        state.node(ino)?;
        state.may_create(dir, name)?;
        let node = state.node_mut(ino)?;
        // vfs_link (fs/namei.c)
        if matches!(node.body, Body::Directory(_)) {
            return Err(Error::NotPermitted);
        }
        if !node.is_named() {
            return Err(Error::NotFound);
        }
        node.times.ctime = now;
        state.attach(dir, name, ino);
        state.touch_directory(dir, now);
        state.attr(ino)
    }

    fn remove(&self, dir: Ino, name: Name<'_>, what: Remove) -> Result<()> {
        let (mut state, now) = self.change()?;
        state.remove(dir, name, what, now)
    }

    fn rename(&self, from: (Ino, Name<'_>), to: (Ino, Name<'_>), replace: Replace) -> Result<()> {
        let (mut state, now) = self.change()?;
        state.rename(from, to, replace, now)
    }

    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        match &self.look().node(ino)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Error::Invalid),
        }
    }

    fn open(self: &Arc<Self>, ino: Ino, access: Access) -> Result<ModelFile> {
        let mut state = self.look();
        let editable = state.editable;
        let node = state.node_mut(ino)?;
        match node.body {
            Body::Regular(_) => {}
            Body::Directory(_) => return Err(Error::IsDirectory),
            _ => return Err(Error::Invalid),
        }
        if access == Access::Write && !editable {
            return Err(Error::ReadOnly);
        }
        node.open_files += 1;
        Ok(ModelFile::new(Self::clone(self), ino))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn sync_names(&self) -> Result<()> {
        Ok(())
    }

    fn pin(&self, ino: Ino) {
        if let Ok(node) = self.look().node_mut(ino) {
            node.pins += 1;
        }
    }

    fn unpin(&self, ino: Ino) {
        let mut state = self.look();
        if let Ok(node) = state.node_mut(ino) {
            assert!(node.pins > 0, "inode {ino} is unpinned more often than pinned");
            node.pins -= 1;
            state.reap(ino);
        }
    }
}

fn body_of(kind: NewKind<'_>, parent: Ino) -> Result<Body> {
    Ok(match kind {
        NewKind::Regular => Body::Regular(Vec::new()),
        NewKind::Directory => Body::Directory(state::Directory::new(parent)),
        NewKind::Symlink(target) if target.len() > SYMLINK_TARGET_MAX => {
            return Err(Error::NameTooLong);
        }
        NewKind::Symlink(target) if target.is_empty() || target.contains(&0) => {
            return Err(Error::Invalid);
        }
        NewKind::Symlink(target) => Body::Symlink(target.into()),
        NewKind::Fifo => Body::Fifo,
        NewKind::Socket => Body::Socket,
        NewKind::CharDevice(rdev) => Body::CharDevice(rdev),
        NewKind::BlockDevice(rdev) => Body::BlockDevice(rdev),
    })
}

/// Whether a kernel that keeps times itself dates what was written while changes were allowed.
fn is_write_back(set: &SetAttr) -> bool {
    let SetAttr { perm, uid, gid, size, atime, mtime, ctime, crtime, .. } = *set;
    let now = Some(SetTime::Now);
    (perm, uid, gid, size, crtime) == (None, None, None, None, None)
        && (mtime.is_some() || ctime.is_some())
        && atime != now
        && mtime != now
}

/// Applies changes that are known to be possible (notify_change in fs/attr.c).
fn apply(node: &mut Node, set: &SetAttr, now: Timestamp) {
    if (SetAttr { kill_privileges: false, ..*set }) == SetAttr::default() {
        return;
    }
    if let Some(perm) = set.perm {
        node.perm = perm & 0o7777;
    }
    if let Some(uid) = set.uid {
        node.owner.uid = uid;
    }
    if let Some(gid) = set.gid {
        node.owner.gid = gid;
    }
    if let Some(size) = set.size {
        node.body.truncate(size);
        node.times.mtime = now;
    }
    if set.kill_privileges && (set.size.is_some() || set.uid.is_some() || set.gid.is_some()) {
        node.kill_privileges();
    }
    let at = |time: SetTime| match time {
        SetTime::Now => now,
        SetTime::At(time) => time,
    };
    if let Some(time) = set.atime {
        node.times.atime = at(time);
    }
    if let Some(time) = set.mtime {
        node.times.mtime = at(time);
    }
    if let Some(time) = set.crtime {
        node.times.crtime = time;
    }
    node.times.ctime = set.ctime.unwrap_or(now);
}
