//! Which caller sees which view.
//!
//! One mount shows each process the view of its runtime. Only operations on the root of the mount
//! ask who the caller is (see [`spfs_fuse::Views`]), and they ask here. Who is known is answered
//! from a table, after one look whether the process that was meant still has that pid; who is not,
//! by climbing from parent to parent up to somebody who is known.
//!
//! Requests of the kernel itself (pid 0), of other users and of processes that belong to no view
//! get the default view, which is empty.
//!
//! Locks: `graph`, then one shard of `callers`. The fast path takes a shard for reading alone.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use spfs_fuse::{Caller, ViewId, Views};
use spfs_sys::process::{Followed, Process, Processes, Watcher};
use spfs_vfs::api::Vfs;

mod callers;
mod graph;
mod watching;

use callers::{Callers, Seen};
pub(crate) use graph::GiveError;
use graph::Graph;

/// The view of those who have none.
const DEFAULT: ViewId = ViewId::FIRST;

/// How often processes are looked at that could not be followed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// While processes are started all the time, the table is brought up to date this often, not for
/// each: whoever asks brings it up to date by himself.
const PAUSE: Duration = Duration::from_millis(2);

/// Why a view was not added.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The process.
        pid: u32,
    },
    /// A process was given a view before.
    #[error("process {pid} was given a view already")]
    HasView {
        /// The process.
        pid: u32,
    },
    /// No view has this number, or not any more.
    #[error("there is no view {view}")]
    NoView {
        /// The number.
        view: ViewId,
    },
    /// The mount has used up its numbers.
    #[error("this service has shown {} views and can show no more", ViewId::COUNT)]
    Exhausted,
}

impl From<GiveError> for RouteError {
    fn from(error: GiveError) -> Self {
        match error {
            GiveError::NoProcess(pid) => Self::NoProcess { pid },
            GiveError::HasView(pid) => Self::HasView { pid },
        }
    }
}

/// What a router has done and what it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouterFigures {
    /// Processes that are known.
    pub processes: u64,
    /// Of these, followed by a descriptor.
    pub followed: u64,
    /// Callers that had to be looked up.
    pub met: u64,
    /// Whether each fork of the machine is told.
    pub sees_all_forks: bool,
}

/// The views of one mount and who sees which; clones are the same router.
pub struct Router<V>(Arc<Inner<V>>);

impl<V> Clone for Router<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Vfs> std::fmt::Debug for Router<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

struct Inner<V> {
    /// The user whose processes have views.
    uid: u32,
    views: ArcSwap<HashMap<ViewId, Arc<V>>>,
    next_view: AtomicU32,
    callers: Callers,
    graph: Mutex<Graph>,
    watcher: Watcher,
    table: Box<dyn Processes>,
    /// How many processes may be followed by a descriptor each.
    follow_max: usize,
    followed: AtomicUsize,
    met: AtomicU64,
    /// The process table has to be looked at for children of members.
    owed: AtomicBool,
    stopped: AtomicBool,
}

/// The process table, but that who is followed is not looked up again: for the graph it matters
/// only that it still is the one that it knows.
struct Followers<'a>(&'a Callers, &'a dyn Processes);

impl Processes for Followers<'_> {
    fn describe(&self, pid: u32) -> Option<Process> {
        let is_alive = |seen: &Arc<Seen>| seen.followed.as_ref().is_some_and(Followed::is_alive);
        match self.0.seen(pid).filter(is_alive) {
            Some(seen) => Some(Process { id: seen.id, parent: 0, spawner: None }),
            None => self.1.describe(pid),
        }
    }

    fn all(&self) -> Vec<Process> {
        self.1.all()
    }
}

/// Tells which views have lost their last process.
pub type Emptied = mpsc::Receiver<ViewId>;

impl<V: Vfs> Router<V> {
    /// Starts a router for the processes of a user. `default` is what all others see;
    /// `follow_max` bounds the descriptors it holds, one for each process in a view: beyond it,
    /// processes are looked at each time they ask.
    ///
    /// # Errors
    /// When there are no descriptors or threads left.
    pub fn start(
        uid: u32,
        default: Arc<V>,
        table: Box<dyn Processes>,
        follow_max: usize,
    ) -> io::Result<(Self, Emptied)> {
        Self::start_with(Watcher::new()?, uid, default, table, follow_max)
    }

