//! The slow side of the router: meeting callers that are not in the table, and following those that
//! are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use spfs_fuse::ViewId;
use spfs_sys::process::{self, Followed, Forks, Process, ProcessId};
use spfs_vfs::api::Vfs;

use super::callers::Seen;
use super::graph::Graph;
use super::{DEFAULT, Inner, PAUSE, SWEEP_EVERY};

impl<V: Vfs> Inner<V> {
    /// Decides about a caller that is not in the table.
    pub(super) fn meet(&self, number: u32) -> ViewId {
        self.met.fetch_add(1, Ordering::Relaxed);
        let mut graph = self.graph.lock();
        if self.hear_forks(&mut graph) == Forks::Missing {
            // A caller's ancestors are looked up anyway. Who else was started is found by the
            // watching thread.
            self.owed.store(true, Ordering::Release);
            self.watcher.wake();
        }
        self.settle(&mut graph);
        let is_alive = |seen: &Seen| self.is_alive(seen);
        if let Some(view) = self.callers.view_of(number, is_alive) {
            return view;
        }
        match self.look_at(number) {
            Ok((followed, process)) => {
                graph.resolve_process(process, &self.table());
                self.keep(&graph, process.id, Some(followed));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return self.meet_thread(&mut graph, number);
            }
            // It cannot be followed, but it can be looked at.
            Err(_) => {
                if process::process_of(number).is_ok_and(|process| process != number) {
                    return self.meet_thread(&mut graph, number);
                }
                if let Some((id, _)) = graph.resolve(number, &self.table()) {
                    self.keep(&graph, id, None);
                }
            }
        }
        self.settle(&mut graph);
        self.callers.view_of(number, is_alive).unwrap_or(DEFAULT)
    }

    /// A thread is where its process is.
    fn meet_thread(&self, graph: &mut Graph, thread: u32) -> ViewId {
        let Ok(process) = process::process_of(thread) else { return DEFAULT };
        if self.callers.seen(process).is_none_or(|seen| !self.is_alive(&seen)) {
            match self.look_at(process) {
                Ok((followed, process)) => {
                    graph.resolve_process(process, &self.table());
                    self.keep(graph, process.id, Some(followed));
                }
                Err(_) => {
                    if let Some((id, _)) = graph.resolve(process, &self.table()) {
                        self.keep(graph, id, None);
                    }
                }
            }
            self.settle(graph);
        }
        self.callers.add_thread(thread, process);
        self.callers.view_of(thread, |seen| self.is_alive(seen)).unwrap_or(DEFAULT)
    }

    fn look_at(&self, pid: u32) -> io::Result<(Followed, Process)> {
        if self.followed.load(Ordering::Relaxed) >= self.follow_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.watcher.follow(pid)
    }

    /// Puts a process into the table as the graph knows it.
    fn keep(&self, graph: &Graph, id: ProcessId, followed: Option<Followed>) {
        let Some(verdict) = graph.verdict(id) else { return };
        let counted = usize::from(followed.is_some());
        self.followed.fetch_add(counted, Ordering::Relaxed);
        let gone = self.callers.insert(Seen::new(id, verdict.unwrap_or(DEFAULT), followed));
        self.uncount(gone);
    }

    fn uncount(&self, gone: Option<Arc<Seen>>) {
        let counted = gone.is_some_and(|seen| seen.followed.is_some());
        self.followed.fetch_sub(usize::from(counted), Ordering::Relaxed);
    }

    /// Lets the graph know all processes that members have started, as far as it can be known.
    pub(super) fn catch_up(&self, graph: &mut Graph) {
        let missing = self.hear_forks(graph) == Forks::Missing;
        if self.owed.swap(false, Ordering::AcqRel) || missing {
            graph.look_around(&self.table());
        }
    }

    /// Tells the graph of the forks up to now.
    fn hear_forks(&self, graph: &mut Graph) -> Forks {
        let table = &self.table();
        let told = self.watcher.forks(&mut |fork| graph.forked(fork.parent, fork.child, table));
        graph.caught_up();
        told.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot learn which processes were started");
            Forks::Missing
        })
    }

    /// Brings the table in line with the graph.
    pub(super) fn settle(&self, graph: &mut Graph) {
        for pid in graph.take_changed() {
            let Some((id, verdict)) = graph.known(pid) else {
                self.uncount(self.callers.remove(pid));
                continue;
            };
            let seen = self.callers.seen(pid).filter(|seen| seen.id == id);
            if let Some(seen) = seen {
                seen.set_view(verdict.unwrap_or(DEFAULT));
                continue;
            }
            match self.look_at(pid) {
                Ok((followed, process)) if process.id == id => {
                    self.keep(graph, id, Some(followed));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.keep(graph, id, None),
                // It ended meanwhile.
                _ => graph.ended(pid),
            }
        }
        if graph.has_emptied() {
            // It is the watching thread that tells of it.
            self.watcher.wake();
        }
    }

    pub(super) fn watch(&self, emptied: &mpsc::Sender<ViewId>) {
        while !self.stopped.load(Ordering::Acquire) {
            let woken = match self.watcher.wait(SWEEP_EVERY) {
                Ok(woken) => woken,
                Err(error) => {
                    tracing::error!(%error, "cannot watch processes any more");
                    return;
                }
            };
            let only_forks = woken.forks && woken.ended.is_empty();
            for view in self.note_ends(&woken.ended) {
                // Nobody may be listening.
                let _ = emptied.send(view);
            }
            if only_forks {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Takes processes that have ended out, and returns the views that have none left.
    fn note_ends(&self, ended: &[u32]) -> Vec<ViewId> {
        let mut graph = self.graph.lock();
        // What they started is a member before they go.
        self.catch_up(&mut graph);
        self.settle(&mut graph);
        let unfollowed = self.callers.unfollowed();
        for pid in ended.iter().copied().chain(unfollowed) {
            let gone = self.callers.seen(pid).is_none_or(|seen| !self.is_alive(&seen));
            if gone {
                graph.ended(pid);
            }
        }
        self.settle(&mut graph);
        graph.take_emptied()
    }
}
