//! A view: the one implementation of [`Vfs`] that ships.
//!
//! It puts the pieces together: names and attributes ([`Namespace`]), content ([`FileCell`]),
//! bytes and durability ([`Store`]). Locks, always taken in this order: `changing`, `recording`,
//! `syncing`, `namespace`, one cell's content, tables, the journal's (docs/locks.md; their types say
//! it too). No I/O happens under `namespace`: records are queued under it and written before the
//! reply.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use spfs_model::{Digest, MergedTree, Name};

use crate::ahead::Ahead;
use crate::api::{
    Access, Attr, Cookie, DirEntry, Error, FileType, Ino, New, NewKind, Owner, Remove, Replace,
    Result, SetAttr, Statfs, Timestamp, Vfs, XattrMode,
};
use crate::cell::{FileCell, Source};
use crate::journal::{Header, Record};
use crate::lower::Lower;
use crate::namespace::{Body, LowerDefaults, Namespace, TARGET_LEN_MAX, Target};
use crate::store::{Payloads, Store, Upper};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, RwLock, RwLockReadGuard, rank};

mod ahead;
mod attributes;
mod commit;
mod compact;
mod export;
mod file;
mod leftovers;
mod open;
mod replacing;
mod replay;
mod reset;
mod sync;

pub use commit::{Changes, Commit, CommitError, LeaveOut};
pub(crate) use compact::{NewJournal, write_anew};
pub use file::OpenFile;
use leftovers::LastLook;
pub use leftovers::Leftovers;
use open::NUMBERING;
pub use open::{OpenError, StackIdentity, UpperFiles};
use replacing::{LATE_MAX, Replacing, replacing_file};
use reset::Offered;
pub use reset::{GivenBack, Invalidation, Offer, Offers, ResetReport, WHOLE_FILE};
pub use sync::SYNC_PERIOD;

/// Tells the time. The kernel stamps coarse time; so must we, or the later of two changes could
/// carry the earlier time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time of a change that happens now.
    fn now(&self) -> Timestamp;
}

/// The time of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = spfs_sys::clock::now();
        Timestamp { secs: now.secs, nanos: now.nanos }
    }
}

/// The time that everything in a layer shows, 2000-01-01T00:00:00Z, equal in every run on every
/// host: see docs/decisions/0002-time-of-layers.md.
pub const LAYER_TIME: Timestamp = Timestamp { secs: 946_684_800, nanos: 0 };

/// How a view looks.
#[derive(Debug, Clone)]
pub struct ViewOptions {
    /// Who owns what the layers hold; they do not say.
    pub owner: Owner,
    /// The time of what the layers hold; they do not say.
    pub layer_time: Timestamp,
    /// The clock for changes.
    pub clock: Arc<dyn Clock>,
}

impl ViewOptions {
    /// The usual options for an owner.
    pub fn new(owner: Owner) -> Self {
        Self { owner, layer_time: LAYER_TIME, clock: Arc::new(SystemClock) }
    }

    fn defaults(&self) -> LowerDefaults {
        LowerDefaults { owner: self.owner, time: self.layer_time }
    }
}

