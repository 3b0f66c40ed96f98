//! Committing a live view: what changed since the stack was last extended, at one instant.
//!
//! 1. Under the namespace's lock the changed names and attributes are collected; that is the
//!    instant. Only changed inodes and the listings on the way to them are looked at.
//! 2. Without it, the content of each changed file is stored, one file at a time under its own
//!    lock: everything written before the commit began is in, and each file is as it was at one
//!    moment.
//! 3. The caller writes a layer from the difference ([`spfs_model::diff`]) and says so
//!    ([`Commit::finish`]): from then on the content comes from the layer. A commit that is
//!    dropped instead leaves everything as it was, only that its payloads need not be stored again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use spfs_model::{BlobEntry, Digest, Live, Name, NameBuf, Position};

use crate::api::{Cookie, Error, FileType, Ino, Timestamp};
use crate::cell::{CommitJob, FileCell, LayerStore, Settled};
use crate::journal::Record;
use crate::namespace::{AttrChange, Body, Namespace, Target, TouchedAbove};
use crate::store::Upper;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, on_deep_stack, parallelism, rank, together};

use super::{Stack, View};

/// Type bits of `st_mode`.
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;

/// Stack of the thread that walks the changes: a path may be as deep as the user likes, and the
/// kernel gives memory only for what is used.
const WALK_STACK_BYTES: usize = 1 << 30;

/// Threads that store content at the same time.
const STORE_THREADS_MAX: usize = 8;

/// What a commit records of a file: its payload and its time.
const RECORDED_BYTES_OF_FILE: u64 = 128;

/// Why a view cannot become a layer.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The layer format has no such thing.
    #[error("{path} is a {what}, which a layer cannot hold", path = show(path))]
    FileType {
        /// Relative to the root.
        path: Vec<u8>,
        /// The type in words.
        what: &'static str,
    },
    /// The layer format holds UTF-8 only.
    #[error("{what} of {path} is not valid UTF-8, which a layer cannot hold", path = show(path))]
    NotUtf8 {
        /// Relative to the root.
        path: Vec<u8>,
        /// The name or the link target.
        what: &'static str,
    },
    /// The content of a file could not be stored.
    #[error("cannot store {path}", path = show(path))]
    Content {
        /// Relative to the root.
        path: Vec<u8>,
        /// Why.
        source: Error,
    },
    /// The view cannot be changed.
    #[error("this view has no scratch area")]
    ReadOnly,
    /// The journal or a thread failed.
    #[error("cannot take stock of the changes")]
    Internal(#[source] Error),
}

fn show(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}

/// What a view changed, with the content of all changed files in a layer store.
#[derive(Debug)]
pub struct Changes {
    /// The root: [`Live::Same`] when nothing changed.
    pub live: Live,
    /// Files that were written while they were being stored, relative to the root: each is as it
    /// was at one moment, which may be later than that of the others.
    pub busy: Vec<Vec<u8>>,
    /// How many names were left out; a directory counts once.
    pub left_out: usize,
}

/// Says of a name whether a commit leaves out what stands under it, with all that is below.
pub type LeaveOut<'a> = &'a (dyn Fn(Name<'_>) -> bool + Sync);

/// A commit under way. No other commit, reset or compaction happens meanwhile.
#[derive(Debug)]
pub struct Commit<'v> {
    view: &'v View,
    stack: MutexGuard<'v, Stack>,
    generation: u64,
    files: Vec<(Arc<FileCell>, Digest)>,
    _held: Held<'v>,
}

/// Keeps inodes whose content is in use, also when their last name goes meanwhile.
#[derive(Debug)]
pub(super) struct Held<'v> {
    view: &'v View,
    inodes: Vec<Ino>,
}

impl<'v> Held<'v> {
    /// To be called under the lock under which the jobs were collected.
    fn new(view: &'v View, collected: &Collected) -> Self {
        let jobs = collected.as_ref().map(|(_, jobs)| jobs.as_slice()).unwrap_or_default();
        let inodes: Vec<Ino> = jobs.iter().map(|(ino, _)| *ino).collect();
        inodes.iter().for_each(|ino| view.pins.pin(*ino));
        Self { view, inodes }
    }

