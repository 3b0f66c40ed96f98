//! A repository without a disk, for tests and for what need not be kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use spfs_model::{Digest, Object, PartialDigest, Tag, TagName, TagStream, decode};

use crate::error::Context;
use crate::fs::objects::encode_object;
use crate::fs::tags::{name_of, push};
use crate::repository::{AnyRepository, Batch, Encoding, Found, Stored};
use crate::traits::{Digests, Objects, Payloads, TagListing, TagNamespace, Tags};
use crate::{RepoError, Result, copy};

/// A repository in memory.
#[derive(Debug, Default)]
pub struct MemoryRepository {
    objects: MemoryObjects,
    payloads: MemoryPayloads,
    tags: MemoryTags,
    encoding: Encoding,
}

impl MemoryRepository {
    /// An empty repository.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same repository with other encodings for new objects.
    pub fn with_encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// The same repository with its tags in a namespace.
    pub fn with_namespace(mut self, namespace: Option<TagNamespace>) -> Self {
        self.tags.namespace = namespace;
        self
    }
}

impl AnyRepository for MemoryRepository {
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
        let streams = Arc::clone(&self.tags.streams);
        Box::new(MemoryTags { streams, namespace: namespace.cloned() })
    }

    fn namespaces(&self) -> Result<Vec<TagNamespace>> {
        let streams = self.tags.streams.lock();
        let mut namespaces: Vec<_> =
            streams.keys().filter_map(|(namespace, _)| namespace.clone()).collect();
        namespaces.dedup();
        Ok(namespaces)
    }

    fn batch(&self) -> Result<Box<dyn Batch + '_>> {
        Ok(Box::new(MemoryBatch { repository: self, staged: Mutex::default() }))
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// Things by digest, with the time when they came.
type Shelf = BTreeMap<Digest, (Arc<[u8]>, Timestamp)>;

#[derive(Debug, Default)]
struct MemoryObjects(Mutex<Shelf>);

#[derive(Debug, Default)]
struct MemoryPayloads(Mutex<Shelf>);

fn now() -> Timestamp {
    let now = spfs_sys::clock::precise();
    Timestamp::new(now.secs, now.nanos as i32).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn find(shelf: &Mutex<Shelf>, digest: &Digest) -> Option<Found> {
    let (bytes, modified) = shelf.lock().get(digest).cloned()?;
    Some(Found { size: bytes.len() as u64, modified })
}

fn insert(shelf: &Mutex<Shelf>, digest: Digest, bytes: &[u8]) {
    shelf.lock().entry(digest).or_insert_with(|| (bytes.into(), now()));
}

impl Objects for MemoryObjects {
    fn read_raw(&self, digest: &Digest) -> Result<Vec<u8>> {
        match self.0.lock().get(digest) {
            Some((bytes, _)) => Ok(bytes.to_vec()),
            None => Err(RepoError::UnknownObject { digest: *digest }),
        }
    }

    fn place(&self, _digest: &Digest) -> String {
        "memory".to_owned()
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        Ok(find(&self.0, digest))
    }

    fn write(&self, object: &Object, encoding: Encoding) -> Result<Digest> {
        let (digest, bytes) = encode_object(object, encoding)?;
        self.write_raw(&digest, &bytes)?;
        Ok(digest)
    }

    fn write_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.0.lock().get(digest).is_some_and(|(there, _)| decode(there).is_ok()) {
            return Ok(());
        }
        self.0.lock().insert(*digest, (bytes.into(), now()));
        Ok(())
    }

    fn remove(&self, digest: &Digest) -> Result<bool> {
        Ok(self.0.lock().remove(digest).is_some())
    }

    fn iterate(&self, prefix: Option<&PartialDigest>) -> Result<Digests<'_>> {
        let matches = |digest: &&Digest| prefix.is_none_or(|prefix| prefix.matches(digest));
        let digests: Vec<_> = self.0.lock().keys().filter(matches).copied().map(Ok).collect();
        Ok(Box::new(digests.into_iter()))
    }
}