/// A mounted stack of layers with what was changed on top.
pub struct View {
    /// Held for reading while something is changed and recorded, for writing while the journal is
    /// exchanged.
    recording: RwLock<(), { rank::RECORDING }>,
    namespace: RwLock<Namespace, { rank::NAMESPACE }>,
    store: Store,
    clock: Arc<dyn Clock>,
    /// The runtime has ended, and its files may belong to another view: nothing is changed any more.
    closed: AtomicBool,
    /// Changes are accepted. Writing back what was written before is always accepted.
    editable: AtomicBool,
    pins: Pins,
    /// How many handles may write to an inode.
    writers: Mutex<HashMap<Ino, u32>, { rank::TABLE }>,
    /// One sync of everything at a time: a second one must not return before the first is done with
    /// what it took from `unsynced`.
    syncing: Mutex<(), { rank::SYNCING }>,
    /// What is given back when the kernel asks for it (`reset::in_place`).
    offered: Mutex<HashMap<Ino, Offered>, { rank::TABLE }>,
    /// Files whose bytes must be safe before the journal is.
    replacing: Replacing,
    /// Cells that have something a sync must do.
    unsynced: Mutex<HashMap<Ino, Arc<FileCell>>, { rank::TABLE }>,
    /// The changed files of a former stack that somebody holds.
    former: Mutex<HashMap<Ino, Arc<FileCell>>, { rank::TABLE }>,
    /// One commit, reset or compaction at a time; taken before all other locks.
    changing: Mutex<Stack, { rank::CHANGING }>,
    dir: Option<PathBuf>,
    /// When leftovers were last removed.
    last_look: Mutex<LastLook, { rank::TABLE }>,
    /// Leaf: reads ahead across files, once somebody wants that.
    ahead: OnceLock<Ahead>,
}

/// What the journal knows of the stack.
#[derive(Debug, Default)]
struct Stack {
    base: Vec<Digest>,
    base_len: u64,
    committed: Vec<Digest>,
}

