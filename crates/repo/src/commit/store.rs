//! Stores the files of a hierarchy that was listed before.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;
use spfs_model::{BlobEntry, mode};

use super::scan::{Entry, Folder, Scanned, full_path, open_folder, whole_mode};
use crate::error::Context;
use crate::progress::Progress;
use crate::repository::Batch;
use crate::{RepoError, Result};

/// Files that one thread takes at a time; few enough that one folder keeps all threads busy.
const CHUNK: usize = 32;

/// How often a file that is being written to is read again.
const ATTEMPTS: usize = 3;

/// Stores everything, fills in the entries, and returns the sum of all sizes.
pub(super) fn store(
    batch: &dyn Batch,
    root: &Path,
    folders: &mut [Folder],
    progress: &dyn Progress,
) -> Result<u64> {
    let bytes = AtomicU64::new(0);
    folders.par_iter_mut().try_for_each(|folder| {
        let path = &folder.path;
        folder.entries.par_chunks_mut(CHUNK).try_for_each(|entries| {
            if !entries.iter().any(Entry::is_file) {
                return Ok(());
            }
            let dir = open_folder(root, path)?;
            let chunk = Chunk { batch, root, path, dir };
            for entry in entries {
                if let Some(size) = chunk.store(entry)? {
                    bytes.fetch_add(size, Ordering::Relaxed);
                    progress.done(1, size);
                }
            }
            Ok(())
        })
    })?;
    Ok(bytes.into_inner())
}

struct Chunk<'a> {
    batch: &'a dyn Batch,
    root: &'a Path,
    path: &'a Path,
    dir: OwnedFd,
}

impl Chunk<'_> {
    /// Stores one entry and returns its size; `None` for what has no content.
    fn store(&self, entry: &mut Entry) -> Result<Option<u64>> {
        match &mut entry.what {
            Scanned::Folder(_) | Scanned::Mask { .. } => Ok(None),
            Scanned::File(stored) => {
                let blob = self.file(entry.name.as_bytes())?;
                *stored = Some(blob);
                Ok(Some(blob.size))
            }
            Scanned::Link(blob) => {
                let name = name(entry.name.as_bytes());
                let full = || self.full(entry.name.as_bytes());
                let target = rustix::fs::readlinkat(&self.dir, name.as_c_str(), Vec::new());
                let target = target.at("read the symbolic link", full())?;
                if self.batch.blob(target.as_bytes())? != blob.object {
                    return Err(RepoError::Changing { path: full() });
                }
                Ok(Some(blob.size))
            }
        }
    }

    /// Stores a regular file. One that is written to meanwhile is stored again; when that does not
    /// end it is an error, since what was read may never have been its content.
    fn file(&self, file_name: &[u8]) -> Result<BlobEntry> {
        let name = name(file_name);
        // a pipe that took the place of the file must not block
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, name.as_c_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(RepoError::Changing { path: self.full(file_name) }),
            result => result.at("read", self.full(file_name))?.into(),
        };
        let full = self.full(file_name);
        let look = || rustix::fs::fstat(&file).at("look at", &full);
        let mut before = look()?;
        for _ in 0..ATTEMPTS {
            if whole_mode(before.st_mode) & mode::TYPE != mode::REGULAR {
                break;
            }
            let (object, size) = self.batch.blob_from_file(&file, &full)?;
            let after = look()?;
            if is_same(&before, &after) && u64::try_from(after.st_size) == Ok(size) {
                return Ok(BlobEntry { mode: whole_mode(after.st_mode), size, object });
            }
            before = after;
        }
        Err(RepoError::Changing { path: full })
    }

    fn full(&self, file_name: &[u8]) -> PathBuf {
        full_path(self.root, self.path).join(std::ffi::OsStr::from_bytes(file_name))
    }
}

/// Whether nobody wrote to a file between two looks at it.
fn is_same(before: &Stat, after: &Stat) -> bool {
    let look = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    look(before) == look(after)
}

fn name(bytes: &[u8]) -> CString {
    // names of entries hold no NUL
    CString::new(bytes).unwrap_or_default()
}
