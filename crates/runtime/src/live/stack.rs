//! The layers a live view stands on.

use std::fs;
use std::io;
use std::sync::Arc;

use spfs_model::{Digest, Manifest, MergedTree, Stack};
use spfs_repo::{LiveLayer, RepoError};
use spfs_vfs::api::Owner;
use spfs_vfs::{View, ViewOptions};

use super::LiveError;
use super::sources::Sources;
use crate::backend::MountBackend;
use crate::folder::RuntimeFolder;
use crate::mount_points::{self, MountPointError};
use crate::name::RuntimeName;
use crate::record::{RuntimeRecord, push_on_top};
use crate::runtimes::Runtimes;

/// The layers a live view stands on.
///
/// The numbers of inodes are positions in the merged tree of the base, which is what the journal
/// began with; layers that were committed since stand above it.
#[derive(Debug)]
pub(super) struct LiveStack {
    /// The layers of the base, bottom first.
    pub(super) base_layers: Vec<Digest>,
    /// The base.
    pub(super) base: Arc<MergedTree>,
    /// The layers that were committed on it, bottom first.
    pub(super) committed: Vec<Digest>,
    above: Vec<Manifest>,
}

impl LiveStack {
    /// Loads what the journal of a runtime names, or what the record does when there is none.
    pub(super) fn load(
        name: &RuntimeName,
        folder: &RuntimeFolder,
        sources: &Sources,
        backend: MountBackend,
        record: &RuntimeRecord,
    ) -> Result<Self, LiveError> {
        let scratch = |source| LiveError::scratch(name, source);
        let recorded = match backend.supports_editable() {
            true => View::recorded_stack(folder.path()).map_err(scratch)?,
            false => None,
        };
        let (base_layers, committed) = match recorded {
            Some(recorded) => (recorded.base, recorded.committed),
            None => (record.stack(), Vec::new()),
        };
        Self::of(sources, base_layers, &committed)
            .map_err(|source| LiveError::Layers { name: name.clone(), source })
    }

    /// Loads these layers.
    pub(super) fn of(
        sources: &Sources,
        base_layers: Vec<Digest>,
        committed: &[Digest],
    ) -> Result<Self, RepoError> {
        let base = sources.merge(&base_layers)?;
        let above = sources.load(committed)?;
        Ok(Self { base_layers, base, committed: committed.to_vec(), above })
    }

    /// The stack of a view that has no changes.
    pub(super) fn new(base_layers: Vec<Digest>, base: Arc<MergedTree>) -> Self {
        Self { base_layers, base, committed: Vec::new(), above: Vec::new() }
    }

    /// Notes a committed layer.
    pub(super) fn push(&mut self, layer: Digest, manifest: Manifest) {
        self.committed.push(layer);
        self.above.push(manifest);
    }

    /// What changes are compared with.
    pub(super) fn as_stack(&self) -> Stack<'_> {
        Stack::on(&self.base, self.above.iter().collect())
    }

    /// Returns the recorded stack (bottom first) if it is one that this view shows, else the view's
    /// own.
    ///
    /// A commit saves the record before the journal, so the record may be one layer ahead: the
    /// changes in that layer are in scratch still, and the files are the same. A change of the
    /// whole stack saves the journal first: then the record is the one to mend.
    pub(super) fn shown_by(&self, recorded: &[Digest]) -> Vec<Digest> {
        let mut shown = self.base_layers.clone();
        self.committed.iter().for_each(|layer| push_on_top(&mut shown, *layer));
        let mut ahead = shown.clone();
        recorded.last().into_iter().for_each(|layer| push_on_top(&mut ahead, *layer));
        if recorded == ahead { ahead } else { shown }
    }
}

/// The number of changed inodes in the scratch area of a runtime that nothing serves; `None` when
/// that cannot be told. Nothing is changed.
pub(crate) fn changes_in(runtimes: &Runtimes, record: &RuntimeRecord) -> Option<u64> {
    let name: RuntimeName = record.name.parse().ok()?;
    let folder = runtimes.folder(&name);
    match fs::symlink_metadata(folder.path().join("journal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
        other => other.ok()?,
    };
    let sources = Arc::new(Sources::new(runtimes, Some(record)));
    let recorded = View::recorded_stack(folder.path()).ok()??;
    let base = sources.merge(&recorded.base).ok()?;
    let options = ViewOptions::new(Owner { uid: 0, gid: 0 });
    let view = View::salvage(folder.path(), base, sources, options).ok()?;
    Some(view.change_count() as u64)
}

/// Stores the layer with the mount points that `live` needs on the stack of a record.
pub(crate) fn mount_points_on(
    runtimes: &Runtimes,
    record: &RuntimeRecord,
    live: &[LiveLayer],
) -> Result<Digest, MountPointError> {
    let shown = record.config.live_shown;
    let lower = Sources::new(runtimes, Some(record)).merge(&record.stack())?;
    mount_points::write(&**runtimes.repository(), &lower, live, shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn stack(base: &[Digest], committed: &[Digest]) -> LiveStack {
        LiveStack {
            base_layers: base.to_vec(),
            base: Arc::new(MergedTree::empty()),
            committed: committed.to_vec(),
            above: Vec::new(),
        }
    }

    #[test]
    fn a_record_that_agrees_with_the_journal_is_kept() {
        let [a, b, c] = ["a", "b", "c"].map(layer);
        assert_eq!(stack(&[a, b], &[c]).shown_by(&[a, b, c]), [a, b, c]);
        assert_eq!(stack(&[a, b], &[a]).shown_by(&[b, a]), [b, a]);
    }

    #[test]
    fn a_record_may_be_one_committed_layer_ahead() {
        let [a, b, c] = ["a", "b", "c"].map(layer);
        assert_eq!(stack(&[a], &[b]).shown_by(&[a, b, c]), [a, b, c]);
    }

    #[test]
    fn another_stack_in_the_journal_wins() {
        let [a, b, c] = ["a", "b", "c"].map(layer);
        assert_eq!(stack(&[a], &[]).shown_by(&[a, b, c]), [a]);
        assert_eq!(stack(&[b], &[]).shown_by(&[a]), [b]);
        assert_eq!(stack(&[a, b], &[]).shown_by(&[]), [a, b]);
    }
}