impl Payloads for MemoryPayloads {
    fn open(&self, digest: &Digest) -> Result<File> {
        let found = self.0.lock().get(digest).map(|(bytes, _)| Arc::clone(bytes));
        let bytes = found.ok_or(RepoError::MissingPayload { digest: *digest })?;
        // callers are promised a file; an unnamed one is as good as any
        let mut file = tempfile::tempfile().at("create a file in", std::env::temp_dir())?;
        let filled = file.write_all(&bytes).and_then(|()| file.rewind());
        filled.at("write in", std::env::temp_dir())?;
        Ok(file)
    }

    fn path(&self, _digest: &Digest) -> Option<PathBuf> {
        None
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        Ok(find(&self.0, digest))
    }

    fn write(&self, reader: &mut dyn Read, _mode: Option<u32>) -> Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        let (digest, size) = copy::hash_while_copying(reader, &mut bytes).at("read", "stream")?;
        insert(&self.0, digest, &bytes);
        Ok((digest, size))
    }

    fn adopt(&self, path: &Path, mode: Option<u32>) -> Result<(Digest, u64)> {
        self.write(&mut File::open(path).at("read", path)?, mode)
    }

    fn remove(&self, digest: &Digest) -> Result<bool> {
        Ok(self.0.lock().remove(digest).is_some())
    }

    fn iterate(&self) -> Result<Digests<'_>> {
        let digests: Vec<_> = self.0.lock().keys().copied().map(Ok).collect();
        Ok(Box::new(digests.into_iter()))
    }
}

/// All tag streams by namespace and name.
type Streams = BTreeMap<(Option<TagNamespace>, TagName), TagStream>;

#[derive(Debug, Default)]
struct MemoryTags {
    streams: Arc<Mutex<Streams>>,
    namespace: Option<TagNamespace>,
}

impl MemoryTags {
    fn key(&self, tag: &TagName) -> Result<(Option<TagNamespace>, TagName)> {
        // names that lead to one path are one tag
        let path = tag.components().collect::<Vec<_>>().join("/");
        let tag = path.parse().map_err(|source| RepoError::BadReference {
            reference: path,
            source: spfs_model::ParseEnvError::Item { source },
        })?;
        Ok((self.namespace.clone(), tag))
    }
}

/// What of these tags stands in a folder.
pub(crate) fn listing(names: &[TagName], folder: &str) -> Vec<TagListing> {
    let parts: Vec<&str> = folder.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let mut listing = Vec::new();
    for name in names {
        let path: Vec<&str> = name.components().collect();
        match path.strip_prefix(parts.as_slice()) {
            Some([tag]) => listing.push(TagListing::Tag((*tag).to_owned())),
            Some([folder, ..]) => listing.push(TagListing::Folder((*folder).to_owned())),
            Some([]) | None => {}
        }
    }
    listing.sort();
    listing.dedup();
    listing
}

impl Tags for MemoryTags {
    fn namespace(&self) -> Option<&TagNamespace> {
        self.namespace.as_ref()
    }

    fn stream(&self, tag: &TagName) -> Result<TagStream> {
        let key = self.key(tag)?;
        Ok(self.streams.lock().get(&key).cloned().unwrap_or_default())
    }

    fn insert(&self, tag: Tag) -> Result<bool> {
        let key = self.key(&name_of(&tag)?)?;
        Ok(self.streams.lock().entry(key).or_default().insert(tag))
    }

    fn push(
        &self,
        name: &TagName,
        target: Digest,
        user: &str,
        time: Timestamp,
    ) -> Result<(Tag, bool)> {
        let key = self.key(name)?;
        let mut streams = self.streams.lock();
        let stream = streams.entry(key).or_default();
        let before = stream.tags().len();
        let tag = push(stream, name, target, user, time)?;
        Ok((tag, stream.tags().len() > before))
    }

