//! The three parts of a repository.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use spfs_model::{Digest, Header, Object, PartialDigest, Tag, TagName, TagSpec, TagStream, decode};

use crate::repository::{Encoding, Found};
use crate::{RepoError, Result};

/// Digests one after the other; what cannot be read is an error between them.
pub type Digests<'a> = Box<dyn Iterator<Item = Result<Digest>> + Send + 'a>;

/// The objects of a repository.
pub trait Objects: Send + Sync + fmt::Debug {
    /// The whole file of an object, not looked at.
    fn read_raw(&self, digest: &Digest) -> Result<Vec<u8>>;

    /// Where an object stands, for messages.
    fn place(&self, digest: &Digest) -> String;

    /// Size and time of an object's file; `None` when it is absent, or so short that it is damaged.
    fn find(&self, digest: &Digest) -> Result<Option<Found>>;

    /// Stores an object durably, unless it is there already.
    fn write(&self, object: &Object, encoding: Encoding) -> Result<Digest>;

    /// Stores the whole file of an object durably, unless a readable one is there already.
    ///
    /// The bytes must be those of the object with this digest.
    fn write_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()>;

    /// Removes an object; says whether it was there.
    fn remove(&self, digest: &Digest) -> Result<bool>;

    /// All objects, or those whose digest starts so, in order of their bytes.
    fn iterate(&self, prefix: Option<&PartialDigest>) -> Result<Digests<'_>>;

    /// Reads an object.
    ///
    /// Its digest is not computed again.
    fn read(&self, digest: &Digest) -> Result<(Header, Object)> {
        let bytes = self.read_raw(digest)?;
        decode(&bytes).map_err(|source| RepoError::DamagedObject {
            digest: *digest,
            place: self.place(digest),
            source,
        })
    }

    /// Whether an object is there.
    fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.find(digest)?.is_some())
    }

    /// The one object whose digest starts so.
    fn resolve(&self, partial: &PartialDigest) -> Result<Digest> {
        let candidates = self.iterate(Some(partial))?.collect::<Result<Vec<_>>>()?;
        match *candidates {
            [] => Err(RepoError::UnknownReference { reference: partial.to_string() }),
            [digest] => Ok(digest),
            _ => Err(RepoError::AmbiguousReference { reference: partial.to_string(), candidates }),
        }
    }
}

/// The payloads of a repository.
pub trait Payloads: Send + Sync + fmt::Debug {
    /// Opens a payload for reading.
    fn open(&self, digest: &Digest) -> Result<File>;

    /// Where a payload is a file of its own, its path; whether it is there is not looked at.
    fn path(&self, digest: &Digest) -> Option<PathBuf>;

    /// Size and time of a payload; `None` when it is absent, or empty without being the empty one.
    fn find(&self, digest: &Digest) -> Result<Option<Found>>;

    /// Stores what `reader` yields durably; a known `mode` is that of the file it comes from.
    fn write(&self, reader: &mut dyn Read, mode: Option<u32>) -> Result<(Digest, u64)>;

    /// Stores a file durably, by giving it a second name where the volume allows that, else by
    /// copying. Nobody may write to the file any more.
    fn adopt(&self, path: &Path, mode: Option<u32>) -> Result<(Digest, u64)>;

    /// Removes a payload; says whether it was there.
    fn remove(&self, digest: &Digest) -> Result<bool>;

    /// All payloads in order of their bytes.
    fn iterate(&self) -> Result<Digests<'_>>;

    /// Whether a payload is there.
    fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.find(digest)?.is_some())
    }

    /// The bytes of a payload that must not be longer than that.
    fn read_short(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        match self.find(digest)? {
            None => Err(RepoError::MissingPayload { digest: *digest }),
            Some(found) if found.size > limit as u64 => {
                Err(RepoError::TooLong { digest: *digest, limit })
            }
            Some(_) => self.read(digest),
        }
    }

    /// The bytes of a payload that is known to be short.
    fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let result = self.open(digest)?.read_to_end(&mut bytes);
        result.map_err(|source| match self.path(digest) {
            Some(path) => RepoError::io("read", path, source),
            None => RepoError::io("read the payload", digest.to_string(), source),
        })?;
        Ok(bytes)
    }
}

/// The tags of a repository, within one tag namespace or outside all of them.
pub trait Tags: Send + Sync + fmt::Debug {
    /// The namespace they belong to.
    fn namespace(&self) -> Option<&TagNamespace>;

    /// All versions of a tag; an empty stream when there is no such tag.
    fn stream(&self, tag: &TagName) -> Result<TagStream>;

    /// Adds a record at its place in the stream of its own name; says whether it is new.
    fn insert(&self, tag: Tag) -> Result<bool>;

    /// Points a tag at something; returns the record and whether it is new. A tag that points there
    /// already stays as it is.
    fn push(
        &self,
        tag: &TagName,
        target: Digest,
        user: &str,
        time: Timestamp,
    ) -> Result<(Tag, bool)>;

    /// Removes a record from a stream; says whether it was there.
    fn remove_version(&self, tag: &TagName, record: &Tag) -> Result<bool>;

    /// Removes a tag with all its versions; says whether it was there.
    fn remove_stream(&self, tag: &TagName) -> Result<bool>;

    /// What stands in a folder of tags (`""` is the outermost), sorted.
    fn list(&self, folder: &str) -> Result<Vec<TagListing>>;

    /// The names of all tags, sorted as they are printed.
    fn names(&self) -> Result<Vec<TagName>>;

    /// A version of a tag.
    fn resolve(&self, spec: &TagSpec) -> Result<Tag> {
        let stream = self.stream(spec.tag())?;
        if let Some(tag) = stream.version(spec.version()) {
            return Ok(tag.clone());
        }
        match stream.tags().len() {
            0 => Err(RepoError::UnknownReference { reference: spec.to_string() }),
            versions => Err(RepoError::UnknownVersion { tag: spec.clone(), versions }),
        }
    }

    /// Every version of every tag that points at `target`.
    fn find(&self, target: &Digest) -> Result<Vec<TagSpec>> {
        let mut found = Vec::new();
        for name in self.names()? {
            let stream = self.stream(&name)?;
            for (version, tag) in (0..).zip(stream.tags().iter().rev()) {
                if tag.target == *target {
                    found.push(TagSpec::new(name.clone(), version));
                }
            }
        }
        Ok(found)
    }
}

/// What stands in a folder of tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TagListing {
    /// Another folder, by its name.
    Folder(String),
    /// A tag, by the last part of its name.
    Tag(String),
}

impl TagListing {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Folder(name) | Self::Tag(name) => name,
        }
    }
}

/// A tag namespace: tags of one name in different namespaces have nothing to do with each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagNamespace(Box<str>);

impl TagNamespace {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TagNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TagNamespace {
    type Err = RepoError;

    fn from_str(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || matches!(name, "." | "..") || !name.chars().all(allowed) {
            return Err(RepoError::BadNamespace { name: name.to_owned() });
        }
        Ok(Self(name.into()))
    }
}
