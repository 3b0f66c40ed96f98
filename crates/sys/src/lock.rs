//! Locks on whole files that end with the process, however it ends.
//!
//! A lock belongs to the open file, not to the path: keep the lock file, never remove and remake
//! it. It works between the processes of one machine, and on network volumes as far as their
//! protocol goes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

/// Between two looks at whether a lock is free.
const PAUSE: Duration = Duration::from_millis(5);

/// An exclusive lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock if nobody holds it; `None` when somebody does.
    ///
    /// # Errors
    /// When the volume has no locks.
    pub fn try_exclusive(file: File) -> io::Result<Option<Self>> {
        Self::exclusive_within(file, Duration::ZERO)
    }

    /// Takes the lock as soon as it is free; `None` when it is not within `limit`.
    ///
    /// # Errors
    /// When the volume has no locks.
    pub fn exclusive_within(file: File, limit: Duration) -> io::Result<Option<Self>> {
        let started = Instant::now();
        loop {
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => return Ok(Some(Self { file })),
                // flock(2) can wait, but not for so long and no longer.
                Err(Errno::WOULDBLOCK) if started.elapsed() < limit => std::thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave the lock with a child that was forked and has not yet exec'd.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Returns whether somebody holds an exclusive lock on the file. Probes do not hinder each other,
/// but a holder-to-be may be refused while one runs: it should try again for a moment.
///
/// # Errors
/// When the volume has no locks.
pub fn is_held(file: &File) -> io::Result<bool> {
    match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => {
            flock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether the file at a path is still this one: where lock files are removed, a lock on a
/// file that was taken away says nothing. A symbolic link is another file.
///
/// # Errors
/// When the path cannot be looked at; that nothing is there is an answer.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_exclusive(open(&path)).unwrap().expect("free");
        assert!(Lock::try_exclusive(open(&path)).unwrap().is_none());
        assert!(is_held(&open(&path)).unwrap());
        drop(first);
        assert!(!is_held(&open(&path)).unwrap());
        assert!(Lock::try_exclusive(open(&path)).unwrap().is_some());
    }

    #[test]
    fn a_file_is_where_it_was_until_it_is_replaced_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = open(&path);
        assert!(is_at(&file, &path).unwrap());
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        assert!(!is_at(&file, &moved.join("below")).unwrap());
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        assert!(!is_at(&file, &path).unwrap(), "a link is followed");
        assert!(is_at(&file, &moved).unwrap());
        open(&dir.path().join("other"));
        assert!(!is_at(&file, &dir.path().join("other")).unwrap());
    }

    #[test]
    fn a_waiting_holder_gets_the_lock_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_exclusive(open(&path)).unwrap().expect("free");
        let (sender, receiver) = mpsc::channel();
        let waiting = open(&path);
        let waiter = thread::spawn(move || {
            let lock = Lock::exclusive_within(waiting, Duration::from_secs(60)).unwrap();
            sender.send(()).unwrap();
            lock
        });
        assert!(receiver.try_recv().is_err(), "the lock was given twice");
        drop(first);
        receiver.recv().unwrap();
        assert!(waiter.join().unwrap().is_some());
    }

    #[test]
    fn dropping_the_lock_frees_it_even_when_a_duplicate_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = open(&path);
        let duplicate = file.try_clone().unwrap();
        drop(Lock::try_exclusive(file).unwrap().expect("free"));
        assert!(!is_held(&open(&path)).unwrap());
        drop(duplicate);
    }
}
