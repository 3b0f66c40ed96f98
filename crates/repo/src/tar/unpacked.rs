//! The folder that a tar file is unpacked into, and what killed processes left of theirs.
//!
//! Each folder has a lock file, locked as long as its process lives, however that ends. Whoever
//! unpacks an archive first removes the folders of its own user whose lock nobody holds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use spfs_sys::ids;
use spfs_sys::lock::{self, Lock};
use tempfile::TempDir;

/// What the names of these folders begin with.
const PREFIX: &str = "spfs-unpacked-";

/// The lock file in such a folder.
const LOCK: &str = "lock";

/// The repository in such a folder.
const REPOSITORY: &str = "repository";

/// Folders that were taken for leftovers while they were being made, at most.
const ATTEMPTS: usize = 16;

/// The folders of this process.
static OWN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what this process has unpacked, at its end or before it becomes another program: threads
/// that still run then drop nothing. Archives that are open are of no use any more.
pub fn remove_unpacked() {
    let mut own = OWN.lock();
    own.iter().for_each(|folder| remove(folder));
    own.clear();
}

/// A folder for one unpacked archive, removed when dropped.
#[derive(Debug)]
pub(super) struct Unpacked {
    folder: PathBuf,
    repository: PathBuf,
    // Dropped when the folder is gone: nobody else removes it before.
    _lock: Lock,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // Locked until it is gone, so that the end of the process waits for that.
        let mut own = OWN.lock();
        remove(&self.folder);
        own.retain(|folder| *folder != self.folder);
    }
}

impl Unpacked {
    /// Makes an empty folder in `parent`, and removes what dead processes left there.
    pub(super) fn create_in(parent: &Path) -> io::Result<Self> {
        remove_leftovers(parent);
        for _ in 0..ATTEMPTS {
            let folder = TempDir::with_prefix_in(PREFIX, parent)?;
            if let Some(lock) = hold(folder.path())? {
                let repository = folder.path().join(REPOSITORY);
                fs::create_dir(&repository)?;
                let folder = folder.keep();
                OWN.lock().push(folder.clone());
                return Ok(Self { folder, repository, _lock: lock });
            }
        }
        Err(io::Error::other("others remove it again and again"))
    }

    /// Where the repository lies.
    pub(super) fn repository(&self) -> &Path {
        &self.repository
    }
}

/// Makes and locks the lock file of a new folder; `None` when somebody took the folder for a
/// leftover meanwhile.
fn hold(folder: &Path) -> io::Result<Option<Lock>> {
    let path = folder.join(LOCK);
    let mut options = File::options();
    let file = match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if is_absent(&error) => return Ok(None),
        file => file?,
    };
    let Some(lock) = Lock::try_exclusive(file)? else { return Ok(None) };
    Ok(lock::is_at(lock.file(), &path)?.then_some(lock))
}

/// Removes the folders of dead processes of this user. What cannot be removed stays for the next.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove_leftover(&entry.path());
        }
    }
}

fn remove_leftover(folder: &Path) {
    // A link is not followed, here and below: it is no folder, and not ours.
    let Ok(found) = fs::symlink_metadata(folder) else { return };
    if !found.is_dir() || found.uid() != ids::euid() {
        return;
    }
    let Ok(dead) = lock_of_dead(&folder.join(LOCK)) else { return };
    match &dead {
        Some(_) => remove(folder),
        // Just made, or never finished: whoever is about to put the lock there makes another one.
        None => fs::remove_dir(folder).unwrap_or_default(),
    }
}

/// Removes a folder whose lock is held. The lock file goes last, so that what a killed remover
/// leaves is known for a leftover; what cannot be removed stays for the next.
fn remove(folder: &Path) {
    let removed = fs::remove_dir_all(folder.join(REPOSITORY))
        .or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })
        .and_then(|()| fs::remove_dir_all(folder));
    match removed {
        Ok(()) => tracing::debug!("removed {}", folder.display()),
        Err(error) => tracing::debug!("cannot remove {}: {error}", folder.display()),
    }
}

/// Takes the lock of a process that is gone; `None` when there is no lock file.
fn lock_of_dead(path: &Path) -> io::Result<Option<Lock>> {
    let mut options = File::options();
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let file = match options.read(true).write(true).custom_flags(no_link).open(path) {
        Err(error) if is_absent(&error) => return Ok(None),
        file => file?,
    };
    match Lock::try_exclusive(file)? {
        Some(lock) if lock::is_at(lock.file(), path)? => Ok(Some(lock)),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn folders_of_the_living_stay_and_go_with_them() {
        let parent = tempfile::tempdir().unwrap();
        let one = Unpacked::create_in(parent.path()).unwrap();
        fs::write(one.repository().join("f"), "x").unwrap();
        let other = Unpacked::create_in(parent.path()).unwrap();
        assert!(one.repository().join("f").exists());
        assert_eq!(names(parent.path()).len(), 2);
        drop(one);
        assert_eq!(names(parent.path()).len(), 1);
        drop(other);
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn leftovers_go_and_nothing_else_does() {
        let parent = tempfile::tempdir().unwrap();
        let victim = tempfile::tempdir().unwrap();
        fs::write(victim.path().join("precious"), "").unwrap();
        fs::write(victim.path().join(LOCK), "").unwrap();
        let at = |name: &str| parent.path().join(format!("{PREFIX}{name}"));
        // left by a killed process, with a link to elsewhere in it
        fs::create_dir_all(at("dead").join(REPOSITORY)).unwrap();
        fs::write(at("dead").join(LOCK), "").unwrap();
        symlink(victim.path(), at("dead").join(REPOSITORY).join("out")).unwrap();
        // a link in place of a folder, and of a lock
        symlink(victim.path(), at("link")).unwrap();
        fs::create_dir(at("linked")).unwrap();
        symlink(victim.path().join("precious"), at("linked").join(LOCK)).unwrap();
        // never finished, and something of somebody else that is only called so
        fs::create_dir(at("empty")).unwrap();
        fs::create_dir_all(at("strange").join("folder")).unwrap();
        fs::create_dir(parent.path().join("another")).unwrap();
        remove_leftovers(parent.path());
        let left =
            ["another", "spfs-unpacked-link", "spfs-unpacked-linked", "spfs-unpacked-strange"];
        assert_eq!(names(parent.path()), left);
        assert_eq!(names(victim.path()), [LOCK, "precious"]);
    }

    #[test]
    fn a_folder_that_was_taken_away_while_it_was_made_is_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let gone = parent.path().join("gone");
        assert!(hold(&gone).unwrap().is_none());
        let folder = Unpacked::create_in(parent.path()).unwrap();
        let path = folder.repository().with_file_name(LOCK);
        assert!(lock::is_at(folder._lock.file(), &path).unwrap());
    }
}
