//! Dropping changes of a live runtime.

use std::collections::HashSet;

use spfs_model::{Change, ChangeKind, Digest, MergedTree, NodeKind};
use spfs_vfs::ResetReport;
use spfs_vfs::api::Error;

use super::layers::NoContent;
use super::stack::LiveStack;
use super::{Kernel, LiveError, LiveRuntime, State};
use crate::backend::Capability;
use crate::control::ResetOptions;
use crate::error::RuntimeError;
use crate::mount_points;
use crate::patterns::Patterns;
use crate::record::push_on_top;

/// How often a reset begins anew because what it was to drop has gone meanwhile.
const ATTEMPTS: usize = 10;

impl LiveRuntime {
    /// Drops changes, or all of them and the stack as well; returns the number of paths that are
    /// as in the layers again.
    pub fn reset(&self, options: &ResetOptions, kernel: &dyn Kernel) -> Result<u64, LiveError> {
        self.backend.require(Capability::Edit)?;
        let patterns = Patterns::parse(&options.patterns)?;
        let mut state = self.begin_change()?;
        // Before, not after: old pages must not be written into files that have been reset.
        self.write_back(kernel)?;
        let editable = self.view.is_editable();
        self.set_view_editable(true)?;
        let report = match &options.stack {
            Some(stack) => self.restack(&mut state, stack),
            None => self.reset_paths(&state, &patterns, kernel),
        };
        // Even when it failed half-way.
        self.set_view_editable(editable)?;
        let report = report?;
        kernel.invalidate(report.invalidate).map_err(|source| LiveError::Kernel {
            doing: "make the kernel forget what was reset in",
            name: self.name.clone(),
            source,
        })?;
        kernel.show_live(!editable).map_err(|source| LiveError::Kernel {
            doing: "show the live layers again in",
            name: self.name.clone(),
            source,
        })?;
        match report.failed {
            Some(source) => Err(self.view_failed("reset", source)),
            None => Ok(report.restored as u64),
        }
    }

    fn reset_paths(
        &self,
        state: &State,
        patterns: &Patterns,
        kernel: &dyn Kernel,
    ) -> Result<ResetReport, LiveError> {
        let mut done = ResetReport::default();
        for attempt in 1.. {
            let paths = if patterns.is_empty() {
                vec![Vec::new()]
            } else {
                meant(&self.changes(state, &NoContent)?, patterns)
            };
            if paths.is_empty() {
                break;
            }
            let stack = state.stack.as_stack();
            let offers = self.view.offer_in_place(&paths, &stack);
            let settled = match offers.files() {
                [] => HashSet::new(),
                files => kernel.give_back(files),
            };
            let given_back = offers.end(&settled);
            let failed = match self.view.reset_rest(&paths, &stack, &given_back) {
                Ok(report) => {
                    done.restored += report.restored;
                    done.invalidate.extend(report.invalidate);
                    report.failed
                }
                Err(error) => Some(error),
            };
            if !matches!(failed, Some(Error::NotFound)) || attempt == ATTEMPTS {
                // The kernel is told what was done in any case.
                done.failed = failed;
                break;
            }
        }
        Ok(done)
    }

    fn restack(&self, state: &mut State, stack: &[Digest]) -> Result<ResetReport, LiveError> {
        let layers = |source| LiveError::Layers { name: self.name.clone(), source };
        let mut base = self.sources.merge(stack).map_err(layers)?;
        let mut stack = stack.to_vec();
        let mount_points = self.mount_points_on(state, &base)?;
        if let Some(layer) = mount_points {
            push_on_top(&mut stack, layer);
            base = self.sources.merge(&stack).map_err(layers)?;
        }
        let report = self
            .view
            .restack(&stack, std::sync::Arc::clone(&base))
            .map_err(|source| self.view_failed("change the layers of", source))?;
        state.stack = LiveStack::new(stack.clone(), base);
        state.unstored.clear();
        // Journal before record: the next start finds the stack there and mends the record.
        let noted = self.update(state, |record| {
            record.set_stack(&stack);
            record.config.mount_points = mount_points;
        });
        // The view has changed: whoever looks at it must see that all the same.
        if let Err(error) = noted {
            tracing::warn!(%error, "the record of the runtime {} is mended by the next start", self.name);
        }
        Ok(report)
    }

    /// The layer with the mount points of the live layers, if there are any, on other layers.
    fn mount_points_on(
        &self,
        state: &State,
        lower: &MergedTree,
    ) -> Result<Option<Digest>, LiveError> {
        let live = state.record.live_layers().map_err(RuntimeError::from)?;
        if live.is_empty() {
            return Ok(None);
        }
        let repository = &**self.runtimes.repository();
        let shown = state.record.config.live_shown;
        let written = mount_points::write(repository, lower, &live, shown);
        let failed = |source| RuntimeError::LiveLayers { name: self.name.to_string(), source };
        Ok(Some(written.map_err(failed)?))
    }
}

/// The changed paths that the patterns mean, but for those inside another one of them.
fn meant(changes: &[Change], patterns: &Patterns) -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for change in changes {
        let shown = match &change.kind {
            ChangeKind::Added(shown) | ChangeKind::Removed(shown) => shown,
            ChangeKind::Changed { after, .. } => after,
        };
        let inside = paths.last().is_some_and(|last| {
            change.path.strip_prefix(last.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        });
        if !inside && patterns.matches(&change.path, shown.kind == NodeKind::Directory) {
            paths.push(change.path.clone());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use spfs_model::Shown;

    fn change(path: &str, kind: NodeKind) -> Change {
        let shown = Shown { kind, mode: 0, size: 0, object: Digest::NULL };
        Change { path: path.as_bytes().to_vec(), kind: ChangeKind::Removed(shown) }
    }

    #[test]
    fn what_is_inside_a_meant_directory_is_not_named_again() {
        let changes = [
            change("a", NodeKind::Directory),
            change("a/x.o", NodeKind::File),
            change("a-b.o", NodeKind::File),
            change("b", NodeKind::Directory),
            change("b/y.o", NodeKind::File),
            change("b/z.c", NodeKind::File),
        ];
        let patterns = Patterns::parse(&["a".to_owned(), "*.o".to_owned()]).unwrap();
        let expected: Vec<Vec<u8>> = ["a", "a-b.o", "b/y.o"].map(|p| p.as_bytes().to_vec()).into();
        assert_eq!(meant(&changes, &patterns), expected);
    }
}
