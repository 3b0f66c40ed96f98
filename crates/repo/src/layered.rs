//! Several repositories as one: what the first lacks is read from the others.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use spfs_model::{Digest, Header, Object, PartialDigest, Tag, TagName, TagStream};

use crate::fs::objects::verify_object;
use crate::over::Over;
use crate::repository::{AnyRepository, Encoding, Found};
use crate::traits::{Digests, Objects, Payloads, TagListing, TagNamespace, Tags};
use crate::{RepoError, Result};

/// Several repositories as one. Everything is written to the first, the *primary* one, and removed
/// from it alone; what it lacks, or has damaged, is read from the others in their order.
#[derive(Debug)]
pub struct LayeredRepository {
    objects: LayeredObjects,
    payloads: LayeredPayloads,
    tags: LayeredTags,
    parts: Arc<Parts>,
}

/// How a [`LayeredRepository`] uses its secondary repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layering {
    /// Whether tags are looked up in them as well.
    pub include_secondary_tags: bool,
    /// Whether what had to be read from them is put into the primary one.
    pub repair: bool,
}

/// A proxy: tags are looked up everywhere, and nothing is written by reading.
impl Default for Layering {
    fn default() -> Self {
        Self { include_secondary_tags: true, repair: false }
    }
}

#[derive(Debug)]
struct Parts {
    primary: Arc<dyn AnyRepository>,
    secondary: Vec<Arc<dyn AnyRepository>>,
    layering: Layering,
}

impl Parts {
    fn all(&self) -> impl Iterator<Item = &dyn AnyRepository> {
        std::iter::once(&*self.primary).chain(self.secondary.iter().map(|part| &**part))
    }

    /// Those whose tags count.
    fn with_tags(&self) -> impl Iterator<Item = &dyn AnyRepository> {
        let count = if self.layering.include_secondary_tags { usize::MAX } else { 1 };
        self.all().take(count)
    }
}

impl LayeredRepository {
    /// Puts a primary repository and others behind it together.
    pub fn new(
        primary: Arc<dyn AnyRepository>,
        secondary: Vec<Arc<dyn AnyRepository>>,
        layering: Layering,
    ) -> Self {
        let parts = Arc::new(Parts { primary, secondary, layering });
        Self {
            objects: LayeredObjects(Arc::clone(&parts)),
            payloads: LayeredPayloads(Arc::clone(&parts)),
            tags: LayeredTags { parts: Arc::clone(&parts), namespace: None },
            parts,
        }
    }
}

/// All that is written, removed and cleaned is the primary repository's.
impl Over for LayeredRepository {
    fn base(&self) -> &dyn AnyRepository {
        &*self.parts.primary
    }

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
        let namespace = Some(namespace.cloned());
        Box::new(LayeredTags { parts: Arc::clone(&self.parts), namespace })
    }

    fn namespaces(&self) -> Result<Vec<TagNamespace>> {
        let mut namespaces = Vec::new();
        for part in self.parts.with_tags() {
            namespaces.extend(part.namespaces()?);
        }
        namespaces.sort();
        namespaces.dedup();
        Ok(namespaces)
    }

    fn location(&self) -> String {
        let parts: Vec<String> = self.parts.all().map(AnyRepository::location).collect();
        parts.join(" before ")
    }

    fn save(&self) -> Result<()> {
        self.parts.all().try_for_each(AnyRepository::save)
    }

    fn secondary(&self) -> Vec<&dyn AnyRepository> {
        self.parts.all().skip(1).collect()
    }
}

/// Whether another part may have what this one could not give.
fn may_be_elsewhere(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::UnknownObject { .. }
            | RepoError::MissingPayload { .. }
            | RepoError::DamagedObject { .. }
            | RepoError::WrongObject { .. }
    )
}

/// What the first part that has it answers, and its number; else the first error.
fn first<T>(
    parts: &Parts,
    mut ask: impl FnMut(&dyn AnyRepository) -> Result<T>,
) -> Result<(usize, T)> {
    let mut failed = match ask(&*parts.primary) {
        Err(error) if may_be_elsewhere(&error) => error,
        result => return Ok((0, result?)),
    };
    for (number, part) in (1..).zip(&parts.secondary) {
        match ask(&**part) {
            Err(error) if may_be_elsewhere(&error) => failed = worse(failed, error),
            result => return Ok((number, result?)),
        }
    }
    Err(failed)
}

