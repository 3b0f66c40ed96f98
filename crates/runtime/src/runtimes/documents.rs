//! Records in the repository: the two tag streams of each runtime.

use std::collections::BTreeSet;
use std::io;

use spfs_model::{Object, Platform, TagName, TagSpec};
use spfs_repo::{AnyRepository, RepoError, TagListing, Tags};
use spfs_sys::publish::{self, Durability};

use super::Runtimes;
use crate::error::RuntimeError;
use crate::folder::RUNTIMES;
use crate::name::RuntimeName;
use crate::record::RuntimeRecord;

/// Where the documents are.
const META: &str = "spfs/runtimes/meta";

/// Where the stacks are, which cleaning follows.
const DATA: &str = "spfs/runtimes/data";

/// A document is a few kilobytes; more is none of ours or upstream's.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

impl Runtimes {
    /// Reads the record of a runtime.
    pub fn read(&self, name: &RuntimeName) -> Result<RuntimeRecord, RuntimeError> {
        if let Some(record) = self.read_pending(name) {
            return Ok(record);
        }
        let failed =
            |source| RuntimeError::Repository { doing: "read", name: name.clone(), source };
        let tag = match self.tags().resolve(&TagSpec::new(tag_name(META, name), 0)) {
            Err(RepoError::UnknownReference { .. }) => {
                return Err(RuntimeError::Unknown { name: name.clone() });
            }
            other => other.map_err(failed)?,
        };
        let document = self.read_document(&tag.target).map_err(failed)?;
        Ok(RuntimeRecord::from_json(name.as_str(), &document)?)
    }

    /// The record that waits in the folder for being saved. A machine that went down may have left
    /// an empty file: then what was saved before holds.
    fn read_pending(&self, name: &RuntimeName) -> Option<RuntimeRecord> {
        let document = std::fs::read(self.folder(name).pending_record()).ok()?;
        RuntimeRecord::from_json(name.as_str(), &document).ok()
    }

    fn read_document(&self, digest: &spfs_model::Digest) -> Result<Vec<u8>, RepoError> {
        let payloads = self.repository().payloads();
        match payloads.find(digest)? {
            Some(found) if found.size > DOCUMENT_BYTES_MAX => Ok(Vec::new()),
            _ => payloads.read(digest),
        }
    }

    /// Whether there is a record of this name.
    pub(super) fn has(&self, name: &RuntimeName) -> Result<bool, RuntimeError> {
        match self.tags().stream(&tag_name(META, name)) {
            Ok(stream) => Ok(!stream.is_empty() || self.read_pending(name).is_some()),
            Err(source) => {
                Err(RuntimeError::Repository { doing: "look for", name: name.clone(), source })
            }
        }
    }

    /// Writes a record into the runtime's folder alone, where it waits for being saved: on the way
    /// into a runtime there is no time for the disk. The caller holds the lock on the folder.
    pub(crate) fn save_later(&self, record: &RuntimeRecord) -> Result<(), RuntimeError> {
        let name: RuntimeName = record.name.parse()?;
        let path = self.folder(&name).pending_record();
        publish::write(&path, 0o600, &record.to_json(), Durability::Later)
            .map_err(|source| RuntimeError::Folder { doing: "write", path, source })
    }

    /// Saves a record. The caller holds the lock on the runtime's folder.
    pub(crate) fn save(&self, record: &RuntimeRecord) -> Result<(), RuntimeError> {
        let name: RuntimeName = record.name.parse()?;
        let pending = self.folder(&name).pending_record();
        self.save_documents(&name, record).map_err(|source| RuntimeError::Repository {
            doing: "save",
            name,
            source,
        })?;
        match std::fs::remove_file(&pending) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::Folder { doing: "remove", path: pending, source })
            }
            _ => Ok(()),
        }
    }

    fn save_documents(&self, name: &RuntimeName, record: &RuntimeRecord) -> Result<(), RepoError> {
        let mut stack = record.stack();
        stack.extend(record.status.flattened_layers.iter().rev());
        let batch = self.repository().batch()?;
        let document = batch.blob(&record.to_json())?;
        let stack = batch.object(&Object::Platform(Platform { stack }))?;
        batch.finish()?;
        let tags = self.tags();
        let user = format!("{}@{}", record.author.user_name, record.author.host_name);
        let now = super::now();
        // The stack first: a record without it could lose its layers to cleaning.
        tags.push(&tag_name(DATA, name), stack, &user, now)?;
        tags.push(&tag_name(META, name), document, &user, now)?;
        Ok(())
    }

    /// Removes a record; it need not be there. The stack goes first, as upstream does it: what is
    /// left by a crash in between still is in the list and can be removed.
    pub(super) fn delete_documents(&self, name: &RuntimeName) -> Result<(), RuntimeError> {
        let tags = self.tags();
        [DATA, META]
            .into_iter()
            .try_for_each(|folder| tags.remove_stream(&tag_name(folder, name)).map(drop))
            .map_err(|source| RuntimeError::Repository {
                doing: "remove",
                name: name.clone(),
                source,
            })
    }

    /// The names of all runtimes with a record, sorted.
    pub(super) fn names(&self) -> Result<Vec<RuntimeName>, RuntimeError> {
        let listed = self
            .tags()
            .list(META)
            .map_err(|source| RuntimeError::List { root: self.root().to_owned(), source })?;
        let saved = listed.into_iter().filter_map(|entry| match entry {
            TagListing::Tag(name) => name.parse().ok(),
            TagListing::Folder(_) => None,
        });
        let mut names: BTreeSet<RuntimeName> = saved.collect();
        names.extend(self.folders().filter(|name| self.folder(name).pending_record().exists()));
        Ok(names.into_iter().collect())
    }

    /// The names of all folders of runtimes.
    pub(super) fn folders(&self) -> impl Iterator<Item = RuntimeName> {
        let entries = std::fs::read_dir(self.root().join(RUNTIMES));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    /// Records stand outside all tag namespaces.
    fn tags(&self) -> Box<dyn Tags + '_> {
        self.repository().tags_in(None)
    }
}

fn tag_name(folder: &str, name: &RuntimeName) -> TagName {
    format!("{folder}/{name}")
        .parse()
        .expect("the name of a runtime consists of characters that tags may have")
}
