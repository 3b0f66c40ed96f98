//! The content of one regular file, and where its bytes are.
//!
//! A cell belongs to an inode, not to a name or an open file: every handle of the inode holds the
//! same cell, so that a reader that opened before a copy-up sees what is written after it.
//!
//! Nothing is copied before the first write or truncation. Then, in this order of preference, the
//! payload's blocks are shared (FICLONE, clonefile), a small file is copied, and of a large one only
//! what is written is kept beside the payload ([`Source::Partial`]).
//!
//! Lock order: a cell's lock is taken after the namespace's, and never two cells at once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use spfs_model::Digest;

use crate::api::{Error, Ino, Result, Timestamp};
use crate::extents::Extents;
use crate::journal::{ContentRecord, Record};
use crate::scratch::{ScratchFile, ScratchId, ScratchStat, write_again};
use crate::store::{Store, Upper};
use crate::sync::{Mutex, RwLock, rank};

mod allocate;
mod commit;
mod io;

pub(crate) use commit::{CommitJob, Settled};
pub use commit::{LayerStore, StoredFile};

/// Files up to this size are copied whole at the first write: that costs no more than the
/// bookkeeping of a partial copy.
const COPY_WHOLE_MAX: u64 = 128 << 10;

/// Partial copies are kept in units of this many bytes, the kernel's page size on most
/// machines, so that their number is bounded by the file's size.
pub(crate) const BLOCK: u64 = 4096;

/// The largest offset a file may have (MAX_LFS_FILESIZE on 64-bit Linux).
pub(crate) const FILE_SIZE_MAX: u64 = i64::MAX as u64;

/// One regular file's content.
#[derive(Debug)]
pub(crate) struct FileCell {
    pub(crate) ino: Ino,
    content: RwLock<Content, { rank::CELL }>,
}

/// What a cell's lock guards.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) source: Source,
    /// The content as it is now stands in a repository.
    pub(crate) stored: Option<StoredAs>,
    /// When the daemon itself last saw a write that no `setattr` has dated since. The scratch file
    /// carries the modification time over a restart: the kernel's own stamp of the write, which may
    /// be one tick of the clock later, is replaced as soon as somebody looks.
    pub(crate) written_at: Option<Timestamp>,
    /// The modification time that was set while there was no scratch file to carry it.
    pub(crate) dated: Option<Timestamp>,
    /// Something changed that no completed sync covers.
    pub(crate) unsynced: Unsynced,
    /// What a sync of the whole volume, which is under way, covers.
    pub(crate) in_sync: Unsynced,
    /// How often the content has left a layer, and for how many of these times the namespace knows
    /// that it has changed.
    pub(crate) departures: u64,
    pub(crate) departures_marked: u64,
    /// The file is new, and no completed sync knows another content of it: after a power loss it
    /// keeps what is there, with or without a [`Record::Synced`].
    pub(crate) nothing_older: bool,
    /// The scratch file of the last content that a completed sync covers, which a power loss falls
    /// back to: it stays until a sync covers another content.
    pub(crate) fallback: Option<ScratchId>,
    /// A sync of the scratch file has failed: its bytes must be written again.
    pub(crate) sync_failed: bool,
    /// Bytes that were collected for this file could not be written: no layer may hold it as if it were
    /// whole.
    pub(crate) lost: bool,
    /// The scratch file may be longer than `size`, after a write beyond the end that failed. It is
    /// cut off before anything else is done with that file.
    pub(crate) torn: bool,
}

/// What a sync has to do for a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unsynced {
    /// Bytes were written to the scratch file.
    pub(crate) data: bool,
    /// The journal holds a change of the source or its extents; it counts after a power loss only
    /// with a later [`Record::Synced`].
    pub(crate) source: bool,
    /// The modification time was set, which fdatasync(2) leaves out.
    pub(crate) times: bool,
}

impl Unsynced {
    fn and(self, other: Self) -> Self {
        Self {
            data: self.data || other.data,
            source: self.source || other.source,
            times: self.times || other.times,
        }
    }
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// All in a payload, which is as long as the file.
    Payload(Digest),
    /// Nowhere: `size` zeros.
    Zeros,
    /// All in a scratch file, which is as long as the file.
    Whole { id: ScratchId },
    /// `extents` in a scratch file as long as the file; the rest up to `base_end` in a payload;
    /// zeros above.
    Partial { id: ScratchId, base: Digest, base_end: u64, extents: Extents },
}

