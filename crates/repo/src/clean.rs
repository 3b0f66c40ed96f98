//! Removes what no tag leads to.
//!
//! Others may be committing while this runs. What they need is protected in two ways. Whatever is
//! younger than [`CleanOptions::keep_for`] stays, with everything that it leads to; and whoever
//! finds an old blob to be there already renews its time before relying on it, while every removal
//! looks at the time again. Parents are removed before their children, so that a crash leaves
//! nothing that leads to something missing.

mod prune;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rayon::prelude::*;
use spfs_model::{Digest, Header, ObjectKind};

use crate::render::CleanedRenders;
use crate::repository::{AnyRepository, Found};
use crate::walk::{children, walk};
use crate::{RepoError, Result};
pub use prune::{PruneOptions, PrunedTag};

/// What is younger stays: a commit may be about to refer to it. Upstream has the same limit.
pub const KEEP_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Work files are left alone for so long; a very large file may take hours.
const KEEP_WORK_FOR: SignedDuration = SignedDuration::from_hours(24);

/// How a repository is cleaned.
#[derive(Debug, Clone)]
pub struct CleanOptions {
    /// The time that ages are counted from.
    pub now: Timestamp,
    /// What is younger stays.
    pub keep_for: SignedDuration,
    /// Which versions of tags are removed first.
    pub prune: PruneOptions,
    /// What stays besides that which tags lead to.
    pub protect: Vec<Digest>,
    /// Whether files for links in renders stay although nothing links to them.
    pub keep_proxies: bool,
    /// Whether nothing is removed, only reported.
    pub dry_run: bool,
}

impl CleanOptions {
    /// Removes what is old and not needed, and no tags.
    pub fn new(now: Timestamp) -> Self {
        let (prune, protect) = (PruneOptions::default(), Vec::new());
        let keep_for = KEEP_FOR;
        Self { now, keep_for, prune, protect, keep_proxies: false, dry_run: false }
    }
}

/// What a cleaning removed, or would remove.
#[derive(Debug, Default)]
pub struct CleanReport {
    /// Records of tags that were looked at.
    pub tags: u64,
    /// Those that were removed.
    pub pruned: Vec<PrunedTag>,
    /// Objects that are or were there.
    pub objects: u64,
    /// Those that were removed.
    pub objects_removed: u64,
    /// Payloads that are or were there.
    pub payloads: u64,
    /// Those that were removed.
    pub payloads_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// What was found among renders.
    pub renders: CleanedRenders,
    /// Work files that were left behind by somebody and removed.
    pub leftovers_removed: u64,
    /// What could not be removed.
    pub failed: Vec<RepoError>,
}

/// Removes what no tag leads to.
///
/// A tag or object that cannot be read is an error, and nothing is removed: what it leads to is not
/// known.
pub fn clean(repository: &dyn AnyRepository, options: &CleanOptions) -> Result<CleanReport> {
    let mut report = CleanReport::default();
    let (mut roots, pruned) = prune::plan(repository, &options.prune, &mut report)?;
    roots.extend(&options.protect);
    let mut clean = Clean { repository, options, kept: HashSet::new() };
    clean.kept = clean.reachable(roots)?;
    let stayed = prune::apply(repository, pruned, options.dry_run, &mut report);
    let needed = clean.reachable(stayed)?;
    clean.kept.extend(needed);
    clean.run(report)
}

struct Clean<'a> {
    repository: &'a dyn AnyRepository,
    options: &'a CleanOptions,
    /// Objects that stay, and payloads with them.
    kept: HashSet<Digest>,
}

