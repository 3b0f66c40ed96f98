//! Reading ahead across files.
//!
//! Payloads lie wherever their digests put them, so neighbours in a directory are far from each other
//! on the disk and no disk or kernel reads one ahead of the other. Who reads the files of a directory one
//! after another (grep, tar, a compiler, an interpreter importing modules) would wait for each. So
//! when files are read in the order of the directory, the next few small ones are brought into memory by threads
//! of our own. Only files that had to be waited for count: what memory holds costs nothing here.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use spfs_model::Digest;

use crate::api::Ino;
use crate::store::Payloads;

/// How many entries of a directory are looked at behind the one that was read.
const WINDOW: u64 = 12;

/// A file at most so many entries behind the one before still counts as the next one: between them may be
/// empty files, directories and files that are in memory.
const STEP_MAX: u64 = 6;

/// Directories that are remembered.
const DIRECTORIES_MAX: usize = 512;

/// Larger files are left to the kernel's own read-ahead.
pub(crate) const FILE_SIZE_MAX: u64 = 128 << 10;

/// Files that wait to be read ahead; more are not worth it, they will be asked for earlier.
const QUEUE_MAX: usize = 1024;

/// Enough for a disk to choose from.
const THREADS: usize = 4;

/// A payload to be brought into memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Where each directory is being read, and the threads that read on.
pub(crate) struct Ahead {
    directories: Mutex<HashMap<Ino, Progress>>,
    shared: Arc<Shared>,
}

/// How far a directory's files have been read.
#[derive(Debug, Clone, Copy)]
struct Progress {
    last: u64,
    /// Up to here files have been asked for.
    end: u64,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    wanted: VecDeque<Wanted>,
    ended: bool,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}

impl Ahead {
    /// Starts the threads; they end when the value is dropped.
    pub(crate) fn start(payloads: &Arc<dyn Payloads>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), work: Condvar::new() });
        let ahead = Self { directories: Mutex::default(), shared };
        for number in 0..THREADS {
            let (shared, payloads) = (Arc::clone(&ahead.shared), Arc::clone(payloads));
            std::thread::Builder::new()
                .name(format!("spfs-ahead-{number}"))
                .spawn(move || shared.serve(&*payloads))?;
        }
        Ok(ahead)
    }

    /// A file was read and had to be waited for. `siblings` are the inodes of its directory; returns which of
    /// them to bring into memory.
    pub(crate) fn next(&self, dir: Ino, ino: Ino, siblings: &Range<u64>) -> Range<u64> {
        let mut directories = self.directories.lock();
        if directories.len() >= DIRECTORIES_MAX && !directories.contains_key(&dir) {
            directories.clear();
        }
        let fresh = Progress { last: ino.0, end: ino.0 + 1 };
        let Some(progress) = directories.get_mut(&dir) else {
            directories.insert(dir, fresh);
            return 0..0;
        };
        let step = ino.0.checked_sub(progress.last);
        match step {
            Some(0) => return 0..0,
            Some(1..=STEP_MAX) => progress.last = ino.0,
            _ => {
                *progress = fresh;
                return 0..0;
            }
        }
        let end = (ino.0 + 1 + WINDOW).min(siblings.end);
        let start = progress.end.max(ino.0 + 1);
        // Several at a time: each call wakes a thread.
        if start + WINDOW / 2 > end && end < siblings.end {
            return 0..0;
        }
        progress.end = end.max(start);
        start..end
    }

    /// Has payloads brought into memory.
    pub(crate) fn want(&self, wanted: impl IntoIterator<Item = Wanted>) {
        let mut queue = self.shared.queue.lock();
        let before = queue.wanted.len();
        queue.wanted.extend(wanted);
        let added = queue.wanted.len() - before;
        let surplus = queue.wanted.len().saturating_sub(QUEUE_MAX);
        queue.wanted.drain(..surplus);
        drop(queue);
        for _ in 0..added.min(THREADS) {
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Ahead {
    /// The threads are not waited for: one may be waiting for a server.
    fn drop(&mut self) {
        self.shared.queue.lock().ended = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn serve(&self, payloads: &dyn Payloads) {
        let mut queue = self.queue.lock();
        while !queue.ended {
            let Some(wanted) = queue.wanted.pop_front() else {
                self.work.wait(&mut queue);
                continue;
            };
            drop(queue);
            // Whoever reads the file meets the error again, and is told.
            if let Ok(file) = payloads.open(&wanted.digest) {
                spfs_sys::files::will_need(&file, wanted.size);
            }
            queue = self.queue.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Opened(Mutex<Vec<Digest>>);

    impl Payloads for Opened {
        fn open(&self, digest: &Digest) -> io::Result<std::fs::File> {
            self.0.lock().push(*digest);
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn ahead() -> (Ahead, Arc<Opened>) {
        let opened = Arc::new(Opened(Mutex::default()));
        let payloads: Arc<dyn Payloads> = Arc::clone(&opened) as _;
        (Ahead::start(&payloads).unwrap(), opened)
    }

    #[test]
    fn files_read_in_order_are_read_ahead_each_once_and_never_past_the_directory() {
        let (ahead, _) = ahead();
        let siblings = 100..140;
        let mut wanted = Vec::new();
        for ino in 100..140 {
            wanted.extend(ahead.next(Ino(7), Ino(ino), &siblings));
        }
        // The first one tells nothing; the second is read already when it tells of the order.
        assert_eq!(wanted, (102..140).collect::<Vec<_>>());
    }

    #[test]
    fn directories_do_not_disturb_each_other_and_gaps_are_stepped_over() {
        let (ahead, _) = ahead();
        let mut wanted = HashMap::<u64, Vec<u64>>::new();
        for step in 0..10 {
            for dir in 0..50 {
                let first = dir * 1000;
                let ino = Ino(first + step * STEP_MAX);
                let more = ahead.next(Ino(dir), ino, &(first..first + 1000));
                wanted.entry(dir).or_default().extend(more);
            }
        }
        assert!(wanted.values().all(|wanted| wanted.len() >= 40), "{wanted:?}");
    }

    #[test]
    fn what_is_read_here_and_there_is_not_read_ahead() {
        let (ahead, _) = ahead();
        for ino in [100, 200, 150, 10, 500, 500, 400] {
            assert!(ahead.next(Ino(7), Ino(ino), &(0..1000)).is_empty());
        }
    }

    #[test]
    fn no_more_directories_are_remembered_than_the_limit() {
        let (ahead, _) = ahead();
        for dir in 0..10 * DIRECTORIES_MAX as u64 {
            ahead.next(Ino(dir), Ino(dir), &(0..1));
        }
        assert!(ahead.directories.lock().len() <= DIRECTORIES_MAX);
    }

    #[test]
    fn what_is_wanted_is_opened() {
        let (ahead, opened) = ahead();
        let digests = [Digest::EMPTY, Digest::NULL];
        ahead.want(digests.map(|digest| Wanted { digest, size: 1 }));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while opened.0.lock().len() < 2 {
            assert!(std::time::Instant::now() < end, "nothing was opened");
            std::thread::yield_now();
        }
        assert!(digests.iter().all(|digest| opened.0.lock().contains(digest)));
    }
}
