//! The locks, atomics and threads of this crate: everything that threads meet at comes from here.
//!
//! Each lock has a rank in its type, and locks are taken only upwards in rank (docs/locks.md). Builds
//! with debug assertions check that at every acquisition, so that every test proves the order.
//!
//! With the feature `shuttle` all of it comes from that crate, which runs threads one at a time in
//! an order it chooses and finds deadlocks (`tests/schedules.rs`).

#[cfg(not(feature = "shuttle"))]
use parking_lot as raw;
#[cfg(feature = "shuttle")]
use shuttle_parking_lot as raw;

mod held;
mod lock;
mod threads;

pub(crate) use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard};
pub(crate) use threads::{on_deep_stack, parallelism, together};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::atomic;
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::atomic;

/// The order of locks: who holds one takes only higher ones.
pub(crate) mod rank {
    /// One commit, reset or compaction at a time.
    pub(crate) const CHANGING: u8 = 0;
    /// Something is changed and recorded, or the journal is exchanged.
    pub(crate) const RECORDING: u8 = 1;
    /// One sync of everything at a time.
    pub(crate) const SYNCING: u8 = 2;
    /// Names and attributes.
    pub(crate) const NAMESPACE: u8 = 3;
    /// One file's content.
    pub(crate) const CELL: u8 = 4;
    /// Tables: held for a few instructions, and no other of this rank meanwhile.
    pub(crate) const TABLE: u8 = 5;
    /// How much of the journal is durable.
    pub(crate) const JOURNAL_SYNCED: u8 = 6;
    /// The end of the journal's file.
    pub(crate) const JOURNAL_TAIL: u8 = 7;
    /// What is to be written to the journal.
    pub(crate) const JOURNAL_QUEUE: u8 = 8;
}
