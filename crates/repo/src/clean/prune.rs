//! Which versions of tags are not needed any more.

use std::collections::HashMap;

use jiff::Timestamp;
use spfs_model::{Digest, Tag, TagName};

use super::CleanReport;
use crate::Result;
use crate::repository::AnyRepository;
use crate::traits::TagNamespace;

/// The folder of tags that are the records of runtimes; what a runtime uses is never pruned.
const RUNTIMES: &str = "spfs/runtimes/";

/// Which versions of tags are removed. A version goes when one of the first three says so, unless
/// one of the last two keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Versions from before this time go.
    pub if_older_than: Option<Timestamp>,
    /// Versions with a higher number go; the newest has the number 0.
    pub if_version_more_than: Option<u64>,
    /// Of the versions with one target only so many newest stay.
    pub repeated_keep: Option<u64>,
    /// Versions from after this time stay.
    pub keep_if_newer_than: Option<Timestamp>,
    /// Versions with a lower number stay.
    pub keep_if_version_less_than: Option<u64>,
    /// Whether tags in namespaces are pruned as well.
    pub all_namespaces: bool,
}

impl PruneOptions {
    /// Whether a version goes; `repeats` newer ones have the same target.
    fn says(&self, record: &Tag, version: u64, repeats: u64) -> bool {
        let keep = self.keep_if_newer_than.is_some_and(|time| record.time > time)
            || self.keep_if_version_less_than.is_some_and(|limit| version < limit);
        let go = self.if_older_than.is_some_and(|time| record.time < time)
            || self.if_version_more_than.is_some_and(|limit| version > limit)
            || self.repeated_keep.is_some_and(|limit| repeats >= limit.max(1));
        go && !keep
    }
}

/// A version of a tag that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedTag {
    /// Its namespace.
    pub namespace: Option<TagNamespace>,
    /// The tag.
    pub tag: TagName,
    /// The number that the version had.
    pub version: u64,
    /// The record.
    pub record: Tag,
}

/// Finds the versions that go, and returns the targets of those that stay as well.
pub(super) fn plan(
    repository: &dyn AnyRepository,
    rules: &PruneOptions,
    report: &mut CleanReport,
) -> Result<(Vec<Digest>, Vec<PrunedTag>)> {
    let (mut roots, mut going) = (Vec::new(), Vec::new());
    let namespaces = repository.namespaces()?;
    for namespace in std::iter::once(None).chain(namespaces.iter().map(Some)) {
        let tags = repository.tags_in(namespace);
        let is_pruned = namespace.is_none() || rules.all_namespaces;
        for tag in tags.names()? {
            let rules = (is_pruned && !is_runtime(namespace, &tag)).then_some(rules);
            let stream = tags.stream(&tag)?;
            report.tags += stream.tags().len() as u64;
            let mut repeats: HashMap<Digest, u64> = HashMap::new();
            for (version, record) in (0..).zip(stream.tags().iter().rev()) {
                let repeats = repeats.entry(record.target).or_default();
                if rules.is_some_and(|rules| rules.says(record, version, *repeats)) {
                    let (namespace, tag) = (namespace.cloned(), tag.clone());
                    going.push(PrunedTag { namespace, tag, version, record: record.clone() });
                } else {
                    roots.push(record.target);
                }
                *repeats += 1;
            }
        }
    }
    Ok((roots, going))
}

/// Removes versions, and returns the targets of those that could not be removed.
pub(super) fn apply(
    repository: &dyn AnyRepository,
    going: Vec<PrunedTag>,
    dry_run: bool,
    report: &mut CleanReport,
) -> Vec<Digest> {
    let mut stayed = Vec::new();
    for pruned in going {
        let tags = repository.tags_in(pruned.namespace.as_ref());
        if !dry_run && let Err(error) = tags.remove_version(&pruned.tag, &pruned.record) {
            report.failed.push(error);
            stayed.push(pruned.record.target);
            continue;
        }
        report.pruned.push(pruned);
    }
    stayed
}

fn is_runtime(namespace: Option<&TagNamespace>, tag: &TagName) -> bool {
    let path = || tag.components().collect::<Vec<_>>().join("/");
    namespace.is_none() && path().starts_with(RUNTIMES)
}
