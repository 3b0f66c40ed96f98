//! Starts, ends and crashes.

use std::path::Path;
use std::process::Command;

use spfs_model::Digest;
use spfs_runtime::{MountBackend, NewRuntime, RuntimeStatus};
use spfs_sys::process::End;
use spfs_testkit::environment::is_root;
use spfs_testkit::ops::Rng;
use spfs_testkit::program::{Test, say};
use spfs_testkit::wait_until;

use crate::ends::{SIGNALS, send};
use crate::helpers::DO_NOT_ENTER;
use crate::world::{LIMIT, World, named, outcome};

pub(crate) const TESTS: &[Test] = &[
    ("life::a_read_only_runtime_shows_its_layers_and_leaves_nothing", read_only),
    ("life::status_and_signals_of_the_command_come_through", status_of_the_command),
    ("life::a_runtime_that_cannot_start_says_why_and_leaves_nothing", cannot_start),
    ("life::a_process_that_does_not_enter_leaves_nothing", nobody_enters),
    ("life::the_daemon_holds_nothing_of_its_caller", holds_nothing),
    ("life::a_killed_daemon_leaves_a_crashed_runtime_that_runs_again", killed),
    ("life::killing_the_daemon_again_and_again_loses_nothing", killed_repeatedly),
    ("life::a_durable_runtime_is_kept", durable),
    ("life::an_asked_daemon_ends_and_takes_a_transient_runtime_with_it", asked_to_end),
    ("life::a_shutdown_is_refused_while_the_runtime_is_used", shutdown),
    ("life::a_runtime_in_a_runtime_outlives_it", nested),
    ("life::what_an_earlier_daemon_left_is_cleaned", leftovers),
];

fn read_only() {
    let world = World::new();
    let layer = world.layer(&[("dir/a", "one\n"), ("b", "two")]);
    for backend in [MountBackend::FuseWithScratch, MountBackend::FuseOnly] {
        let new = NewRuntime { editable: false, backend, ..world.new_runtime("one", &[layer]) };
        let script = "cat /spfs/dir/a; ls /spfs; touch /spfs/x; spfs edit on";
        let mut command = world.start(new, script);
        let done = outcome(command.env("LC_ALL", "C"));
        assert!(done.err.contains("Read-only file system"), "{done:#?}");
        let last = done.out.lines().last().unwrap();
        match backend {
            MountBackend::FuseOnly => {
                assert!(last.contains("FAILED Unsupported") && last.contains("FuseWithScratch"));
            }
            _ => assert_eq!(last, "changed=true durable=false"),
        }
        assert!(done.out.starts_with("one\nb\ndir\n"), "{done:#?}");
        world.vanishes("one");
    }
}

fn status_of_the_command() {
    let world = World::new();
    assert_eq!(world.run("one", &[], "exit 7").code, Some(7));
    let done = world.run("two", &[], "kill -TERM $$");
    assert_eq!(done.code, None, "it ended by a signal: {done:#?}");
    world.vanishes("one");
    world.vanishes("two");
}

fn cannot_start() {
    let world = World::new();
    let missing = Digest::of(b"no such layer");
    let done = world.run("one", &[missing], "echo never");
    assert!(
        done.out.contains("NOT ENTERED") && done.out.contains(&missing.to_string()),
        "{done:#?}"
    );
    assert_eq!(done.code, Some(1));
    world.vanishes("one");
    // The daemon could open its first files, and not all it needs.
    for files in [16, 32] {
        let command = world.start(world.new_runtime("one", &[]), "echo never");
        let done = outcome(&mut with_few_files(files, &command));
        assert!(
            done.out.contains("NOT ENTERED")
                && done.out.contains(&format!("limit is {files}: raise the hard limit")),
            "{done:#?}"
        );
        world.vanishes("one");
    }
}

fn with_few_files(files: u32, command: &Command) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={files}")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

fn nobody_enters() {
    let world = World::new();
    let mut command = world.start(world.new_runtime("one", &[]), "echo never");
    assert_eq!(outcome(command.env(DO_NOT_ENTER, "1")).code, Some(1));
    world.vanishes("one");
}

fn holds_nothing() {
    let world = World::new();
    // `output` waits for the end of both pipes, which the daemon must not hold; the sleeper keeps
    // it alive.
    let script = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
    let done = world.run("one", &[], script);
    let sleeper = spfs_sys::process::identify(done.out.trim().parse().unwrap()).unwrap();
    assert_eq!(world.status("one"), Some(RuntimeStatus::Running));
    assert!(spfs_sys::process::end(sleeper, End::Kill).unwrap());
    world.vanishes("one");
}

