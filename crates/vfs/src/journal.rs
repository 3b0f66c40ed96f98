//! The journal: every change of names, attributes and content sources, in order.
//!
//! A record is appended under the lock that orders the change (so replay sees the same order) and
//! handed to write(2) before the change is acknowledged, so that the end of the daemon loses
//! nothing. [`Journal::sync`] makes it survive the machine, one sync for all who wait at the same
//! time.
//!
//! On disk: an 8-byte magic, then frames of `length: u32`, `crc32c: u32` over the rest,
//! `number: u64` and the record (postcard), all little endian. Numbers count up from 0 without a
//! gap. See docs/format.md.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::{Error, Result};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, rank};

mod file;
mod read;
mod record;

pub use file::{JournalFile, LogFile};
pub(crate) use read::{Contents, Damage, read};
pub(crate) use record::{
    BodyRecord, ContentRecord, CreateKind, EntryRecord, Header, NodeRecord, Record, SpecialKind,
    TargetRecord,
};

/// First bytes of a journal; the last is the version of the frame format.
pub(crate) const MAGIC: &[u8; 8] = b"SPFSjrn\x01";

/// Bytes before a record in its frame.
const FRAME_HEAD: usize = 16;

/// The longest record, in bytes. The largest legitimate one is the listing of a directory in a
/// compacted journal: 200 bytes an entry leave room for millions.
const RECORD_LEN_MAX: usize = 1 << 30;

/// Space kept reserved behind the end, so that a change which began can always be recorded: above
/// the longest record of a single change (an extended attribute of 64 KiB with its name).
const RESERVE_MIN: u64 = 256 << 10;

/// How many bytes may wait to be written before changes are refused as long as that fails.
const QUEUE_MAX: u64 = 1 << 20;

/// Space reserved at a time.
const RESERVE_STEP: u64 = 4 << 20;

/// An open journal.
pub(crate) struct Journal {
    log: fn(std::fs::File) -> Box<dyn LogFile>,
    queue: Mutex<Queue, { rank::JOURNAL_QUEUE }>,
    tail: Mutex<Tail, { rank::JOURNAL_TAIL }>,
    /// Bytes appended so far, written or queued.
    appended: AtomicU64,
    /// Bytes up to here are handed to the system.
    written: AtomicU64,
    /// Bytes up to here are reserved on the volume.
    reserved: AtomicU64,
    /// Bytes up to here must be durable for a sync to have meaning.
    needed: AtomicU64,
    /// Bytes after the last compaction.
    compacted: AtomicU64,
    synced: Mutex<Synced, { rank::JOURNAL_SYNCED }>,
}

/// How much of the journal is durable.
#[derive(Debug, Default)]
struct Synced {
    /// Bytes from the beginning.
    end: u64,
    /// A sync has failed: what comes after `end` must be written again.
    failed: bool,
    /// The folder in which a new journal has its name, if that is not durable yet: until it is, nothing of
    /// the journal is.
    folder: Option<PathBuf>,
}

/// Frames in their order, not yet written.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    next: u64,
}