/// The content as it is now stands in a repository, in no layer of the stack yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredAs {
    pub(crate) digest: Digest,
    /// Payload and scratch file are one inode: it must not be written.
    pub(crate) shared: bool,
}

/// An offset and the bytes that are about to be written there.
type Incoming<'a> = Option<(u64, &'a [u8])>;

impl Source {
    pub(crate) fn scratch_id(&self) -> Option<ScratchId> {
        match self {
            Self::Whole { id, .. } | Self::Partial { id, .. } => Some(*id),
            Self::Payload(_) | Self::Zeros => None,
        }
    }
}

impl FileCell {
    fn new(ino: Ino, size: u64, source: Source) -> Self {
        Self { ino, content: RwLock::new(Content::new(size, source)) }
    }

    /// Size in bytes, allocated blocks and the time of an undated write.
    pub(crate) fn stat(&self, store: &Store) -> (u64, u64, Option<Timestamp>) {
        let content = self.content.read();
        let dense = content.size.div_ceil(512);
        let looks = matches!(content.source, Source::Whole { .. }) || content.written_at.is_some();
        let stat = if looks { content.stat_scratch(store) } else { None };
        let blocks = match &content.source {
            Source::Payload(_) | Source::Partial { .. } => dense,
            Source::Zeros => 0,
            Source::Whole { .. } => stat.map_or(dense, |stat| stat.blocks),
        };
        (content.size, blocks, content.written_at)
    }

    /// When the file was written since its time was last set.
    pub(crate) fn written_at(&self) -> Option<Timestamp> {
        self.content.read().written_at
    }

    /// The same, unless somebody is writing now.
    pub(crate) fn written_before(&self) -> Option<Timestamp> {
        self.content.try_read()?.written_at
    }

    /// Lets a scratch file that a repository has dated carry the file's own time again; `mtime` is what it is
    /// but for undated writes.
    pub(crate) fn date_shared(&self, store: &Store, mtime: Timestamp) -> Result<()> {
        let content = self.content.write();
        if content.is_shared() {
            content.stamp_in_any_case(store, content.written_at.unwrap_or(mtime))?;
        }
        Ok(())
    }

    /// The modification time has been set: what the daemon saw before counts no more. `of_write`:
    /// it is that of an undated write, and a later one goes on counting. Returns whether a sync has
    /// something to do.
    pub(crate) fn date(&self, store: &Store, mtime: Timestamp, of_write: bool) -> Result<bool> {
        let mut content = self.content.write();
        if of_write && content.written_at != Some(mtime) {
            return Ok(false);
        }
        content.written_at = None;
        content.dated = Some(mtime);
        let stamps = content.source.scratch_id().is_some();
        if stamps {
            content.stamp(store, mtime)?;
            content.unsynced.times = true;
        }
        Ok(stamps)
    }

    /// The file was last written at this time, says who cached the writes. Returns whether a scratch
    /// file of its own carries it.
    pub(crate) fn date_written(&self, store: &Store, time: Timestamp) -> Result<bool> {
        let mut content = self.content.write();
        if content.is_shared() || content.source.scratch_id().is_none() {
            return Ok(false);
        }
        content.stamp(store, time)?;
        content.written_at = Some(time);
        content.unsynced.times = true;
        Ok(true)
    }

    /// Tells whether the content is what a layer of the stack holds.
    pub(crate) fn is_payload(&self) -> bool {
        matches!(self.content.read().source, Source::Payload(_))
    }

    /// Replaces everything, when the journal is replayed or a file is reset; returns the scratch
    /// files that are not needed any more.
    pub(crate) fn assign(&self, size: u64, source: Source) -> Vec<ScratchId> {
        self.content.write().assign(size, source)
    }

    /// The same with a payload, recorded before anybody can write to it.
    pub(crate) fn assign_payload(
        &self,
        size: u64,
        digest: Digest,
        upper: &Upper,
    ) -> Vec<ScratchId> {
        let mut content = self.content.write();
        let old = content.assign(size, Source::Payload(digest));
        upper.record(&Record::Content { ino: self.ino.0, content: content.record() });
        old
    }

