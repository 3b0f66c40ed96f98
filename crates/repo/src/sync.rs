//! Copies objects, payloads and tags from one repository to another.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rayon::prelude::*;
use spfs_model::{Digest, EntryKind, EnvItem, EnvSpec, Object, ObjectKind, Tag};

use crate::error::Context;
use crate::fs::objects::verify_object;
use crate::progress::{NoProgress, Progress};
use crate::repository::{AnyRepository, Batch, Found, Stored};
use crate::resolve::resolve_item;
use crate::walk::{children, walk};
use crate::{RepoError, Result, spec_file};

/// So many blobs are made visible together, unless [`SyncOptions`] say otherwise: what a killed
/// transfer has made visible is not brought again.
const BLOBS_PER_BATCH: usize = 25_000;

/// So many bytes are made visible together, unless one file is larger.
const BYTES_PER_BATCH: u64 = 1 << 30;

/// Where copying is slow, what was copied is made visible after this time.
const TIME_PER_BATCH: Duration = Duration::from_secs(10);

/// After so many blobs the clock is looked at.
const BLOBS_PER_LOOK: usize = 1024;

/// How two repositories are synced.
pub struct SyncOptions<'a> {
    /// Whether a tag that is there already is updated when the source has a newer version.
    pub update_tags: bool,
    /// Whether everything is looked at, rather than relying on an object that is there to be
    /// complete.
    pub check: bool,
    /// Whether nothing is copied, only counted.
    pub dry_run: bool,
    /// So many blobs are made visible together; at least one.
    pub blobs_per_batch: usize,
    /// Told how far it has come.
    pub progress: &'a dyn Progress,
}

impl Default for SyncOptions<'_> {
    fn default() -> Self {
        Self {
            update_tags: true,
            check: false,
            dry_run: false,
            blobs_per_batch: BLOBS_PER_BATCH,
            progress: &NoProgress,
        }
    }
}

impl fmt::Debug for SyncOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncOptions")
            .field("update_tags", &self.update_tags)
            .field("check", &self.check)
            .field("dry_run", &self.dry_run)
            .field("blobs_per_batch", &self.blobs_per_batch)
            .finish_non_exhaustive()
    }
}

/// What was copied, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Tags that were written.
    pub tags: u64,
    /// Tags that were there already.
    pub tags_skipped: u64,
    /// Objects that were written, blobs included.
    pub objects: u64,
    /// Objects that were there already.
    pub objects_skipped: u64,
    /// Payloads that were written.
    pub payloads: u64,
    /// Payloads that were there already.
    pub payloads_skipped: u64,
    /// Bytes of the payloads that were written.
    pub bytes: u64,
}

