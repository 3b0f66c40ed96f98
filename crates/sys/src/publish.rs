//! Files that appear complete or not at all.
//!
//! New content is written under a hidden name in the folder where it will stand, so that the last
//! step is a rename. Other processes see the old state or the new one, and so does the machine
//! after a crash when [`Durability::Now`] was asked for.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::files;

/// Names of drafts begin with this; what a crash left may be removed when it is old.
pub const DRAFT_PREFIX: &str = ".draft-";

/// When a published name and its content survive a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the call returns: the file is synced before the rename, the folder after it.
    Now,
    /// When the caller has synced the volume ([`files::syncfs`]). Until then a crash of the machine
    /// may leave the name with empty content, so nothing durable may refer to it yet.
    Later,
}

/// A file that has no name yet; dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    placed: bool,
}

impl Draft {
    /// Makes an empty draft (mode 0600) in the folder where the file is going to stand.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create_in(dir: &Path) -> io::Result<Self> {
        loop {
            let path = dir.join(draft_name());
            let mut options = OpenOptions::new();
            match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path, placed: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes an existing file over as draft: it is removed unless it gets its final name.
    pub fn adopt(file: File, path: PathBuf) -> Self {
        Self { file, path, placed: false }
    }

    /// Returns the file to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns where the draft stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the permission bits exactly, whatever the umask is.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode & 0o7777))
    }

    /// Gives the draft its name, replacing what has that name now.
    ///
    /// # Errors
    /// When syncing or renaming fails; the old file is then untouched, unless only the last sync
    /// of the folder failed.
    pub fn replace(mut self, target: &Path, durability: Durability) -> io::Result<()> {
        self.before(durability)?;
        fs::rename(&self.path, target)?;
        self.placed = true;
        after(target, durability)
    }

    /// Gives the draft its name if that is free, and returns whether it was.
    ///
    /// # Errors
    /// As [`Draft::replace`].
    pub fn create(mut self, target: &Path, durability: Durability) -> io::Result<bool> {
        self.before(durability)?;
        match rename_noreplace(&self.path, target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error),
        }
        self.placed = true;
        after(target, durability)?;
        Ok(true)
    }

    fn before(&self, durability: Durability) -> io::Result<()> {
        match durability {
            Durability::Now => files::sync_all(&self.file),
            Durability::Later => Ok(()),
        }
    }
}

impl Write for Draft {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed stays behind under its hidden name and harms nobody.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn after(target: &Path, durability: Durability) -> io::Result<()> {
    match durability {
        Durability::Now => sync_parent(target),
        Durability::Later => Ok(()),
    }
}

/// Writes a whole file, with exactly these permission bits, in place of what `target` names.
///
/// # Errors
/// As [`Draft::replace`].
pub fn write(target: &Path, mode: u32, data: &[u8], durability: Durability) -> io::Result<()> {
    let mut draft = Draft::create_in(parent(target))?;
    draft.write_all(data)?;
    draft.set_mode(mode)?;
    draft.replace(target, durability)
}

/// Makes the names inside a folder survive a power loss.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    files::sync_all(&File::open(dir)?)
}

/// Makes the name of `path`, or that it is gone, survive a power loss.
///
/// # Errors
/// As [`sync_dir`].
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent(path))
}

/// Renames, and fails with `AlreadyExists` instead of replacing anything.
///
/// # Errors
/// As renameat2(2). Directories cannot be moved so on volumes without RENAME_NOREPLACE.
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and some FUSE file systems refuse the flag; a hard link refuses existing names too.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Makes a directory with exactly these permission bits, whatever the umask is.
///
/// # Errors
/// `AlreadyExists` when something has the name; else as mkdir(2).
pub fn mkdir_mode(path: &Path, mode: u32) -> io::Result<()> {
    let bits = mode & 0o7777;
    rustix::fs::mkdir(path, raw_mode(bits))?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => {
            let dir = File::from(dir);
            if dir.metadata()?.mode() & 0o7777 != bits {
                dir.set_permissions(Permissions::from_mode(bits))?;
            }
            Ok(())
        }
        // The umask or the mode itself took our own read permission.
        Err(Errno::ACCESS) => Ok(rustix::fs::chmod(path, raw_mode(bits))?),
        Err(error) => Err(error.into()),
    }
}

/// Makes a directory and those above it that are missing, all with these permission bits. What
/// exists keeps its own.
///
/// # Errors
/// `NotADirectory` when something else stands on the way; else as mkdir(2).
pub fn mkdir_all_mode(path: &Path, mode: u32) -> io::Result<()> {
    match mkdir_mode(path, mode) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).ok_or(error)?;
            mkdir_all_mode(above, mode)?;
            mkdir_unless_there(path, mode)
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Errno::NOTDIR.into()),
        Err(error) => Err(error),
    }
}

/// Another process may have made the same folder since its parent was found missing.
fn mkdir_unless_there(path: &Path, mode: u32) -> io::Result<()> {
    match mkdir_mode(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

fn raw_mode(bits: u32) -> Mode {
    // mode_t has 16 bits on macOS, and all permission bits fit there.
    Mode::from_raw_mode((bits & 0o7777) as rustix::fs::RawMode)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Unique among all machines that share the volume: the process's random seed and a counter.
fn draft_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one((std::process::id(), count));
    format!("{DRAFT_PREFIX}{random:016x}-{count:x}")
}

#[cfg(test)]
mod tests;