    /// To be called under the lock under which the inode was found.
    pub(super) fn one(view: &'v View, ino: Ino) -> Self {
        view.pins.pin(ino);
        Self { view, inodes: vec![ino] }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for ino in &self.inodes {
            if self.view.pins.unpin(*ino) {
                self.view.reap(*ino);
            }
        }
    }
}

impl View {
    /// The layers committed from this view, bottom first.
    pub fn committed(&self) -> Vec<Digest> {
        self.changing.lock().committed.clone()
    }

    /// Collects what changed since the last commit and stores the content of changed files. The
    /// result stands on the current stack.
    pub fn begin_commit(
        &self,
        layers: &dyn LayerStore,
    ) -> Result<(Changes, Commit<'_>), CommitError> {
        self.begin_commit_without(layers, &|_| false)
    }

    /// As [`View::begin_commit`], but for what has a name that is to be left out: that stays as it
    /// is in the view, and changed until a later commit takes it.
    pub fn begin_commit_without(
        &self,
        layers: &dyn LayerStore,
        leave_out: LeaveOut<'_>,
    ) -> Result<(Changes, Commit<'_>), CommitError> {
        let upper = self.store.upper().map_err(|_| CommitError::ReadOnly)?;
        let stack = self.changing.lock();
        let (generation, collected, left_out, held) = {
            let mut namespace = self.namespace.write();
            let generation = namespace.seal();
            upper.record(&Record::Sealed { generation });
            let mut left_out = Vec::new();
            let collected = collect(&namespace, leave_out, &mut left_out);
            // In the next generation, so that this commit does not settle them.
            for ino in &left_out {
                upper.record(&Record::LeftOut { ino: ino.0 });
                namespace.mark_placed(*ino).map_err(CommitError::Internal)?;
            }
            let held = Held::new(self, &collected);
            if let Ok((_, jobs)) = &collected {
                note_times(&mut namespace, upper, jobs).map_err(CommitError::Internal)?;
            }
            (generation, collected, left_out.len(), held)
        };
        upper.journal.flush().map_err(CommitError::Internal)?;
        let (root, jobs) = collected?;
        let writers: HashSet<Ino> = self.writers.lock().keys().copied().collect();
        let cells: Vec<_> = jobs.iter().filter_map(|(_, job)| job.cell()).cloned().collect();
        let stored =
            self.store_all(&jobs, layers).inspect_err(|_| self.date_shared(cells.iter()))?;
        let busy = jobs
            .iter()
            .filter(|(ino, _)| writers.contains(ino))
            .filter_map(|(ino, _)| self.path(*ino))
            .collect();
        let files = jobs
            .into_iter()
            .filter_map(|(ino, job)| match job {
                CommitJob::File { cell, .. } => Some((cell, stored.get(&ino)?.0)),
                CommitJob::Target(_) => None,
            })
            .collect();
        let live = into_live(root, &stored);
        let changes = Changes { live, busy, left_out };
        Ok((changes, Commit { view: self, stack, generation, files, _held: held }))
    }

