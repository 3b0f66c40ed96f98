//! The copy-on-write core: a view of immutable layers with a scratch area on top.
//!
//! [`View`] implements [`api::Vfs`]. It knows neither the kernel's protocol nor repositories: front
//! ends translate, and the layers' bytes come through [`Payloads`].
#![forbid(unsafe_code)]

mod ahead;
pub mod api;
mod cell;
mod extents;
mod journal;
mod lower;
mod namespace;
mod scratch;
mod store;
mod sync;
mod view;

pub use cell::{LayerStore, StoredFile};
pub use journal::{JournalFile, LogFile};
pub use scratch::{DirScratch, Scratch, ScratchFile, ScratchId, ScratchStat};
pub use store::Payloads;
pub use view::{
    Changes, Clock, Commit, CommitError, GivenBack, Invalidation, LAYER_TIME, LeaveOut, Leftovers,
    Offer, Offers, OpenError, OpenFile, ResetReport, SYNC_PERIOD, StackIdentity, SystemClock,
    UpperFiles, View, ViewOptions, WHOLE_FILE,
};