impl Stack {
    /// The head of a journal on it; `first`: the number of position 0.
    fn header(&self, first: u64) -> Header {
        Header {
            numbering: NUMBERING,
            base: self.base.clone(),
            first,
            base_len: self.base_len,
            committed: self.committed.clone(),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl View {
    /// A view of layers that nobody can change; it needs no scratch area.
    pub fn read_only(
        lower: Arc<MergedTree>,
        payloads: Arc<dyn Payloads>,
        options: ViewOptions,
    ) -> Arc<Self> {
        let namespace = Namespace::new(Lower::new(lower, Ino::ROOT.0), options.defaults());
        let store = Store::new(payloads, None);
        Arc::new(Self::assemble(namespace, store, options.clock, None, Stack::default()))
    }

    fn assemble(
        namespace: Namespace,
        store: Store,
        clock: Arc<dyn Clock>,
        dir: Option<&Path>,
        stack: Stack,
    ) -> Self {
        Self {
            editable: AtomicBool::new(store.upper().is_ok()),
            recording: RwLock::default(),
            namespace: RwLock::new(namespace),
            store,
            closed: AtomicBool::new(false),
            clock,
            pins: Pins::default(),
            writers: Mutex::default(),
            syncing: Mutex::default(),
            offered: Mutex::default(),
            replacing: Replacing::default(),
            unsynced: Mutex::default(),
            former: Mutex::default(),
            changing: Mutex::new(stack),
            dir: dir.map(Path::to_owned),
            last_look: Mutex::default(),
            ahead: OnceLock::new(),
        }
    }

    /// Tells whether changes are accepted.
    pub fn is_editable(&self) -> bool {
        self.editable.load(Ordering::Relaxed)
    }

    /// Accepts changes or refuses them from now on. Fails for a view without a scratch area.
    pub fn set_editable(&self, editable: bool) -> Result<()> {
        if editable {
            self.store.upper()?;
        }
        self.editable.store(editable, Ordering::Relaxed);
        Ok(())
    }

    /// The number of inodes with changes that no layer has.
    pub fn change_count(&self) -> usize {
        self.namespace.read().changed().len()
    }

    /// The paths of the files that are open for writing, relative to the root; a file without a
    /// name is not among them.
    pub fn open_for_writing(&self) -> Vec<Vec<u8>> {
        let writers: Vec<Ino> = self.writers.lock().keys().copied().collect();
        let namespace = self.namespace.read();
        let mut paths: Vec<_> = writers.into_iter().filter_map(|ino| namespace.path(ino)).collect();
        paths.sort();
        paths
    }

    /// The inodes that are open for writing: what the kernel may hold unwritten pages of.
    pub fn written_inodes(&self) -> Vec<Ino> {
        let mut inodes: Vec<Ino> = self.writers.lock().keys().copied().collect();
        inodes.sort_unstable();
        inodes
    }

    /// A path of an inode relative to the root, for messages; `None` when no name leads to it.
    pub fn path(&self, ino: Ino) -> Option<Vec<u8>> {
        self.namespace.read().path(ino)
    }

    /// Ends all change, also of what is still open, before somebody else uses the scratch area.
    pub fn close(&self) {
        let _changing = self.changing.lock();
        let _recording = self.recording.write();
        let _syncing = self.syncing.lock();
        self.closed.store(true, Ordering::Relaxed);
        if let Ok(upper) = self.store.upper() {
            upper.journal.close();
        }
    }

    /// Begins to change something, which a compaction and the end of the view wait for.
    fn begin_change(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let recording = self.recording.read();
        if self.closed.load(Ordering::Relaxed) { Err(Error::Stale) } else { Ok(recording) }
    }

    /// As [`View::begin_change`], of the content of a file.
    fn begin_change_of(&self, ino: Ino) -> Result<RwLockReadGuard<'_, ()>> {
        let recording = self.begin_change()?;
        self.namespace.read().require_current(ino)?;
        Ok(recording)
    }

    fn require_editable(&self) -> Result<&Upper> {
        let upper = self.store.upper()?;
        if !self.is_editable() {
            return Err(Error::ReadOnly);
        }
        upper.journal.reserve()?;
        Ok(upper)
    }

    /// Changes names or attributes: in memory and in the journal's queue as one step, in the file
    /// before it returns.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Namespace, Timestamp, &Upper) -> Result<T>,
    ) -> Result<T> {
        let (done, written) = self.change_and_write(change)?;
        written.map(|()| done)
    }

    /// Changes names, and frees the inode that has lost its last one if nobody holds it.
    fn change_names(
        &self,
        change: impl FnOnce(&mut Namespace, Timestamp, &Upper) -> Result<Option<Ino>>,
    ) -> Result<()> {
        let (orphan, written) = self.change_and_write(change)?;
        if let Some(ino) = orphan {
            self.reap(ino);
        }
        written
    }

    /// Changes names or attributes. When the second result is an error the change has happened all
    /// the same, unacknowledged: the next one that succeeds writes its record, too.
    fn change_and_write<T>(
        &self,
        change: impl FnOnce(&mut Namespace, Timestamp, &Upper) -> Result<T>,
    ) -> Result<(T, Result<()>)> {
        let upper = self.with_room(|| self.require_editable())?;
        let _recording = self.begin_change()?;
        let now = self.clock.now();
        let done = change(&mut self.namespace.write(), now, upper)?;
        Ok((done, upper.journal.flush()))
    }

    /// Remembers what a change of content means for commits and syncs. `change` tells whether the
    /// namespace may have to be told; a change that failed may have copied it up all the same.
    fn content_done(&self, cell: &Arc<FileCell>, change: Result<bool>) -> Result<()> {
        self.needs_sync(cell);
        let may_be_unmarked = *change.as_ref().unwrap_or(&true);
        if may_be_unmarked && let Some(departure) = cell.unmarked() {
            // Whoever writes meanwhile does this as well, lest it returns before a commit can know.
            self.namespace.write().mark(cell.ino)?;
            cell.marked(departure);
        }
        change.map(drop)
    }

    /// Bytes that a kernel had collected could not be written: whatever comes of the rest of the content,
    /// no layer may hold it as if it were whole.
    fn note_lost(&self, cell: &FileCell) {
        cell.note_lost();
        let noted = self.begin_change_of(cell.ino).and_then(|_recording| {
            let upper = self.store.upper()?;
            let mut namespace = self.namespace.write();
            namespace.mark(cell.ino)?;
            if !namespace.is_removed(cell.ino) {
                upper.record(&Record::Changed { ino: cell.ino.0 });
                upper.record(&Record::Lost { ino: cell.ino.0 });
            }
            drop(namespace);
            upper.journal.flush()
        });
        if let Err(error) = noted {
            tracing::warn!(ino = %cell.ino, %error, "a restart will not know that a file has lost bytes");
        }
    }

    /// The cells of touched files of which something is so.
    fn touched_files_that(&self, is_so: impl Fn(&FileCell) -> bool) -> Vec<Arc<FileCell>> {
        let namespace = self.namespace.read();
        namespace.touched_files().filter(|cell| is_so(cell)).map(Arc::clone).collect()
    }

    /// Remembers that a sync has something to do for a cell.
    fn needs_sync(&self, cell: &Arc<FileCell>) {
        let mut unsynced = self.unsynced.lock();
        unsynced.entry(cell.ino).or_insert_with(|| Arc::clone(cell));
    }

    fn attr(&self, namespace: RwLockReadGuard<'_, Namespace>, ino: Ino) -> Result<Attr> {
        let mut attr = namespace.attr_of_names(ino)?;
        if attr.file_type != FileType::Regular || namespace.node(ino).is_none() {
            return Ok(attr);
        }
        let cell = namespace.cell(ino)?;
        drop(namespace);
        let (size, blocks, written_at) = cell.stat(&self.store);
        attr.size = size;
        attr.blocks = blocks;
        if let Some(time) = written_at {
            attr.mtime = time;
            attr.ctime = attr.ctime.max(time);
        }
        Ok(attr)
    }

    /// Reads a link's target from a payload.
    fn read_target(&self, digest: Digest, size: u64) -> Result<Box<[u8]>> {
        let failed = |source| Error::Payload { digest, source };
        let len = usize::try_from(size).ok().filter(|len| *len <= TARGET_LEN_MAX);
        let len = len.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
        let mut target = vec![0; len];
        let payload = self.store.payload(&digest)?;
        let read = crate::scratch::read_full(&payload, &mut target, 0).map_err(failed)?;
        if read < len {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(target.into())
    }

    /// Frees what nobody can reach any more, if that is so.
    fn reap(&self, ino: Ino) {
        if self.pins.is_pinned(ino) {
            return;
        }
        self.forget_former(ino);
        let cell = {
            let namespace = self.namespace.read();
            if namespace.node(ino).is_none_or(|node| !node.is_orphan()) {
                drop(namespace);
                return;
            }
            drop(namespace);
            let mut namespace = self.namespace.write();
            // Somebody may have opened it just before it lost its name.
            if self.pins.is_pinned(ino) {
                return;
            }
            namespace.reap(ino)
        };
        self.unsynced.lock().remove(&ino);
        // Whoever is still at it must not look for the scratch file.
        if let (Some(cell), Ok(upper)) = (cell, self.store.upper()) {
            cell.assign(0, Source::Zeros).into_iter().for_each(|id| upper.remove(id));
        }
    }

    /// Renames, unless a file whose bytes are not safe would take the place of another while the journal is
    /// being synced: returns that file.
    fn try_rename(
        &self,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        replace: Replace,
        in_any_case: bool,
    ) -> Result<Option<Arc<FileCell>>> {
        let mut late = None;
        self.change_names(|namespace, time, upper| {
            if let Some(cell) = replacing_file(namespace, from, to, replace)?
                && !self.replacing.add(&cell)
                && !in_any_case
            {
                late = Some(cell);
                return Ok(None);
            }
            let orphan = namespace.rename(from, to, replace, time)?;
            upper.record(&Record::Rename {
                from_dir: from.0.0,
                from_name: from.1.as_bytes().to_vec(),
                to_dir: to.0.0,
                to_name: to.1.as_bytes().to_vec(),
                exchange: replace == Replace::Exchange,
                time,
            });
            Ok(orphan)
        })?;
        Ok(late)
    }

    /// Gives up the scratch files of an inode of a former stack that nobody holds any more.
    fn forget_former(&self, ino: Ino) {
        let cell = self.former.lock().remove(&ino);
        if let (Some(cell), Ok(upper)) = (cell, self.store.upper()) {
            cell.assign(0, Source::Zeros).into_iter().for_each(|id| upper.remove(id));
        }
    }

    fn create_inode(&self, dir: Ino, name: Name<'_>, new: New<'_>) -> Result<Ino> {
        self.change(|namespace, time, upper| {
            let ino = namespace.create(dir, name, new, time)?;
            upper.record(&Record::Create {
                dir: dir.0,
                name: name.as_bytes().to_vec(),
                ino: ino.0,
                kind: new.kind.into(),
                perm: new.perm,
                owner: new.owner,
                time,
            });
            Ok(ino)
        })
    }
}

impl Vfs for View {
    type File = OpenFile;

    fn statfs(&self) -> Result<Statfs> {
        match self.store.upper() {
            Ok(upper) => upper.scratch.statfs().map_err(|e| Error::scratch("statfs", e)),
            Err(_) => {
                let namespace = self.namespace.read();
                let files = namespace.lower().current().len() as u64;
                drop(namespace);
                let (block_size, none) = (4096, 0);
                Ok(Statfs {
                    block_size,
                    blocks: none,
                    blocks_free: none,
                    blocks_available: none,
                    files,
                    files_free: none,
                })
            }
        }
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.attr(self.namespace.read(), ino)
    }

    fn setattr(&self, ino: Ino, set: &SetAttr) -> Result<Attr> {
        self.set_attributes(ino, set)?;
        self.getattr(ino)
    }

    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        self.namespace.read().xattr(ino, name)?.map(Into::into).ok_or(Error::NoAttribute)
    }

    fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.change(|namespace, time, upper| {
            namespace.check_set_xattr(ino, name, value, mode)?;
            namespace.set_xattr(ino, name, value, time)?;
            if !namespace.is_removed(ino) {
                let (name, value) = (name.to_vec(), Some(value.to_vec()));
                upper.record(&Record::Xattr { ino: ino.0, name, value, time });
            }
            Ok(())
        })
    }