    /// Lets scratch files that a repository has dated carry their own times again.
    fn date_shared<'c>(&self, cells: impl Iterator<Item = &'c Arc<FileCell>>) {
        for cell in cells.filter(|cell| cell.is_shared()) {
            let attr = self.namespace.read().attr_of_names(cell.ino);
            if let Err(error) = attr.and_then(|attr| cell.date_shared(&self.store, attr.mtime)) {
                tracing::warn!(ino = %cell.ino, %error, "a restart will show another time of a file");
            }
        }
    }

    /// Collects what changed since the last commit without changing anything; `layers` sees the
    /// content of changed files to tell their digests.
    pub fn changes(&self, layers: &dyn LayerStore) -> Result<Live, CommitError> {
        let (collected, _held) = {
            let namespace = self.namespace.read();
            let collected = collect(&namespace, &|_| false, &mut Vec::new());
            let held = Held::new(self, &collected);
            (collected, held)
        };
        let (root, jobs) = collected?;
        let stored = self.store_all(&jobs, layers)?;
        Ok(into_live(root, &stored))
    }

    /// Stores the content of all files; several at a time.
    fn store_all(&self, jobs: &[(Ino, CommitJob)], layers: &dyn LayerStore) -> StoredOrError {
        let next = AtomicUsize::new(0);
        let stored = Mutex::<_, { rank::TABLE }>::new(HashMap::with_capacity(jobs.len()));
        let failed = Mutex::<_, { rank::TABLE }>::new(None);
        let work = || {
            while failed.lock().is_none() {
                let Some((ino, job)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                match job.run(&self.store, layers) {
                    Ok(done) => drop(stored.lock().insert(*ino, done)),
                    Err(error) => *failed.lock() = Some((*ino, error)),
                }
            }
        };
        together(parallelism().min(STORE_THREADS_MAX).min(jobs.len()), work);
        match failed.into_inner() {
            Some((ino, source)) => {
                let path = self.path(ino).unwrap_or_default();
                Err(CommitError::Content { path, source })
            }
            None => Ok(stored.into_inner()),
        }
    }
}

type StoredOrError = Result<HashMap<Ino, (Digest, u64)>, CommitError>;

impl Drop for Commit<'_> {
    /// No layer has come of it.
    fn drop(&mut self) {
        self.view.date_shared(self.files.iter().map(|(cell, _)| cell));
    }
}

impl Commit<'_> {
    /// The changes are in `layer`, which is on top of the stack now. Files that were written since
    /// they were stored stay changed. After an error [`View::committed`] tells whether it counts.
    pub fn finish(mut self, layer: Digest) -> Result<(), Error> {
        let upper = self.view.store.upper()?;
        upper.journal.reserve_for(RECORDED_BYTES_OF_FILE * self.files.len() as u64)?;
        let files = std::mem::take(&mut self.files);
        let mut obsolete = Vec::new();
        let mut changed = Vec::new();
        let mut written = Vec::new();
        for (cell, digest) in &files {
            match cell.settle(*digest, upper) {
                Settled::Payload { old, written_at } => {
                    written.extend(written_at.map(|time| (cell.ino, time)));
                    obsolete.extend(old);
                }
                Settled::Changed => changed.push(cell.ino),
            }
        }
        {
            let mut namespace = self.view.namespace.write();
            upper.record(&Record::Committed { layer, generation: self.generation });
            namespace.committed(self.generation);
            self.stack.committed.push(layer);
            for (ino, time) in written {
                note_time(&mut namespace, upper, ino, time)?;
            }
            for ino in changed {
                if namespace.node(ino).is_some() {
                    upper.record(&Record::Changed { ino: ino.0 });
                    namespace.mark(ino)?;
                }
            }
        }
        // Scratch files go only after the journal says on the disk that nobody needs them.
        obsolete.into_iter().for_each(|id| upper.remove(id));
        self.view.sync_journal(upper)
    }
}

/// Lets the journal know when files were last written, which only their scratch files do: those get a time
/// of the repository's when it takes them.
fn note_times(
    namespace: &mut Namespace,
    upper: &Upper,
    jobs: &[(Ino, CommitJob)],
) -> Result<(), Error> {
    for (ino, job) in jobs {
        let written = job.cell().and_then(|cell| cell.written_before());
        // Somebody may be setting another time now: not where none has been set, and a name has changed.
        let is_last = |time: &Timestamp| {
            let meta = namespace.node(*ino).map(|node| &node.meta);
            meta.is_some_and(|meta| meta.ctime <= *time || meta.mtime == meta.crtime)
        };
        if let Some(time) = written.filter(is_last) {
            note_time(namespace, upper, *ino, time)?;
        }
    }
    Ok(())
}

