//! The lock of one tag: a file that exists while somebody changes the tag.
//!
//! Upstream creates `NAME.tag.lock` with O_EXCL and never considers it stale. Here it is created in
//! the same way, and its creator holds an flock on it as well, which ends with the process. A lock
//! file is stale when nobody holds an flock on it and it is older than [`STALE_AFTER`] by the clock
//! of its own volume, or says that its holder had the flock on this machine since it was started
//! (flocks of other machines may not be seen from here; upstream's files are empty). Whoever gets
//! the flock of a stale file owns the lock from then on: the file stays, so that nobody else can
//! create it, and its time is renewed. Of several takers one gets the flock. A holder that was taken
//! for dead notices before it publishes anything ([`TagLock::is_held`]).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use spfs_sys::clock;
use spfs_sys::lock::{self, Lock};

use super::is_absent;
use crate::error::Context;
use crate::{RepoError, Result};

/// A lock is held for some milliseconds; nobody needs this long.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// One holder that lives and does not let go is waited for so long.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// How often a lock that is waited for is suspected: to look at the clock of the volume means to
/// write to it.
const SUSPECT_EVERY: Duration = Duration::from_millis(500);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// A lock that is held; dropping it lets go.
#[derive(Debug)]
pub(super) struct TagLock {
    path: PathBuf,
    file: File,
    /// `None` where the volume knows no flock.
    flock: Option<Lock>,
}

/// What tells one lock file from the next: a holder that lets go removes its file.
type Identity = (u64, u64, i64, i64);

impl TagLock {
    /// Waits for the lock and takes it.
    pub(super) fn acquire(path: &Path, tag: &dyn std::fmt::Display) -> Result<Self> {
        let mut pause = Duration::from_millis(1);
        let mut waiting: Option<(Identity, Instant)> = None;
        let mut suspected: Option<Instant> = None;
        loop {
            if let Some(lock) = Self::create(path)? {
                return Ok(lock);
            }
            if suspected.is_none_or(|last| last.elapsed() >= SUSPECT_EVERY) {
                suspected = Some(Instant::now());
                if let Some(lock) = Self::take_over(path)? {
                    return Ok(lock);
                }
            }
            // progress is a change of hands, not the mere passing of time
            let holder = fs::metadata(path).ok().map(|metadata| identity(&metadata));
            waiting = holder.map(|holder| match waiting {
                Some((same, since)) if same == holder => (same, since),
                _ => (holder, Instant::now()),
            });
            if let Some((_, since)) = waiting
                && since.elapsed() > WAIT_MAX
            {
                let (lock, held) = (path.to_owned(), since.elapsed());
                return Err(RepoError::TagLocked { tag: tag.to_string(), lock, held });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn create(path: &Path) -> Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).create_new(true).mode(0o666).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(RepoError::io("create", path, error)),
        };
        let held = Self::hold(path, file)?;
        Ok(held.inspect(Self::sign))
    }

    /// Takes the lock of somebody who died; `None` when the holder may live.
    fn take_over(path: &Path) -> Result<Option<Self>> {
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).custom_flags(no_link).open(path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            // Somebody else's file with a narrow mode cannot be locked, only waited for.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(RepoError::io("open", path, error)),
        };
        if !is_stale(path, &file)? {
            return Ok(None);
        }
        let Some(lock) = Self::hold(path, file)? else { return Ok(None) };
        // Looked at again: another taker may have come first and have been done since.
        if !is_stale(path, &lock.file)? {
            return Ok(lock.forget());
        }
        lock.sign();
        lock.file.set_modified(volume_time(path)?).at("renew", path)?;
        tracing::warn!(lock = %path.display(), "took over the lock of a program that is gone");
        Ok(Some(lock))
    }

    /// Marks the file as held; `None` when somebody else holds it, or removed it meanwhile.
    fn hold(path: &Path, file: File) -> Result<Option<Self>> {
        let duplicate = file.try_clone().at("lock", path)?;
        let flock = match Lock::try_exclusive(duplicate) {
            Ok(None) => return Ok(None),
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(lock = %path.display(), %error, "the volume has no flock");
                None
            }
        };
        let lock = Self { path: path.to_owned(), file, flock };
        if lock.is_held()? { Ok(Some(lock)) } else { Ok(lock.forget()) }
    }

    /// Says in the file on which machine its flock is held, for those who find it without one.
    fn sign(&self) {
        if self.flock.is_some()
            && let Some(boot) = boot()
        {
            // Without it the file is stale later.
            drop(self.file.write_all_at(boot.as_bytes(), 0));
        }
    }

    /// Whether the file at the path is still the one that this lock made or took over.
    pub(super) fn is_held(&self) -> Result<bool> {
        lock::is_at(&self.file, &self.path).at("look at", &self.path)
    }

    /// Lets go without removing the file, which is not ours.
    fn forget<T>(mut self) -> Option<T> {
        self.path = PathBuf::new();
        None
    }
}

impl Drop for TagLock {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() && matches!(self.is_held(), Ok(true)) {
            // Should this fail, the file is stale from now on.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// What tells this start of this machine from all others; it is asked for with every tag that is
/// changed.
fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| clock::boot_id().ok()).as_deref()
}

/// Whether a file of which nobody holds the flock was left by somebody who died.
fn is_stale(path: &Path, file: &File) -> Result<bool> {
    Ok(is_of_this_boot(file) || is_old(path, file)?)
}

/// Whether the file says that its flock was held on this machine since it was started.
fn is_of_this_boot(file: &File) -> bool {
    let mut said = [0; 64];
    let len = file.read_at(&mut said, 0).unwrap_or(0);
    boot().is_some_and(|boot| said[..len] == *boot.as_bytes())
}

fn is_old(path: &Path, file: &File) -> Result<bool> {
    let modified = file.metadata().and_then(|metadata| metadata.modified()).at("look at", path)?;
    let age = volume_time(path)?.duration_since(modified).unwrap_or_default();
    Ok(age > STALE_AFTER)
}

/// The time as the volume stamps it: a server's clock is not that of its clients.
fn volume_time(path: &Path) -> Result<std::time::SystemTime> {
    let folder = path.parent().unwrap_or(path);
    let probe = tempfile::tempfile_in(folder).at("write in", folder)?;
    probe.metadata().and_then(|metadata| metadata.modified()).at("look at", folder)
}
