//! Objects in a folder.

use std::io::{Read, Write};

use spfs_model::{DecodeError, Digest, Header, Object, PartialDigest, decode, digest, encode};

use super::hash_dir::HashDir;
use super::{FILE_MODE, work};
use crate::error::Context;
use crate::repository::{Encoding, Found};
use crate::traits::{Digests, Objects};
use crate::{RepoError, Result};

/// The shortest file of an object: header and the legacy body of an empty platform.
const OBJECT_LEN_MIN: u64 = 25;

#[derive(Debug)]
pub(super) struct FsObjects {
    store: HashDir,
}

impl FsObjects {
    pub(super) const fn new(store: HashDir) -> Self {
        Self { store }
    }

    pub(super) const fn store(&self) -> &HashDir {
        &self.store
    }

    /// Whether an object is there and can be read, so that it need not be written. Its content is
    /// not compared with its digest.
    pub(super) fn is_readable(&self, digest: &Digest) -> Result<bool> {
        match self.read(digest) {
            Ok(_) => {
                if let Some(found) = self.store.find(digest)? {
                    self.store.renew(digest, &found);
                }
                Ok(true)
            }
            Err(RepoError::UnknownObject { .. } | RepoError::DamagedObject { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The longest file of an object: what the encoding can address, and the header.
const OBJECT_LEN_MAX: u64 = i32::MAX as u64 + Header::LEN as u64;

impl Objects for FsObjects {
    fn read_raw(&self, digest: &Digest) -> Result<Vec<u8>> {
        let file = self.store.open_file(digest)?;
        let mut file = file.ok_or(RepoError::UnknownObject { digest: *digest })?;
        let path = || self.store.file_path(digest);
        let size = file.metadata().at("look at", path())?.len();
        if size > OBJECT_LEN_MAX {
            let source = DecodeError::TooLong { size };
            return Err(RepoError::DamagedObject {
                digest: *digest,
                place: self.place(digest),
                source,
            });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", path())?;
        Ok(bytes)
    }

    fn place(&self, digest: &Digest) -> String {
        self.store.file_path(digest).display().to_string()
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        Ok(self.store.find(digest)?.filter(|found| found.size >= OBJECT_LEN_MIN))
    }

    fn write(&self, object: &Object, encoding: Encoding) -> Result<Digest> {
        let (digest, bytes) = encode_object(object, encoding)?;
        self.write_raw(&digest, &bytes)?;
        Ok(digest)
    }

    fn write_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.is_readable(digest)? {
            return Ok(());
        }
        let mut draft = work::draft(&self.store)?;
        let target = self.store.file_path(digest);
        draft.write_all(bytes).at("write", &target)?;
        draft.set_mode(FILE_MODE).at("write", &target)?;
        self.store.publish_now(draft, digest)
    }

    fn remove(&self, digest: &Digest) -> Result<bool> {
        self.store.remove(digest)
    }

    fn iterate(&self, prefix: Option<&PartialDigest>) -> Result<Digests<'_>> {
        self.store.iterate(prefix)
    }
}

/// The digest and the file of an object.
pub(crate) fn encode_object(object: &Object, encoding: Encoding) -> Result<(Digest, Vec<u8>)> {
    let kind = object.kind();
    let refuse = |source| RepoError::Encode { kind, source };
    let digest = digest(object, encoding.strategy).map_err(refuse)?;
    let bytes = encode(object, encoding.strategy, encoding.format).map_err(refuse)?;
    Ok((digest, bytes))
}

/// Reads the file of an object that came from elsewhere, and refuses it under another digest.
pub(crate) fn verify_object(name: &Digest, bytes: &[u8], place: &str) -> Result<Object> {
    let damaged = |source| RepoError::DamagedObject { digest: *name, place: place.into(), source };
    let (header, object) = decode(bytes).map_err(damaged)?;
    let found = digest(&object, header.strategy)
        .map_err(|source| RepoError::Encode { kind: header.kind, source })?;
    if found != *name {
        return Err(RepoError::WrongObject { digest: *name, found });
    }
    Ok(object)
}