fn note_time(
    namespace: &mut Namespace,
    upper: &Upper,
    ino: Ino,
    time: Timestamp,
) -> Result<(), Error> {
    let Some(node) = namespace.node(ino) else { return Ok(()) };
    let ctime = Some(node.meta.ctime.max(time));
    let change = AttrChange { mtime: Some(time), ctime, ..AttrChange::default() };
    upper.record(&Record::Attributes { ino: ino.0, change });
    namespace.change_attributes(ino, &change)
}

/// The changed part of a tree; files are filled in when their content is stored.
enum Item {
    Same,
    LeftOut,
    Lower(Position),
    File { ino: Ino, mode: u32 },
    Blob(BlobEntry),
    Directory { mode: u32, entries: BTreeMap<NameBuf, Self> },
}

type Collected = Result<(Item, Vec<(Ino, CommitJob)>), CommitError>;

fn collect(namespace: &Namespace, leave_out: LeaveOut<'_>, left_out: &mut Vec<Ino>) -> Collected {
    if namespace.changed().is_empty() {
        return Ok((Item::Same, Vec::new()));
    }
    let mut walk = Walk {
        namespace,
        spine: spine(namespace),
        jobs: HashMap::new(),
        touched_above: None,
        leave_out,
        left_out,
    };
    let root = on_deep_stack(WALK_STACK_BYTES, || walk.directory(Ino::ROOT, false))
        .map_err(|source| CommitError::Internal(Error::scratch("start a thread", source)))?;
    Ok((root?, walk.jobs.into_iter().collect()))
}

/// The changed inodes and all directories on the way to them.
fn spine(namespace: &Namespace) -> HashSet<Ino> {
    let mut spine = HashSet::new();
    let mut todo: Vec<Ino> = namespace.changed().iter().copied().collect();
    while let Some(ino) = todo.pop() {
        if spine.insert(ino) && ino != Ino::ROOT {
            todo.extend(namespace.parents(ino));
        }
    }
    spine
}

struct Walk<'a> {
    namespace: &'a Namespace,
    spine: HashSet<Ino>,
    jobs: HashMap<Ino, CommitJob>,
    touched_above: Option<TouchedAbove>,
    leave_out: LeaveOut<'a>,
    left_out: &'a mut Vec<Ino>,
}

