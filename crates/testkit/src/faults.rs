//! Failing disks: the Nth call to the scratch area, the journal or the payloads fails.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use spfs_model::Digest;
use spfs_vfs::api::Statfs;
use spfs_vfs::{
    JournalFile, LayerStore, LogFile, Payloads, Scratch, ScratchFile, ScratchId, ScratchStat,
    StoredFile,
};

/// Counts calls and says which fail. Shared by all wrappers of one test, so that N runs over all
/// their calls.
#[derive(Debug, Default)]
pub struct Faults {
    calls: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    /// The next call of this name fails.
    next: Option<(&'static str, io::ErrorKind)>,
    /// Calls neither count nor fail.
    held: bool,
    failed: Vec<&'static str>,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The call that fails, counted from 1.
    pub call: u64,
    /// Whether all calls after it fail too, as on a disk that stays full.
    pub lasting: bool,
    /// The error.
    pub kind: io::ErrorKind,
}

impl Faults {
    /// Counts from now on and lets calls fail as planned.
    pub fn arm(&self, plan: Plan) {
        self.calls.store(0, Ordering::Relaxed);
        *self.state.lock() = State { plan: Some(plan), ..State::default() };
    }

    /// Lets the next call of this name fail, once.
    pub fn fail_next(&self, what: &'static str, kind: io::ErrorKind) {
        self.state.lock().next = Some((what, kind));
    }

    /// Lets no call fail from now on. Returns whether one has failed since the faults were armed.
    pub fn disarm(&self) -> bool {
        let mut state = self.state.lock();
        state.plan.take().is_some() && !state.failed.is_empty()
    }

    /// While they are held, no call counts or fails: somebody looks at the outcome.
    pub fn set_held(&self, held: bool) {
        self.state.lock().held = held;
    }

    /// The calls that failed since the faults were armed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.state.lock().failed.clone()
    }

    /// Whether a call has failed since the faults were armed.
    pub fn has_failed(&self) -> bool {
        !self.state.lock().failed.is_empty()
    }

    /// Counts a call.
    fn call(&self, what: &'static str) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.held {
            return Ok(());
        }
        if let Some((_, kind)) = state.next.take_if(|(next, _)| *next == what) {
            state.failed.push(what);
            return Err(kind.into());
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match state.plan {
            Some(plan) if number == plan.call || plan.lasting && number > plan.call => {
                state.failed.push(what);
                Err(plan.kind.into())
            }
            _ => Ok(()),
        }
    }
}

/// A scratch area whose calls may fail. A write that fails has written half of its bytes.
#[derive(Debug)]
pub struct FaultyScratch {
    inner: Arc<dyn Scratch>,
    faults: Arc<Faults>,
}

impl FaultyScratch {
    /// Lets calls to `inner` fail.
    pub fn new(inner: Arc<dyn Scratch>, faults: &Arc<Faults>) -> Self {
        Self { inner, faults: Arc::clone(faults) }
    }

    fn wrap(&self, inner: Box<dyn ScratchFile>) -> Box<dyn ScratchFile> {
        Box::new(FaultyFile { inner, faults: Arc::clone(&self.faults) })
    }
}

