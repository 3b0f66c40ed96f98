//! Watching by one kqueue. NOTE_TRACK, which would follow children by itself, is refused since
//! macOS 10.5: NOTE_FORK says that a process has started another one, and the process table which.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::kqueue::{
    Event, EventFilter, EventFlags, ProcessEvents, UserDefinedFlags, UserFlags, kevent, kqueue,
};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::process::{Fork, Forks, Process, ProcessId, Woken, alive, describe};

/// The event by which a wait is ended.
const WAKE: isize = 1;

#[derive(Debug)]
pub(crate) struct Watcher {
    queue: Arc<OwnedFd>,
    /// A followed process has started another one.
    forked: AtomicBool,
}

impl Watcher {
    pub(crate) fn new() -> io::Result<Self> {
        let queue = kqueue()?;
        change(&queue, wake_filter(UserFlags::empty()), EventFlags::ADD | EventFlags::CLEAR)?;
        Ok(Self { queue: Arc::new(queue), forked: AtomicBool::new(false) })
    }

    pub(crate) fn without_forks() -> io::Result<Self> {
        Self::new()
    }

    pub(crate) fn sees_all_forks(&self) -> bool {
        false
    }

    pub(crate) fn follow(&self, pid: u32) -> io::Result<(Followed, Process)> {
        let number = to_pid(pid).ok_or(Errno::NOENT)?;
        match change(&self.queue, process_filter(number), EventFlags::ADD | EventFlags::CLEAR) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => {
                return Err(Errno::NOENT.into());
            }
            watched => watched?,
        }
        // Only now: a pid given away before the watch began is another process.
        let process = describe(pid)?;
        Ok((Followed { queue: Arc::clone(&self.queue), id: process.id }, process))
    }

    pub(crate) fn wait(&self, limit: Duration) -> io::Result<Woken> {
        let mut events = Vec::<Event>::with_capacity(64);
        // SAFETY: no filter carries a descriptor.
        let waited = unsafe { kevent(&*self.queue, &[], spare_capacity(&mut events), Some(limit)) };
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ended = Vec::new();
        for event in &events {
            if let EventFilter::Proc { pid, flags } = event.filter() {
                if flags.contains(ProcessEvents::FORK) {
                    self.forked.store(true, Ordering::Release);
                }
                if flags.contains(ProcessEvents::EXIT) {
                    ended.push(pid.as_raw_nonzero().get().cast_unsigned());
                }
            }
        }
        Ok(Woken { ended, forks: self.forked.load(Ordering::Acquire) })
    }

    pub(crate) fn forks(&self, _told: &mut dyn FnMut(Fork)) -> io::Result<Forks> {
        let forked = self.forked.swap(false, Ordering::AcqRel);
        Ok(if forked { Forks::Missing } else { Forks::All })
    }

    pub(crate) fn wake(&self) {
        // The queue is ours and open: there is nothing to fail.
        drop(change(&self.queue, wake_filter(UserFlags::TRIGGER), EventFlags::empty()));
    }
}

fn change(queue: &OwnedFd, filter: EventFilter, flags: EventFlags) -> io::Result<()> {
    let change = [Event::new(filter, flags, std::ptr::null_mut())];
    // No room for events: they are for those who wait.
    let none: &mut [Event] = &mut [];
    // SAFETY: the filter carries no descriptor.
    unsafe { kevent(queue, &change, none, Some(Duration::ZERO)) }?;
    Ok(())
}

fn process_filter(pid: Pid) -> EventFilter {
    EventFilter::Proc { pid, flags: ProcessEvents::EXIT | ProcessEvents::FORK }
}

fn wake_filter(flags: UserFlags) -> EventFilter {
    EventFilter::User { ident: WAKE, flags, user_flags: UserDefinedFlags::new(0) }
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[derive(Debug)]
pub(crate) struct Followed {
    queue: Arc<OwnedFd>,
    id: ProcessId,
}

impl Followed {
    pub(crate) fn is_alive(&self) -> bool {
        alive(self.id)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // The watch of a process that has ended is gone already; one that has the pid now is
        // followed by a later value, which must not lose its watch.
        if self.is_alive()
            && let Some(pid) = to_pid(self.id.pid)
        {
            drop(change(&self.queue, process_filter(pid), EventFlags::DELETE));
        }
    }
}

pub(crate) fn process_of(thread: u32) -> io::Result<u32> {
    Ok(thread)
}

pub(crate) fn is_thread_of(thread: u32, process: u32) -> bool {
    thread == process
}

pub(crate) fn thread_number() -> u32 {
    std::process::id()
}
