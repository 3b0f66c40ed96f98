//! The operations: a request of the protocol becomes one call of the core and an answer.
//!
//! Nothing is decided here but what is the protocol's own: which view, which node, which handle,
//! how long the kernel may remember the answer.

use std::borrow::Borrow;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use fuser::{Errno, FileAttr, FileHandle, INodeNo, OpenAccMode, OpenFlags};
use spfs_model::NameError;
use spfs_sys::clock;
use spfs_vfs::api::{
    self, Access, Allocate, Attr, File, FileType, Ino, Name, New, NewKind, Owner, Remove, Replace,
    Seek, SetAttr, SetTime, Statfs, Vfs,
};

use crate::buffer::Content;
use crate::convert;
use crate::counters::Counters;
use crate::errno;
use crate::handle::{Handle, Handles};
use crate::links::{LinkId, Links};
use crate::node::{Node, Nodes, Underflow};
use crate::notify::Notifier;
use crate::platform;
use crate::pool::Pool;
use crate::session::{Options, RootMode};
use crate::views::{Caller, ViewId, Views};

mod dirs;
mod links;
mod xattrs;

pub(crate) use xattrs::Xattr;

type VfsOf<W> = <W as Views>::Vfs;
type FileOf<W> = <VfsOf<W> as Vfs>::File;

/// Why a request fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The core says so.
    Core(api::Error),
    /// The protocol says so.
    Protocol(Errno),
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        Self::Core(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Protocol(errno)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::Protocol(errno::of_name(&error))
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// An inode in its view.
pub(crate) struct At<'a, W: Views> {
    vfs: W::Ref<'a>,
    view: ViewId,
    ino: Ino,
    /// Whether it is the root of the mount.
    root: bool,
    /// The link in the root that led to it.
    link: Option<LinkId>,
}

/// How long the kernel may believe what never changes.
const ALWAYS: Duration = Duration::from_secs(365 * 24 * 3600);

impl<W: Views> At<'_, W> {
    fn vfs(&self) -> &Arc<VfsOf<W>> {
        self.vfs.borrow()
    }
}

/// What the kernel is told of a node, and for how long it may believe it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) attr: FileAttr,
    pub(crate) attr_ttl: Duration,
    pub(crate) entry_ttl: Duration,
}

/// The answer to a lookup.
#[derive(Debug)]
pub(crate) enum Found {
    /// The name stands for this.
    Entry(Entry),
    /// The name does not exist, and the kernel may believe so for this long.
    Nothing(Duration),
}

/// The state of a mount.
pub(crate) struct Edge<W: Views> {
    views: W,
    nodes: Nodes<VfsOf<W>>,
    links: Links,
    root: RootMode,
    handles: Handles<FileOf<W>>,
    /// Whether files are opened without asking; requests then carry no handle.
    silent_opens: bool,
    pub(crate) counters: Counters,
    pub(crate) pool: Pool,
    /// How to reach the kernel, while it is there: as long as anybody has the device open, processes
    /// wait for an answer, also when nobody reads requests any more.
    kernel: Mutex<Option<fuser::Notifier>>,
    /// Sends what no thread that answers requests may send itself.
    notifier: OnceLock<Notifier>,
    underflows: AtomicU64,
    ttl: Duration,
}

impl<W: Views> Edge<W> {
    pub(crate) fn new(views: W, options: &Options) -> io::Result<Self> {
        Ok(Self {
            views,
            nodes: Nodes::new(),
            links: Links::default(),
            root: options.root,
            handles: Handles::new(),
            silent_opens: options.silent_opens && platform::SILENT_OPEN,
            counters: Counters::new(),
            pool: Pool::start()?,
            kernel: Mutex::new(None),
            notifier: OnceLock::new(),
            underflows: AtomicU64::new(0),
            ttl: options.ttl,
        })
    }

    /// Says how to reach the kernel, before the first request is read.
    pub(crate) fn set_kernel(&self, kernel: fuser::Notifier) {
        *self.kernel.lock() = Some(kernel);
    }

