//! What every kind of repository can do.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use spfs_model::{Digest, DigestStrategy, EncodingFormat, Object};

use crate::Result;
use crate::render::CleanedRenders;
use crate::traits::{Objects, Payloads, TagNamespace, Tags};

/// A repository of any kind.
pub trait AnyRepository: Send + Sync + fmt::Debug {
    /// Its objects.
    fn objects(&self) -> &dyn Objects;

    /// Its payloads.
    fn payloads(&self) -> &dyn Payloads;

    /// Its tags, in the namespace that it was opened with.
    fn tags(&self) -> &dyn Tags;

    /// Its tags in a namespace, or outside all namespaces.
    fn tags_in(&self, namespace: Option<&TagNamespace>) -> Box<dyn Tags + '_>;

    /// All tag namespaces, sorted.
    fn namespaces(&self) -> Result<Vec<TagNamespace>>;

    /// Begins to store many objects and payloads that become visible together.
    fn batch(&self) -> Result<Box<dyn Batch + '_>>;

    /// How new objects are stored.
    fn encoding(&self) -> Encoding;

    /// Where it is, for messages.
    fn location(&self) -> String;

    /// Writes what was changed to where the repository is kept. Where changes are made in place there
    /// is nothing left to do.
    fn save(&self) -> Result<()> {
        Ok(())
    }

    /// The repositories that this one reads what it lacks from.
    fn secondary(&self) -> Vec<&dyn AnyRepository> {
        Vec::new()
    }

    /// Removes renders of manifests that are gone, and files for links that nothing links to unless
    /// these are to be kept. With `dry_run` nothing is removed, only counted.
    fn clean_renders(
        &self,
        is_gone: &dyn Fn(&Digest) -> Result<bool>,
        keep_proxies: bool,
        dry_run: bool,
    ) -> Result<CleanedRenders> {
        let _ = (is_gone, keep_proxies, dry_run);
        Ok(CleanedRenders::default())
    }

    /// Removes what others were writing before that time and never finished; returns how many.
    fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let _ = before;
        Ok(0)
    }
}

/// How objects are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    /// How their digest is computed.
    pub strategy: DigestStrategy,
    /// How their bodies are encoded.
    pub format: EncodingFormat,
}

/// What is known of something that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// Objects and payloads on their way into a repository.
///
/// Nothing of it is visible before [`Batch::finish`], and all of it is on disk after that. A batch
/// that is dropped leaves nothing behind. All methods may be called from several threads at once.
pub trait Batch: Send + Sync {
    /// Whether a blob is there with its payload, so that it need not be stored. Cleaning leaves it
    /// alone for a while from then on.
    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool>;

    /// Stores a blob: these bytes as payload, and the object.
    fn blob(&self, data: &[u8]) -> Result<Digest>;

    /// Stores what a reader yields as a blob.
    fn blob_from_reader(&self, reader: &mut dyn Read) -> Result<(Digest, u64)>;

    /// Stores the content of an open file from its beginning as a blob; `path` is for messages.
    ///
    /// The digest is that of what was stored, also when somebody writes to the file meanwhile.
    fn blob_from_file(&self, file: &File, path: &Path) -> Result<(Digest, u64)>;

    /// Stores a file as a blob by giving it a second name where the volume allows that, else by
    /// copying. Nobody may write to the file any more.
    fn adopt(&self, path: &Path) -> Result<(Digest, u64)>;

    /// Stores an object other than a blob. It becomes visible after all blobs, and after the
    /// objects that were given before it.
    fn object(&self, object: &Object) -> Result<Digest>;

    /// Stores the whole file of an object, whose digest must be this one.
    fn object_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()>;

    /// Makes all of it durable and visible; refuses when something could not be stored before.
    fn finish(self: Box<Self>) -> Result<Stored>;
}

/// What a batch brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Objects that were not there before.
    pub objects: u64,
    /// Payloads that were not there before.
    pub payloads: u64,
    /// Their bytes.
    pub bytes: u64,
}