fn killed() {
    let world = World::new();
    let layer = world.layer(&[("a", "one"), ("b", "two")]);
    let script = "echo new >/spfs/new; echo changed >/spfs/a; rm /spfs/b; echo ready; read line; \
                  cat /spfs/new; spfs status; echo ended";
    let command = world.start(world.new_runtime("one", &[layer]), script);
    let mut inside = world.spawn(command);
    assert_eq!(inside.line(), "ready");
    world.end_daemon("one", End::Kill);
    let Some(RuntimeStatus::Crashed { changes: Some(changes) }) = world.status("one") else {
        panic!("{:?}", world.status("one"))
    };
    assert!(changes >= 3, "{changes}");
    inside.tell("go on");
    let rest = inside.finish();
    assert!(rest.starts_with("NO ANSWER") && rest.ends_with("ended\n"), "{rest}");
    let mut again = world.start_again("one", "cat /spfs/new /spfs/a; spfs diff");
    outcome(&mut again).says(&["new", "changed", "~a -b +new"]);
    world.vanishes("one");
}

/// Processes that work at the same time.
const WORKERS: u32 = 3;

/// What the processes of a run have checked.
#[derive(Debug, Default)]
struct Checked {
    steps: usize,
    names: usize,
    bytes: usize,
}

/// Kills the daemon while several processes write, `SPFS_TEST_KILLS` times; each time the runtime
/// runs again, its processes first check that all that was acknowledged is there.
fn killed_repeatedly() {
    let kills: u32 = std::env::var("SPFS_TEST_KILLS").ok().map_or(4, |text| text.parse().unwrap());
    let world = World::new();
    let notes = world.path("notes");
    std::fs::create_dir(&notes).unwrap();
    let script = |how: &str| {
        format!(
            "pids=; for id in $(seq {WORKERS}); do \
             $SELF --helper load $id {} {how} & pids=\"$pids $!\"; done; \
             for pid in $pids; do wait $pid || echo failed; done; echo end",
            notes.display()
        )
    };
    let new = NewRuntime { durable: true, ..world.new_runtime("one", &[]) };
    let mut command = world.start(new, &script("killed"));
    let mut rng = Rng::new(kills.into());
    let mut checked = Checked::default();
    for round in 1..=kills {
        let mut inside = world.spawn(command);
        (0..WORKERS).for_each(|_| checked.add(&inside.line()));
        // A random moment: after so many bytes of their logs.
        let moment = noted(&notes) + u64::from(rng.below(30_000));
        assert!(wait_until(LIMIT, || noted(&notes) >= moment), "{}", world.log("one"));
        world.end_daemon("one", End::Kill);
        assert_eq!(inside.finish(), "end\n", "{checked:?}");
        // The last one is asked to end, which loses nothing either.
        let how = if round == kills { "asked" } else { "killed" };
        command = world.start_again("one", &script(how));
    }
    let mut inside = world.spawn(command);
    (0..WORKERS).for_each(|_| checked.add(&inside.line()));
    world.end_daemon("one", End::Ask);
    assert_eq!(inside.finish(), "end\n", "{checked:?}");
    world.becomes("one", RuntimeStatus::Saved);
    let done = outcome(&mut world.start_again("one", &script("checked")));
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines.len() == WORKERS as usize + 1 && lines.last() == Some(&"end"), "{done:#?}");
    lines[..WORKERS as usize].iter().for_each(|line| checked.add(line));
    say(&format!("{kills} kills: {checked:?}"));
    assert!(checked.steps > kills as usize && checked.bytes > 0, "{checked:?}");
}

impl Checked {
    /// `line`: what a process said when it had checked.
    fn add(&mut self, line: &str) {
        let numbers: Vec<usize> = line.split(' ').skip(1).flat_map(str::parse).collect();
        let [steps, names, bytes] = numbers[..] else { panic!("a process failed: {line}") };
        self.steps += steps;
        self.names += names;
        self.bytes += bytes;
    }
}

/// How many bytes the logs have.
fn noted(notes: &Path) -> u64 {
    let logs = std::fs::read_dir(notes).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.map(|path| path.metadata().unwrap().len()).sum()
}