    fn remove_version(&self, tag: &TagName, record: &Tag) -> Result<bool> {
        let key = self.key(tag)?;
        let mut streams = self.streams.lock();
        let Some(stream) = streams.get_mut(&key) else { return Ok(false) };
        let removed = stream.remove(record);
        if stream.is_empty() {
            streams.remove(&key);
        }
        Ok(removed)
    }

    fn remove_stream(&self, tag: &TagName) -> Result<bool> {
        let key = self.key(tag)?;
        Ok(self.streams.lock().remove(&key).is_some())
    }

    fn list(&self, folder: &str) -> Result<Vec<TagListing>> {
        let parts: Vec<&str> =
            folder.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.iter().any(|part| part.parse::<TagName>().is_err()) {
            return Err(RepoError::BadTagFolder { folder: folder.to_owned() });
        }
        Ok(listing(&self.names()?, folder))
    }

    fn names(&self) -> Result<Vec<TagName>> {
        let streams = self.streams.lock();
        let ours = streams.keys().filter(|(namespace, _)| *namespace == self.namespace);
        let mut names: Vec<TagName> = ours.map(|(_, tag)| tag.clone()).collect();
        names.sort_by_cached_key(ToString::to_string);
        Ok(names)
    }
}

#[derive(Debug, Default)]
struct Staged {
    payloads: Vec<(Digest, Vec<u8>)>,
    blobs: Vec<(Digest, Vec<u8>)>,
    others: Vec<(Digest, Vec<u8>)>,
}

#[derive(Debug)]
struct MemoryBatch<'r> {
    repository: &'r MemoryRepository,
    staged: Mutex<Staged>,
}

impl MemoryBatch<'_> {
    fn stage(&self, digest: Digest, payload: Vec<u8>) -> Result<()> {
        let blob = Object::Blob { payload: digest, size: payload.len() as u64 };
        let (_, object) = encode_object(&blob, self.repository.encoding)?;
        let mut staged = self.staged.lock();
        staged.payloads.push((digest, payload));
        staged.blobs.push((digest, object));
        Ok(())
    }
}

impl Batch for MemoryBatch<'_> {
    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let object = self.repository.objects.has(digest)?;
        let payload = self.repository.payloads.find(digest)?;
        if object && let Some((_, time)) = self.repository.objects.0.lock().get_mut(digest) {
            *time = now();
        }
        Ok(object && payload.is_some_and(|payload| payload.size == size))
    }

    fn blob(&self, data: &[u8]) -> Result<Digest> {
        let digest = Digest::of(data);
        self.stage(digest, data.to_vec())?;
        Ok(digest)
    }

    fn blob_from_reader(&self, reader: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        let (digest, size) = copy::hash_while_copying(reader, &mut bytes).at("read", "stream")?;
        self.stage(digest, bytes)?;
        Ok((digest, size))
    }

    fn blob_from_file(&self, mut file: &File, path: &Path) -> Result<(Digest, u64)> {
        file.rewind().at("read", path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", path)?;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.stage(digest, bytes)?;
        Ok((digest, size))
    }

    fn adopt(&self, path: &Path) -> Result<(Digest, u64)> {
        self.blob_from_file(&File::open(path).at("read", path)?, path)
    }

    fn object(&self, object: &Object) -> Result<Digest> {
        let (digest, bytes) = encode_object(object, self.repository.encoding)?;
        self.object_raw(&digest, &bytes)?;
        Ok(digest)
    }

    fn object_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.staged.lock().others.push((*digest, bytes.to_vec()));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Stored> {
        let staged = self.staged.into_inner();
        let mut stored = Stored::default();
        for (digest, payload) in staged.payloads {
            if !self.repository.payloads.has(&digest)? {
                stored.payloads += 1;
                stored.bytes += payload.len() as u64;
                insert(&self.repository.payloads.0, digest, &payload);
            }
        }
        for (digest, object) in staged.blobs.into_iter().chain(staged.others) {
            if !self.repository.objects.has(&digest)? {
                stored.objects += 1;
            }
            self.repository.objects.write_raw(&digest, &object)?;
        }
        Ok(stored)
    }
}