    fn listxattr(&self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        self.namespace.read().xattr_names(ino)
    }

    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.change(|namespace, time, upper| {
            namespace.remove_xattr(ino, name, time)?;
            if !namespace.is_removed(ino) {
                let name = name.to_vec();
                upper.record(&Record::Xattr { ino: ino.0, name, value: None, time });
            }
            Ok(())
        })
    }

    fn lookup(&self, dir: Ino, name: Name<'_>) -> Result<Attr> {
        let namespace = self.namespace.read();
        let (ino, _) = namespace.find(dir, name)?.ok_or(Error::NotFound)?;
        self.attr(namespace, ino)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        self.namespace.read().parent(dir)
    }

    fn readdir(
        &self,
        dir: Ino,
        after: Cookie,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.namespace.read().read_directory(dir, after, each)
    }

    fn create(&self, dir: Ino, name: Name<'_>, new: New<'_>) -> Result<Attr> {
        let ino = self.create_inode(dir, name, new)?;
        self.getattr(ino)
    }

    fn link(&self, ino: Ino, dir: Ino, name: Name<'_>) -> Result<Attr> {
        self.change(|namespace, time, upper| {
            namespace.link(ino, dir, name, time)?;
            let name = name.as_bytes().to_vec();
            upper.record(&Record::Link { ino: ino.0, dir: dir.0, name, time });
            Ok(())
        })?;
        self.getattr(ino)
    }

    fn remove(&self, dir: Ino, name: Name<'_>, what: Remove) -> Result<()> {
        self.change_names(|namespace, time, upper| {
            let orphan = namespace.remove(dir, name, what, time)?;
            let (name, directory) = (name.as_bytes().to_vec(), what == Remove::Directory);
            upper.record(&Record::Remove { dir: dir.0, name, directory, time });
            Ok(orphan)
        })
    }

    fn rename(&self, from: (Ino, Name<'_>), to: (Ino, Name<'_>), replace: Replace) -> Result<()> {
        for _ in 0..LATE_MAX {
            let Some(late) = self.try_rename(from, to, replace, false)? else { return Ok(()) };
            self.sync_content(&late, self.store.upper()?)?;
        }
        self.try_rename(from, to, replace, true).map(drop)
    }

    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        let target = {
            let namespace = self.namespace.read();
            match namespace.node(ino).map(|node| &node.body) {
                Some(Body::Symlink { target, .. }) => target.clone(),
                Some(_) => return Err(Error::Invalid),
                None => {
                    let lower = namespace.lower().node(ino).ok_or(Error::Stale)?;
                    if lower.file_type != FileType::Symlink {
                        return Err(Error::Invalid);
                    }
                    Target::Payload { digest: lower.digest, size: lower.size }
                }
            }
        };
        match target {
            Target::Text(text) => Ok(text),
            Target::Payload { digest, size } => self.read_target(digest, size),
        }
    }

    fn open(self: &Arc<Self>, ino: Ino, access: Access) -> Result<OpenFile> {
        OpenFile::new(self, ino, access)
    }

    fn sync(&self) -> Result<()> {
        self.sync_all()
    }

    fn sync_names(&self) -> Result<()> {
        match self.store.upper() {
            Ok(upper) => self.sync_journal(upper),
            Err(_) => Ok(()),
        }
    }

    fn pin(&self, ino: Ino) {
        self.pins.pin(ino);
    }

    fn unpin(&self, ino: Ino) {
        if self.pins.unpin(ino) {
            self.reap(ino);
        }
    }
}

