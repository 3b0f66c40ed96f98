//! Files that took the place of others.
//!
//! Programs save a file by writing another one and renaming it over the first, and many do not sync
//! it. When the journal becomes durable for some other file's sake, what was there is gone; if the
//! bytes of the new file were not on the disk by then, a power loss would leave neither. So these bytes
//! are made durable before the journal (ext4 does the same: auto_da_alloc). A file that is written anew
//! from its beginning needs no such care: what it held stays until its new content is safe (`Content::fallback`).

use std::collections::HashMap;
use std::sync::Arc;

use spfs_model::Name;

use crate::api::{FileType, Ino, Replace, Result};
use crate::cell::FileCell;
use crate::namespace::Namespace;
use crate::store::Upper;
use crate::sync::{Mutex, rank};

use super::View;

/// How often a rename makes bytes safe that a sync under way does not cover. More would need somebody who
/// writes to the file again each time.
pub(super) const LATE_MAX: u32 = 4;

/// Files that took the place of others since the journal was synced last.
#[derive(Debug, Default)]
pub(super) struct Replacing(Mutex<Files, { rank::TABLE }>);

#[derive(Debug, Default)]
struct Files {
    cells: HashMap<Ino, (u64, Arc<FileCell>)>,
    /// Counts what was added, so that what is added during a sync stays for the next.
    added: u64,
    /// Syncs of the journal that are under way. Each may take records with it that were made after it
    /// had begun.
    syncs: u32,
}

/// A sync of the journal, from the moment when it knows whose bytes go first.
#[derive(Debug)]
pub(super) struct JournalSync<'a> {
    replacing: &'a Replacing,
    /// Files whose bytes go first.
    pub(super) cells: Vec<Arc<FileCell>>,
    /// The number of the last of them.
    last: u64,
}

impl Replacing {
    /// Adds a file, before the record that gives up what was in its place. `false`: a sync that is under way
    /// may make that record durable and not the bytes, which must be safe first. Waits for nobody: it is
    /// called with the names locked.
    pub(super) fn add(&self, cell: &Arc<FileCell>) -> bool {
        let mut files = self.0.lock();
        files.added += 1;
        let added = files.added;
        files.cells.insert(cell.ino, (added, Arc::clone(cell)));
        let undisturbed = files.syncs == 0;
        drop(files);
        undisturbed || !cell.may_have_unsafe_bytes()
    }

    /// There is another journal, which knows none of them.
    pub(super) fn clear(&self) {
        self.0.lock().cells.clear();
    }

    /// Begins a sync of the journal.
    pub(super) fn begin_sync(&self) -> JournalSync<'_> {
        let mut files = self.0.lock();
        files.syncs += 1;
        let cells = files.cells.values().map(|(_, cell)| Arc::clone(cell)).collect();
        JournalSync { replacing: self, cells, last: files.added }
    }
}

impl JournalSync<'_> {
    /// The bytes of all files that go first are safe already.
    pub(super) fn all_safe(&self) -> bool {
        self.cells.iter().all(|cell| !cell.has_unsafe_bytes())
    }

    /// The journal is durable.
    pub(super) fn done(self) {
        self.replacing.0.lock().cells.retain(|_, (added, _)| *added > self.last);
    }
}

impl Drop for JournalSync<'_> {
    fn drop(&mut self) {
        self.replacing.0.lock().syncs -= 1;
    }
}

/// The file that is about to take the place of another one.
pub(super) fn replacing_file(
    namespace: &Namespace,
    from: (Ino, Name<'_>),
    to: (Ino, Name<'_>),
    replace: Replace,
) -> Result<Option<Arc<FileCell>>> {
    let Some((ino, FileType::Regular)) = namespace.find(from.0, from.1)? else { return Ok(None) };
    match namespace.find(to.0, to.1) {
        Ok(Some((other, _))) if replace == Replace::Allow && other != ino => {
            namespace.cell(ino).map(Some)
        }
        _ => Ok(None),
    }
}

impl View {
    /// Makes the journal durable, and before it the bytes of files that took the place of others.
    /// Who comes while another is at it does the same: nobody returns before these bytes are safe.
    pub(super) fn sync_journal(&self, upper: &Upper) -> Result<()> {
        // In this order: what is given up for a file that comes in between stays until the next sync.
        let doomed = upper.take_doomed();
        let sync = self.replacing.begin_sync();
        let synced = sync
            .cells
            .iter()
            // A kernel dates them once more when they are renamed: that may be lost.
            .filter(|cell| cell.has_unsafe_bytes())
            .try_for_each(|cell| self.sync_content(cell, upper))
            .and_then(|()| upper.sync_journal());
        match synced {
            Ok(()) => {
                sync.done();
                upper.release(doomed);
                Ok(())
            }
            Err(error) => {
                upper.doom(doomed);
                Err(error)
            }
        }
    }
}
