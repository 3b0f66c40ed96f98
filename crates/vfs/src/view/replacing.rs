//! Files that took the place of others, or of their own content.
//!
//! Programs save a file by writing another one and renaming it over the first, or by writing it anew
//! from its beginning, and many do not sync it. When the journal becomes durable for some other file's sake, what was there is
//! gone; if the bytes of the new file were not on the disk by then, a power loss would leave neither.
//! So these bytes are made durable before the journal (ext4 does the same: auto_da_alloc).

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::{Ino, Result};
use crate::cell::FileCell;
use crate::store::Upper;
use crate::sync::{Mutex, rank};

use super::View;

/// Files that took the place of others since the journal was synced last.
#[derive(Debug, Default)]
pub(super) struct Replacing(Mutex<Files, { rank::TABLE }>);

#[derive(Debug, Default)]
struct Files {
    cells: HashMap<Ino, (u64, Arc<FileCell>)>,
    /// Counts what was added, so that what is added during a sync stays for the next.
    added: u64,
}

impl Replacing {
    /// Adds a file, before the record of its new name.
    pub(super) fn add(&self, cell: Arc<FileCell>) {
        let mut files = self.0.lock();
        files.added += 1;
        let added = files.added;
        files.cells.insert(cell.ino, (added, cell));
    }

    /// The number of the last, if the bytes of all are safe.
    pub(super) fn all_safe(&self) -> Option<u64> {
        let (cells, last) = self.all();
        cells.iter().all(|cell| !cell.has_to_sync()).then_some(last)
    }

    /// The files and the number of the last.
    fn all(&self) -> (Vec<Arc<FileCell>>, u64) {
        let files = self.0.lock();
        (files.cells.values().map(|(_, cell)| Arc::clone(cell)).collect(), files.added)
    }

    pub(super) fn remove_up_to(&self, last: u64) {
        self.0.lock().cells.retain(|_, (added, _)| *added > last);
    }
}

impl View {
    /// Makes the journal durable, and before it the bytes of files that took the place of others.
    /// Who comes while another is at it does the same: nobody returns before these bytes are safe.
    pub(super) fn sync_journal(&self, upper: &Upper) -> Result<()> {
        let (cells, last) = self.replacing.all();
        for cell in cells {
            self.sync_content(&cell, upper)?;
        }
        upper.sync_journal()?;
        self.replacing.remove_up_to(last);
        Ok(())
    }
}
