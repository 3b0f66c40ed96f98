//! Scratch files that nothing needs any more.
//!
//! Removing one costs the volume's own journal about as much as making it did, and holds up whoever
//! syncs meanwhile. So it is done when nobody syncs, or when somebody needs the room.

use crate::api::{Error, Result};
use crate::store::Upper;

use super::View;

/// How many files are removed between two looks at whether somebody syncs.
const STEP: usize = 16;

/// How often in a row removing gives way; then everything goes at once.
const PUT_OFF_MAX: u32 = 50;

/// How often something that needs room on the volume is tried: others take the room that is made.
const ATTEMPTS: u32 = 4;

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing.
    None,
    /// Somebody syncs; to be tried again after a moment.
    PutOff,
}

/// What the last look has seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LastLook {
    /// The number of syncs by then.
    syncs: u64,
    /// How often in a row it gave way.
    put_off: u32,
}

impl View {
    /// Removes scratch files that nothing needs any more, unless somebody has synced since the last
    /// call or does so meanwhile: to be called again after a moment then. The fiftieth call in a row that would
    /// give way does not, so what is left over stays bounded.
    pub fn remove_leftovers_in_peace(&self) -> Leftovers {
        let Ok(upper) = self.store.upper() else {
            return Leftovers::None;
        };
        let mut look = *self.last_look.lock();
        let patient = look.put_off < PUT_OFF_MAX;
        let left = loop {
            let syncs = upper.sync_count();
            let disturbed = syncs != look.syncs;
            look.syncs = syncs;
            if !upper.has_removable() {
                break Leftovers::None;
            }
            if patient && disturbed {
                break Leftovers::PutOff;
            }
            upper.remove_some(STEP);
        };
        look.put_off = if left == Leftovers::PutOff { look.put_off + 1 } else { 0 };
        *self.last_look.lock() = look;
        left
    }

    /// Removes all scratch files that nothing needs any more.
    pub fn remove_leftovers(&self) {
        if let Ok(upper) = self.store.upper() {
            upper.remove_some(usize::MAX);
        }
    }

    /// Runs `attempt`, and again when the volume was full and room could be made: who has just
    /// removed a large file may use its room at once. The caller holds no lock.
    pub(super) fn with_room<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let Ok(upper) = self.store.upper() else {
            return attempt();
        };
        let mut removed = upper.removed_count();
        for _ in 1..ATTEMPTS {
            match attempt() {
                Err(Error::NoSpace | Error::QuotaExceeded)
                    if self.make_room(upper, &mut removed) => {}
                done => return done,
            }
        }
        attempt()
    }

    /// Removes what is not needed; returns whether more is removed than before. One thread at a time: who writes
    /// much has many requests under way, which fail together.
    fn make_room(&self, upper: &Upper, removed: &mut u64) -> bool {
        let _syncing = self.syncing.lock();
        if let Err(error) = self.sync_for_room(upper) {
            tracing::warn!(%error, "cannot make room on a full volume");
        }
        upper.remove_some(usize::MAX);
        upper.removed_count() > std::mem::replace(removed, upper.removed_count())
    }

    /// Syncs what keeps scratch files that nothing else needs: files with older content that a power
    /// loss would fall back to, and the journal.
    fn sync_for_room(&self, upper: &Upper) -> Result<()> {
        let cells: Vec<_> = self.unsynced.lock().values().cloned().collect();
        let older = cells.iter().filter(|cell| cell.keeps_older_content());
        // One that cannot be synced keeps its own.
        let failed = older.filter_map(|cell| self.sync_content(cell, upper).err()).last();
        // What the disk still says needs the doomed ones.
        let synced = if upper.has_doomed() { self.sync_journal(upper) } else { Ok(()) };
        failed.map_or(synced, Err)
    }
}
