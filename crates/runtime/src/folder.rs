//! The folder of a runtime: scratch, journal, lock, socket and log.
//!
//! `<storage root>/runtimes/<name>/` belongs to its user alone. Whoever serves or changes the
//! runtime from outside holds the lock on its file `lock`; a lock that is free while the record
//! says "running" is how a crash is told. The folder may be taken away by whoever holds that lock,
//! so a lock counts only while the locked file is still the one in the folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use spfs_sys::lock::{self, Lock};
use spfs_sys::publish;

use crate::error::RuntimeError;
use crate::name::RuntimeName;

/// The folder that holds the folders of all runtimes, in the storage root.
pub(crate) const RUNTIMES: &str = "runtimes";

/// The file whose lock says who serves the runtime.
const LOCK: &str = "lock";

/// What the name of a folder begins with while it is being removed.
const GONE: &str = "gone#";

/// How often, and after which pause, a lock is asked for that somebody may hold for a moment only, to
/// look at the runtime or to clean up after it: a second in all.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The folder of one runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFolder {
    path: PathBuf,
}

/// The right to serve a runtime or to take it away; given back when dropped.
#[derive(Debug)]
pub struct FolderLock {
    lock: Lock,
}

impl FolderLock {
    /// Writes down which process holds the lock.
    pub fn note_holder(&self, pid: u32) -> io::Result<()> {
        let file = self.lock.file();
        file.set_len(0)?;
        file.write_all_at(pid.to_string().as_bytes(), 0)
    }
}

impl RuntimeFolder {
    /// Names the folder of a runtime; nothing is made.
    pub fn new(storage_root: &Path, name: &RuntimeName) -> Self {
        Self { path: storage_root.join(RUNTIMES).join(name) }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log of the process that serves the runtime.
    pub fn log(&self) -> PathBuf {
        self.path.join("daemon.log")
    }

    /// Makes the folder unless it is there, and checks that it belongs to the caller alone.
    pub fn create(&self) -> Result<(), RuntimeError> {
        if let Some(all) = self.path.parent() {
            shared_folder(all).map_err(|source| RuntimeError::Folder {
                doing: "create the folder",
                path: all.to_owned(),
                source,
            })?;
        }
        spfs_sys::owner::private_dir(&self.path)
            .map_err(|source| self.failed("create the folder", source))
    }

    /// Whether the folder is there.
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_dir())
    }

    /// Takes the lock; `None` when somebody else has it.
    pub fn lock(&self) -> Result<Option<FolderLock>, RuntimeError> {
        self.try_lock().map_err(|source| self.failed("lock the folder", source))
    }

    /// Takes the lock as soon as those give it back who hold it for a moment only; `None` when
    /// somebody has it for longer.
    pub fn lock_soon(&self) -> Result<Option<FolderLock>, RuntimeError> {
        in_a_moment(|| self.lock())
    }

    /// Makes the folder unless it is there, and takes its lock; `None` when somebody has it. Who
    /// cleans up may take a folder away that is still empty: then it is made again.
    pub fn create_locked(&self) -> Result<Option<FolderLock>, RuntimeError> {
        in_a_moment(|| match self.create().and_then(|()| self.lock()) {
            Err(RuntimeError::Folder { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            other => other,
        })
    }

    fn try_lock(&self) -> io::Result<Option<FolderLock>> {
        let path = self.path.join(LOCK);
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?);
            let Some(lock) = Lock::try_exclusive(file)? else { return Ok(None) };
            // Otherwise its last holder took it away between the open and the lock.
            if lock::is_at(lock.file(), &path)? {
                return Ok(Some(FolderLock { lock }));
            }
        }
    }

    /// Whether somebody holds the lock.
    pub fn is_locked(&self) -> Result<bool, RuntimeError> {
        let held = match self.open_lock() {
            Ok(file) => lock::is_held(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        held.map_err(|source| self.failed("look at the lock of", source))
    }

    /// The process that serves the runtime, when there is one.
    pub fn holder(&self) -> Option<u32> {
        if !self.is_locked().ok()? {
            return None;
        }
        let mut text = String::new();
        self.open_lock().ok()?.take(16).read_to_string(&mut text).ok()?;
        text.parse().ok()
    }

    fn open_lock(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(self.path.join(LOCK), flags, Mode::empty())?))
    }

    /// Removes the folder and everything in it.
    ///
    /// It loses its name first, so that what a crash leaves is no half of a runtime.
    pub fn remove(&self, lock: FolderLock) -> Result<(), RuntimeError> {
        let failed = |source| self.failed("remove the folder", source);
        let gone = self.gone_path();
        remove_all(&gone).map_err(failed)?;
        match fs::rename(&self.path, &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        drop(lock);
        remove_all(&gone).map_err(failed)
    }

    /// The name cannot be one of a runtime.
    fn gone_path(&self) -> PathBuf {
        let mut name = OsString::from(GONE);
        name.push(self.path.file_name().unwrap_or_default());
        self.path.with_file_name(name)
    }

    /// Removes what removals that were cut off have left.
    pub(crate) fn remove_gone(storage_root: &Path) {
        let entries = fs::read_dir(storage_root.join(RUNTIMES));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes()) {
                // It may be another user's, or somebody is at it.
                drop(remove_all(&entry.path()));
            }
        }
    }

    /// The record while it waits for being saved.
    pub(crate) fn pending_record(&self) -> PathBuf {
        self.path.join("record.json")
    }

    /// Whether there is a scratch area, which may hold somebody's work.
    pub(crate) fn has_changes(&self) -> bool {
        fs::symlink_metadata(self.path.join("journal")).is_ok()
    }

    /// Where the serving process listens. The path may be longer than the address of a socket:
    /// [`spfs_sys::socket`] knows how to use it.
    pub fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Takes away the socket of an earlier process, which would be in the way of the next one.
    pub fn remove_socket(&self) -> Result<(), RuntimeError> {
        match fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove the control socket of", error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> RuntimeError {
        RuntimeError::Folder { doing, path: self.path.clone(), source }
    }
}

