//! What a daemon does for its scratch areas while nobody asks.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use spfs_runtime::LiveRuntime;
use spfs_vfs::{Leftovers, SYNC_PERIOD};

use crate::failure::chain;

/// How long removing what is not needed waits after somebody has synced.
const PEACE: Duration = Duration::from_millis(100);

/// Views to be looked after.
pub(crate) trait Kept {
    /// Makes what was changed durable, and lets a long history of changes be forgotten.
    fn sync(&self);
    /// Removes scratch files that nothing needs any more, unless somebody syncs.
    fn remove_leftovers(&self) -> Leftovers;
}

impl Kept for LiveRuntime {
    fn sync(&self) {
        if let Err(error) = self.view().sync_if_changed() {
            tracing::warn!("cannot sync the scratch area: {}", chain(&error));
        }
        if let Err(error) = self.view().compact_if_long() {
            tracing::warn!("cannot shorten the journal: {}", chain(&error));
        }
    }

    fn remove_leftovers(&self) -> Leftovers {
        self.view().remove_leftovers_in_peace()
    }
}

/// Bounds what a power loss takes of what nobody synced, and removes what is not needed, until the
/// other end of `stopped` is gone.
pub(crate) fn keep(views: &impl Kept, stopped: &Receiver<()>) {
    let mut next_sync = Instant::now() + SYNC_PERIOD;
    let mut leftovers = Leftovers::None;
    loop {
        let wait = next_sync.saturating_duration_since(Instant::now());
        let wait = match leftovers {
            Leftovers::None => wait,
            Leftovers::PutOff => wait.min(PEACE),
        };
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if Instant::now() >= next_sync {
            views.sync();
            next_sync = Instant::now() + SYNC_PERIOD;
        }
        leftovers = views.remove_leftovers();
    }
}