    /// Says who sends notifications, before the first request is read.
    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        // There is one session for each edge.
        drop(self.notifier.set(notifier));
    }

    /// The kernel is gone: gives back everything that was held for it.
    pub(crate) fn clear(&self) {
        self.pool.close();
        *self.kernel.lock() = None;
        self.handles.clear();
        self.nodes.clear();
        self.links.clear();
    }

    pub(crate) fn writers(&self, view: ViewId) -> Vec<Ino> {
        self.handles.writers(view)
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len() + self.links.len()
    }

    pub(crate) fn handle_count(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn underflows(&self) -> u64 {
        self.underflows.load(Ordering::Relaxed)
    }

    /// Finds the inode behind a node id.
    pub(crate) fn at(&self, caller: Caller, id: INodeNo) -> Result<At<'_, W>> {
        let (view, ino, root) = match Node::from_id(id) {
            Node::Root => (self.views.of_caller(caller), Ino::ROOT, true),
            Node::Of(view, ino) => (view, ino, false),
            Node::Link(link) => return self.at_link(caller, link),
            // It holds nothing of its own and cannot be changed.
            Node::Folder => return Err(Errno::EROFS.into()),
        };
        let vfs = self.views.view(view).ok_or(Errno::ESTALE)?;
        Ok(At { vfs, view, ino, root, link: None })
    }

    pub(crate) fn handle(&self, fh: FileHandle) -> Result<Arc<Handle<FileOf<W>>>> {
        // Who writes to a read-only mount has taken its flag away.
        let unknown = if self.silent_opens { Errno::EROFS } else { Errno::EBADF };
        self.handles.get(fh).ok_or(Failure::Protocol(unknown))
    }

    fn id(view: ViewId, ino: Ino) -> Result<INodeNo> {
        Node::id(view, ino).ok_or_else(|| {
            tracing::error!(%view, %ino, "the number of an inode does not fit into a node id");
            Failure::Protocol(Errno::EIO)
        })
    }

    fn attr_ttl(&self, root: bool) -> Duration {
        if root && W::ROUTED { Duration::ZERO } else { self.ttl }
    }

    /// The answer that makes the kernel know a node. It is counted here, before it is sent.
    fn entry(&self, dir: &At<'_, W>, attr: &Attr) -> Result<Entry> {
        let id = Self::id(dir.view, attr.ino)?;
        self.nodes.remember(dir.vfs(), attr.ino, id);
        Ok(Entry {
            attr: convert::attr(id, attr),
            attr_ttl: self.ttl,
            entry_ttl: self.attr_ttl(dir.root),
        })
    }

    pub(crate) fn lookup(&self, caller: Caller, parent: INodeNo, name: &[u8]) -> Result<Found> {
        if self.has_links()
            && let Some(found) = self.lookup_link(caller, parent, name)?
        {
            return Ok(found);
        }
        let dir = self.at(caller, parent)?;
        match dir.vfs().lookup(dir.ino, Name::new(name)?) {
            Ok(attr) => self.entry(&dir, &attr).map(Found::Entry),
            Err(api::Error::NotFound) if platform::NEGATIVE_ENTRIES => {
                Ok(Found::Nothing(self.attr_ttl(dir.root)))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn forget(&self, id: INodeNo, count: u64) {
        let forgotten = match Node::from_id(id) {
            Node::Folder => Ok(()),
            Node::Link(link) => {
                self.links.forget(link, count).map_err(|counted| Underflow { counted })
            }
            // What was held for a view that is gone was given back with it.
            Node::Of(view, _) if W::ROUTED && self.views.view(view).is_none() => {
                drop(self.nodes.forget(id, count));
                Ok(())
            }
            Node::Root | Node::Of(..) => self.nodes.forget(id, count),
        };
        if let Err(underflow) = forgotten {
            self.underflows.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                node = id.0,
                count,
                counted = underflow.counted,
                "the kernel forgets more lookups than it made"
            );
        }
    }

    fn attr_answer(&self, at: &At<'_, W>, id: INodeNo, attr: &Attr) -> (FileAttr, Duration) {
        (self.shown(at, id, attr), self.attr_ttl(at.root || at.link.is_some()))
    }

    pub(crate) fn getattr(&self, caller: Caller, id: INodeNo) -> Result<(FileAttr, Duration)> {
        if let Some(attr) = Self::folder_attr(id) {
            return Ok((attr, ALWAYS));
        }
        let at = self.at(caller, id)?;
        let attr = at.vfs().getattr(at.ino)?;
        Ok(self.attr_answer(&at, id, &attr))
    }

    pub(crate) fn setattr(
        &self,
        caller: Caller,
        id: INodeNo,
        set: SetAttr,
    ) -> Result<(FileAttr, Duration)> {
        let at = self.at(caller, id)?;
        if let Some(ctime) = set.ctime {
            // The kernel's own clock speaks: nothing that is changed from now on is older.
            clock::observe(clock::Now { secs: ctime.secs, nanos: ctime.nanos });
        }
        let attr = at.vfs().setattr(at.ino, &set)?;
        Ok(self.attr_answer(&at, id, &attr))
    }

    pub(crate) fn readlink(&self, caller: Caller, id: INodeNo) -> Result<Box<[u8]>> {
        let at = self.at(caller, id)?;
        if let Some(link) = at.link {
            return self.link_target(&at, link);
        }
        Ok(at.vfs().readlink(at.ino)?)
    }

    /// Makes an inode that is not opened at once.
    pub(crate) fn make(
        &self,
        caller: Caller,
        parent: INodeNo,
        name: &[u8],
        kind: NewKind<'_>,
        perm: u16,
    ) -> Result<Entry> {
        let dir = self.at(caller, parent)?;
        let attr = dir.vfs().create(dir.ino, Name::new(name)?, new(caller, kind, perm))?;
        self.entry(&dir, &attr)
    }

    pub(crate) fn remove(
        &self,
        caller: Caller,
        parent: INodeNo,
        name: &[u8],
        what: Remove,
    ) -> Result<()> {
        let dir = self.at(caller, parent)?;
        let name = Name::new(name)?;
        Ok(dir.vfs().remove(dir.ino, name, self.what_to_remove(&dir, name, what))?)
    }

    pub(crate) fn rename(
        &self,
        caller: Caller,
        from: (INodeNo, &[u8]),
        to: (INodeNo, &[u8]),
        replace: Replace,
    ) -> Result<()> {
        let (source, target) = (self.at(caller, from.0)?, self.at(caller, to.0)?);
        if source.view != target.view {
            return Err(Errno::EXDEV.into());
        }
        let from = (source.ino, Name::new(from.1)?);
        let to = (target.ino, Name::new(to.1)?);
        source.vfs().rename(from, to, replace)?;
        if source.ino != target.ino {
            self.forget_parent(&target, to.1);
            if replace == Replace::Exchange {
                self.forget_parent(&source, from.1);
            }
        }
        Ok(())
    }

    /// What stands under a name has another parent now: the kernel keeps listings, with `..` in that
    /// of a directory, and has no reason to ask for them again.
    fn forget_parent(&self, dir: &At<'_, W>, name: Name<'_>) {
        if let Ok(attr) = dir.vfs().lookup(dir.ino, name)
            && attr.file_type == FileType::Directory
            && let Some(notifier) = self.notifier.get()
        {
            drop(notifier.inval_inode(dir.view, attr.ino));
        }
    }

    pub(crate) fn link(
        &self,
        caller: Caller,
        id: INodeNo,
        parent: INodeNo,
        name: &[u8],
    ) -> Result<Entry> {
        let (at, dir) = (self.at(caller, id)?, self.at(caller, parent)?);
        if at.view != dir.view {
            return Err(Errno::EXDEV.into());
        }
        let attr = at.vfs().link(at.ino, dir.ino, Name::new(name)?)?;
        match at.link {
            Some(link) => self.same_link(&at, link, &attr),
            None => self.entry(&dir, &attr),
        }
    }

    fn insert(&self, at: &At<'_, W>, ino: Ino, access: Access) -> Result<FileHandle> {
        let file = at.vfs().open(ino, access)?;
        let handle = Handle { view: at.view, ino, access, file };
        self.handles.insert(handle).ok_or(Failure::Protocol(Errno::ENFILE))
    }

    /// Opens a file and truncates it when the flags say so: one request for what would be two
    /// (ATOMIC_O_TRUNC).
    pub(crate) fn open(&self, caller: Caller, id: INodeNo, flags: OpenFlags) -> Result<FileHandle> {
        if self.silent_opens {
            // The kernel takes this for "open needs no asking" and never asks again (fuse_file_open).
            return Err(Errno::ENOSYS.into());
        }
        let at = self.at(caller, id)?;
        let fh = self.insert(&at, at.ino, access(flags))?;
        if flags.0 & libc::O_TRUNC != 0
            && let Err(error) = at.vfs().setattr(at.ino, &truncation(caller))
        {
            self.handles.remove(fh);
            return Err(error.into());
        }
        Ok(fh)
    }

    pub(crate) fn create(
        &self,
        caller: Caller,
        parent: INodeNo,
        name: &[u8],
        perm: u16,
        flags: OpenFlags,
    ) -> Result<(Entry, FileHandle)> {
        let dir = self.at(caller, parent)?;
        let name = Name::new(name)?;
        let attr = match dir.vfs().create(dir.ino, name, new(caller, NewKind::Regular, perm)) {
            Err(api::Error::Exists) if flags.0 & libc::O_EXCL == 0 => {
                self.existing(caller, &dir, name, flags)?
            }
            created => created?,
        };
        let fh = self.insert(&dir, attr.ino, access(flags))?;
        match self.entry(&dir, &attr) {
            Ok(entry) => Ok((entry, fh)),
            Err(failure) => {
                self.handles.remove(fh);
                Err(failure)
            }
        }
    }

    /// What O_CREAT without O_EXCL opens when the name came to exist meanwhile.
    fn existing(
        &self,
        caller: Caller,
        dir: &At<'_, W>,
        name: Name<'_>,
        flags: OpenFlags,
    ) -> Result<Attr> {
        let attr = dir.vfs().lookup(dir.ino, name)?;
        if flags.0 & libc::O_TRUNC == 0 {
            return Ok(attr);
        }
        Ok(dir.vfs().setattr(attr.ino, &truncation(caller))?)
    }

    pub(crate) fn release(&self, fh: FileHandle) -> Result<()> {
        match self.handles.remove(fh) {
            Some(handle) => {
                drop(handle);
                Ok(())
            }
            None => {
                tracing::error!(fh = fh.0, "the kernel releases a handle that is not open");
                Err(Errno::EBADF.into())
            }
        }
    }

    pub(crate) fn write(
        &self,
        id: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        kill_privileges: bool,
    ) -> Result<u32> {
        let handle = self.handle(fh)?;
        self.told_of_mode(id, kill_privileges, || {
            handle.file.write_at(offset, data, kill_privileges)
        })?;
        // The kernel counts what it sends in 32 bits.
        Ok(data.len() as u32)
    }

    /// Writes what the kernel had collected. It keeps the times of the file meanwhile, and tells
    /// them only when they are not those that it knows from us (fuse_flush_times): so writing must
    /// leave them as they are, or the file would have another time once the kernel has forgotten
    /// it, and ninja(1) would build again what depends on it.
    pub(crate) fn write_back(&self, fh: FileHandle, offset: u64, data: &[u8]) -> Result<u32> {
        self.handle(fh)?.file.write_back(offset, data)?;
        Ok(data.len() as u32)
    }

    /// fallocate(2) clears set-user-id as a write does (file_modified in the kernel), which the kernel leaves to us.
    pub(crate) fn allocate(
        &self,
        caller: Caller,
        id: INodeNo,
        fh: FileHandle,
        (offset, len): (u64, u64),
        how: Allocate,
    ) -> Result<()> {
        let kill_privileges = caller.uid != 0;
        let handle = self.handle(fh)?;
        self.told_of_mode(id, kill_privileges, || {
            handle.file.allocate(offset, len, how, kill_privileges)
        })
    }

    /// Runs `change`, which may clear set-user-id, and has the kernel forget the mode when that is so.
    fn told_of_mode(
        &self,
        id: INodeNo,
        kill_privileges: bool,
        change: impl FnOnce() -> Result<(), api::Error>,
    ) -> Result<()> {
        let mode_changes = kill_privileges && self.has_privileges(id);
        change()?;
        if mode_changes {
            self.forget_attributes(id);
        }
        Ok(())
    }

    /// Whether the file behind a node is set-user-id or set-group-id.
    fn has_privileges(&self, id: INodeNo) -> bool {
        const SET_ID: u16 = 0o6000;
        let at = self.at(Caller::KERNEL, id);
        at.is_ok_and(|at| at.vfs().getattr(at.ino).is_ok_and(|attr| attr.perm & SET_ID != 0))
    }

    /// Makes the kernel ask for the attributes of a node again: it believes the mode that it knows
    /// until it is told. Without a range of pages that waits for nobody, and who answers a request about the node may do it (fuse_reverse_inval_inode).
    fn forget_attributes(&self, id: INodeNo) {
        const NO_PAGES: i64 = -1;
        let kernel = self.kernel.lock().clone();
        if let Some(kernel) = kernel
            && let Err(error) = kernel.inval_inode(id, NO_PAGES, 0)
        {
            tracing::debug!(node = id.0, %error, "attributes are believed that have changed");
        }
    }

    /// Runs `work` with the file that a request is about: the open one, or where nobody tells what is
    /// open, that of the node.
    fn with_file<T>(
        &self,
        id: INodeNo,
        fh: FileHandle,
        work: impl FnOnce(&FileOf<W>) -> Result<T, api::Error>,
    ) -> Result<T> {
        if self.silent_opens {
            let at = self.at(Caller::KERNEL, id)?;
            return Ok(work(&at.vfs().open(at.ino, Access::Read)?)?);
        }
        Ok(work(&self.handle(fh)?.file)?)
    }

    pub(crate) fn read(
        &self,
        id: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
    ) -> Result<Content> {
        self.with_file(id, fh, |file| Content::read(file, offset, size as usize))
    }

    /// As [`Edge::read`]; `None` when that might have to wait.
    pub(crate) fn read_now(
        &self,
        id: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
    ) -> Result<Option<Content>> {
        self.with_file(id, fh, |file| Content::read_now(file, offset, size as usize))
    }

    pub(crate) fn fsync(&self, id: INodeNo, fh: FileHandle) -> Result<()> {
        self.with_file(id, fh, File::sync)
    }

    /// Whether the kernel may hold content of this open file that has not come here.
    pub(crate) fn may_be_dirty(&self, fh: FileHandle) -> bool {
        self.handles.get(fh).is_some_and(|handle| self.handles.is_written(handle.view, handle.ino))
    }

    /// Makes the kernel send what it holds of a file from `offset` on. It waits for WRITEs that
    /// somebody has to answer: only for threads of the pool.
    pub(crate) fn fetch_pages(&self, id: INodeNo, offset: i64) -> Result<()> {
        let kernel = self.kernel.lock().clone();
        let Some(kernel) = kernel else { return Err(Errno::EIO.into()) };
        kernel.inval_inode(id, offset.max(0), 0).map_err(|error| {
            tracing::warn!(node = id.0, %error, "written pages did not come");
            Failure::Protocol(Errno::EIO)
        })
    }

    pub(crate) fn lseek(
        &self,
        id: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
    ) -> Result<i64> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::EINVAL.into()),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let found = self.with_file(id, fh, |file| file.seek(offset, what))?;
        Ok(i64::try_from(found).map_err(|_| Errno::EOVERFLOW)?)
    }

    /// The root stands for everything; another directory for names, of which there is one journal.
    pub(crate) fn sync(&self, caller: Caller, id: INodeNo) -> Result<()> {
        let at = self.at(caller, id)?;
        match at.ino {
            Ino::ROOT => Ok(at.vfs().sync()?),
            _ => Ok(at.vfs().sync_names()?),
        }
    }

    pub(crate) fn statfs(&self, caller: Caller, id: INodeNo) -> Result<Statfs> {
        Ok(self.at(caller, id)?.vfs().statfs()?)
    }
}

