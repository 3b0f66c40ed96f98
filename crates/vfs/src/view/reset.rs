//! Giving changes up: paths go back to what the layers have, while the view lives.
//!
//! Whoever calls first lets the kernel write back what it holds (its old pages would otherwise be
//! written into reset files), and afterwards tells it what [`ResetReport`] lists.

use std::collections::HashMap;
use std::sync::Arc;

use spfs_model::{Digest, MergedTree, NameBuf};

use crate::api::{Cookie, Error, Ino, Result};
use crate::cell::FileCell;
use crate::journal::Record;
use crate::namespace::Namespace;
use crate::store::Upper;

use super::open::boot_id;
use super::{Stack, View};

mod in_place;
mod walk;

pub(super) use in_place::Offered;
pub use in_place::{GivenBack, Offer, Offers, WHOLE_FILE};
use walk::{Done, Reset};

/// What the kernel must forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// Pages and attributes of an inode.
    Inode(Ino),
    /// A name that leads elsewhere now, or that was missing before.
    Entry {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: NameBuf,
    },
    /// A name that is gone.
    Removed {
        /// The directory.
        dir: Ino,
        /// What the name led to.
        child: Ino,
        /// The name.
        name: NameBuf,
    },
}

/// What a reset did.
#[derive(Debug, Default)]
pub struct ResetReport {
    /// Paths that differed from the layers and do so no more.
    pub restored: usize,
    /// What the kernel must forget.
    pub invalidate: Vec<Invalidation>,
    /// How many names and inodes were looked at, the measure of what it cost: at most a few for
    /// each one that is touched, and for each name in a directory that has one below.
    pub steps: usize,
    /// What stopped it half-way, or [`Error::NotFound`] for paths that neither the view nor the
    /// layers have. All else that is said here is so nevertheless.
    pub failed: Option<Error>,
}

impl ResetReport {
    /// Whether there is nothing to say but a failure.
    fn is_empty(&self) -> bool {
        self.restored == 0 && self.invalidate.is_empty()
    }
}

impl View {
    /// Puts paths back to what `stack` has: the current one, that is the base and what was committed
    /// on it. Paths are relative to the root; the empty path means everything.
    pub fn reset(&self, paths: &[Vec<u8>], stack: &spfs_model::Stack<'_>) -> Result<ResetReport> {
        self.reset_rest(paths, stack, &GivenBack::default())
    }

    /// As [`View::reset`], after files have been given their content back ([`Offers::end`]).
    ///
    /// # Errors
    /// When nothing has changed; a failure after something has is in the report.
    pub fn reset_rest(
        &self,
        paths: &[Vec<u8>],
        stack: &spfs_model::Stack<'_>,
        given_back: &GivenBack,
    ) -> Result<ResetReport> {
        let upper = self.require_editable()?;
        let _changing = self.changing.lock();
        let recording = self.recording.read();
        let now = self.clock.now();
        let Done { mut report, orphans, obsolete, .. } = {
            let mut namespace = self.namespace.write();
            let everything = paths.iter().any(Vec::is_empty);
            let mut reset = Reset::new(&mut namespace, upper, stack, now, given_back);
            let failed = reset.paths(paths);
            let mut done = reset.end();
            done.report.failed = failed.err();
            if everything && done.report.failed.is_none() {
                let generation = namespace.seal();
                upper.record(&Record::Sealed { generation });
                // Nothing differs from the stack any more.
                namespace.committed(generation);
                upper.record(&Record::Unchanged { generation });
                // But for what was written since it had been given back.
                for ino in &done.rewritten {
                    namespace.mark(*ino)?;
                    upper.record(&Record::Changed { ino: ino.0 });
                }
            }
            done
        };
        if let Err(error) = upper.journal.flush() {
            report.failed.get_or_insert(error);
        }
        drop(recording);
        for id in obsolete {
            upper.remove(id);
        }
        for ino in orphans {
            self.reap(ino);
        }
        match report.failed.take() {
            Some(error) if report.is_empty() => Err(error),
            failed => Ok(ResetReport { failed, ..report }),
        }
    }

    /// Stands on another stack from now on, without any change. Everything that is open goes on
    /// showing the old one.
    pub fn restack(&self, base: &[Digest], tree: Arc<MergedTree>) -> Result<ResetReport> {
        let upper = self.require_editable()?;
        let mut stack = self.changing.lock();
        let _recording = self.recording.write();
        let mut report = ResetReport::default();
        let after =
            Stack { base: base.to_vec(), base_len: tree.len() as u64, committed: Vec::new() };
        let records = {
            let namespace = self.namespace.read();
            list_root(&namespace, &mut report)?;
            begin_anew(&namespace, &after, upper)
        };
        // First what may fail: until then everything is as it was, and who only looks goes on.
        if let Some(dir) = &self.dir {
            upper.journal.replace(&dir.join("journal"), &records)?;
        }
        let mut namespace = self.namespace.write();
        let former: HashMap<Ino, Arc<FileCell>> =
            namespace.touched_files().map(|cell| (cell.ino, Arc::clone(cell))).collect();
        namespace.exchange_lower(tree, self.pins.oldest());
        *stack = after;
        self.unsynced.lock().clear();
        self.replacing.clear();
        list_root(&namespace, &mut report)?;
        report.invalidate.push(Invalidation::Inode(Ino::ROOT));
        drop(namespace);
        // What somebody holds can be read as long as that is so.
        let inodes: Vec<Ino> = former.keys().copied().collect();
        self.former.lock().extend(former);
        for ino in inodes.into_iter().filter(|ino| !self.pins.is_pinned(*ino)) {
            self.forget_former(ino);
        }
        report.restored = report.invalidate.len();
        Ok(report)
    }
}

/// The journal of a view that stands on another stack and has no changes; the numbers of that stack are
/// the next ones ([`Namespace::exchange_lower`]).
fn begin_anew(namespace: &Namespace, stack: &Stack, upper: &Upper) -> Vec<Record> {
    let (generation, _) = namespace.generations();
    let first = namespace.next();
    vec![
        Record::Header(stack.header(first)),
        Record::Opened { boot: boot_id() },
        Record::Counters {
            next_ino: first + stack.base_len,
            next_scratch: upper.next_id(),
            generation: generation + 1,
            committed: generation,
        },
    ]
}

fn list_root(namespace: &Namespace, report: &mut ResetReport) -> Result<()> {
    namespace.read_directory(Ino::ROOT, Cookie::START, &mut |entry| {
        let name = NameBuf::from(entry.name);
        report.invalidate.push(Invalidation::Entry { dir: Ino::ROOT, name });
        std::ops::ControlFlow::Continue(())
    })
}
