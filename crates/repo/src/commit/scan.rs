//! Lists a hierarchy, and refuses what a layer cannot hold.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rayon::Scope;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use spfs_model::{BlobEntry, Digest, NameBuf, mode};

use crate::error::Context;
use crate::{RepoError, Result};

/// One directory; the root is the first, and each stands before those inside it.
#[derive(Debug)]
pub(super) struct Folder {
    /// Its path below the root.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: NameBuf,
    pub(super) what: Scanned,
}

impl Entry {
    pub(super) const fn is_file(&self) -> bool {
        matches!(self.what, Scanned::File(_) | Scanned::Link(_))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Scanned {
    /// Another directory, by its number.
    Folder(usize),
    /// A regular file, known when it has been stored.
    File(Option<BlobEntry>),
    /// A symbolic link.
    Link(BlobEntry),
    /// A whiteout.
    Mask { mode: u32 },
}

type Filter<'a> = Option<&'a (dyn Fn(&Path) -> bool + Sync)>;

struct Scan<'a> {
    root: &'a Path,
    filter: Filter<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    folders: Vec<Option<Folder>>,
    failed: Option<RepoError>,
}

/// Lists everything below `root`.
pub(super) fn scan(root: &Path, filter: Filter<'_>) -> Result<Vec<Folder>> {
    match std::fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(RepoError::NotADirectory { path: root.to_owned() }),
        Err(error) => return Err(RepoError::io("commit", root, error)),
    }
    let scan = Scan { root, filter, state: Mutex::default() };
    scan.state.lock().folders.push(None);
    rayon::scope(|scope| scan.enter(scope, 0, PathBuf::new()));
    let state = scan.state.into_inner();
    match state.failed {
        Some(error) => Err(error),
        None => Ok(state.folders.into_iter().flatten().collect()),
    }
}

impl<'a> Scan<'a> {
    fn enter<'s>(&'s self, scope: &Scope<'s>, number: usize, path: PathBuf) {
        match self.list(scope, path) {
            Ok(folder) => self.state.lock().folders[number] = Some(folder),
            Err(error) => {
                self.state.lock().failed.get_or_insert(error);
            }
        }
    }

    fn list<'s>(&'s self, scope: &Scope<'s>, path: PathBuf) -> Result<Folder> {
        let full = self.full(&path);
        let dir = open_folder(self.root, &path)?;
        let mode = whole_mode(rustix::fs::fstat(&dir).at("look at", &full)?.st_mode);
        let mut entries = Vec::new();
        let mut children = Vec::new();
        for found in Dir::read_from(&dir).at("list", &full)? {
            let found = found.at("list", &full)?;
            let name = found.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name));
            if self.filter.is_some_and(|filter| !filter(&below)) {
                continue;
            }
            let what = self.entry(&dir, &below, found.file_type())?;
            if let Scanned::Folder(_) = what {
                children.push((entries.len(), below.clone()));
            }
            entries.push(Entry { name: self.name(name, &below)?, what });
        }
        for (at, child) in children {
            if let Some(number) = self.reserve() {
                entries[at].what = Scanned::Folder(number);
                scope.spawn(move |scope| self.enter(scope, number, child));
            }
        }
        entries.shrink_to_fit();
        Ok(Folder { path, mode, entries })
    }

    /// A number for one more folder; `None` when the scan has failed already.
    fn reserve(&self) -> Option<usize> {
        let mut state = self.state.lock();
        if state.failed.is_some() {
            return None;
        }
        state.folders.push(None);
        Some(state.folders.len() - 1)
    }

    fn name(&self, name: &[u8], below: &Path) -> Result<NameBuf> {
        match std::str::from_utf8(name).ok().and_then(|name| NameBuf::try_from(name).ok()) {
            Some(name) => Ok(name),
            None => Err(RepoError::NameNotUtf8 { path: self.full(below) }),
        }
    }

    fn entry(&self, dir: &OwnedFd, below: &Path, kind: FileType) -> Result<Scanned> {
        let stat = || -> Result<Stat> {
            let name = below.file_name().unwrap_or_default();
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.at("look at", self.full(below))
        };
        match kind {
            FileType::Directory => Ok(Scanned::Folder(0)),
            FileType::RegularFile => Ok(Scanned::File(None)),
            FileType::Symlink => self.link(dir, below).map(Scanned::Link),
            // the volume does not say: ask for each entry
            FileType::Unknown => {
                let kind = FileType::from_raw_mode(stat()?.st_mode);
                match kind {
                    FileType::Unknown => self.refuse(below, kind),
                    kind => self.entry(dir, below, kind),
                }
            }
            FileType::CharacterDevice => match stat()? {
                stat if stat.st_rdev == 0 => Ok(Scanned::Mask { mode: whole_mode(stat.st_mode) }),
                _ => self.refuse(below, kind),
            },
            FileType::Fifo | FileType::Socket | FileType::BlockDevice => self.refuse(below, kind),
        }
    }

    fn link(&self, dir: &OwnedFd, below: &Path) -> Result<BlobEntry> {
        let name = below.file_name().unwrap_or_default();
        let target = rustix::fs::readlinkat(dir, name, Vec::new());
        let target = target.at("read the symbolic link", self.full(below))?;
        let reason = match target.to_str() {
            Err(_) => "is not UTF-8",
            Ok(target) if target.contains('\n') => "contains a line break",
            Ok(target) => {
                let object = Digest::of(target.as_bytes());
                let (mode, size) = (mode::SYMLINK | 0o777, target.len() as u64);
                return Ok(BlobEntry { mode, size, object });
            }
        };
        Err(RepoError::LinkTarget { path: self.full(below), reason })
    }

    fn refuse(&self, below: &Path, kind: FileType) -> Result<Scanned> {
        let kind = match kind {
            FileType::Fifo => "named pipe",
            FileType::Socket => "socket",
            FileType::CharacterDevice | FileType::BlockDevice => "device",
            _ => "file of this kind",
        };
        Err(RepoError::UnsupportedFile { path: self.full(below), kind })
    }

    fn full(&self, below: &Path) -> PathBuf {
        full_path(self.root, below)
    }
}

/// `root.join("")` would end in a slash.
pub(super) fn full_path(root: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) }
}

/// Opens a directory of the hierarchy; only the root may be a symbolic link.
pub(super) fn open_folder(root: &Path, below: &Path) -> Result<OwnedFd> {
    let full = full_path(root, below);
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !below.as_os_str().is_empty() {
        flags |= OFlags::NOFOLLOW;
    }
    match rustix::fs::open(&full, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => Err(RepoError::Changing { path: full }),
        result => result.at("open", full),
    }
}

/// The mode as the format stores it, which is wider than that of some platforms.
pub(super) fn whole_mode(mode: impl Into<u32>) -> u32 {
    mode.into()
}
