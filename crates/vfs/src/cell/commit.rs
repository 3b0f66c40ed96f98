//! Handing a file's content to a repository.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use spfs_model::Digest;

use crate::api::{Error, Result};
use crate::journal::Record;
use crate::scratch::ScratchId;
use crate::store::{Store, Upper};
use crate::sync::RwLockUpgradableReadGuard;

use super::{Content, FileCell, Source, StoredAs, Unsynced};

/// Takes the content of files for a layer. The calls come from several threads.
pub trait LayerStore: Sync {
    /// Stores a regular file that holds exactly `size` bytes of content. It may be linked, cloned
    /// or copied; after a link nobody writes to it any more. `perm`: the file's permission bits.
    fn store_file(&self, path: &Path, size: u64, perm: u16) -> io::Result<StoredFile>;

    /// Stores what the reader gives: `size` bytes.
    fn store_stream(&self, content: &mut dyn Read, size: u64, perm: u16) -> io::Result<Digest>;

    /// What is stored stays, and need not be stored again by the next commit.
    fn keeps(&self) -> bool;
}

/// How a file was stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredFile {
    /// The payload.
    pub digest: Digest,
    /// Payload and file are one inode now.
    pub shared: bool,
}

/// Content that a layer needs.
#[derive(Debug)]
pub(crate) enum CommitJob {
    /// A regular file's, with its permission bits.
    File { cell: Arc<FileCell>, perm: u16 },
    /// The target of a symbolic link.
    Target(Box<[u8]>),
}

impl CommitJob {
    /// The file's cell.
    pub(crate) fn cell(&self) -> Option<&Arc<FileCell>> {
        match self {
            Self::File { cell, .. } => Some(cell),
            Self::Target(_) => None,
        }
    }

    /// Stores the content as it is at one instant. Returns digest and size.
    pub(crate) fn run(&self, store: &Store, layers: &dyn LayerStore) -> Result<(Digest, u64)> {
        match self {
            Self::File { cell, perm } => cell.store_content(store, layers, *perm),
            Self::Target(text) => {
                let size = text.len() as u64;
                layers
                    .store_stream(&mut &**text, size, 0o777)
                    .map(|digest| (digest, size))
                    .map_err(|e| Error::scratch("store a link's target", e))
            }
        }
    }
}

impl FileCell {
    /// Writers to this file wait meanwhile, readers do not.
    fn store_content(
        &self,
        store: &Store,
        layers: &dyn LayerStore,
        perm: u16,
    ) -> Result<(Digest, u64)> {
        if self.with(|content| content.torn) {
            let upper = store.upper()?;
            self.with_mut(|content| content.mend(upper))?;
        }
        let content = self.content.upgradable_read();
        if content.lost {
            return Err(Error::Lost);
        }
        let size = content.size;
        if let Some(digest) = content.known_digest() {
            return Ok((digest, size));
        }
        let stored = match &content.source {
            Source::Whole { id, .. } => {
                let path = store.upper()?.scratch.path(*id);
                layers.store_file(&path, size, perm)
            }
            _ => {
                let mut reader = ContentReader { content: &content, store, at: 0, failed: None };
                let stored = layers.store_stream(&mut reader, size, perm);
                if let Some(error) = reader.failed {
                    return Err(error);
                }
                stored.map(|digest| StoredFile { digest, shared: false })
            }
        };
        let StoredFile { digest, shared } =
            stored.map_err(|e| Error::scratch("store a payload", e))?;
        if layers.keeps() {
            let mut content = RwLockUpgradableReadGuard::upgrade(content);
            content.stored = Some(StoredAs { digest, shared });
        }
        Ok((digest, size))
    }

    /// The layer that holds `digest` is in the stack: unless the content has changed since, it comes
    /// from there now. `false`: it has changed.
    pub(crate) fn settle(&self, digest: Digest, upper: &Upper) -> Settled {
        let mut content = self.content.write();
        match content.known_digest() {
            Some(known) if known == digest && !content.lost => {}
            _ => return Settled::Changed,
        }
        let old = content.scratch_files();
        content.source = Source::Payload(digest);
        content.stored = None;
        content.fallback = None;
        content.nothing_older = false;
        content.unsynced = Unsynced::default();
        content.dated = content.written_at.or(content.dated);
        content.departures_marked = content.departures;
        // Before anybody can write again, and record that.
        upper.record(&Record::Content { ino: self.ino.0, content: content.record() });
        let written_at = content.written_at.take();
        Settled::Payload { old, written_at }
    }
}

/// What became of a committed cell.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Its content is a payload; the scratch file is not needed any more.
    Payload { old: Vec<ScratchId>, written_at: Option<crate::api::Timestamp> },
    /// It was written after it had been stored.
    Changed,
}

impl Content {
    fn known_digest(&self) -> Option<Digest> {
        match &self.source {
            Source::Payload(digest) => Some(*digest),
            _ => self.stored.map(|stored| stored.digest),
        }
    }
}

/// Reads a cell's content from the beginning, holes and all.
struct ContentReader<'a> {
    content: &'a Content,
    store: &'a Store,
    at: u64,
    failed: Option<Error>,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.content.read(self.store, self.at, buf) {
            Ok(n) => {
                self.at += n as u64;
                Ok(n)
            }
            Err(error) => {
                let said = io::Error::other(error.to_string());
                self.failed = Some(error);
                Err(said)
            }
        }
    }
}