impl From<NewKind<'_>> for crate::journal::CreateKind {
    fn from(kind: NewKind<'_>) -> Self {
        use crate::journal::SpecialKind;
        match kind {
            NewKind::Regular => Self::Regular,
            NewKind::Directory => Self::Directory,
            NewKind::Symlink(target) => Self::Symlink(target.to_vec()),
            NewKind::Fifo => Self::Special(SpecialKind::Fifo, 0),
            NewKind::Socket => Self::Special(SpecialKind::Socket, 0),
            NewKind::CharDevice(rdev) => Self::Special(SpecialKind::CharDevice, rdev),
            NewKind::BlockDevice(rdev) => Self::Special(SpecialKind::BlockDevice, rdev),
        }
    }
}

/// How many reasons there are to keep an inode that has no name.
#[derive(Debug, Default)]
struct Pins {
    shards: [Mutex<HashMap<Ino, u32>, { rank::TABLE }>; 16],
}

impl Pins {
    fn shard(&self, ino: Ino) -> &Mutex<HashMap<Ino, u32>, { rank::TABLE }> {
        &self.shards[(ino.0 % 16) as usize]
    }

    fn pin(&self, ino: Ino) {
        *self.shard(ino).lock().entry(ino).or_insert(0) += 1;
    }

    /// Takes a pin back. `true`: it was the last.
    fn unpin(&self, ino: Ino) -> bool {
        let mut shard = self.shard(ino).lock();
        let Some(count) = shard.get_mut(&ino) else {
            debug_assert!(false, "inode {ino} is unpinned more often than pinned");
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        shard.remove(&ino);
        true
    }

    /// The lowest number above the root's.
    fn oldest(&self) -> Option<Ino> {
        let below_root = |ino: &Ino| *ino != Ino::ROOT;
        let of_shard = |shard: &Mutex<HashMap<Ino, u32>, { rank::TABLE }>| {
            shard.lock().keys().copied().filter(below_root).min()
        };
        self.shards.iter().filter_map(of_shard).min()
    }

    fn is_pinned(&self, ino: Ino) -> bool {
        self.shard(ino).lock().contains_key(&ino)
    }
}