/// The folder of the process that serves all runtimes of a user, beside those of the runtimes. Its
/// name cannot be one of a runtime.
pub fn service_folder(storage_root: &Path, uid: u32) -> PathBuf {
    storage_root.join(RUNTIMES).join(format!("service#{uid}"))
}

/// Makes [`service_folder`], which belongs to its user alone.
///
/// # Errors
/// As [`RuntimeFolder::create`].
pub fn create_service_folder(storage_root: &Path, uid: u32) -> io::Result<PathBuf> {
    let folder = service_folder(storage_root, uid);
    shared_folder(&storage_root.join(RUNTIMES))?;
    spfs_sys::owner::private_dir(&folder)?;
    Ok(folder)
}

/// Makes the folder of all runtimes. Users who share a repository make theirs side by side in it
/// and cannot touch each other's.
fn shared_folder(path: &Path) -> io::Result<()> {
    match publish::mkdir_mode(path, 0o1777) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Tries until there is something, or for as long as a moment lasts.
pub(crate) fn in_a_moment<T>(
    mut attempt: impl FnMut() -> Result<Option<T>, RuntimeError>,
) -> Result<Option<T>, RuntimeError> {
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(found) = attempt()? {
            return Ok(Some(found));
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(None)
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(root: &Path) -> RuntimeFolder {
        RuntimeFolder::new(root, &"one".parse().unwrap())
    }

    #[test]
    fn the_folder_belongs_to_its_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        folder.create().unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        let all = fs::metadata(root.path().join(RUNTIMES)).unwrap().permissions().mode();
        assert_eq!(all & 0o7777, 0o1777);
    }

    #[test]
    fn a_symlink_in_place_of_the_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(RUNTIMES)).unwrap();
        let folder = folder(root.path());
        std::os::unix::fs::symlink(elsewhere.path(), folder.path()).unwrap();
        let error = folder.create().unwrap_err();
        assert!(error.to_string().contains("one"), "{error}");
    }

    #[test]
    fn the_lock_has_one_holder_whose_number_is_known() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        assert!(!folder.is_locked().unwrap(), "nothing is there yet");
        folder.create().unwrap();
        let lock = folder.lock().unwrap().expect("free");
        lock.note_holder(4711).unwrap();
        assert!(folder.is_locked().unwrap());
        assert!(folder.lock().unwrap().is_none());
        assert_eq!(folder.holder(), Some(4711));
        drop(lock);
        assert_eq!(folder.holder(), None, "the number outlives its process");
    }

    #[test]
    fn a_lock_in_a_removed_folder_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        folder.create().unwrap();
        let lock = folder.lock().unwrap().expect("free");
        folder.remove(lock).unwrap();
        assert!(!folder.exists());
        assert!(folder.lock().is_err(), "there is no folder to lock");
        folder.create().unwrap();
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn a_socket_that_was_left_behind_can_be_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        folder.create().unwrap();
        folder.remove_socket().unwrap();
        drop(spfs_sys::socket::bind(&folder.socket(), 0o600).unwrap());
        assert!(spfs_sys::socket::bind(&folder.socket(), 0o600).is_err());
        folder.remove_socket().unwrap();
        spfs_sys::socket::bind(&folder.socket(), 0o600).unwrap();
    }

    #[test]
    fn a_removal_that_was_cut_off_is_finished_later() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        folder.create().unwrap();
        let lock = folder.lock().unwrap().unwrap();
        // As after a crash of an earlier removal.
        fs::create_dir_all(folder.gone_path().join("scratch")).unwrap();
        folder.remove(lock).unwrap();
        assert!(!folder.gone_path().exists());
        fs::create_dir_all(folder.gone_path().join("scratch")).unwrap();
        RuntimeFolder::remove_gone(root.path());
        assert_eq!(fs::read_dir(root.path().join(RUNTIMES)).unwrap().count(), 0);
    }
}
