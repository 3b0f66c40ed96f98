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

    /// Makes the journal durable, and removes what it needed before.
    pub(crate) fn sync_journal(&self) -> Result<()> {
        let doomed = std::mem::take(&mut *self.doomed.lock());
        if let Err(error) = self.journal.sync() {
            self.doomed.lock().extend(doomed);
            return Err(error);
        }
        for id in doomed {
            self.remove_now(id);
        }
        Ok(())
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

    /// Appends a record; [`Journal::flush`] hands it to the system.
    pub(crate) fn record(&self, record: &Record) {
        self.journal.append(record);
    }
}
