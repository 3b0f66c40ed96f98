//! A router and real processes. What mounts show through it is tested with the daemon.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use spfs_sys::process::{End, ProcessId, System, end, identify};
use spfs_testkit::{ModelFs, wait_until};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const FOLLOW_MAX: usize = 1000;

struct World {
    router: Router<ModelFs>,
    emptied: Mutex<Emptied>,
    uid: u32,
}

fn fs() -> Arc<ModelFs> {
    Arc::new(ModelFs::with_system_clock())
}

impl World {
    fn new(follow_max: usize) -> Self {
        let uid = spfs_sys::ids::euid();
        let (router, emptied) =
            Router::start(uid, fs(), Box::new(System), follow_max).expect("threads can be started");
        Self { router, emptied: Mutex::new(emptied), uid }
    }

    fn asks(&self, pid: u32) -> u32 {
        self.router.of_caller(Caller { pid, uid: self.uid, gid: 0 }).number()
    }

    /// Whether a router here can know children whose parents have ended without having been asked.
    fn sees_all_forks(&self) -> bool {
        self.router.figures().sees_all_forks
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.router.stop();
    }
}

/// A shell that reads commands from the test. Its children end with it or are killed by the test.
struct Shell(Child);

impl Shell {
    fn new() -> Self {
        let mut command = Command::new("/bin/sh");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs a line and returns the number it prints.
    fn number(&mut self, line: &str) -> u32 {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A process that a test has to end.
struct Orphan(ProcessId);

impl Orphan {
    fn of(pid: u32) -> Self {
        Self(identify(pid).unwrap())
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // It may have ended.
        drop(end(self.0, End::Kill));
    }
}

/// Starts a process of which nobody in between lives, and prints its pid.
const ORPHAN: &str = "(sleep 1000 >/dev/null 2>&1 & echo $!)";
/// As a daemon does it: a new session, and parents that end.
const DAEMON: &str = "setsid sh -c '(setsid sleep 1000 >/dev/null 2>&1 & echo $!)'";

#[test]
fn a_view_is_inherited_and_nobody_else_has_it() {
    let world = World::new(FOLLOW_MAX);
    let (mut inside, mut outside) = (Shell::new(), Shell::new());
    let before = Orphan::of(inside.number("sleep 1000 >/dev/null & echo $!"));
    let view = world.router.add(inside.pid(), fs()).unwrap();
    let after = Orphan::of(inside.number("sleep 1000 >/dev/null & echo $!"));
    let stranger = Orphan::of(outside.number("sleep 1000 >/dev/null & echo $!"));
    for pid in [inside.pid(), before.0.pid, after.0.pid] {
        // Asked twice: looked up, and from the table.
        assert_eq!((world.asks(pid), world.asks(pid)), (view.number(), view.number()));
    }
    for pid in [outside.pid(), stranger.0.pid, std::process::id(), 1] {
        assert_eq!((world.asks(pid), world.asks(pid)), (0, 0));
    }
    assert_eq!(world.asks(0), 0, "the kernel");
    assert_eq!(world.asks(u32::MAX), 0, "nobody");
    let other_user = Caller { pid: inside.pid(), uid: world.uid + 1, gid: 0 };
    assert_eq!(world.router.of_caller(other_user), DEFAULT);
    assert_eq!(world.router.members(view), 3);
    assert!(matches!(
        world.router.add(inside.pid(), fs()),
        Err(RouteError::HasView { pid }) if pid == inside.pid()
    ));
    assert!(matches!(world.router.add(u32::MAX, fs()), Err(RouteError::NoProcess { .. })));
    assert_eq!(world.router.0.views.load().len(), 2, "what was refused leaves nothing");
    world.router.remove(view);
    assert_eq!((world.asks(inside.pid()), world.asks(after.0.pid)), (0, 0));
    assert!(world.router.view(view).is_none());
    inside.end();
    outside.end();
}

#[test]
fn orphans_and_daemons_that_never_asked_stay_in_the_view() {
    let world = World::new(FOLLOW_MAX);
    if !world.sees_all_forks() {
        return;
    }
    let mut shell = Shell::new();
    let view = world.router.add(shell.pid(), fs()).unwrap();
    let orphans = [Orphan::of(shell.number(ORPHAN)), Orphan::of(shell.number(DAEMON))];
    shell.end();
    for orphan in &orphans {
        assert_eq!(world.asks(orphan.0.pid), view.number());
    }
    assert!(world.emptied.lock().try_recv().is_err(), "two processes are in the view");
    drop(orphans);
    assert_eq!(world.emptied.lock().recv_timeout(LIMIT).unwrap(), view);
    assert_eq!(world.router.members(view), 0);
}

#[test]
fn where_forks_are_not_told_children_are_found_while_their_parents_live() {
    let uid = spfs_sys::ids::euid();
    let watcher = Watcher::without_forks().unwrap();
    let (router, emptied) =
        Router::start_with(watcher, uid, fs(), Box::new(System), FOLLOW_MAX).unwrap();
    let world = World { router, emptied: Mutex::new(emptied), uid };
    let mut shell = Shell::new();
    let view = world.router.add(shell.pid(), fs()).unwrap();
    let child = Orphan::of(shell.number("sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!; wait' &"));
    assert!(wait_until(LIMIT, || world.router.members(view) == 3), "{:?}", world.router);
    let middle = spfs_sys::process::describe(child.0.pid).unwrap().parent;
    drop(Orphan::of(middle));
    shell.end();
    assert!(wait_until(LIMIT, || world.router.members(view) == 1), "{:?}", world.router);
    assert_eq!(world.asks(child.0.pid), view.number());
    assert!(world.emptied.lock().try_recv().is_err());
    drop(child);
    assert_eq!(world.emptied.lock().recv_timeout(LIMIT).unwrap(), view);
}

#[test]
fn a_view_whose_processes_end_is_told_of() {
    for follow_max in [FOLLOW_MAX, 0] {
        let world = World::new(follow_max);
        let shells = [Shell::new(), Shell::new()];
        let views = shells.each_ref().map(|shell| world.router.add(shell.pid(), fs()).unwrap());
        let known = world.router.figures().processes;
        let [first, second] = shells;
        first.end();
        assert_eq!(world.emptied.lock().recv_timeout(LIMIT).unwrap(), views[0]);
        assert_eq!(world.asks(second.pid()), views[1].number());
        second.end();
        assert_eq!(world.emptied.lock().recv_timeout(LIMIT).unwrap(), views[1]);
        assert_eq!(world.router.figures().processes, known - 2, "nothing is kept of them");
    }
}

#[test]
fn without_descriptors_to_follow_processes_the_answers_are_the_same() {
    let world = World::new(0);
    let mut shell = Shell::new();
    let view = world.router.add(shell.pid(), fs()).unwrap();
    let child = Orphan::of(shell.number("sleep 1000 >/dev/null & echo $!"));
    for pid in [shell.pid(), child.0.pid] {
        assert_eq!((world.asks(pid), world.asks(pid)), (view.number(), view.number()));
    }
    assert_eq!(world.router.figures().followed, 0);
    shell.end();
}

#[test]
fn a_thread_is_where_its_process_is() {
    for follow_max in [FOLLOW_MAX, 0] {
        let world = World::new(follow_max);
        let view = world.router.add(std::process::id(), fs()).unwrap();
        let other = Shell::new();
        let inner = world.router.add(other.pid(), fs()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let thread = spfs_sys::process::thread_number();
                    assert_eq!(spfs_sys::process::process_of(thread).unwrap(), std::process::id());
                    let asked = (world.asks(thread), world.asks(thread));
                    assert_eq!(asked, (view.number(), view.number()));
                });
            }
        });
        assert_eq!(world.asks(other.pid()), inner.number());
        other.end();
    }
}

