//! A disk that forgets: what nobody synced may be lost, torn or there, each piece for itself, when
//! the power goes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use spfs_vfs::api::Statfs;
use spfs_vfs::{JournalFile, LogFile, Scratch, ScratchFile, ScratchId, ScratchStat};

use crate::ops::Rng;

/// The unit in which a disk writes.
const PAGE: usize = 4096;

/// What of a scratch area is on the platter for certain.
#[derive(Debug, Default)]
pub struct PowerDisk {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Content at the last sync, of files that had one.
    synced: BTreeMap<ScratchId, Vec<u8>>,
    /// Files whose name was there at the last sync of the directory.
    named: Vec<ScratchId>,
    /// Length of the journal at its last sync.
    journal: usize,
}

impl PowerDisk {
    /// Lays out in `to` what could be found after the power went now; `from` is the live folder.
    pub fn fail(&self, rng: &mut Rng, from: &Path, to: &Path) -> io::Result<()> {
        let state = self.state.lock();
        let journal = fs::read(from.join("journal"))?;
        fs::write(to.join("journal"), torn_journal(rng, &journal, state.journal))?;
        let scratch = to.join("scratch");
        fs::create_dir(&scratch)?;
        let live = |id: ScratchId| fs::read(from.join("scratch").join(id.to_string())).ok();
        let mut ids: Vec<ScratchId> = state.named.clone();
        for entry in fs::read_dir(from.join("scratch"))? {
            let name = entry?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse().ok()).map(ScratchId));
        }
        ids.sort();
        ids.dedup();
        for id in ids {
            let (named, now) = (state.named.contains(&id), live(id));
            // Making and removing a name may have reached the disk or not.
            let there = match (named, now.is_some()) {
                (true, true) => true,
                (false, false) => false,
                _ => rng.chance(1, 2),
            };
            if there {
                let before = state.synced.get(&id).cloned().unwrap_or_default();
                let now = now.unwrap_or_else(|| before.clone());
                fs::write(scratch.join(id.to_string()), torn_file(rng, &before, &now))?;
            }
        }
        Ok(())
    }
}

impl PowerDisk {
    /// As [`PowerDisk::fail`], where nothing is there that was not synced.
    pub fn fail_with_the_least(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = self.state.lock();
        let journal = fs::read(from.join("journal"))?;
        fs::write(to.join("journal"), &journal[..state.journal.min(journal.len())])?;
        let scratch = to.join("scratch");
        fs::create_dir(&scratch)?;
        for id in &state.named {
            let content = state.synced.get(id).map(Vec::as_slice).unwrap_or_default();
            fs::write(scratch.join(id.to_string()), content)?;
        }
        Ok(())
    }
}

/// Anything from what was synced to everything, perhaps with a tail that was never written.
fn torn_journal(rng: &mut Rng, journal: &[u8], synced: usize) -> Vec<u8> {
    let synced = synced.min(journal.len());
    let end = synced + rng.below((journal.len() - synced) as u32 + 1) as usize;
    let mut torn = journal[..end].to_vec();
    if rng.chance(1, 3) {
        torn.resize(journal.len(), 0);
    }
    torn
}

/// Each page old or new; where the file was made longer, the new pages may be zeros.
fn torn_file(rng: &mut Rng, before: &[u8], now: &[u8]) -> Vec<u8> {
    let len = rng.choose(&[before.len(), now.len()]);
    let mut torn = vec![0; len];
    for (number, page) in torn.chunks_mut(PAGE).enumerate() {
        let at = number * PAGE;
        let from = match rng.below(3) {
            0 if at >= before.len() => continue,
            1 => now,
            _ => before,
        };
        let from = from.get(at..).unwrap_or_default();
        let len = from.len().min(page.len());
        page[..len].copy_from_slice(&from[..len]);
    }
    torn
}

/// A scratch area on such a disk.
#[derive(Debug)]
pub struct PowerScratch {
    inner: Arc<dyn Scratch>,
    disk: Arc<PowerDisk>,
}

impl PowerScratch {
    /// Watches what of `inner` is synced.
    pub fn new(inner: Arc<dyn Scratch>, disk: &Arc<PowerDisk>) -> Self {
        Self { inner, disk: Arc::clone(disk) }
    }

    fn wrap(&self, id: ScratchId, inner: Box<dyn ScratchFile>) -> Box<dyn ScratchFile> {
        let (path, disk) = (self.inner.path(id), Arc::clone(&self.disk));
        Box::new(PowerFile { id, path, inner, disk })
    }
}

