//! A repository in a tar file.
//!
//! As upstream has it, the file is unpacked when the repository is opened and packed again when it
//! is saved; in between it is a folder like any other.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use spfs_sys::lock::Lock;
use spfs_sys::publish::{Draft, Durability};

pub use self::unpacked::remove_unpacked;

use self::unpacked::Unpacked;
use crate::error::Context;
use crate::fs::Repository;
use crate::over::Over;
use crate::repository::{AnyRepository, Encoding};
use crate::traits::TagNamespace;
use crate::{RepoError, Result};

mod unpacked;

/// What comes through a pipe in one go.
const BUFFER_BYTES: usize = 1 << 20;

/// A repository in a tar file. What is changed is in the file after [`AnyRepository::save`] and
/// not before.
#[derive(Debug)]
pub struct TarRepository {
    path: PathBuf,
    repository: Repository,
    state: Mutex<State>,
    // The last to be dropped: the repository is in it.
    folder: Unpacked,
}

#[derive(Debug)]
struct State {
    /// The archive as it was when it was read or written last; `None` when there was none.
    archive: Option<Version>,
    /// What the folder held then.
    content: Content,
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Version {
    fn of(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self {
                device: found.dev(),
                inode: found.ino(),
                size: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RepoError::io("look at", path, error)),
        }
    }
}

/// How long the folder of an archive may be locked by others, who do so for an instant.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// Paths, sizes and times of all files below a folder, sorted.
type Content = Vec<(PathBuf, u64, (i64, i64))>;

impl TarRepository {
    /// Opens the repository in a tar file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_or_begin(path, false)
    }

    /// Opens the repository in a tar file, or begins an empty one where there is no file yet.
    pub fn create(path: &Path) -> Result<Self> {
        Self::open_or_begin(path, true)
    }

    fn open_or_begin(path: &Path, may_begin: bool) -> Result<Self> {
        if !path.is_absolute() {
            return Err(RepoError::RelativeRoot { path: path.to_owned() });
        }
        let archive = Version::of(path)?;
        if archive.is_none() && !may_begin {
            return Err(RepoError::NoArchive { path: path.to_owned() });
        }
        let parent = std::env::temp_dir();
        let folder = Unpacked::create_in(&parent).at("create a folder for", path)?;
        if archive.is_some() {
            unpack(path, folder.repository())?;
        }
        let repository = Repository::create(folder.repository())?;
        let content = content_of(folder.repository())?;
        let state = Mutex::new(State { archive, content });
        Ok(Self { path: path.to_owned(), repository, state, folder })
    }

    /// The same repository with other encodings for new objects.
    pub fn with_encoding(self, encoding: Encoding) -> Self {
        Self { repository: self.repository.with_encoding(encoding), ..self }
    }

    /// The same repository with its tags in a namespace.
    pub fn with_namespace(self, namespace: Option<TagNamespace>) -> Self {
        Self { repository: self.repository.with_namespace(namespace), ..self }
    }

    fn require_unchanged(&self, state: &State) -> Result<()> {
        match Version::of(&self.path)? == state.archive {
            true => Ok(()),
            false => Err(RepoError::ArchiveChanged { path: self.path.clone() }),
        }
    }

    fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Keeps others of this program from replacing an archive in the same folder, for as long as it takes
    /// to look and rename. `None` where folders cannot be locked.
    fn lock_folder(&self) -> Result<Option<Lock>> {
        let folder = File::open(self.parent()).at("open", self.parent())?;
        match Lock::exclusive_within(folder, LOCK_WAIT_MAX) {
            Ok(Some(lock)) => Ok(Some(lock)),
            Ok(None) => {
                let held = io::Error::new(io::ErrorKind::TimedOut, "somebody holds its lock");
                Err(RepoError::io("lock", self.parent(), held))
            }
            Err(_) => Ok(None),
        }
    }

    fn pack(&self, content: &Content) -> io::Result<Draft> {
        let mode = fs::metadata(&self.path).map_or(0o644, |found| found.permissions().mode());
        let draft = Draft::create_in(self.parent())?;
        let mut builder = tar::Builder::new(BufWriter::with_capacity(BUFFER_BYTES, draft.file()));
        // Folders too: an empty repository is one.
        builder.append_dir_all("", self.folder.repository())?;
        tracing::debug!(files = content.len(), "packed {}", self.path.display());
        builder.into_inner()?.flush()?;
        draft.set_mode(mode & 0o7777)?;
        Ok(draft)
    }
}

impl Over for TarRepository {
    fn base(&self) -> &dyn AnyRepository {
        &self.repository
    }

    fn location(&self) -> String {
        format!("tar:{}", self.path.display())
    }

    fn save(&self) -> Result<()> {
        let mut state = self.state.lock();
        let content = content_of(self.folder.repository())?;
        if content == state.content && state.archive.is_some() {
            return Ok(());
        }
        // Before the work of packing, and again when nobody else can come between.
        self.require_unchanged(&state)?;
        let draft = self.pack(&content).at("write", &self.path)?;
        let _lock = self.lock_folder()?;
        self.require_unchanged(&state)?;
        draft.replace(&self.path, Durability::Now).at("write", &self.path)?;
        *state = State { archive: Version::of(&self.path)?, content };
        Ok(())
    }
}

/// Unpacks files and folders; anything else is in no repository.
fn unpack(path: &Path, folder: &Path) -> Result<()> {
    let refuse = |reason: String| RepoError::Archive { path: path.to_owned(), reason };
    let file = File::open(path).at("read", path)?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER_BYTES, file));
    for entry in archive.entries().at("read", path)? {
        let mut entry = entry.at("read", path)?;
        let name = entry.path().at("read", path)?.into_owned();
        let shown = name.display();
        let is_inside =
            |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !name.components().all(is_inside) {
            return Err(refuse(format!("the entry {shown} leads out of it")));
        }
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        if !(kind.is_dir() || kind.is_file()) {
            return Err(refuse(format!("the entry {shown} is neither a file nor a folder")));
        }
        entry.set_preserve_permissions(false);
        entry.unpack_in(folder).at("unpack", path)?;
    }
    Ok(())
}

fn content_of(folder: &Path) -> Result<Content> {
    let mut content = Content::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let entry = entry.at("list", &folder)?;
            let metadata = entry.metadata().at("look at", entry.path())?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                let modified = (metadata.mtime(), metadata.mtime_nsec());
                content.push((entry.path(), metadata.len(), modified));
            }
        }
    }
    content.sort();
    Ok(content)
}
