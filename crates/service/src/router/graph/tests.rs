use super::*;
use std::sync::Mutex;

/// A recorded process table: lines of `pid parent`, as a test changes it. A process starts at the
/// time of the event that made it.
#[derive(Default)]
struct Table {
    processes: Mutex<Vec<Process>>,
    /// As on macOS: each process names who spawned it.
    unique_numbers: bool,
}

const INIT: u32 = 1;

impl Processes for Table {
    fn describe(&self, pid: u32) -> Option<Process> {
        self.processes.lock().unwrap().iter().find(|process| process.id.pid == pid).copied()
    }

    fn all(&self) -> Vec<Process> {
        self.processes.lock().unwrap().clone()
    }
}

/// A machine with processes, and the graph that is told of them.
struct World {
    table: Table,
    graph: Graph,
    clock: u64,
}

fn view(number: u32) -> ViewId {
    ViewId::new(number).unwrap()
}

impl World {
    fn new(unique_numbers: bool) -> Self {
        let table = Table { processes: Mutex::default(), unique_numbers };
        let mut world = Self { table, graph: Graph::new(unique_numbers), clock: 0 };
        world.start(INIT, 0);
        world.start(2, INIT);
        world
    }

    /// A process appears; nobody is told.
    fn start(&mut self, pid: u32, parent: u32) {
        self.clock += 1;
        let by = self.table.describe(parent).map_or(0, |parent| parent.id.start);
        let process = Process {
            id: ProcessId { pid, start: self.clock },
            parent,
            spawner: self.table.unique_numbers.then_some(by),
        };
        self.table.processes.lock().unwrap().push(process);
    }

    /// A process appears, and the graph is told of the fork.
    fn fork(&mut self, pid: u32, parent: u32) {
        self.start(pid, parent);
        self.graph.forked(parent, pid, &self.table);
    }

    /// A process ends; its children are adopted. Nobody is told.
    fn vanish(&mut self, pid: u32) {
        let mut processes = self.table.processes.lock().unwrap();
        processes.retain(|process| process.id.pid != pid);
        let orphans = processes.iter_mut().filter(|process| process.parent == pid);
        orphans.for_each(|orphan| orphan.parent = INIT);
    }

    fn end(&mut self, pid: u32) {
        self.vanish(pid);
        self.graph.ended(pid);
    }

    fn give(&mut self, pid: u32, number: u32) {
        self.graph.give(pid, view(number), &self.table).unwrap();
    }

    fn asks(&mut self, pid: u32) -> Option<u32> {
        let (_, verdict) = self.graph.resolve(pid, &self.table).unwrap();
        verdict.map(ViewId::number)
    }
}

#[test]
fn descendants_are_in_the_view_before_and_after_it_was_given() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.start(11, 10);
    world.start(12, 11);
    world.start(20, 2);
    world.give(10, 1);
    assert_eq!(world.graph.members(view(1)), 3);
    world.start(13, 12);
    for pid in [10, 11, 12, 13] {
        assert_eq!(world.asks(pid), Some(1), "{pid}");
    }
    for pid in [INIT, 2, 20] {
        assert_eq!(world.asks(pid), None, "{pid}");
    }
}

#[test]
fn who_has_asked_stays_when_its_parents_are_gone() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    world.start(11, 10);
    world.start(12, 11);
    assert_eq!(world.asks(12), Some(1));
    world.end(11);
    world.end(10);
    assert_eq!(world.asks(12), Some(1));
    world.start(13, 12);
    assert_eq!(world.asks(13), Some(1));
    assert_eq!(world.graph.take_emptied(), []);
}

#[test]
fn a_child_that_never_asked_is_a_member_by_its_fork() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    world.fork(11, 10);
    world.fork(12, 11);
    world.vanish(11);
    world.vanish(10);
    assert_eq!(world.asks(12), Some(1), "the fork was seen");
}

#[test]
fn forks_of_processes_that_ended_before_they_were_looked_at_count() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    // 11 forks 12 and ends, all before the events are read.
    world.start(11, 10);
    world.start(12, 11);
    world.vanish(11);
    world.graph.forked(10, 11, &world.table);
    world.graph.forked(11, 12, &world.table);
    world.graph.caught_up();
    assert_eq!(world.asks(12), Some(1));
    assert_eq!(world.graph.len(), 4, "1, 2, 10 and 12: nothing is kept of the one in the middle");
    assert_eq!(world.graph.members(view(1)), 2);
}

#[test]
fn where_forks_are_not_told_the_table_shows_children_of_members() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    world.start(11, 10);
    world.start(12, 11);
    world.start(20, 2);
    world.graph.look_around(&world.table);
    world.graph.look_around(&world.table);
    world.vanish(10);
    world.vanish(11);
    assert_eq!(world.asks(12), Some(1));
    assert_eq!(world.asks(20), None);
}

#[test]
fn unique_numbers_lead_through_parents_that_have_ended() {
    let mut world = World::new(true);
    world.start(10, 2);
    world.give(10, 1);
    world.start(11, 10);
    world.graph.look_around(&world.table);
    world.start(12, 11);
    world.end(11);
    world.start(13, 12);
    world.vanish(12);
    // Nobody has met 12, which was spawned by 11, which was met. 13 was spawned by 12: a gap.
    assert_eq!(world.asks(13), None);
    world.start(14, 10);
    world.end(10);
    assert_eq!(world.asks(14), Some(1), "its spawner is remembered");
}