impl std::ops::AddAssign for SyncReport {
    fn add_assign(&mut self, other: Self) {
        self.tags += other.tags;
        self.tags_skipped += other.tags_skipped;
        self.objects += other.objects;
        self.objects_skipped += other.objects_skipped;
        self.payloads += other.payloads;
        self.payloads_skipped += other.payloads_skipped;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Copies the items of an environment with all that they lead to, as far as it is not there.
///
/// Every object and payload is compared with its digest on the way. Tags are written last, so that
/// they never lead to something missing.
pub fn sync(
    from: &dyn AnyRepository,
    to: &dyn AnyRepository,
    spec: &EnvSpec,
    options: &SyncOptions<'_>,
) -> Result<SyncReport> {
    let mut roots = Vec::new();
    let mut tags = Vec::new();
    for item in spec_file::expand_stored(spec)? {
        match &item {
            EnvItem::Tag(tag) => {
                let record = from.tags().resolve(tag)?;
                roots.push(record.target);
                tags.push(record);
            }
            _ => roots.push(resolve_item(&[from], &item)?),
        }
    }
    let transfer = Transfer { from, to, options, counts: Counts::default() };
    transfer.run(&roots, &tags)
}

struct Transfer<'a> {
    from: &'a dyn AnyRepository,
    to: &'a dyn AnyRepository,
    options: &'a SyncOptions<'a>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    objects: AtomicU64,
    objects_skipped: AtomicU64,
    payloads: AtomicU64,
    payloads_skipped: AtomicU64,
    bytes: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// What has to be copied, as far as it is known by its digest.
#[derive(Default)]
struct Wanted {
    /// Blobs, and their size where a manifest says it.
    blobs: HashMap<Digest, Option<u64>>,
    /// Other objects.
    others: HashMap<Digest, Other>,
}

/// An object that is no blob.
struct Other {
    bytes: Vec<u8>,
    /// What it leads to, apart from blobs.
    inner: Vec<Digest>,
}

impl Transfer<'_> {
    fn run(self, roots: &[Digest], tags: &[Tag]) -> Result<SyncReport> {
        let wanted = self.find(roots)?;
        let mut blobs: Vec<(Digest, Option<u64>)> = wanted.blobs.into_iter().collect();
        // A part then fills whole folders of a new repository, which get their names as such.
        blobs.sort_unstable();
        let bytes = blobs.iter().filter_map(|(_, size)| *size).fold(0, u64::saturating_add);
        self.options.progress.found(blobs.len() as u64, bytes);
        for part in parts(&blobs, self.options.blobs_per_batch) {
            self.blobs(part)?;
        }
        self.others(wanted.others)?;
        let (written, skipped) = self.tags(tags)?;
        Ok(SyncReport {
            tags: written,
            tags_skipped: skipped,
            objects: self.counts.objects.into_inner(),
            objects_skipped: self.counts.objects_skipped.into_inner(),
            payloads: self.counts.payloads.into_inner(),
            payloads_skipped: self.counts.payloads_skipped.into_inner(),
            bytes: self.counts.bytes.into_inner(),
        })
    }

    /// Reads all objects but blobs that are missing at the destination.
    fn find(&self, roots: &[Digest]) -> Result<Wanted> {
        let wanted = Mutex::new(Wanted::default());
        walk(roots.iter().copied(), |digest| {
            if !self.options.check && self.is_there(digest)? {
                add(&self.counts.objects_skipped, 1);
                return Ok(Vec::new());
            }
            let objects = self.from.objects();
            let bytes = objects.read_raw(digest)?;
            let object = verify_object(digest, &bytes, &objects.place(digest))?;
            let mut wanted = wanted.lock();
            match &object {
                Object::Blob { payload, size } => {
                    wanted.blobs.insert(*payload, Some(*size));
                    return Ok(Vec::new());
                }
                Object::Manifest(manifest) => {
                    for tree in manifest.trees() {
                        let entries = manifest.entries(tree);
                        for entry in entries.filter(|entry| entry.kind == EntryKind::Blob) {
                            wanted.blobs.insert(entry.object, Some(entry.size));
                        }
                    }
                }
                Object::Layer(_) | Object::Platform(_) => {
                    for blob in children(&object).blobs {
                        wanted.blobs.entry(blob).or_default();
                    }
                }
            }
            let inner = children(&object).inner;
            wanted.others.insert(*digest, Other { bytes, inner: inner.clone() });
            Ok(inner)
        })?;
        Ok(wanted.into_inner())
    }

    /// Whether the destination has an object that is no blob, which then is complete: whoever
    /// writes to a repository writes what an object leads to first.
    fn is_there(&self, digest: &Digest) -> Result<bool> {
        match self.to.objects().read(digest) {
            Ok((header, _)) => Ok(header.kind != ObjectKind::Blob),
            Err(RepoError::UnknownObject { .. } | RepoError::DamagedObject { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where to put things; `None` when nothing is to be written.
    fn batch(&self) -> Result<Option<Box<dyn Batch + '_>>> {
        (!self.options.dry_run).then(|| self.to.batch()).transpose()
    }

    /// Copies blobs, which become visible at the end and, where that takes long, now and then.
    fn blobs(&self, mut rest: &[(Digest, Option<u64>)]) -> Result<()> {
        while !rest.is_empty() {
            let batch = self.batch()?;
            let begun = Instant::now();
            while !rest.is_empty() && begun.elapsed() < TIME_PER_BATCH {
                let (now, later) = rest.split_at(rest.len().min(BLOBS_PER_LOOK));
                let batch = batch.as_deref();
                now.par_iter().try_for_each(|(digest, size)| self.blob(batch, digest, *size))?;
                rest = later;
            }
            batch.map_or(Ok(Stored::default()), Batch::finish)?;
        }
        Ok(())
    }

    fn blob(&self, batch: Option<&dyn Batch>, digest: &Digest, size: Option<u64>) -> Result<()> {
        let size = match size {
            Some(size) => size,
            None => self.from.payloads().find(digest)?.map_or(0, |found| found.size),
        };
        let is_there = match batch {
            Some(batch) => batch.has_blob(digest, size)?,
            None => {
                let is_whole = |found: Found| found.size == size;
                self.to.objects().has(digest)?
                    && self.to.payloads().find(digest)?.is_some_and(is_whole)
            }
        };
        self.options.progress.done(1, size);
        if is_there {
            add(&self.counts.objects_skipped, 1);
            add(&self.counts.payloads_skipped, 1);
            return Ok(());
        }
        let file = self.from.payloads().open(digest)?;
        // What a manifest says of the size need not be true.
        let size = match batch {
            Some(batch) => {
                let path = self.from.payloads().path(digest).unwrap_or_default();
                let (found, size) = batch.blob_from_file(&file, &path)?;
                if found != *digest {
                    return Err(RepoError::WrongPayload { digest: *digest, found });
                }
                size
            }
            None => file.metadata().at("look at", digest.to_string())?.len(),
        };
        add(&self.counts.objects, 1);
        add(&self.counts.payloads, 1);
        add(&self.counts.bytes, size);
        Ok(())
    }

    /// Writes the other objects, children before parents.
    fn others(&self, others: HashMap<Digest, Other>) -> Result<()> {
        // Nothing is made ready at a destination that may not be writable.
        if others.is_empty() {
            return Ok(());
        }
        let batch = self.batch()?;
        for (digest, bytes) in children_first(others) {
            if self.options.check && self.is_there(&digest)? {
                add(&self.counts.objects_skipped, 1);
                continue;
            }
            add(&self.counts.objects, 1);
            if let Some(batch) = &batch {
                batch.object_raw(&digest, &bytes)?;
            }
        }
        batch.map_or(Ok(Stored::default()), Batch::finish)?;
        Ok(())
    }

    fn tags(&self, tags: &[Tag]) -> Result<(u64, u64)> {
        let (mut written, mut skipped) = (0, 0);
        for tag in tags {
            let name = crate::fs::tags::name_of(tag)?;
            let there = self.to.tags().stream(&name)?;
            let skip =
                there.tags().contains(tag) || (!self.options.update_tags && !there.is_empty());
            if skip || (!self.options.dry_run && !self.to.tags().insert(tag.clone())?) {
                skipped += 1;
            } else {
                written += 1;
            }
        }
        Ok((written, skipped))
    }
}

/// Parts that become visible one after the other.
fn parts(blobs: &[(Digest, Option<u64>)], len_max: usize) -> Vec<&[(Digest, Option<u64>)]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, (_, size)) in blobs.iter().enumerate() {
        if at > start && (at - start >= len_max || bytes > BYTES_PER_BATCH) {
            parts.push(&blobs[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = u64::saturating_add(bytes, size.unwrap_or(0));
    }
    if start < blobs.len() {
        parts.push(&blobs[start..]);
    }
    parts
}

/// Puts what an object leads to before the object.
fn children_first(mut others: HashMap<Digest, Other>) -> Vec<(Digest, Vec<u8>)> {
    let mut ordered = Vec::with_capacity(others.len());
    // objects on the way down, each with what it leads to that has not been looked at
    let mut path: Vec<(Digest, Other)> = Vec::new();
    let mut all: Vec<Digest> = others.keys().copied().collect();
    while let Some(next) = all.pop() {
        path.extend(others.remove(&next).map(|other| (next, other)));
        while let Some((digest, mut other)) = path.pop() {
            match other.inner.pop() {
                Some(child) => {
                    path.push((digest, other));
                    path.extend(others.remove(&child).map(|other| (child, other)));
                }
                None => ordered.push((digest, other.bytes)),
            }
        }
    }
    ordered
}