    /// The content has left a layer, and the namespace may not know yet: which time this is.
    pub(crate) fn unmarked(&self) -> Option<u64> {
        let content = self.content.read();
        let unmarked = content.is_unmarked() && !content.is_clean();
        unmarked.then_some(content.departures)
    }

    /// The namespace knows.
    pub(crate) fn marked(&self, departure: u64) {
        let mut content = self.content.write();
        content.departures_marked = content.departures_marked.max(departure);
    }

    /// Runs `with` on the content.
    pub(crate) fn with<T>(&self, with: impl FnOnce(&Content) -> T) -> T {
        with(&self.content.read())
    }

    /// Runs `with` on the content, to change it.
    pub(crate) fn with_mut<T>(&self, with: impl FnOnce(&mut Content) -> T) -> T {
        with(&mut self.content.write())
    }

    /// Makes content durable: the scratch file's bytes first, then a record that they count.
    /// The caller syncs the journal afterwards.
    pub(crate) fn sync_data(&self, upper: &Upper) -> Result<()> {
        let mut content = self.content.write();
        content.mend(upper)?;
        // Who syncs the whole volume may not be done with it yet.
        let unsynced = content.unsynced.and(content.in_sync);
        if let Some(id) = content.source.scratch_id()
            && (unsynced.times || unsynced.data)
        {
            let file = upper.file(id)?;
            let again = if content.sync_failed { write_again(&*file) } else { Ok(()) };
            let sync = || if unsynced.times { file.sync_all() } else { file.sync_data() };
            let synced = again.and_then(|()| sync());
            content.sync_failed = synced.is_err();
            synced.map_err(|e| {
                content.sync_again();
                Error::scratch("sync a file", e)
            })?;
        }
        if unsynced.source {
            upper.scratch.sync(false).map_err(|e| Error::scratch("sync the directory", e))?;
            content.record_synced(self.ino, upper);
        }
        content.unsynced = Unsynced::default();
        Ok(())
    }

    /// What a kernel had collected could not be written, and it has dropped it.
    pub(crate) fn note_lost(&self) {
        self.content.write().lost = true;
    }

    /// Whether the content counts after a power loss as soon as it and its names are durable.
    pub(crate) fn has_nothing_older(&self) -> bool {
        self.content.read().nothing_older
    }

    /// A power loss would fall back to another scratch file, which a sync makes needless.
    pub(crate) fn keeps_older_content(&self) -> bool {
        let content = self.content.read();
        let older = content.fallback.is_some_and(|id| Some(id) != content.source.scratch_id());
        older && !content.sync_failed
    }

    /// A repository shares the scratch file.
    pub(crate) fn is_shared(&self) -> bool {
        self.content.read().is_shared()
    }

    /// Makes a scratch file that a repository shares this runtime's own again.
    pub(crate) fn unshare(&self, upper: &Upper) -> Result<()> {
        let mut content = self.content.write();
        match content.source {
            Source::Whole { id } => content.unshare(self.ino, upper, id).map(drop),
            _ => Ok(()),
        }
    }

    /// Tells whether a sync has something to do, or is at it.
    pub(crate) fn has_to_sync(&self) -> bool {
        self.content.read().has_to_sync()
    }

    /// A power loss may take bytes.
    pub(crate) fn has_unsafe_bytes(&self) -> bool {
        self.content.read().has_unsafe_bytes()
    }

    /// The same, unless nobody can tell without waiting.
    pub(crate) fn may_have_unsafe_bytes(&self) -> bool {
        self.content.try_read().is_none_or(|content| content.has_unsafe_bytes())
    }

    /// A sync failed: the next one has everything to do again.
    pub(crate) fn needs_sync(&self) {
        self.content.write().sync_again();
    }

    /// A sync of the whole volume begins; what is written from now on needs another.
    pub(crate) fn begin_sync(&self, upper: &Upper) -> Result<Unsynced> {
        let mut content = self.content.write();
        content.mend(upper)?;
        if let Some(id) = content.source.scratch_id().filter(|_| content.sync_failed) {
            write_again(&*upper.file(id)?).map_err(|e| Error::scratch("write a file again", e))?;
        }
        content.in_sync = std::mem::take(&mut content.unsynced);
        Ok(content.in_sync)
    }