impl Scratch for FaultyScratch {
    fn create(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>> {
        self.faults.call("create a scratch file")?;
        Ok(self.wrap(self.inner.create(id)?))
    }

    fn open(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>> {
        self.faults.call("open a scratch file")?;
        Ok(self.wrap(self.inner.open(id)?))
    }

    fn remove(&self, id: ScratchId) -> io::Result<()> {
        self.faults.call("remove a scratch file")?;
        self.inner.remove(id)
    }

    fn path(&self, id: ScratchId) -> PathBuf {
        self.inner.path(id)
    }

    fn list(&self) -> io::Result<Vec<ScratchId>> {
        self.faults.call("list the scratch files")?;
        self.inner.list()
    }

    fn sync(&self, contents: bool) -> io::Result<()> {
        self.faults.call("sync the scratch area")?;
        self.inner.sync(contents)
    }

    fn statfs(&self) -> io::Result<Statfs> {
        self.faults.call("statfs of the scratch area")?;
        self.inner.statfs()
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn ScratchFile>,
    faults: Arc<Faults>,
}

impl ScratchFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.call("read a scratch file")?;
        self.inner.read_at(buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.faults.call("write a scratch file") {
            self.inner.write_all_at(&data[..data.len() / 2], offset)?;
            return Err(error);
        }
        self.inner.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.call("truncate a scratch file")?;
        self.inner.set_len(len)
    }

    fn stat(&self) -> io::Result<ScratchStat> {
        self.faults.call("stat a scratch file")?;
        self.inner.stat()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.call("allocate in a scratch file")?;
        self.inner.allocate(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.call("punch a scratch file")?;
        self.inner.punch_hole(offset, len)
    }

    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.faults.call("seek data in a scratch file")?;
        self.inner.seek_data(offset)
    }

    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.faults.call("seek a hole in a scratch file")?;
        self.inner.seek_hole(offset)
    }

    fn clone_from(&self, source: &File) -> io::Result<()> {
        self.faults.call("clone into a scratch file")?;
        self.inner.clone_from(source)
    }

    fn set_mtime(&self, mtime: (i64, u32)) -> io::Result<()> {
        self.faults.call("set the time of a scratch file")?;
        self.inner.set_mtime(mtime)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.call("sync a scratch file")?;
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.call("sync a scratch file with its times")?;
        self.inner.sync_all()
    }
}

thread_local! {
    static LOG_FAULTS: RefCell<Option<Arc<Faults>>> = const { RefCell::new(None) };
}

/// Lets [`faulty_log`] use these faults for journals that this thread opens.
pub fn set_log_faults(faults: &Arc<Faults>) {
    LOG_FAULTS.set(Some(Arc::clone(faults)));
}

/// Makes a journal's file whose calls may fail, as [`spfs_vfs::UpperFiles::log`] wants it. A write
/// that fails has written half of its bytes.
pub fn faulty_log(file: File) -> Box<dyn LogFile> {
    let faults = LOG_FAULTS.with_borrow(Clone::clone).unwrap_or_default();
    Box::new(FaultyLog { inner: JournalFile(file), faults })
}

struct FaultyLog {
    inner: JournalFile,
    faults: Arc<Faults>,
}

impl LogFile for FaultyLog {
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.faults.call("write the journal") {
            self.inner.write_all_at(&data[..data.len() / 2], offset)?;
            return Err(error);
        }
        self.inner.write_all_at(data, offset)
    }

    fn reserve(&self, end: u64) -> io::Result<()> {
        self.faults.call("reserve space for the journal")?;
        self.inner.reserve(end)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.call("sync the journal")?;
        self.inner.sync()
    }

    fn write_again(&self, end: u64) -> io::Result<()> {
        self.faults.call("write the journal again")?;
        self.inner.write_again(end)
    }
}

/// Payloads that may fail to open.
#[derive(Debug)]
pub struct FaultyPayloads<P> {
    inner: Arc<P>,
    faults: Arc<Faults>,
}

impl<P> FaultyPayloads<P> {
    /// Lets calls to `inner` fail.
    pub fn new(inner: &Arc<P>, faults: &Arc<Faults>) -> Self {
        Self { inner: Arc::clone(inner), faults: Arc::clone(faults) }
    }
}

impl<P: Payloads> Payloads for FaultyPayloads<P> {
    fn open(&self, digest: &Digest) -> io::Result<File> {
        self.faults.call("open a payload")?;
        self.inner.open(digest)
    }
}

impl<P: LayerStore + Send> LayerStore for FaultyPayloads<P> {
    fn store_file(&self, path: &Path, size: u64, perm: u16) -> io::Result<StoredFile> {
        self.faults.call("store a file")?;
        self.inner.store_file(path, size, perm)
    }

    fn store_stream(&self, content: &mut dyn Read, size: u64, perm: u16) -> io::Result<Digest> {
        self.faults.call("store a stream")?;
        self.inner.store_stream(content, size, perm)
    }

    fn keeps(&self) -> bool {
        self.inner.keeps()
    }
}
