//! The table that the fast path reads: callers by number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, RwLock};
use spfs_fuse::ViewId;
use spfs_sys::process::{self, Followed, ProcessId};

/// A process whose view is known.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: ProcessId,
    view: AtomicU32,
    pub(super) followed: Option<Followed>,
    /// The threads of the process that are in the table.
    threads: Mutex<Vec<u32>>,
}

impl Seen {
    pub(super) fn new(id: ProcessId, view: ViewId, followed: Option<Followed>) -> Self {
        Self { id, view: AtomicU32::new(view.number()), followed, threads: Mutex::default() }
    }

    fn view(&self) -> ViewId {
        // It was stored as the number of a view.
        ViewId::new(self.view.load(Ordering::Acquire)).unwrap_or(ViewId::FIRST)
    }

    pub(super) fn set_view(&self, view: ViewId) {
        self.view.store(view.number(), Ordering::Release);
    }
}

#[derive(Debug, Clone)]
enum Entry {
    Process(Arc<Seen>),
    Thread(Arc<Seen>),
}

const SHARDS: usize = 64;

/// Threads of one process in the table before those that have ended are looked for.
const THREADS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Callers {
    shards: [Shard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(RwLock<HashMap<u32, Entry>>);

impl Default for Callers {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

impl Callers {
    fn shard(&self, number: u32) -> &RwLock<HashMap<u32, Entry>> {
        &self.shards[number as usize % SHARDS].0
    }

    /// The view of a caller that is in the table and still the one that was meant.
    pub(super) fn view_of(&self, number: u32, is_alive: impl Fn(&Seen) -> bool) -> Option<ViewId> {
        let shard = self.shard(number).read();
        match shard.get(&number)? {
            Entry::Process(seen) => is_alive(seen).then(|| seen.view()),
            Entry::Thread(seen) => {
                (is_alive(seen) && process::is_thread_of(number, seen.id.pid)).then(|| seen.view())
            }
        }
    }

    pub(super) fn seen(&self, pid: u32) -> Option<Arc<Seen>> {
        match self.shard(pid).read().get(&pid)? {
            Entry::Process(seen) => Some(Arc::clone(seen)),
            Entry::Thread(_) => None,
        }
    }

    /// Returns the process that had the pid in the table.
    pub(super) fn insert(&self, seen: Seen) -> Option<Arc<Seen>> {
        let gone = self.remove(seen.id.pid);
        let pid = seen.id.pid;
        self.shard(pid).write().insert(pid, Entry::Process(Arc::new(seen)));
        gone
    }

    /// Notes that a number is that of a thread of a process in the table.
    pub(super) fn add_thread(&self, thread: u32, process: u32) {
        let Some(seen) = self.seen(process) else { return };
        {
            let mut threads = seen.threads.lock();
            if threads.len() >= THREADS_MAX {
                let (live, ended) = std::mem::take(&mut *threads)
                    .into_iter()
                    .partition::<Vec<u32>, _>(|thread| process::is_thread_of(*thread, process));
                *threads = live;
                ended.iter().for_each(|thread| self.remove_thread(*thread, seen.id));
            }
            threads.push(thread);
        }
        self.shard(thread).write().insert(thread, Entry::Thread(seen));
    }

    fn remove_thread(&self, thread: u32, process: ProcessId) {
        let mut shard = self.shard(thread).write();
        if matches!(shard.get(&thread), Some(Entry::Thread(seen)) if seen.id == process) {
            shard.remove(&thread);
        }
    }

    pub(super) fn remove(&self, pid: u32) -> Option<Arc<Seen>> {
        match self.shard(pid).write().remove(&pid)? {
            Entry::Process(seen) => {
                let threads = std::mem::take(&mut *seen.threads.lock());
                threads.into_iter().for_each(|thread| self.remove_thread(thread, seen.id));
                Some(seen)
            }
            Entry::Thread(_) => None,
        }
    }

    /// Processes of whose end nobody tells.
    pub(super) fn unfollowed(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for shard in &self.shards {
            let shard = shard.0.read();
            pids.extend(shard.iter().filter_map(|(pid, entry)| match entry {
                Entry::Process(seen) if seen.followed.is_none() => Some(*pid),
                _ => None,
            }));
        }
        pids
    }
}