/// Damage says more than absence, and the first of two of a kind counts.
fn worse(before: RepoError, now: RepoError) -> RepoError {
    let is_absence = |error: &RepoError| {
        matches!(error, RepoError::UnknownObject { .. } | RepoError::MissingPayload { .. })
    };
    if is_absence(&before) && !is_absence(&now) { now } else { before }
}

/// What the first part that has it finds.
fn found<T>(
    parts: &Parts,
    mut ask: impl FnMut(&dyn AnyRepository) -> Result<Option<T>>,
) -> Result<Option<T>> {
    for part in parts.all() {
        if let Some(found) = ask(part)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// All digests of all parts, each once. What cannot be read comes last.
fn union(lists: impl Iterator<Item = Result<Digests<'static>>>) -> Digests<'static> {
    let (mut digests, mut errors) = (Vec::new(), Vec::new());
    for list in lists {
        let items = list.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        for item in items {
            match item {
                Ok(digest) => digests.push(digest),
                Err(error) => errors.push(Err(error)),
            }
        }
    }
    digests.sort_unstable();
    digests.dedup();
    Box::new(digests.into_iter().map(Ok).chain(errors))
}

/// Ends the borrow of a part by reading the list to its end.
fn owned(list: Result<Digests<'_>>) -> Result<Digests<'static>> {
    Ok(Box::new(list?.collect::<Vec<_>>().into_iter()))
}

#[derive(Debug)]
struct LayeredObjects(Arc<Parts>);

impl LayeredObjects {
    /// Puts an object into the primary repository that had to be read elsewhere.
    fn repair(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        verify_object(digest, bytes, &self.place(digest))?;
        if let Err(error) = self.0.primary.objects().write_raw(digest, bytes) {
            // It may be one that we can only read.
            tracing::debug!(%digest, "cannot repair the primary repository: {error}");
        }
        Ok(())
    }
}

impl Objects for LayeredObjects {
    fn read_raw(&self, digest: &Digest) -> Result<Vec<u8>> {
        let (number, bytes) = first(&self.0, |part| {
            let bytes = part.objects().read_raw(digest)?;
            // What is damaged here may be in order elsewhere.
            match self.0.secondary.is_empty() {
                true => Ok(bytes),
                false => {
                    verify_object(digest, &bytes, &part.objects().place(digest)).map(|_| bytes)
                }
            }
        })?;
        if number > 0 && self.0.layering.repair {
            self.repair(digest, &bytes)?;
        }
        Ok(bytes)
    }

    fn read(&self, digest: &Digest) -> Result<(Header, Object)> {
        let (number, read) = first(&self.0, |part| part.objects().read(digest))?;
        if number > 0 && self.0.layering.repair {
            self.read_raw(digest)?;
        }
        Ok(read)
    }

    fn place(&self, digest: &Digest) -> String {
        let has = |part: &&dyn AnyRepository| part.objects().has(digest).unwrap_or(false);
        let part = self.0.all().find(has).unwrap_or(&*self.0.primary);
        part.objects().place(digest)
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        found(&self.0, |part| part.objects().find(digest))
    }

    fn write(&self, object: &Object, encoding: Encoding) -> Result<Digest> {
        self.0.primary.objects().write(object, encoding)
    }

    fn write_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.0.primary.objects().write_raw(digest, bytes)
    }

    fn remove(&self, digest: &Digest) -> Result<bool> {
        self.0.primary.objects().remove(digest)
    }

    fn iterate(&self, prefix: Option<&PartialDigest>) -> Result<Digests<'_>> {
        Ok(union(self.0.all().map(|part| owned(part.objects().iterate(prefix)))))
    }
}

#[derive(Debug)]
struct LayeredPayloads(Arc<Parts>);

impl LayeredPayloads {
    /// Puts a payload into the primary repository that had to be read elsewhere.
    fn repair(&self, digest: &Digest, mut file: File) -> Result<File> {
        let primary = self.0.primary.payloads();
        match primary.write(&mut file, None) {
            Ok((found, _)) if found == *digest => primary.open(digest),
            Ok((found, _)) => Err(RepoError::WrongPayload { digest: *digest, found }),
            Err(error) => {
                // It may be one that we can only read.
                tracing::debug!(%digest, "cannot repair the primary repository: {error}");
                Ok(first(&self.0, |part| part.payloads().open(digest))?.1)
            }
        }
    }
}

impl Payloads for LayeredPayloads {
    fn open(&self, digest: &Digest) -> Result<File> {
        let (number, file) = first(&self.0, |part| {
            // An empty file in place of another one counts as absent, as everywhere.
            match part.payloads().find(digest)? {
                Some(_) => part.payloads().open(digest),
                None => Err(RepoError::MissingPayload { digest: *digest }),
            }
        })?;
        if number > 0 && self.0.layering.repair { self.repair(digest, file) } else { Ok(file) }
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let has = |part: &&dyn AnyRepository| part.payloads().has(digest).unwrap_or(false);
        self.0.all().find(has).unwrap_or(&*self.0.primary).payloads().path(digest)
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        found(&self.0, |part| part.payloads().find(digest))
    }

    fn write(&self, reader: &mut dyn Read, mode: Option<u32>) -> Result<(Digest, u64)> {
        self.0.primary.payloads().write(reader, mode)
    }

    fn adopt(&self, path: &Path, mode: Option<u32>) -> Result<(Digest, u64)> {
        self.0.primary.payloads().adopt(path, mode)
    }

    fn remove(&self, digest: &Digest) -> Result<bool> {
        self.0.primary.payloads().remove(digest)
    }

    fn iterate(&self) -> Result<Digests<'_>> {
        Ok(union(self.0.all().map(|part| owned(part.payloads().iterate()))))
    }
}

#[derive(Debug)]
struct LayeredTags {
    parts: Arc<Parts>,
    /// `None` for the namespace that each part was opened with.
    namespace: Option<Option<TagNamespace>>,
}

impl LayeredTags {
    fn of<T>(
        &self,
        part: &dyn AnyRepository,
        ask: impl FnOnce(&dyn Tags) -> Result<T>,
    ) -> Result<T> {
        match &self.namespace {
            None => ask(part.tags()),
            Some(namespace) => ask(&*part.tags_in(namespace.as_ref())),
        }
    }

    fn primary<T>(&self, ask: impl FnOnce(&dyn Tags) -> Result<T>) -> Result<T> {
        self.of(&*self.parts.primary, ask)
    }

    /// What all parts list, each once, sorted.
    fn union<T: Ord>(&self, ask: impl Fn(&dyn Tags) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for part in self.parts.with_tags() {
            all.extend(self.of(part, &ask)?);
        }
        all.sort();
        all.dedup();
        Ok(all)
    }
}

impl Tags for LayeredTags {
    fn namespace(&self) -> Option<&TagNamespace> {
        match &self.namespace {
            None => self.parts.primary.tags().namespace(),
            Some(namespace) => namespace.as_ref(),
        }
    }

    /// That of the first part which has the tag; streams are not mixed.
    fn stream(&self, tag: &TagName) -> Result<TagStream> {
        for part in self.parts.with_tags() {
            let stream = self.of(part, |tags| tags.stream(tag))?;
            if !stream.is_empty() {
                return Ok(stream);
            }
        }
        Ok(TagStream::default())
    }

    fn insert(&self, tag: Tag) -> Result<bool> {
        self.primary(|tags| tags.insert(tag))
    }

    fn push(
        &self,
        tag: &TagName,
        target: Digest,
        user: &str,
        time: Timestamp,
    ) -> Result<(Tag, bool)> {
        self.primary(|tags| tags.push(tag, target, user, time))
    }

    fn remove_version(&self, tag: &TagName, record: &Tag) -> Result<bool> {
        self.primary(|tags| tags.remove_version(tag, record))
    }

    fn remove_stream(&self, tag: &TagName) -> Result<bool> {
        self.primary(|tags| tags.remove_stream(tag))
    }

    fn list(&self, folder: &str) -> Result<Vec<TagListing>> {
        self.union(|tags| tags.list(folder))
    }

    fn names(&self) -> Result<Vec<TagName>> {
        let mut names = self.union(|tags| tags.names())?;
        names.sort_by_cached_key(ToString::to_string);
        Ok(names)
    }
}