impl Walk<'_> {
    /// The listing of a directory; `moved`: the stack has nothing at this place to compare with.
    fn directory(&mut self, dir: Ino, moved: bool) -> Result<Item, CommitError> {
        let attr = self.namespace.attr_of_names(dir).map_err(CommitError::Internal)?;
        let mut children = Vec::with_capacity(attr.size as usize);
        let mut each = |entry: crate::api::DirEntry<'_>| {
            children.push((NameBuf::from(entry.name), entry.ino, entry.file_type));
            std::ops::ControlFlow::Continue(())
        };
        self.namespace
            .read_directory(dir, Cookie::START, &mut each)
            .map_err(CommitError::Internal)?;
        let mut entries = BTreeMap::new();
        for (name, ino, file_type) in children {
            let item = self.entry(dir, &name, ino, file_type, moved)?;
            entries.insert(name, item);
        }
        Ok(Item::Directory { mode: S_IFDIR | u32::from(attr.perm), entries })
    }

    fn entry(
        &mut self,
        dir: Ino,
        name: &NameBuf,
        ino: Ino,
        file_type: FileType,
        moved: bool,
    ) -> Result<Item, CommitError> {
        let moved = moved || self.namespace.is_placed(ino);
        if !moved && !self.spine.contains(&ino) {
            return Ok(Item::Same);
        }
        if (self.leave_out)(name.as_name()) {
            self.left_out.push(ino);
            return Ok(Item::LeftOut);
        }
        if std::str::from_utf8(name.as_bytes()).is_err() {
            let path = self.path(dir, name);
            return Err(CommitError::NotUtf8 { path, what: "the name" });
        }
        if let (Some(position), true) = (self.as_lower(ino), file_type != FileType::Directory) {
            return Ok(Item::Lower(position));
        }
        match file_type {
            FileType::Directory => self.subdirectory(ino, moved),
            FileType::Regular => self.file(ino),
            FileType::Symlink => self.symlink(dir, name, ino),
            special => {
                let what = match special {
                    FileType::Fifo => "named pipe",
                    FileType::Socket => "socket",
                    FileType::CharDevice => "character device",
                    _ => "block device",
                };
                Err(CommitError::FileType { path: self.path(dir, name), what })
            }
        }
    }

    fn subdirectory(&mut self, ino: Ino, moved: bool) -> Result<Item, CommitError> {
        match self.as_lower(ino) {
            Some(position) if moved && !self.touched_above().contains(ino) => {
                Ok(Item::Lower(position))
            }
            _ => self.directory(ino, moved),
        }
    }

    /// The place in the lower tree that tells all of an inode but what lies below it.
    fn as_lower(&self, ino: Ino) -> Option<Position> {
        let position = self.namespace.lower().current_position(ino)?;
        let lower = self.namespace.lower().node(ino)?;
        match self.namespace.node(ino) {
            None => Some(position),
            Some(node) => match &node.body {
                Body::Directory(directory) => {
                    let same = directory.entries.is_none() && node.meta.perm == lower.perm;
                    same.then_some(position)
                }
                _ => None,
            },
        }
    }

    fn touched_above(&mut self) -> &TouchedAbove {
        self.touched_above.get_or_insert_with(|| self.namespace.touched_above())
    }

    fn file(&mut self, ino: Ino) -> Result<Item, CommitError> {
        let attr = self.namespace.attr_of_names(ino).map_err(CommitError::Internal)?;
        let cell = self.namespace.cell(ino).map_err(CommitError::Internal)?;
        self.jobs.insert(ino, CommitJob::File { cell, perm: attr.perm });
        Ok(Item::File { ino, mode: S_IFREG | u32::from(attr.perm) })
    }

    fn symlink(&mut self, dir: Ino, name: &NameBuf, ino: Ino) -> Result<Item, CommitError> {
        let mode = S_IFLNK | 0o777;
        match self.namespace.node(ino).map(|node| &node.body) {
            Some(Body::Symlink { target: Target::Text(text), .. }) => {
                if std::str::from_utf8(text).is_err() {
                    let path = self.path(dir, name);
                    return Err(CommitError::NotUtf8 { path, what: "the target" });
                }
                self.jobs.insert(ino, CommitJob::Target(text.clone()));
                Ok(Item::File { ino, mode })
            }
            Some(Body::Symlink { target: Target::Payload { digest, size }, .. }) => {
                Ok(Item::Blob(BlobEntry { mode, size: *size, object: *digest }))
            }
            _ => {
                let lower = self.namespace.lower().node(ino);
                let lower = lower.ok_or(CommitError::Internal(Error::Stale))?;
                Ok(Item::Blob(BlobEntry { mode, size: lower.size, object: lower.digest }))
            }
        }
    }

    fn path(&self, dir: Ino, name: &NameBuf) -> Vec<u8> {
        let mut path = self.namespace.path(dir).unwrap_or_default();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        path
    }
}

fn into_live(item: Item, stored: &HashMap<Ino, (Digest, u64)>) -> Live {
    match item {
        Item::Same => Live::Same,
        Item::LeftOut => Live::LeftOut,
        Item::Lower(position) => Live::Lower(position),
        Item::Blob(blob) => Live::Blob(blob),
        Item::File { ino, mode } => {
            let (object, size) = stored.get(&ino).copied().unwrap_or((Digest::EMPTY, 0));
            Live::Blob(BlobEntry { mode, size, object })
        }
        Item::Directory { mode, entries } => Live::Directory {
            mode,
            entries: entries
                .into_iter()
                .map(|(name, item)| (name, into_live(item, stored)))
                .collect(),
        },
    }
}