    /// The sync of the whole volume is done: what was written before it counts. `false`: the source has
    /// changed again meanwhile, and only a sync of this file alone can tell what counts.
    pub(crate) fn end_sync(&self, upper: &Upper, synced: Unsynced) -> bool {
        let mut content = self.content.write();
        if content.in_sync != synced {
            // Given up meanwhile, by a sync that failed or with the inode.
            return !content.has_to_sync();
        }
        content.sync_failed = false;
        content.in_sync = Unsynced::default();
        if synced.source && !content.unsynced.source {
            content.record_synced(self.ino, upper);
        }
        !(synced.source && content.unsynced.source)
    }
}

impl Content {
    fn new(size: u64, source: Source) -> Self {
        Self {
            size,
            source,
            stored: None,
            written_at: None,
            dated: None,
            unsynced: Unsynced::default(),
            in_sync: Unsynced::default(),
            departures: 0,
            departures_marked: 0,
            nothing_older: false,
            fallback: None,
            sync_failed: false,
            lost: false,
            torn: false,
        }
    }

    /// As [`FileCell::assign`].
    pub(crate) fn assign(&mut self, size: u64, source: Source) -> Vec<ScratchId> {
        let mut old = self.scratch_files();
        old.retain(|id| Some(*id) != source.scratch_id());
        let departures = self.departures;
        *self = Self { departures, departures_marked: departures, ..Self::new(size, source) };
        old
    }

    /// The scratch files of this content and of the one that a power loss falls back to.
    pub(crate) fn scratch_files(&self) -> Vec<ScratchId> {
        let other = self.fallback.filter(|id| Some(*id) != self.source.scratch_id());
        self.source.scratch_id().into_iter().chain(other).collect()
    }

    fn has_to_sync(&self) -> bool {
        self.torn || self.unsynced.and(self.in_sync) != Unsynced::default()
    }

    fn has_unsafe_bytes(&self) -> bool {
        let unsynced = self.unsynced.and(self.in_sync);
        self.torn || unsynced.data || unsynced.source
    }

    /// No sync under way is of any use.
    fn sync_again(&mut self) {
        let source = self.unsynced.and(self.in_sync).source;
        self.unsynced = Unsynced { data: true, source, times: true };
        self.in_sync = Unsynced::default();
    }

    fn is_shared(&self) -> bool {
        self.stored.is_some_and(|stored| stored.shared)
    }

    /// Records that this content is on the disk.
    fn record_synced(&mut self, ino: Ino, upper: &Upper) {
        let record = Record::Synced { ino: ino.0 };
        if std::mem::take(&mut self.nothing_older) {
            // Only a later content has to know what it may fall back to.
            upper.journal.append_in_passing(&record);
        } else {
            upper.record(&record);
        }
        let now = self.source.scratch_id();
        if let Some(before) = std::mem::replace(&mut self.fallback, now)
            && now != Some(before)
        {
            upper.remove(before);
        }
    }

    /// The record that rebuilds this content.
    pub(crate) fn record(&self) -> ContentRecord {
        match &self.source {
            Source::Payload(digest) => ContentRecord::Payload { digest: *digest, size: self.size },
            Source::Zeros => ContentRecord::Zeros { size: self.size },
            Source::Whole { id, .. } => ContentRecord::Whole { id: *id },
            Source::Partial { id, base, base_end, extents, .. } => ContentRecord::Partial {
                id: *id,
                base: *base,
                base_end: *base_end,
                extents: extents.iter().map(|range| (range.start, range.end)).collect(),
            },
        }
    }

    /// Changes the source: in the journal first, then here. Returns nothing that can fail, so that
    /// both always agree.
    fn replace_source(&mut self, ino: Ino, source: Source, upper: &Upper) {
        let old = self.source.scratch_id();
        self.departures += u64::from(self.is_clean());
        self.source = source;
        self.unsynced.source = true;
        upper.record(&Record::Content { ino: ino.0, content: self.record() });
        if let Some(old) = old
            && self.source.scratch_id() != Some(old)
            && self.fallback != Some(old)
        {
            upper.remove(old);
        }
    }

