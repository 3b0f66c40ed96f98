//! Which process is in which view.
//!
//! A view is given to one process, and inherited by every process that one starts, directly or not;
//! the nearest given one counts. What was inherited stays, whatever becomes of those in between.
//! This is pure data: processes are looked up in a [`Processes`] and events are told to it.

use std::collections::{HashMap, HashSet, VecDeque};

use spfs_fuse::ViewId;
use spfs_sys::process::{Process, ProcessId, Processes};

/// The view of a process; `None` when it is in none.
pub(crate) type Verdict = Option<ViewId>;

/// More ancestors than any process has: a table that leads in a circle ends the search.
const ANCESTORS_MAX: usize = 1024;

/// How many ended members are remembered by their unique numbers: what they started may still have
/// to be met. Only macOS has such numbers.
const ENDED_MAX: usize = 1 << 16;

/// Why a view cannot be given to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GiveError {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// It was given one before.
    #[error("process {0} has a view already")]
    HasView(u32),
}

/// The processes that are known, and the view of each.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Whether the table tells who spawned a process, by a number that is never used again.
    unique_numbers: bool,
    known: HashMap<u32, Known>,
    roots: HashMap<ProcessId, Root>,
    /// Members by view.
    population: HashMap<ViewId, usize>,
    ended: Ended,
    /// Known by pid alone: they ended before they were looked at.
    ghosts: Vec<u32>,
    /// The pids of which something has changed since it was asked last.
    changed: HashSet<u32>,
    /// Views that have lost their last process since it was asked last.
    emptied: Vec<ViewId>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// `None` for a process that ended before it could be looked at.
    id: Option<ProcessId>,
    verdict: Verdict,
}

/// A process that was given a view.
#[derive(Debug, Clone, Copy)]
struct Root {
    view: ViewId,
    /// The view it was in before.
    outer: Verdict,
}

/// Members that have ended, by the number that their children name.
#[derive(Debug, Default)]
struct Ended {
    views: HashMap<u64, ViewId>,
    order: VecDeque<u64>,
}

impl Ended {
    fn remember(&mut self, unique: u64, view: ViewId) {
        if self.views.insert(unique, view).is_none() {
            self.order.push_back(unique);
        }
        if self.order.len() > ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.views.remove(&oldest);
        }
    }

    fn replace(&mut self, view: ViewId, by: Verdict) {
        match by {
            Some(by) => {
                self.views.values_mut().filter(|found| **found == view).for_each(|v| *v = by);
            }
            None => {
                self.views.retain(|_, found| *found != view);
                let views = &self.views;
                self.order.retain(|unique| views.contains_key(unique));
            }
        }
    }
}

impl Graph {
    /// Knows nobody. `unique_numbers` says whether processes tell who spawned them.
    pub(crate) fn new(unique_numbers: bool) -> Self {
        Self { unique_numbers, ..Self::default() }
    }

    /// Gives a view to a process, and to what it has started so far; views that were given to some
    /// of these stay.
    pub(crate) fn give(
        &mut self,
        pid: u32,
        view: ViewId,
        table: &dyn Processes,
    ) -> Result<ProcessId, GiveError> {
        let (id, outer) = self.resolve(pid, table).ok_or(GiveError::NoProcess(pid))?;
        if self.roots.contains_key(&id) {
            return Err(GiveError::HasView(pid));
        }
        self.roots.insert(id, Root { view, outer });
        for member in self.descendants(id, &table.all()) {
            self.set(member, Some(view));
        }
        Ok(id)
    }