fn new(caller: Caller, kind: NewKind<'_>, perm: u16) -> New<'_> {
    New { kind, perm, owner: Owner { uid: caller.uid, gid: caller.gid } }
}

fn access(flags: OpenFlags) -> Access {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => Access::Read,
        OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR => Access::Write,
    }
}

/// What O_TRUNC does, also to a file that is empty already. With HANDLE_KILLPRIV_V2 the kernel
/// leaves clearing set-user-id to us, and fuser 0.18 hides the bit that says whether the caller
/// lacks CAP_FSETID: all but uid 0 count as lacking it.
fn truncation(caller: Caller) -> SetAttr {
    SetAttr {
        size: Some(0),
        mtime: Some(SetTime::Now),
        kill_privileges: caller.uid != 0,
        ..SetAttr::default()
    }
}

/// What a SETATTR request asks for, before it is known who asks.
pub(crate) fn set_attr(caller: Caller, set: SetAttr) -> SetAttr {
    // chown(2) clears the bits whoever calls it (chown_common in the kernel); truncate(2) unless
    // the caller has CAP_FSETID, see `truncation`.
    let kill_privileges =
        set.uid.is_some() || set.gid.is_some() || (set.size.is_some() && caller.uid != 0);
    SetAttr { kill_privileges, ..set }
}