/// The file and its end.
struct Tail {
    file: Arc<dyn LogFile>,
    end: u64,
    /// What is being written; kept when that fails, so that no record is ever skipped.
    bytes: Vec<u8>,
    closed: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("bytes", &self.appended.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Frames records for a new file: its magic and the records, numbered from 0.
    pub(crate) fn encode(records: &[Record]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (number, record) in records.iter().enumerate() {
            record::frame(&mut bytes, number as u64, record);
        }
        bytes
    }

    /// Goes on with a file whose first `end` bytes hold `next` frames.
    pub(crate) fn new(
        file: std::fs::File,
        log: fn(std::fs::File) -> Box<dyn LogFile>,
        end: u64,
        next: u64,
    ) -> Self {
        Self {
            log,
            queue: Mutex::new(Queue { bytes: Vec::new(), next }),
            tail: Mutex::new(Tail {
                file: Arc::from(log(file)),
                end,
                bytes: Vec::new(),
                closed: false,
            }),
            appended: AtomicU64::new(end),
            written: AtomicU64::new(end),
            reserved: AtomicU64::new(end),
            needed: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            synced: Mutex::default(),
        }
    }

    /// Replaces everything recorded so far by `records`, durably. Nothing may be recorded meanwhile.
    ///
    /// # Errors
    /// As of a file that cannot be written: then the old journal goes on. When only the folder cannot
    /// be synced, the new one does, and the next sync begins with that.
    pub(crate) fn replace(&self, path: &Path, records: &[Record]) -> Result<()> {
        // In the order of a sync, which may be waiting for the tail.
        let mut synced = self.synced.lock();
        let mut tail = self.tail.lock();
        if tail.closed {
            return Err(Error::Stale);
        }
        let mut queue = self.queue.lock();
        let crate::view::NewJournal { file, len: end, durable } =
            crate::view::write_anew(path, records)
                .map_err(|e| Error::scratch("compact the journal", e))?;
        *tail = Tail { file: Arc::from((self.log)(file)), end, bytes: Vec::new(), closed: false };
        *queue = Queue { bytes: Vec::new(), next: records.len() as u64 };
        self.appended.store(end, Ordering::Relaxed);
        self.written.store(end, Ordering::Release);
        self.reserved.store(end, Ordering::Relaxed);
        self.needed.store(end, Ordering::Relaxed);
        self.compacted.store(end, Ordering::Relaxed);
        *synced = match durable {
            Ok(()) => Synced { end, ..Synced::default() },
            Err(error) => {
                tracing::warn!(%error, "cannot sync the folder of the journal");
                Synced { folder: path.parent().map(Path::to_owned), ..Synced::default() }
            }
        };
        Ok(())
    }

    /// How long the last compaction has made it; 0 when there was none.
    pub(crate) fn compacted_len(&self) -> u64 {
        self.compacted.load(Ordering::Relaxed)
    }

    /// Writes nothing any more: the file is about to belong to somebody else.
    pub(crate) fn close(&self) {
        self.tail.lock().closed = true;
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Makes sure that a change which begins now can be recorded even when the disk fills up. To be
    /// called before anything is changed.
    pub(crate) fn reserve(&self) -> Result<()> {
        self.reserve_for(0)
    }

    /// As [`Journal::reserve`], for so many bytes more.
    pub(crate) fn reserve_for(&self, bytes: u64) -> Result<()> {
        let appended = self.appended.load(Ordering::Relaxed);
        if appended - self.written.load(Ordering::Relaxed).min(appended) > QUEUE_MAX {
            // Memory is no place for what the disk does not take.
            self.flush()?;
        }
        let wanted = appended + RESERVE_MIN + bytes;
        if wanted <= self.reserved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let tail = self.tail.lock();
        let wanted = wanted + RESERVE_STEP;
        tail.file.reserve(wanted).map_err(|e| Error::scratch("reserve journal space", e))?;
        self.reserved.store(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a record behind all others. [`Journal::flush`] hands it to the system.
    pub(crate) fn append(&self, record: &Record) {
        let end = self.append_in_passing(record);
        self.needed.fetch_max(end, Ordering::Relaxed);
    }

    /// As [`Journal::append`], but for a record that only those which follow it need: it is durable
    /// before they are, and no sync is made for its own sake. Returns its end.
    pub(crate) fn append_in_passing(&self, record: &Record) -> u64 {
        let mut queue = self.queue.lock();
        let before = queue.bytes.len();
        let number = queue.next;
        queue.next += 1;
        record::frame(&mut queue.bytes, number, record);
        let added = (queue.bytes.len() - before) as u64;
        self.appended.fetch_add(added, Ordering::Relaxed) + added
    }

    /// Hands everything appended so far to write(2).
    pub(crate) fn flush(&self) -> Result<()> {
        let wanted = self.appended.load(Ordering::Relaxed);
        if self.written.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        let mut tail = self.tail.lock();
        if tail.closed {
            return Err(Error::Stale);
        }
        {
            let mut queue = self.queue.lock();
            if tail.bytes.is_empty() {
                std::mem::swap(&mut tail.bytes, &mut queue.bytes);
            } else {
                tail.bytes.append(&mut queue.bytes);
            }
        }
        if tail.bytes.is_empty() {
            return Ok(());
        }
        tail.file
            .write_all_at(&tail.bytes, tail.end)
            .map_err(|e| Error::scratch("write the journal", e))?;
        tail.end += tail.bytes.len() as u64;
        tail.bytes.clear();
        self.written.store(tail.end, Ordering::Release);
        Ok(())
    }

    /// Tells whether a sync would do something.
    pub(crate) fn is_behind(&self) -> bool {
        self.synced.lock().end < self.needed.load(Ordering::Relaxed)
    }

    /// How much of what was appended so far must survive.
    pub(crate) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// Lets what was appended so far be on its way to the disk.
    pub(crate) fn begin_sync(&self) -> Result<()> {
        self.flush()?;
        let file = Arc::clone(&self.tail.lock().file);
        file.begin_sync();
        Ok(())
    }

    /// Makes everything that must survive and was appended so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let needed = self.needed();
        self.flush()?;
        self.sync_to(needed)
    }

    /// Makes what was appended up to `needed`, and has been flushed since, durable.
    pub(crate) fn sync_to(&self, needed: u64) -> Result<()> {
        let mut synced = self.synced.lock();
        if synced.end >= needed {
            return Ok(());
        }
        if let Some(folder) = &synced.folder {
            std::fs::File::open(folder)
                .and_then(|folder| spfs_sys::files::sync_all(&folder))
                .map_err(|e| Error::scratch("sync the folder of the journal", e))?;
            synced.folder = None;
        }
        // Who waited for the lock meanwhile finds its records covered by this sync.
        let (file, covered) = {
            let tail = self.tail.lock();
            (Arc::clone(&tail.file), tail.end)
        };
        let again = if synced.failed { file.write_again(covered) } else { Ok(()) };
        let done = again.and_then(|()| file.sync());
        synced.failed = done.is_err();
        done.map_err(|e| Error::scratch("sync the journal", e))?;
        synced.end = covered;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
