//! Watching processes: who starts whom, and who ends.
//!
//! Membership in something that is inherited from parent to child can only be known for sure by
//! whoever sees each child while its parent lives. Linux tells of every fork (its process event
//! connector, since 6.6 to ordinary users too); where it does not, and on macOS, a [`Watcher`] tells
//! when it is time to look at the process table.

use std::io;
use std::time::Duration;

use super::{Process, describe, list};
use crate::platform;

/// Where it is asked who a process is: the system, or a recorded table in tests.
pub trait Processes: Send + Sync {
    /// As [`describe`]; `None` when there is no such process.
    fn describe(&self, pid: u32) -> Option<Process>;

    /// All processes that can be seen.
    fn all(&self) -> Vec<Process>;
}

/// The processes of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Processes for System {
    fn describe(&self, pid: u32) -> Option<Process> {
        describe(pid).ok()
    }

    fn all(&self) -> Vec<Process> {
        let pids = list().unwrap_or_default();
        // Some end while they are looked at.
        pids.into_iter().filter_map(|pid| describe(pid).ok()).collect()
    }
}

/// A process has started another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Who started it.
    pub parent: u32,
    /// The new process; it may have ended meanwhile.
    pub child: u32,
}

/// What is known of the forks up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forks {
    /// All of them were told.
    All,
    /// Some may not have been told: the process table shows the children that still live.
    Missing,
}

/// What ended a wait.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Processes that were followed and have ended.
    pub ended: Vec<u32>,
    /// Whether [`Watcher::forks`] has something to tell.
    pub forks: bool,
}

/// Watches processes.
#[derive(Debug)]
pub struct Watcher(platform::watch::Watcher);

impl Watcher {
    /// Starts watching.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        platform::watch::Watcher::new().map(Self)
    }

    /// As [`Watcher::new`], but not told of forks where the system would: for tests of what is done
    /// elsewhere.
    ///
    /// # Errors
    /// As [`Watcher::new`].
    pub fn without_forks() -> io::Result<Self> {
        platform::watch::Watcher::without_forks().map(Self)
    }

    /// Whether each fork on this machine is told. Otherwise children are found only while their
    /// parents live.
    pub fn sees_all_forks(&self) -> bool {
        self.0.sees_all_forks()
    }

    /// Follows a process until it ends or the value is dropped: [`Watcher::wait`] tells of its end.
    /// The description is that of exactly the process that is followed.
    ///
    /// # Errors
    /// `NotFound` when it has ended; `InvalidInput` when the number is that of a thread; EMFILE when
    /// this process has too many files open.
    pub fn follow(&self, pid: u32) -> io::Result<(Followed, Process)> {
        self.0.follow(pid).map(|(followed, process)| (Followed(followed), process))
    }

    /// Waits until something has happened, at most for `limit`.
    ///
    /// # Errors
    /// When the kernel refuses, which it has no reason to.
    pub fn wait(&self, limit: Duration) -> io::Result<Woken> {
        self.0.wait(limit)
    }

    /// Tells of the forks that happened before this call and have not been told yet, in their
    /// order. Calls must not overlap, or the order is lost.
    ///
    /// # Errors
    /// As [`Watcher::wait`].
    pub fn forks(&self, told: &mut dyn FnMut(Fork)) -> io::Result<Forks> {
        self.0.forks(told)
    }

    /// Ends a wait of another thread, or the next one.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// A process that is followed.
#[derive(Debug)]
pub struct Followed(platform::watch::Followed);

impl Followed {
    /// Whether exactly this process still runs: then its pid is nobody else's.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }
}

/// Returns the process that a thread belongs to; on macOS threads have no numbers of their own
/// here, so the answer is the number itself.
///
/// # Errors
/// `NotFound` when there is no such thread.
pub fn process_of(thread: u32) -> io::Result<u32> {
    platform::watch::process_of(thread)
}

/// Returns the number that requests of this thread carry: its own on Linux, that of the process on
/// macOS.
pub fn thread_number() -> u32 {
    platform::watch::thread_number()
}

/// Whether a number is that of a thread of this process.
pub fn is_thread_of(thread: u32, process: u32) -> bool {
    platform::watch::is_thread_of(thread, process)
}

#[cfg(test)]
mod tests;