impl Scratch for PowerScratch {
    fn create(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>> {
        Ok(self.wrap(id, self.inner.create(id)?))
    }

    fn open(&self, id: ScratchId) -> io::Result<Box<dyn ScratchFile>> {
        Ok(self.wrap(id, self.inner.open(id)?))
    }

    fn remove(&self, id: ScratchId) -> io::Result<()> {
        self.inner.remove(id)
    }

    fn path(&self, id: ScratchId) -> PathBuf {
        self.inner.path(id)
    }

    fn list(&self) -> io::Result<Vec<ScratchId>> {
        self.inner.list()
    }

    fn sync(&self, contents: bool) -> io::Result<()> {
        let ids = self.inner.list()?;
        let mut state = self.disk.state.lock();
        if contents {
            for id in &ids {
                state.synced.insert(*id, fs::read(self.inner.path(*id))?);
            }
        }
        state.named = ids;
        Ok(())
    }

    fn statfs(&self) -> io::Result<Statfs> {
        self.inner.statfs()
    }
}

#[derive(Debug)]
struct PowerFile {
    id: ScratchId,
    path: PathBuf,
    inner: Box<dyn ScratchFile>,
    disk: Arc<PowerDisk>,
}

impl ScratchFile for PowerFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn stat(&self) -> io::Result<ScratchStat> {
        self.inner.stat()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.allocate(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.punch_hole(offset, len)
    }

    fn seek_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.inner.seek_data(offset)
    }

    fn seek_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.inner.seek_hole(offset)
    }

    fn clone_from(&self, source: &File) -> io::Result<()> {
        self.inner.clone_from(source)
    }

    fn set_mtime(&self, mtime: (i64, u32)) -> io::Result<()> {
        self.inner.set_mtime(mtime)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_data(&self) -> io::Result<()> {
        // A removed file that is still open has no name to read it by, and nothing to lose.
        if let Ok(content) = fs::read(&self.path) {
            self.disk.state.lock().synced.insert(self.id, content);
        }
        Ok(())
    }
}

thread_local! {
    static LOG_DISK: RefCell<Option<Arc<PowerDisk>>> = const { RefCell::new(None) };
}

/// Lets [`power_log`] use this disk for journals that this thread opens.
pub fn set_log_disk(disk: &Arc<PowerDisk>) {
    LOG_DISK.set(Some(Arc::clone(disk)));
}

/// Makes a journal's file on such a disk, as [`spfs_vfs::UpperFiles::log`] wants it. What is in a new
/// journal is durable before that takes the place of another.
pub fn power_log(file: File) -> Box<dyn LogFile> {
    let disk = LOG_DISK.with_borrow(Clone::clone).unwrap_or_default();
    let log = PowerLog { inner: JournalFile(file), disk };
    // Without this the journal counts as not synced, which only makes tests stricter.
    drop(log.sync());
    Box::new(log)
}

struct PowerLog {
    inner: JournalFile,
    disk: Arc<PowerDisk>,
}

impl LogFile for PowerLog {
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(data, offset)
    }

    fn reserve(&self, end: u64) -> io::Result<()> {
        self.inner.reserve(end)
    }

    fn sync(&self) -> io::Result<()> {
        let len = self.inner.0.metadata()?.len();
        self.disk.state.lock().journal = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(())
    }

    fn write_again(&self, end: u64) -> io::Result<()> {
        self.inner.write_again(end)
    }
}

/// Lets a journal seem to come from an earlier boot of the machine: every frame that names the
/// present boot names another one, with a checksum that fits.
///
/// A frame is its record's length, a CRC-32C of the rest, its number and the record (docs/format.md).
pub fn from_earlier_boot(journal: &mut [u8], crc32c: impl Fn(&[u8]) -> u32) -> io::Result<()> {
    const MAGIC: usize = 8;
    const HEAD: usize = 16;
    let boot = spfs_sys::clock::boot_id()?;
    let boot = boot.as_bytes();
    let mut at = MAGIC;
    while let Some(head) = journal.get(at..at + 4) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at + HEAD + len;
        let Some(body) = journal.get_mut(at + 8..end) else { break };
        if let Some(place) = body.windows(boot.len()).position(|window| window == boot) {
            body[place..place + boot.len()].fill(b'0');
            let checksum = crc32c(body);
            journal[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
        }
        at = end;
        if len == 0 {
            break;
        }
    }
    Ok(())
}