#[test]
fn views_change_while_callers_are_answered() {
    let world = World::new(FOLLOW_MAX);
    let shell = Shell::new();
    let view = world.router.add(shell.pid(), fs()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(world.asks(shell.pid()), view.number());
                }
            });
        }
        for _ in 0..50 {
            let other = Shell::new();
            let view = world.router.add(other.pid(), fs()).unwrap();
            assert_eq!(world.asks(other.pid()), view.number());
            world.router.remove(view);
            assert_eq!(world.asks(other.pid()), 0);
            other.end();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(world.router.0.views.load().len(), 2);
    shell.end();
}

#[test]
fn a_process_joins_a_view_that_is_there() {
    let world = World::new(FOLLOW_MAX);
    let (first, second) = (Shell::new(), Shell::new());
    let view = world.router.add(first.pid(), fs()).unwrap();
    world.router.join(second.pid(), view).unwrap();
    assert_eq!(world.asks(second.pid()), view.number());
    let mut roots = vec![first.pid(), second.pid()];
    roots.sort_unstable();
    assert_eq!(world.router.roots(view), roots);
    first.end();
    assert_eq!(world.asks(second.pid()), view.number());
    second.end();
    assert_eq!(world.emptied.lock().recv_timeout(LIMIT).unwrap(), view);
    world.router.remove(view);
    let third = Shell::new();
    assert!(matches!(world.router.join(third.pid(), view), Err(RouteError::NoView { .. })));
    third.end();
}

/// The pid that the kernel gives next can be chosen by root. Start times have a resolution of 10 ms:
/// real pids do not come back that fast, so that one is waited for.
fn start_with_pid_of(ended: ProcessId) -> Option<Shell> {
    for _ in 0..1000 {
        let last = (ended.pid - 1).to_string();
        std::fs::write("/proc/sys/kernel/ns_last_pid", last).ok()?;
        let shell = Shell::new();
        if shell.pid() == ended.pid && identify(ended.pid).unwrap() != ended {
            return Some(shell);
        }
        shell.end();
    }
    None
}

#[test]
fn whoever_gets_the_pid_of_a_member_does_not_get_its_view() {
    if !spfs_testkit::require_root() {
        return;
    }
    for follow_max in [FOLLOW_MAX, 0] {
        let world = World::new(follow_max);
        let mut root = Shell::new();
        let view = world.router.add(root.pid(), fs()).unwrap();
        let member = Orphan::of(root.number("sleep 1000 >/dev/null & echo $!"));
        let (id, pid) = (member.0, member.0.pid);
        assert_eq!(world.asks(pid), view.number());
        drop(member);
        assert_eq!(root.number("wait; echo 7"), 7);
        let Some(again) = start_with_pid_of(id) else {
            assert!(std::env::var_os("SPFS_TEST_REQUIRE_ROOT").is_none(), "pid {pid} is not given");
            return;
        };
        assert_eq!(world.asks(pid), 0);
        assert_eq!(world.asks(root.pid()), view.number());
        again.end();
        root.end();
    }
}
