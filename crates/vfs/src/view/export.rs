//! Saving what can be saved of a scratch area whose journal is damaged.

use std::path::Path;
use std::sync::Arc;

use spfs_model::MergedTree;

use crate::api::Ino;
use crate::lower::Lower;
use crate::namespace::Namespace;
use crate::scratch::{DirScratch, Scratch};
use crate::store::{Payloads, Store, Upper};

use super::open::{OpenError, StackIdentity, UpperFiles, first_number, read_undamaged, stack_of};
use super::replay::replay_readable;
use super::{Stack, View, ViewOptions};

impl View {
    /// Tells which layers the scratch area in `dir` stands on, as far as its journal can be read;
    /// [`View::salvage`] must be given the merged tree of exactly these base layers.
    pub fn salvageable_stack(dir: &Path) -> Result<StackIdentity, OpenError> {
        let path = dir.join("journal");
        let contents = read_undamaged(&path)?;
        stack_of(contents.records).ok_or_else(|| OpenError::Contradiction {
            path,
            number: 0,
            reason: "the first record is no header".to_owned(),
        })
    }

    /// Opens what can still be read of the scratch area in `dir`: all changes before the first
    /// damaged record. Nothing on the disk is changed, and the view cannot be changed either.
    pub fn salvage(
        dir: &Path,
        lower: Arc<MergedTree>,
        payloads: Arc<dyn Payloads>,
        options: ViewOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let files = UpperFiles::in_dir(dir)?;
        let contents = read_undamaged(&files.journal)?;
        let lower = Lower::new(lower, first_number(&contents.records));
        let namespace = Namespace::new(lower, options.defaults());
        let replayed = replay_readable(&files, namespace, contents.records)?;
        let io = |source| OpenError::Io { doing: "open", path: dir.to_owned(), source };
        let scratch: Arc<dyn Scratch> =
            Arc::new(DirScratch::open(&dir.join("scratch")).map_err(io)?);
        // Records would go nowhere; there are none, because the view is not editable.
        let null = std::fs::File::open("/dev/null").map_err(io)?;
        let journal = crate::journal::Journal::new(null, files.log, 0, 0);
        let upper = Upper::new(scratch, journal, replayed.next_scratch);
        let store = Store::new(payloads, Some(upper));
        let stack = Stack::default();
        let view = Self::assemble(replayed.namespace, store, options.clock, None, stack);
        view.editable.store(false, crate::sync::atomic::Ordering::Relaxed);
        debug_assert!(view.namespace.read().type_of(Ino::ROOT).is_ok());
        Ok(Arc::new(view))
    }
}
