//! A repository in a folder, in upstream's format.

mod batch;
mod format;
mod hash_dir;
pub(crate) mod objects;
mod payloads;
mod tag_lock;
pub(crate) mod tags;
mod work;

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use spfs_model::Digest;
use spfs_sys::{ids, publish};

use crate::error::Context;
use crate::render::{self, CleanedRenders};
use crate::repository::{AnyRepository, Batch, Encoding};
use crate::traits::{Objects, Payloads, TagNamespace, Tags};
use crate::{RepoError, Result};

use hash_dir::HashDir;
use objects::FsObjects;
use payloads::FsPayloads;
use tags::FsTags;

/// Mode of every folder of a repository, whatever the umask is: people share repositories.
const FOLDER_MODE: u32 = 0o777;

/// Mode of every file of a repository.
const FILE_MODE: u32 = 0o666;

/// A repository in a folder, in upstream's format.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    objects: FsObjects,
    payloads: FsPayloads,
    tags: FsTags,
    encoding: Encoding,
}

impl Repository {
    /// Opens an existing repository.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        if !root.is_absolute() {
            return Err(RepoError::RelativeRoot { path: root.to_owned() });
        }
        let open = |missing: &'static str| match HashDir::open(&root.join(missing)) {
            Err(RepoError::Io { source, .. }) if is_absent(&source) => {
                Err(RepoError::NotARepository { root: root.to_owned(), missing })
            }
            result => result,
        };
        let (objects, payloads) = (open("objects")?, open("payloads")?);
        format::check_version(root)?;
        Ok(Self {
            root: root.to_owned(),
            objects: FsObjects::new(objects),
            payloads: FsPayloads::new(payloads),
            tags: FsTags::new(root.join("tags"), None),
            encoding: Encoding::default(),
        })
    }

    /// Opens a repository, and makes it first where there is none.
    pub fn create(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        if !root.is_absolute() {
            return Err(RepoError::RelativeRoot { path: root.to_owned() });
        }
        // An existing repository may be one that we can only read.
        match Self::open(root) {
            Err(RepoError::NotARepository { .. }) => {}
            result => return result,
        }
        let user = ids::user_name(ids::euid()).unwrap_or_else(|| ids::euid().to_string().into());
        let renders = Path::new("renders").join(user).join("proxy");
        for folder in ["objects", "payloads", "tags", "durable_edits"].map(Path::new) {
            let path = root.join(folder);
            publish::mkdir_all_mode(&path, FOLDER_MODE).at("create", &path)?;
        }
        let path = root.join(renders);
        publish::mkdir_all_mode(&path, FOLDER_MODE).at("create", &path)?;
        format::write_version(root)?;
        Self::open(root)
    }

    /// The same repository with other encodings for new objects.
    pub fn with_encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// The same repository with its tags in a namespace.
    pub fn with_namespace(self, namespace: Option<TagNamespace>) -> Self {
        Self { tags: FsTags::new(self.root.join("tags"), namespace), ..self }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl AnyRepository for Repository {
    fn objects(&self) -> &dyn Objects {
        &self.objects
    }

    fn payloads(&self) -> &dyn Payloads {
        &self.payloads
    }

    fn tags(&self) -> &dyn Tags {
        &self.tags
    }

    fn tags_in(&self, namespace: Option<&TagNamespace>) -> Box<dyn Tags + '_> {
        Box::new(FsTags::new(self.root.join("tags"), namespace.cloned()))
    }

    fn namespaces(&self) -> Result<Vec<TagNamespace>> {
        tags::namespaces(&self.root.join("tags"))
    }

    fn batch(&self) -> Result<Box<dyn Batch + '_>> {
        Ok(Box::new(batch::FsBatch::new(self)?))
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn clean_renders(
        &self,
        is_gone: &dyn Fn(&Digest) -> Result<bool>,
        keep_proxies: bool,
        dry_run: bool,
    ) -> Result<CleanedRenders> {
        render::clean(&self.root, is_gone, keep_proxies, dry_run)
    }

    fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let before = before.into();
        Ok(work::remove_leftovers(self.objects.store(), before)?
            + work::remove_leftovers(self.payloads.store(), before)?)
    }
}

/// Whether a path is not there, be it that something else stands on the way.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
