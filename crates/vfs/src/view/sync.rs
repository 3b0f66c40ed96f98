//! Durability: what fsync, the periodic sync and the end of a view do.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{Error, Result};
use crate::cell::FileCell;
use crate::store::Upper;
use crate::sync::atomic::Ordering;

use super::View;
use super::replacing::JournalSync;

/// From this number of files on one syncfs is cheaper than a sync of each.
const SYNC_ONE_BY_ONE_MAX: usize = 16;

/// How much a power loss may take of what nobody synced.
pub const SYNC_PERIOD: Duration = Duration::from_secs(5);

impl View {
    /// Makes one file durable: bytes, attributes and names.
    pub(super) fn sync_file(&self, cell: &Arc<FileCell>) -> Result<()> {
        let Ok(upper) = self.store.upper() else {
            return Ok(());
        };
        if self.namespace.read().require_current(cell.ino).is_err() {
            // Of a former stack: no start will know it.
            return Ok(());
        }
        if cell.has_nothing_older() {
            let sync = self.replacing.begin_sync();
            if sync.all_safe() {
                return self.sync_new_file(cell, upper, sync);
            }
        }
        // Whether the cell is in `unsynced` or not: another sync may have taken it and not be done. It
        // stays there, so that a compaction, which says what is durable, waits for this in turn.
        self.sync_content(cell, upper)?;
        self.sync_journal(upper)
    }

    /// The same for a file whose bytes and names may become durable in any order, since there is nothing
    /// older to fall back to. The journal is on its way while the bytes are synced: one commit of the
    /// volume's own journal then holds both, instead of one each.
    fn sync_new_file(
        &self,
        cell: &Arc<FileCell>,
        upper: &Upper,
        sync: JournalSync<'_>,
    ) -> Result<()> {
        let recorded = upper.journal.needed();
        upper.journal.begin_sync()?;
        self.sync_content(cell, upper)?;
        upper.journal.sync_to(recorded)?;
        sync.done();
        upper.journal.flush()
    }

    /// Makes the bytes of one file durable; that they count is recorded.
    pub(super) fn sync_content(&self, cell: &Arc<FileCell>, upper: &Upper) -> Result<()> {
        cell.sync_data(upper).inspect_err(|_| self.needs_sync(cell))
    }

    /// Makes everything durable.
    pub(super) fn sync_all(&self) -> Result<()> {
        let Ok(upper) = self.store.upper() else {
            return Ok(());
        };
        let _syncing = self.syncing.lock();
        let taken = std::mem::take(&mut *self.unsynced.lock());
        let cells = taken.into_values().filter(|cell| cell.has_to_sync()).collect();
        let contents = self.sync_cells(upper, cells);
        // A file that cannot be written is no reason for the others not to be safe.
        let names = self.sync_journal(upper);
        contents.and(names)
    }

    fn sync_cells(&self, upper: &Upper, mut cells: Vec<Arc<FileCell>>) -> Result<()> {
        if cells.len() > SYNC_ONE_BY_ONE_MAX {
            match sync_volume(upper, &cells) {
                Ok(left) => cells = left,
                Err(error) => {
                    tracing::warn!(%error, "syncing one file at a time");
                    cells.iter().for_each(|cell| cell.needs_sync());
                }
            }
        }
        let mut failed = None;
        for cell in &cells {
            if let Err(error) = self.sync_content(cell, upper) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Syncs once; returns whether there was anything to sync. Called every [`SYNC_PERIOD`].
    pub fn sync_if_changed(&self) -> Result<bool> {
        let Ok(upper) = self.store.upper() else {
            return Ok(false);
        };
        let idle = self.unsynced.lock().is_empty() && !upper.journal.is_behind();
        // A file that was removed while somebody had it open is doomed long after its name is gone.
        if self.closed.load(Ordering::Relaxed) || (idle && !upper.has_doomed()) {
            return Ok(false);
        }
        self.sync_all()?;
        Ok(!idle)
    }
}

/// Returns the cells that have to be synced alone after this.
fn sync_volume(upper: &Upper, cells: &[Arc<FileCell>]) -> Result<Vec<Arc<FileCell>>> {
    // What is written to a cell between these two lines is in `unsynced` again.
    let sources: Vec<_> = cells.iter().map(|cell| cell.begin_sync(upper)).collect::<Result<_>>()?;
    upper.scratch.sync(true).map_err(|e| Error::scratch("sync the volume", e))?;
    let ended = cells.iter().zip(sources);
    Ok(ended
        .filter(|(cell, synced)| !cell.end_sync(upper, *synced))
        .map(|(cell, _)| Arc::clone(cell))
        .collect())
}