impl Clean<'_> {
    fn run(mut self, mut report: CleanReport) -> Result<CleanReport> {
        let objects = self.repository.objects().iterate(None)?.collect::<Result<Vec<_>>>()?;
        report.objects = objects.len() as u64;
        let loose = self.kept_out(&objects);
        let young = loose.par_iter().filter_map(|digest| self.is_young_object(digest).transpose());
        let young = young.collect::<Result<Vec<_>>>()?;
        let by_young = self.reachable(young)?;
        self.kept.extend(by_young);
        let removed = self.remove_objects(&self.kept_out(&loose), &mut report)?;
        self.remove_payloads(&removed, &mut report)?;
        let is_gone = |digest: &Digest| {
            Ok(removed.contains(digest) || !self.repository.objects().has(digest)?)
        };
        let (keep, dry) = (self.options.keep_proxies, self.options.dry_run);
        match self.repository.clean_renders(&is_gone, keep, dry) {
            Ok(renders) => report.renders = renders,
            Err(error) => report.failed.push(error),
        }
        if !self.options.dry_run {
            let before = self.options.now.saturating_sub(KEEP_WORK_FOR);
            let before = before.unwrap_or(Timestamp::MIN);
            match self.repository.remove_leftovers(before) {
                Ok(removed) => report.leftovers_removed = removed,
                Err(error) => report.failed.push(error),
            }
        }
        Ok(report)
    }

    /// Everything that these lead to, blobs included.
    fn reachable(&self, roots: Vec<Digest>) -> Result<HashSet<Digest>> {
        let blobs = Mutex::new(HashSet::new());
        let mut all = walk(roots, |digest| {
            let object = match self.repository.objects().read(digest) {
                Ok((_, object)) => object,
                // Nothing can be done for it here, and it must not keep everything else.
                Err(RepoError::UnknownObject { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let children = children(&object);
            blobs.lock().extend(children.blobs);
            Ok(children.inner)
        })?;
        all.extend(blobs.into_inner());
        Ok(all)
    }

    fn kept_out(&self, digests: &[Digest]) -> Vec<Digest> {
        digests.iter().filter(|digest| !self.kept.contains(digest)).copied().collect()
    }

    fn is_young(&self, found: &Found) -> bool {
        self.options.now.duration_since(found.modified) < self.options.keep_for
    }

    fn is_young_object(&self, digest: &Digest) -> Result<Option<Digest>> {
        let found = self.repository.objects().find(digest)?;
        Ok(found.is_some_and(|found| self.is_young(&found)).then_some(*digest))
    }

    /// Removes objects, those that refer to others first.
    fn remove_objects(
        &self,
        loose: &[Digest],
        report: &mut CleanReport,
    ) -> Result<HashSet<Digest>> {
        let objects = self.repository.objects();
        let kind = |digest: &Digest| {
            let header =
                objects.read_raw(digest).ok().and_then(|bytes| Header::decode(&bytes).ok());
            // what cannot be read refers to nothing
            (header.map_or(ObjectKind::Blob, |header| header.kind), *digest)
        };
        let kinds: Vec<(ObjectKind, Digest)> = loose.par_iter().map(kind).collect();
        let mut removed = HashSet::new();
        let order =
            [ObjectKind::Platform, ObjectKind::Layer, ObjectKind::Manifest, ObjectKind::Blob];
        for wanted in order {
            let these = kinds.par_iter().filter(|(kind, _)| *kind == wanted);
            let done = these.map(|(_, digest)| (*digest, self.remove_object(digest)));
            for (digest, outcome) in done.collect::<Vec<_>>() {
                match outcome {
                    Ok(true) => {
                        removed.insert(digest);
                    }
                    Ok(false) => {}
                    Err(error) => report.failed.push(error),
                }
            }
        }
        report.objects_removed = removed.len() as u64;
        Ok(removed)
    }

    /// Removes an object that has not become young meanwhile.
    fn remove_object(&self, digest: &Digest) -> Result<bool> {
        if self.is_young_object(digest)?.is_some() {
            return Ok(false);
        }
        if self.options.dry_run {
            return Ok(true);
        }
        self.repository.objects().remove(digest)
    }

    /// Removes payloads without a blob. A blob that stayed for whatever reason keeps its payload.
    fn remove_payloads(&self, removed: &HashSet<Digest>, report: &mut CleanReport) -> Result<()> {
        let payloads = self.repository.payloads();
        let all = payloads.iterate()?.collect::<Result<Vec<_>>>()?;
        report.payloads = all.len() as u64;
        let (count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let outcomes = self.kept_out(&all).into_par_iter().map(|digest| {
            let Some(found) = payloads.find(&digest)? else { return Ok(()) };
            let has_blob = !removed.contains(&digest) && self.repository.objects().has(&digest)?;
            if has_blob || self.is_young(&found) {
                return Ok(());
            }
            if self.options.dry_run || payloads.remove(&digest)? {
                count.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(found.size, Ordering::Relaxed);
            }
            Ok(())
        });
        let outcomes: Vec<Result<()>> = outcomes.collect();
        report.failed.extend(outcomes.into_iter().filter_map(Result::err));
        report.payloads_removed = count.into_inner();
        report.bytes_removed = bytes.into_inner();
        Ok(())
    }
}