    /// Makes the scratch file writable, by whatever copy that needs. `incoming` is what is about to
    /// be written and where: where that is the whole file, it takes the place of a copy.
    fn make_writable(
        &mut self,
        ino: Ino,
        store: &Store,
        incoming: Incoming<'_>,
    ) -> Result<Arc<dyn ScratchFile>> {
        let upper = store.upper()?;
        self.mend(upper)?;
        if let (Source::Whole { id }, true) = (&self.source, self.is_shared()) {
            return self.unshare(ino, upper, *id);
        }
        self.stored = None;
        match &self.source {
            Source::Whole { id } | Source::Partial { id, .. } => upper.file(*id),
            Source::Zeros => {
                let (id, file) = upper.create()?;
                self.set_new_len(upper, id, &*file, self.size)?;
                self.replace_source(ino, Source::Whole { id }, upper);
                Ok(file)
            }
            Source::Payload(digest) => {
                let digest = *digest;
                self.copy_up(ino, store, digest, incoming)
            }
        }
    }

    /// Looks at the scratch file, if there is one, and lets it carry the time of the last write.
    fn stat_scratch(&self, store: &Store) -> Option<ScratchStat> {
        let file = store.upper().ok()?.file(self.source.scratch_id()?).ok()?;
        let stat = file.stat().ok()?;
        if let Some(at) = self.written_at.filter(|at| (at.secs, at.nanos) != stat.mtime)
            && let Err(error) = self.stamp(store, at)
        {
            tracing::warn!(%error, "a restart will show the time of a write a moment later");
        }
        Some(stat)
    }

    /// Lets the scratch file carry a modification time. One that a repository shares is left alone.
    fn stamp(&self, store: &Store, mtime: Timestamp) -> Result<()> {
        if self.is_shared() { Ok(()) } else { self.stamp_in_any_case(store, mtime) }
    }

    fn stamp_in_any_case(&self, store: &Store, mtime: Timestamp) -> Result<()> {
        let Some(id) = self.source.scratch_id() else { return Ok(()) };
        let stamped = store.upper()?.file(id)?.set_mtime((mtime.secs, mtime.nanos));
        stamped.map_err(|e| Error::scratch("set the time of a file", e))
    }

    /// Cuts off what the scratch file has behind the end.
    pub(crate) fn mend(&mut self, upper: &Upper) -> Result<()> {
        if !self.torn {
            return Ok(());
        }
        if let Some(id) = self.source.scratch_id() {
            let file = upper.file(id)?;
            file.set_len(self.size).map_err(|e| Error::scratch("cut off a failed write", e))?;
        }
        self.torn = false;
        Ok(())
    }

    /// Copies a scratch file, if a repository shares it still. Its payload is no base for a partial copy: as
    /// long as no layer on the stack has it, cleaning may remove it.
    fn unshare(
        &mut self,
        ino: Ino,
        upper: &Upper,
        shared: ScratchId,
    ) -> Result<Arc<dyn ScratchFile>> {
        let file = upper.file(shared)?;
        let stat = file.stat().map_err(|e| Error::scratch("stat a file", e))?;
        if stat.links <= 1 {
            self.stored = None;
            return Ok(file);
        }
        let (id, file) = upper.create()?;
        let copied = std::fs::File::open(upper.scratch.path(shared))
            .map_err(|e| Error::scratch("open a shared file", e))
            .and_then(|source| copy_file(upper, &source, &*file));
        if let Err(error) = copied {
            upper.remove_now(id);
            return Err(error);
        }
        self.stored = None;
        self.unsynced.data = true;
        self.replace_source(ino, Source::Whole { id }, upper);
        Ok(file)
    }

    /// Copies a payload up, as little of it as possible.
    fn copy_up(
        &mut self,
        ino: Ino,
        store: &Store,
        digest: Digest,
        incoming: Incoming<'_>,
    ) -> Result<Arc<dyn ScratchFile>> {
        let upper = store.upper()?;
        let (id, file) = upper.create()?;
        match self.fill_copy(store, upper, &*file, digest, incoming) {
            Ok(true) => {
                self.replace_source(ino, Source::Whole { id }, upper);
            }
            Ok(false) => {
                let source = Source::Partial {
                    id,
                    base: digest,
                    base_end: self.size,
                    extents: Extents::default(),
                };
                self.replace_source(ino, source, upper);
            }
            Err(error) => {
                upper.remove_now(id);
                return Err(error);
            }
        }
        self.unsynced.data = true;
        Ok(file)
    }