fn durable() {
    let world = World::new();
    let new = NewRuntime { durable: true, ..world.new_runtime("one", &[]) };
    outcome(&mut world.start(new, "echo kept >/spfs/file"));
    world.becomes("one", RuntimeStatus::Saved);
    outcome(&mut world.start_again("one", "cat /spfs/file")).says(&["kept"]);
    world.becomes("one", RuntimeStatus::Saved);
    // A runtime can also become durable while it runs.
    world
        .run("two", &[], "spfs edit keep; echo too >/spfs/file")
        .says(&["changed=false durable=true"]);
    world.becomes("two", RuntimeStatus::Saved);
    outcome(&mut world.start_again("two", "cat /spfs/file")).says(&["too"]);
}

fn asked_to_end() {
    let world = World::new();
    for (durable, signal) in [false, true].into_iter().flat_map(|d| SIGNALS.map(|s| (d, s))) {
        let new = NewRuntime { durable, ..world.new_runtime("one", &[]) };
        let script = "exec 5>/spfs/file; echo content >&5; echo ready; read line; cat /spfs/file";
        let mut inside = world.spawn(world.start(new, script));
        assert_eq!(inside.line(), "ready");
        let daemon = world.daemon("one");
        send(signal, daemon.pid);
        assert!(spfs_sys::process::wait_for_end(daemon, LIMIT).unwrap(), "{signal}");
        inside.tell("go on");
        assert_eq!(inside.finish(), "", "the mount is gone");
        if durable {
            world.becomes("one", RuntimeStatus::Saved);
            outcome(&mut world.start_again("one", "cat /spfs/file")).says(&["content"]);
            world.becomes("one", RuntimeStatus::Saved);
            world.runtimes.discard(&named("one")).unwrap();
        } else {
            world.vanishes("one");
        }
    }
}

fn shutdown() {
    let world = World::new();
    let script = "spfs shutdown; ls /spfs; spfs shutdown force; echo after";
    let done = world.run("one", &[], script);
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("FAILED Busy"), "{done:#?}");
    assert_eq!(lines[1..], ["ending", "after"]);
    world.vanishes("one");
}

fn nested() {
    let world = World::new();
    let (outer, inner) = (world.layer(&[("outer", "")]), world.layer(&[("inner", "")]));
    drop(world.runtimes.create(world.new_runtime("inner", &[inner])).unwrap());
    let script = "ls /spfs; \
                  $SELF --helper start inner fresh editable \
                  sh -c 'ls /spfs; cd /spfs; echo x >file; cat file; read line; ls /spfs' & \
                  wait; ls /spfs";
    let mut inside = world.spawn(world.start(world.new_runtime("outer", &[outer]), script));
    assert_eq!(inside.line(), "outer");
    assert_eq!(inside.line(), "inner");
    assert_eq!(inside.line(), "x");
    assert_eq!(inside.finish(), "file\ninner\nouter\n");
    world.vanishes("inner");
    world.vanishes("outer");
    if !is_root() {
        // For them the outer runtime ends no earlier than the inner one.
        return;
    }
    drop(world.runtimes.create(world.new_runtime("inner", &[inner])).unwrap());
    let script = "$SELF --helper start inner fresh editable \
                  sh -c 'echo ready; sleep 1000 </dev/null >/dev/null 2>&1 & echo $!' & wait";
    let mut inside = world.spawn(world.start(world.new_runtime("outer", &[outer]), script));
    assert_eq!(inside.line(), "ready");
    let sleeper = spfs_sys::process::identify(inside.line().parse().unwrap()).unwrap();
    inside.finish();
    world.vanishes("outer");
    assert_eq!(world.status("inner"), Some(RuntimeStatus::Running));
    assert!(spfs_sys::process::end(sleeper, End::Kill).unwrap());
    world.vanishes("inner");
}

fn leftovers() {
    let world = World::new();
    let orphan = world.path("storage/runtimes/orphan");
    drop(world.run("one", &[], "true"));
    world.vanishes("one");
    std::fs::create_dir(&orphan).unwrap();
    std::fs::write(orphan.join("scratch"), "left").unwrap();
    // A socket that an earlier daemon of the same name left is in nobody's way.
    let new = NewRuntime { durable: true, ..world.new_runtime("two", &[]) };
    let mut inside = world.spawn(world.start(new, "echo ready; read line"));
    assert_eq!(inside.line(), "ready");
    assert!(wait_until(LIMIT, || !orphan.exists()), "{}", world.log("two"));
    world.end_daemon("two", End::Kill);
    drop(inside);
    assert!(world.path("storage/runtimes/two/control.sock").exists());
    let done = outcome(&mut world.start_again("two", "spfs status"));
    assert!(done.out.starts_with("pid="), "{done:#?}");
}