    fn start_with(
        watcher: Watcher,
        uid: u32,
        default: Arc<V>,
        table: Box<dyn Processes>,
        follow_max: usize,
    ) -> io::Result<(Self, Emptied)> {
        let own = table.describe(std::process::id());
        let unique_numbers = own.is_some_and(|own| own.spawner.is_some());
        let inner = Arc::new(Inner {
            uid,
            views: ArcSwap::from_pointee(HashMap::from([(DEFAULT, default)])),
            next_view: AtomicU32::new(DEFAULT.number() + 1),
            callers: Callers::default(),
            graph: Mutex::new(Graph::new(unique_numbers)),
            watcher,
            table,
            follow_max,
            followed: AtomicUsize::new(0),
            met: AtomicU64::new(0),
            owed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let (emptied, receiver) = mpsc::channel();
        let watching = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("spfs-router".into())
            .spawn(move || watching.watch(&emptied))?;
        Ok((Self(inner), receiver))
    }

    /// Adds a view and gives it to a process and all that it has started and will start.
    ///
    /// # Errors
    /// When there is no such process, or it was given a view before.
    pub fn add(&self, pid: u32, vfs: Arc<V>) -> Result<ViewId, RouteError> {
        let inner = &self.0;
        let number = inner.next_view.fetch_add(1, Ordering::Relaxed);
        let view = ViewId::new(number).ok_or(RouteError::Exhausted)?;
        inner.change_views(|views| drop(views.insert(view, Arc::clone(&vfs))));
        let given = inner.give(pid, view);
        if given.is_err() {
            inner.change_views(|views| drop(views.remove(&view)));
        }
        given.map(|()| view)
    }

    /// Gives a view that is there to another process as well.
    ///
    /// # Errors
    /// As [`Router::add`]; [`RouteError::NoView`].
    pub fn join(&self, pid: u32, view: ViewId) -> Result<(), RouteError> {
        if !self.0.views.load().contains_key(&view) {
            return Err(RouteError::NoView { view });
        }
        self.0.give(pid, view)
    }

    /// Takes a view away: its processes see what they saw before.
    pub fn remove(&self, view: ViewId) {
        let inner = &self.0;
        {
            let mut graph = inner.graph.lock();
            graph.take(view);
            inner.settle(&mut graph);
        }
        inner.change_views(|views| drop(views.remove(&view)));
    }

    /// The processes that a view was given to.
    pub fn roots(&self, view: ViewId) -> Vec<u32> {
        self.0.graph.lock().roots_of(view)
    }

    /// How many processes are in a view.
    pub fn members(&self, view: ViewId) -> usize {
        let mut graph = self.0.graph.lock();
        self.0.catch_up(&mut graph);
        graph.members(view)
    }

    /// The view that was given to this very process.
    pub fn given_to(&self, pid: u32) -> Option<ViewId> {
        self.0.graph.lock().given_to(pid)
    }

    /// The view that a process is in now.
    pub fn view_of(&self, pid: u32) -> Option<ViewId> {
        let uid = self.0.uid;
        Some(self.of_caller(Caller { pid, uid, gid: 0 })).filter(|view| *view != DEFAULT)
    }

    /// What it knows and has done.
    pub fn figures(&self) -> RouterFigures {
        RouterFigures {
            processes: self.0.graph.lock().len() as u64,
            followed: self.0.followed.load(Ordering::Relaxed) as u64,
            met: self.0.met.load(Ordering::Relaxed),
            sees_all_forks: self.0.watcher.sees_all_forks(),
        }
    }

    /// Stops watching; the thread ends soon.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.watcher.wake();
    }
}

impl<V: Vfs> Views for Router<V> {
    type Vfs = V;
    type Ref<'a> = Arc<V>;

    const ROUTED: bool = true;

    fn of_caller(&self, caller: Caller) -> ViewId {
        if caller.pid == 0 || caller.uid != self.0.uid {
            return DEFAULT;
        }
        let is_alive = |seen: &Seen| self.0.is_alive(seen);
        self.0.callers.view_of(caller.pid, is_alive).unwrap_or_else(|| self.0.meet(caller.pid))
    }

    fn view(&self, id: ViewId) -> Option<Arc<V>> {
        self.0.views.load().get(&id).map(Arc::clone)
    }
}

impl<V: Vfs> Inner<V> {
    fn table(&self) -> Followers<'_> {
        Followers(&self.callers, &*self.table)
    }

    fn change_views(&self, change: impl Fn(&mut HashMap<ViewId, Arc<V>>)) {
        self.views.rcu(|views| {
            let mut views = HashMap::clone(views);
            change(&mut views);
            views
        });
    }

    fn give(&self, pid: u32, view: ViewId) -> Result<(), RouteError> {
        let mut graph = self.graph.lock();
        self.catch_up(&mut graph);
        graph.give(pid, view, &self.table())?;
        // A process that has ended meanwhile ends the view by the usual way.
        self.settle(&mut graph);
        Ok(())
    }

    fn is_alive(&self, seen: &Seen) -> bool {
        match &seen.followed {
            Some(followed) => followed.is_alive(),
            None => self.table.describe(seen.id.pid).is_some_and(|found| found.id == seen.id),
        }
    }
}

#[cfg(test)]
mod tests;
