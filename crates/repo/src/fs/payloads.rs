//! Payloads in a folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use spfs_model::Digest;
use spfs_sys::publish::Draft;

use super::hash_dir::HashDir;
use super::{FILE_MODE, work};
use crate::copy;
use crate::error::Context;
use crate::repository::Found;
use crate::traits::{Digests, Payloads};
use crate::{RepoError, Result};

#[derive(Debug)]
pub(super) struct FsPayloads {
    store: HashDir,
}

impl FsPayloads {
    pub(super) const fn new(store: HashDir) -> Self {
        Self { store }
    }

    pub(super) const fn store(&self) -> &HashDir {
        &self.store
    }

    fn place(&self, draft: Draft, digest: &Digest, mode: Option<u32>) -> Result<()> {
        let target = self.store.file_path(digest);
        draft.set_mode(payload_mode(mode)).at("write", &target)?;
        self.store.publish_now(draft, digest)
    }
}

impl Payloads for FsPayloads {
    fn open(&self, digest: &Digest) -> Result<File> {
        self.store.open_file(digest)?.ok_or(RepoError::MissingPayload { digest: *digest })
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.store.file_path(digest))
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        let found = self.store.find(digest)?;
        Ok(found.filter(|found| found.size > 0 || *digest == Digest::EMPTY))
    }

    fn write(&self, reader: &mut dyn Read, mode: Option<u32>) -> Result<(Digest, u64)> {
        let mut draft = work::draft(&self.store)?;
        let path = draft.path().to_owned();
        let (digest, size) = copy::hash_while_copying(reader, &mut draft).at("write", path)?;
        self.place(draft, &digest, mode)?;
        Ok((digest, size))
    }

    fn adopt(&self, path: &Path, mode: Option<u32>) -> Result<(Digest, u64)> {
        let mut source = File::open(path).at("read", path)?;
        let (digest, size) = copy::hash(&mut source).at("read", path)?;
        if self.store.find(&digest)?.is_some_and(|found| found.size == size) {
            return Ok((digest, size));
        }
        let link = self.store.path().join(work::WORK).join(uuid::Uuid::new_v4().to_string());
        drop(work::draft(&self.store)?); // makes the folder
        if std::fs::hard_link(path, &link).is_ok() {
            self.place(Draft::adopt(source, link), &digest, mode)?;
            return Ok((digest, size));
        }
        let mut source = File::open(path).at("read", path)?;
        self.write(&mut source, mode)
    }

    fn remove(&self, digest: &Digest) -> Result<bool> {
        self.store.remove(digest)
    }

    fn iterate(&self) -> Result<Digests<'_>> {
        self.store.iterate(None)
    }
}

/// The mode of a payload's file: everybody may read it.
const fn payload_mode(known: Option<u32>) -> u32 {
    match known {
        Some(mode) => mode & 0o7777 | 0o444,
        None => FILE_MODE,
    }
}
