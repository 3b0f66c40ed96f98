//! Files that are being written, before they get their names.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags};
use spfs_sys::publish::{self, Draft};

use super::hash_dir::{HashDir, refuse_link};
use super::{FILE_MODE, FOLDER_MODE, is_absent};
use crate::error::Context;
use crate::{RepoError, Result};

/// The folder of work files beside the folders of digests.
pub(super) const WORK: &str = "work";

/// Makes one work file.
pub(super) fn draft(store: &HashDir) -> Result<Draft> {
    let folder = store.path().join(WORK);
    match Draft::create_in(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            publish::mkdir_all_mode(&folder, FOLDER_MODE).at("create", &folder)?;
            Draft::create_in(&folder).at("write in", &folder)
        }
        result => result.at("write in", &folder),
    }
}

/// Removes work files and folders of which nothing was written since `before`.
pub(super) fn remove_leftovers(store: &HashDir, before: SystemTime) -> Result<u64> {
    let work = store.path().join(WORK);
    refuse_link(&work)?;
    let entries = match fs::read_dir(&work) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(0),
        Err(error) => return Err(RepoError::io("list", work, error)),
    };
    let mut removed = 0;
    for entry in entries {
        let path = entry.at("list", &work)?.path();
        if is_untouched(&path, before) {
            let gone =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            // whoever wrote it may just have finished
            removed += u64::from(gone.is_ok());
        }
    }
    Ok(removed)
}

/// Whether nothing at or below a path was written since; what cannot be told counts as written.
fn is_untouched(path: &Path, before: SystemTime) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let is_old = metadata.modified().is_ok_and(|modified| modified < before);
    if !is_old || !metadata.is_dir() {
        return is_old;
    }
    fs::read_dir(path).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| is_untouched(&entry.path(), before)))
    })
}

/// A folder of work files that belongs to one batch; it goes with what is left in it.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: PathBuf,
    dir: OwnedFd,
    next: AtomicU64,
}

/// The name of a work file in its folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkName(u64);

impl WorkName {
    pub(super) fn as_c_string(self) -> CString {
        CString::new(format!("{:x}", self.0)).unwrap_or_default()
    }
}

impl WorkFolder {
    pub(super) fn create_in(store: &HashDir) -> Result<Self> {
        let path = store.path().join(WORK).join(uuid::Uuid::new_v4().to_string());
        publish::mkdir_all_mode(&path, FOLDER_MODE).at("create", &path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).at("open", &path)?;
        Ok(Self { path, dir, next: AtomicU64::new(0) })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty file under the next number.
    pub(super) fn create(&self) -> Result<(WorkName, File)> {
        let name = WorkName(self.next.fetch_add(1, Ordering::Relaxed));
        Ok((name, self.create_at(&name.as_c_string())?))
    }

    /// Makes an empty file, readable and writable for everybody whatever the umask is.
    pub(super) fn create_at(&self, name: &CStr) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE as _);
        let file = rustix::fs::openat(&self.dir, name, flags, mode).at("write in", &self.path)?;
        rustix::fs::fchmod(&file, mode).at("write in", &self.path)?;
        Ok(file.into())
    }

    /// Moves a file to another work folder.
    pub(super) fn rename(&self, name: WorkName, to: &Self, at: &CStr) -> Result<()> {
        rustix::fs::renameat(&self.dir, name.as_c_string().as_c_str(), &to.dir, at)
            .at("rename", self.file_path(name))
    }

    /// A name for a file that is put here otherwise.
    pub(super) fn reserve(&self) -> (WorkName, PathBuf) {
        let name = WorkName(self.next.fetch_add(1, Ordering::Relaxed));
        (name, self.file_path(name))
    }

    pub(super) fn file_path(&self, name: WorkName) -> PathBuf {
        self.path.join(format!("{:x}", name.0))
    }

    pub(super) fn remove(&self, name: WorkName) -> Result<()> {
        let path = name.as_c_string();
        rustix::fs::unlinkat(&self.dir, path.as_c_str(), AtFlags::empty())
            .at("remove", self.file_path(name))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // What cannot be removed stays until `clean` finds it to be old.
        drop(fs::remove_dir_all(&self.path));
    }
}