    /// The process itself and what descends from it, but for those with a view of their own and
    /// what descends from them.
    fn descendants(&self, root: ProcessId, table: &[Process]) -> Vec<ProcessId> {
        let mut by_parent: HashMap<u32, Vec<&Process>> = HashMap::new();
        let mut by_spawner: HashMap<u64, Vec<&Process>> = HashMap::new();
        for process in table {
            by_parent.entry(process.parent).or_default().push(process);
            if let Some(spawner) = process.spawner {
                by_spawner.entry(spawner).or_default().push(process);
            }
        }
        let mut found = vec![root];
        let mut seen = HashSet::from([root]);
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            next += 1;
            let children = by_parent.get(&parent.pid).into_iter().flatten();
            // An adopted child is not one of its parent's own.
            let own = children.filter(|c| c.spawner.is_none_or(|by| by == parent.start));
            let spawned = by_spawner.get(&parent.start).into_iter().flatten();
            for child in own.chain(spawned) {
                if !self.roots.contains_key(&child.id) && seen.insert(child.id) {
                    found.push(child.id);
                }
            }
        }
        found
    }

    /// Takes a view from everybody: who was given it, or inherited it, is again in the view around.
    pub(crate) fn take(&mut self, view: ViewId) {
        let is_of_view = |root: &&Root| root.view == view;
        let Some(outer) = self.roots.values().find(is_of_view).map(|root| root.outer) else {
            return;
        };
        // Given twice, one inside the other.
        let outer = outer.filter(|outer| *outer != view);
        self.roots.retain(|_, root| root.view != view);
        self.roots
            .values_mut()
            .filter(|root| root.outer == Some(view))
            .for_each(|root| root.outer = outer);
        self.ended.replace(view, outer);
        let members: Vec<u32> = self.pids_of(view).collect();
        for pid in members {
            if let Some(known) = self.known.get_mut(&pid) {
                known.verdict = outer;
                self.changed.insert(pid);
            }
        }
        let moved = self.population.remove(&view).unwrap_or_default();
        if let Some(outer) = outer {
            *self.population.entry(outer).or_default() += moved;
        }
    }

    /// Finds out who has a pid and in which view; `None` when nobody has it. Who had not been met
    /// is remembered, with the ancestors that had to be looked at.
    pub(crate) fn resolve(
        &mut self,
        pid: u32,
        table: &dyn Processes,
    ) -> Option<(ProcessId, Verdict)> {
        let process = table.describe(pid)?;
        Some((process.id, self.resolve_process(process, table)))
    }

    /// As [`Graph::resolve`], for a process that was just looked at.
    pub(crate) fn resolve_process(
        &mut self,
        mut process: Process,
        table: &dyn Processes,
    ) -> Verdict {
        let mut path = Vec::new();
        let verdict = loop {
            if let Some(verdict) = self.verdict(process.id) {
                break verdict;
            }
            path.push(process.id);
            if let Some(view) = process.spawner.and_then(|by| self.ended.views.get(&by)) {
                break Some(*view);
            }
            let parent = table.describe(process.parent).filter(|parent| {
                // Whoever adopted it, or has its parent's pid now, did not start it.
                process
                    .spawner
                    .map_or(parent.id.start <= process.id.start, |by| parent.id.start == by)
            });
            match parent {
                Some(parent) if path.len() < ANCESTORS_MAX => process = parent,
                _ => break None,
            }
        };
        for id in path {
            self.set(id, verdict);
        }
        verdict
    }

    /// The view of a process that is known; `None` when it is not.
    pub(crate) fn verdict(&self, id: ProcessId) -> Option<Verdict> {
        self.known.get(&id.pid).filter(|known| known.id == Some(id)).map(|known| known.verdict)
    }

    /// Who is known to have a pid, and in which view.
    pub(crate) fn known(&self, pid: u32) -> Option<(ProcessId, Verdict)> {
        let known = self.known.get(&pid)?;
        Some((known.id?, known.verdict))
    }

    /// A process has started another one.
    pub(crate) fn forked(&mut self, parent: u32, child: u32, table: &dyn Processes) {
        // Whoever had the pid of the child before has ended.
        self.ended(child);
        let Some(verdict @ Some(_)) = self.known.get(&parent).map(|known| known.verdict) else {
            return;
        };
        match table.describe(child) {
            Some(process) => self.set(process.id, verdict),
            None => {
                // It may have started others, of which we are told next.
                self.known.insert(child, Known { id: None, verdict });
                self.ghosts.push(child);
            }
        }
    }

    /// All forks up to now have been told: who had ended by then starts nobody any more.
    pub(crate) fn caught_up(&mut self) {
        for ghost in std::mem::take(&mut self.ghosts) {
            if self.known.get(&ghost).is_some_and(|known| known.id.is_none()) {
                self.known.remove(&ghost);
            }
        }
    }

    /// Looks for processes that members have started, where forks are not told.
    pub(crate) fn look_around(&mut self, table: &dyn Processes) {
        for process in table.all() {
            if self.verdict(process.id).is_none() && self.is_child_of_member(&process) {
                self.resolve_process(process, table);
            }
        }
    }

    fn is_child_of_member(&self, process: &Process) -> bool {
        let parent = self.known.get(&process.parent);
        parent.is_some_and(|known| known.verdict.is_some())
            || process.spawner.is_some_and(|by| self.ended.views.contains_key(&by))
    }

    /// A process has ended.
    pub(crate) fn ended(&mut self, pid: u32) {
        if let Some((id, _)) = self.known(pid) {
            self.forget_root(id);
        }
        self.remove(pid);
    }

    fn set(&mut self, id: ProcessId, verdict: Verdict) {
        if self.verdict(id) == Some(verdict) {
            return;
        }
        match self.known(id.pid) {
            Some((same, _)) if same == id => self.remove(id.pid),
            // Its pid was that of one who has ended.
            _ => self.ended(id.pid),
        }
        self.known.insert(id.pid, Known { id: Some(id), verdict });
        self.changed.insert(id.pid);
        if let Some(view) = verdict {
            *self.population.entry(view).or_default() += 1;
        }
    }

    fn remove(&mut self, pid: u32) {
        let Some(known) = self.known.remove(&pid) else { return };
        self.changed.insert(pid);
        let (Some(view), Some(id)) = (known.verdict, known.id) else { return };
        if self.unique_numbers {
            self.ended.remember(id.start, view);
        }
        let Some(members) = self.population.get_mut(&view) else { return };
        *members -= 1;
        if *members == 0 {
            self.population.remove(&view);
            self.emptied.push(view);
        }
    }

    /// A process that was given a view has ended. One such process of each view stays noted, for
    /// what is around the view: what others inherited is taken away some day.
    fn forget_root(&mut self, id: ProcessId) {
        let Some(root) = self.roots.get(&id) else { return };
        if self.roots.values().filter(|other| other.view == root.view).count() > 1 {
            self.roots.remove(&id);
        }
    }

    /// The pids of which something has changed since this was called last.
    pub(crate) fn take_changed(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Whether [`Graph::take_emptied`] has something to tell.
    pub(crate) fn has_emptied(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// The views that have lost their last process since this was called last, and have none now.
    pub(crate) fn take_emptied(&mut self) -> Vec<ViewId> {
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.retain(|view| self.members(*view) == 0);
        emptied.sort_unstable();
        emptied.dedup();
        emptied
    }

    /// The members of a view.
    pub(crate) fn members(&self, view: ViewId) -> usize {
        self.population.get(&view).copied().unwrap_or_default()
    }

    /// The pids of a view's members.
    pub(crate) fn pids_of(&self, view: ViewId) -> impl Iterator<Item = u32> {
        let of_view = move |known: &Known| known.verdict == Some(view);
        self.known.iter().filter(move |(_, known)| of_view(known)).map(|(pid, _)| *pid)
    }

    /// The processes that a view was given to and that have not ended.
    pub(crate) fn roots_of(&self, view: ViewId) -> Vec<u32> {
        let lives = |id: &ProcessId| self.verdict(*id).is_some();
        let roots = self.roots.iter().filter(|(id, root)| root.view == view && lives(id));
        let mut pids: Vec<u32> = roots.map(|(id, _)| id.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// The view that was given to the process that has a pid now.
    pub(crate) fn given_to(&self, pid: u32) -> Option<ViewId> {
        let (id, _) = self.known(pid)?;
        self.roots.get(&id).map(|root| root.view)
    }

    /// How many processes are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests;