#[test]
fn an_adopter_gives_its_view_to_nobody() {
    let mut world = World::new(true);
    world.start(10, 2);
    world.start(11, 10);
    world.give(2, 1);
    world.start(30, INIT);
    world.start(31, 30);
    world.vanish(30);
    // As a service manager in a view would adopt it.
    world.table.processes.lock().unwrap().iter_mut().for_each(|process| {
        if process.id.pid == 31 {
            process.parent = 2;
        }
    });
    assert_eq!(world.asks(31), None);
    assert_eq!(world.asks(11), Some(1));
}

#[test]
fn whoever_gets_the_pid_of_a_member_is_not_one() {
    for unique_numbers in [false, true] {
        let mut world = World::new(unique_numbers);
        world.start(10, 2);
        world.give(10, 1);
        world.start(11, 10);
        assert_eq!(world.asks(11), Some(1));
        world.vanish(11);
        world.start(11, 2);
        assert_eq!(world.asks(11), None);
        // Also when the one before was the one that the view was given to.
        world.vanish(10);
        world.start(10, 2);
        assert_eq!(world.asks(10), None);
        world.start(12, 10);
        assert_eq!(world.asks(12), None);
        world.graph.forked(2, 10, &world.table);
        assert_eq!(world.graph.take_emptied(), [view(1)]);
    }
}

#[test]
fn the_nearest_view_counts_and_gives_way_to_the_one_around_it() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.start(11, 10);
    world.start(12, 11);
    world.give(11, 2);
    world.give(10, 1);
    assert_eq!((world.asks(10), world.asks(11), world.asks(12)), (Some(1), Some(2), Some(2)));
    world.start(13, 12);
    world.give(12, 3);
    assert_eq!((world.asks(11), world.asks(12), world.asks(13)), (Some(2), Some(3), Some(3)));
    world.graph.take(view(2));
    // 11 had been in no view when it was given view 2.
    assert_eq!((world.asks(11), world.asks(12)), (None, Some(3)));
    world.graph.take(view(3));
    assert_eq!((world.asks(12), world.asks(13)), (None, None));
    world.graph.take(view(1));
    assert_eq!(world.asks(10), None);
    let mut world = World::new(false);
    world.start(10, 2);
    world.start(11, 10);
    world.give(10, 1);
    world.give(11, 2);
    world.graph.take(view(2));
    assert_eq!(world.asks(11), Some(1));
    assert_eq!(world.graph.members(view(1)), 2);
}

#[test]
fn a_process_is_given_one_view_and_must_exist() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    let table = &world.table;
    assert_eq!(world.graph.give(10, view(2), table), Err(GiveError::HasView(10)));
    assert_eq!(world.graph.give(99, view(2), table), Err(GiveError::NoProcess(99)));
    assert_eq!(world.graph.given_to(10), Some(view(1)));
    assert_eq!(world.graph.roots_of(view(1)), [10]);
    world.graph.take(view(1));
    assert_eq!(world.graph.given_to(10), None);
    world.give(10, 2);
    assert_eq!(world.asks(10), Some(2));
}

#[test]
fn a_view_is_empty_when_its_last_process_has_ended() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    world.fork(11, 10);
    world.fork(12, 11);
    world.end(10);
    world.end(12);
    assert_eq!(world.graph.take_emptied(), []);
    world.end(11);
    assert_eq!(world.graph.take_emptied(), [view(1)]);
    assert_eq!(world.graph.members(view(1)), 0);
}

#[test]
fn a_table_that_leads_in_a_circle_ends_the_search() {
    let mut world = World::new(false);
    world.start(10, 11);
    world.start(11, 10);
    world.table.processes.lock().unwrap().iter_mut().for_each(|process| process.id.start = 7);
    assert_eq!(world.asks(10), None);
}

#[test]
fn what_is_remembered_of_ended_processes_is_bounded() {
    let mut ended = Ended::default();
    for number in 0..2 * ENDED_MAX as u64 {
        ended.remember(number, view(1));
    }
    assert_eq!((ended.views.len(), ended.order.len()), (ENDED_MAX, ENDED_MAX));
    ended.replace(view(1), None);
    assert_eq!((ended.views.len(), ended.order.len()), (0, 0));
}

#[test]
fn of_processes_that_joined_a_view_those_that_ended_are_forgotten() {
    let mut world = World::new(true);
    world.start(10, 2);
    world.give(10, 1);
    world.start(20, 2);
    world.give(20, 2);
    for round in 0..100 {
        // From inside of another view.
        world.fork(30 + round, 20);
        world.give(30 + round, 1);
        assert_eq!(world.asks(30 + round), Some(1));
        assert_eq!(world.graph.roots_of(view(1)), [10, 30 + round]);
        assert_eq!(world.graph.given_to(30 + round), Some(view(1)));
        world.end(30 + round);
        assert_eq!(world.graph.given_to(30 + round), None);
    }
    assert_eq!(world.graph.roots.len(), 2);
    // The last one leaves what is around the view, for those that it has started.
    world.fork(11, 10);
    world.end(10);
    assert_eq!(world.graph.roots_of(view(1)), [0; 0]);
    assert_eq!(world.asks(11), Some(1));
    world.graph.take(view(1));
    assert_eq!(world.asks(11), None);
    assert_eq!(world.graph.roots.len(), 1);
}

#[test]
fn a_pid_that_was_given_a_view_and_is_somebody_elses_now_was_given_none() {
    let mut world = World::new(false);
    world.start(10, 2);
    world.give(10, 1);
    world.fork(11, 10);
    world.vanish(10);
    world.fork(10, 2);
    assert_eq!(world.asks(10), None);
    assert_eq!(world.graph.given_to(10), None);
    assert_eq!(world.graph.roots_of(view(1)), [0; 0]);
    assert_eq!(world.asks(11), Some(1));
}
