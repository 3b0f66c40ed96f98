//! Where a cell gets its bytes from: payloads of the layers and scratch files, each opened on
//! demand and kept open in a bounded cache.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use quick_cache::sync::Cache;
use spfs_model::Digest;

use crate::api::{Error, Result};
use crate::journal::{Journal, Record};
use crate::scratch::{Scratch, ScratchFile, ScratchId};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, rank};

/// The payloads of the layers.
pub trait Payloads: Send + Sync {
    /// Opens a payload to read. It may wait until the payload has been fetched.
    fn open(&self, digest: &Digest) -> io::Result<File>;
}

/// The most files kept open, half payloads and half scratch: far below the 20 000 descriptors that
/// hardened systems allow, and the daemon raises a lower soft limit.
const OPEN_FILES_MAX: usize = 2048;

/// Bytes and their durability.
pub(crate) struct Store {
    payloads: Arc<dyn Payloads>,
    open_payloads: Cache<Digest, Arc<File>>,
    upper: Option<Upper>,
}

/// What only an editable view has.
pub(crate) struct Upper {
    pub(crate) scratch: Arc<dyn Scratch>,
    pub(crate) journal: Journal,
    open_files: Cache<ScratchId, Arc<dyn ScratchFile>>,
    next: AtomicU64,
    /// Scratch files to be removed after the next sync of the journal.
    doomed: Mutex<Vec<ScratchId>, { rank::TABLE }>,
    /// Scratch files that nothing durable needs any more, to be removed when there is time: a
    /// thousand of them take longer than the fsync(2) that made them so.
    removable: Mutex<Vec<ScratchId>, { rank::TABLE }>,
    /// Counts syncs of the journal, so that what can wait gives way to them.
    syncs: AtomicU64,
    /// Counts removed scratch files: for each there is more room on the volume.
    removed: AtomicU64,
    /// The volume can share blocks between payloads and scratch files, as far as is known.
    clones: AtomicBool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("editable", &self.upper.is_some()).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(payloads: Arc<dyn Payloads>, upper: Option<Upper>) -> Self {
        Self { payloads, open_payloads: Cache::new(OPEN_FILES_MAX / 2), upper }
    }

    /// The part that takes changes.
    pub(crate) fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(Error::ReadOnly)
    }

    /// A payload that is open already.
    pub(crate) fn open_payload(&self, digest: &Digest) -> Option<Arc<File>> {
        self.open_payloads.get(digest)
    }

    pub(crate) fn payloads(&self) -> &Arc<dyn Payloads> {
        &self.payloads
    }

    /// An open payload.
    pub(crate) fn payload(&self, digest: &Digest) -> Result<Arc<File>> {
        self.open_payloads
            .get_or_insert_with(digest, || self.payloads.open(digest).map(Arc::new))
            .map_err(|source| Error::Payload { digest: *digest, source })
    }
}

impl Upper {
    pub(crate) fn new(scratch: Arc<dyn Scratch>, journal: Journal, next: u64) -> Self {
        Self {
            scratch,
            journal,
            open_files: Cache::new(OPEN_FILES_MAX / 2),
            next: AtomicU64::new(next),
            doomed: Mutex::default(),
            removable: Mutex::default(),
            syncs: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            clones: AtomicBool::new(true),
        }
    }

    /// The number the next scratch file gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Makes a scratch file.
    pub(crate) fn create(&self) -> Result<(ScratchId, Arc<dyn ScratchFile>)> {
        let id = ScratchId(self.next.fetch_add(1, Ordering::Relaxed));
        let file = self.scratch.create(id).map_err(|e| Error::scratch("create a file", e))?;
        let file: Arc<dyn ScratchFile> = Arc::from(file);
        self.open_files.insert(id, Arc::clone(&file));
        Ok((id, file))
    }

    /// An open scratch file.
    pub(crate) fn file(&self, id: ScratchId) -> Result<Arc<dyn ScratchFile>> {
        self.open_files
            .get_or_insert_with(&id, || self.scratch.open(id).map(Arc::from))
            .map_err(|e| Error::scratch("open a file", e))
    }

    /// A scratch file is not needed any more by what the journal says now. It goes once that is on
    /// the disk: until then a power loss could bring back the record that needs it.
    pub(crate) fn remove(&self, id: ScratchId) {
        self.open_files.remove(&id);
        self.doomed.lock().push(id);
    }

    /// Makes the journal durable.
    pub(crate) fn sync_journal(&self) -> Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.journal.sync()
    }

    /// What the journal does not need any more once it is synced; to be given to [`Upper::release`]
    /// then, or back to [`Upper::doom`].
    pub(crate) fn take_doomed(&self) -> Vec<ScratchId> {
        std::mem::take(&mut *self.doomed.lock())
    }

    /// These are to be removed after a sync of the journal.
    pub(crate) fn doom(&self, ids: Vec<ScratchId>) {
        self.doomed.lock().extend(ids);
    }

    /// The journal does not need these since its last sync: [`Upper::remove_some`] removes them when there is
    /// time, or no room.
    pub(crate) fn release(&self, ids: Vec<ScratchId>) {
        self.removable.lock().extend(ids);
    }

    /// How often the journal was synced.
    pub(crate) fn sync_count(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// How many scratch files were removed.
    pub(crate) fn removed_count(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// Scratch files are there that can be removed.
    pub(crate) fn has_removable(&self) -> bool {
        !self.removable.lock().is_empty()
    }

    /// Scratch files are there that can be removed after a sync of the journal.
    pub(crate) fn has_doomed(&self) -> bool {
        !self.doomed.lock().is_empty()
    }

    /// Removes up to `most` scratch files that are not needed any more.
    pub(crate) fn remove_some(&self, most: usize) {
        let ids = {
            let mut removable = self.removable.lock();
            let kept = removable.len().saturating_sub(most);
            removable.split_off(kept)
        };
        for id in &ids {
            self.remove_now(*id);
        }
        self.removed.fetch_add(ids.len() as u64, Ordering::Relaxed);
    }

    /// Removes a scratch file no record has named. That it stays behind harms nothing: the next
    /// start removes it.
    pub(crate) fn remove_now(&self, id: ScratchId) {
        self.open_files.remove(&id);
        if let Err(error) = self.scratch.remove(id) {
            tracing::warn!(%id, %error, "cannot remove a scratch file");
        }
    }

    /// Shares the blocks of a payload with a scratch file; `false` where the volume cannot.
    pub(crate) fn try_clone(&self, source: &File, file: &dyn ScratchFile) -> Result<bool> {
        if !self.clones.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match file.clone_from(source) {
            Ok(()) => Ok(true),
            Err(error) if spfs_sys::reflink::is_unsupported(&error) => {
                self.clones.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(Error::scratch("clone a payload", error)),
        }
    }

    /// A scratch file that is open already.
    pub(crate) fn open_file(&self, id: ScratchId) -> Option<Arc<dyn ScratchFile>> {
        self.open_files.get(&id)
    }

    /// Appends a record; [`Journal::flush`] hands it to the system.
    pub(crate) fn record(&self, record: &Record) {
        self.journal.append(record);
    }
}