    /// Fills a new scratch file; `false`: it stays empty, and the payload goes on to be read.
    fn fill_copy(
        &self,
        store: &Store,
        upper: &Upper,
        file: &dyn ScratchFile,
        digest: Digest,
        incoming: Incoming<'_>,
    ) -> Result<bool> {
        if self.size == 0 {
            return Ok(true);
        }
        if let Some((0, data)) = incoming
            && data.len() as u64 >= self.size
        {
            file.write_all_at(data, 0).map_err(|e| Error::scratch("write", e))?;
            return Ok(true);
        }
        let payload = store.payload(&digest)?;
        let failed = |source| Error::Payload { digest, source };
        if self.size <= COPY_WHOLE_MAX {
            let mut bytes = vec![0; self.size as usize];
            let read = crate::scratch::read_full(&payload, &mut bytes, 0).map_err(failed)?;
            if (read as u64) < self.size {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            file.write_all_at(&bytes, 0).map_err(|e| Error::scratch("copy a file up", e))?;
            return Ok(true);
        }
        if upper.try_clone(&payload, file)? {
            return Ok(true);
        }
        file.set_len(self.size).map_err(|e| Error::scratch("set a length", e))?;
        Ok(false)
    }

    /// Sets the length of a scratch file nothing refers to yet.
    fn set_new_len(
        &self,
        upper: &Upper,
        id: ScratchId,
        file: &dyn ScratchFile,
        len: u64,
    ) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        file.set_len(len).map_err(|e| {
            upper.remove_now(id);
            Error::scratch("set a length", e)
        })
    }
}

/// Fills a scratch file with all of another file.
fn copy_file(upper: &Upper, source: &std::fs::File, file: &dyn ScratchFile) -> Result<()> {
    if upper.try_clone(source, file)? {
        return Ok(());
    }
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let read = crate::scratch::read_full(source, &mut bytes, at)
            .map_err(|e| Error::scratch("read a shared file", e))?;
        if read == 0 {
            return Ok(());
        }
        file.write_all_at(&bytes[..read], at).map_err(|e| Error::scratch("copy a file", e))?;
        at += read as u64;
    }
}

/// The cells of files that are open or touched, by inode.
///
/// A touched inode's node holds its cell; an untouched one's is made when it is opened and found
/// here by later openers until the last of them is gone.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    shards: [Mutex<Shard, { rank::TABLE }>; 16],
}

#[derive(Debug, Default)]
struct Shard {
    cells: HashMap<Ino, Weak<FileCell>>,
    /// The number of cells at which those that nobody holds any more are swept out.
    sweep_at: usize,
}

impl Shard {
    fn insert(&mut self, ino: Ino, cell: &Arc<FileCell>) {
        if self.cells.len() >= self.sweep_at {
            self.cells.retain(|_, cell| cell.strong_count() > 0);
            self.sweep_at = (2 * self.cells.len()).max(SWEEP_MIN);
        }
        self.cells.insert(ino, Arc::downgrade(cell));
    }
}

/// Below this number of cells a shard is not swept.
const SWEEP_MIN: usize = 64;

impl Cells {
    fn shard(&self, ino: Ino) -> &Mutex<Shard, { rank::TABLE }> {
        &self.shards[(ino.0 % 16) as usize]
    }

    /// The cell of a file of the lower tree.
    pub(crate) fn of_lower(&self, ino: Ino, digest: Digest, size: u64) -> Arc<FileCell> {
        let mut shard = self.shard(ino).lock();
        if let Some(cell) = shard.cells.get(&ino).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(FileCell::new(ino, size, Source::Payload(digest)));
        shard.insert(ino, &cell);
        cell
    }

    /// The cell of a file with state of its own.
    pub(crate) fn restored(&self, ino: Ino, size: u64, source: Source) -> Arc<FileCell> {
        let cell = Arc::new(FileCell::new(ino, size, source));
        self.shard(ino).lock().insert(ino, &cell);
        cell
    }

    /// Nothing leads to the inode any more: whoever has its cell still has the last of it, and if the inode
    /// comes back it gets another.
    pub(crate) fn forget(&self, ino: Ino) {
        self.shard(ino).lock().cells.remove(&ino);
    }

    /// The cell of a new, empty file.
    pub(crate) fn of_new(&self, ino: Ino) -> Arc<FileCell> {
        let cell = FileCell::new(ino, 0, Source::Zeros);
        cell.with_mut(|content| content.nothing_older = true);
        Arc::new(cell)
    }
}
