//! A runtime started in a runtime.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use spfs_testkit::TreeBuilder;
use spfs_testkit::layers::Tree;
use spfs_testkit::program::{As, Running, Test, can_mount_as_both};

use crate::daemon::{Place, Runtime, Start, ended, everywhere};

pub(crate) const TESTS: &[Test] = &[
    ("a_runtime_in_a_runtime_hides_it_until_it_ends", || everywhere(hides)),
    ("the_inner_runtime_finds_the_same_directory_or_stands_in_its_root", || everywhere(directory)),
    ("roots_inner_runtime_does_not_hold_the_outer_one", lets_go),
    ("what_the_kernel_holds_fast_is_covered", || everywhere(held_fast)),
];

fn layer(name: &str) -> Tree {
    TreeBuilder::new()
        .file("name", 0o644, format!("{name}\n").into_bytes())
        .file("both/name", 0o644, format!("{name}\n").into_bytes())
        .dir(&format!("only-{name}"), 0o755)
        .build()
}

/// Two runtimes at one mount point, as all runtimes of a machine are.
fn pair(who: As, place: Place) -> (Runtime, Runtime) {
    let outer = Runtime::new(who, place, &layer("outer"));
    let inner = outer.another(&layer("inner"));
    (outer, inner)
}

/// The command line of the helper that enters, for a shell in another runtime.
fn enter_command(runtime: &Runtime, socket: i32, command: &str) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    let arguments = runtime.enter_arguments("read-only", socket, &["sh", "-c", command]);
    let arguments: Vec<String> = arguments.iter().map(quote).collect();
    let program = std::env::current_exe().unwrap();
    format!("'{}' --helper enter {}", program.display(), arguments.join(" "))
}

/// Enters the outer runtime with a script in which `INNER` enters the inner one with `command`.
fn start(outer: &Runtime, inner: &Runtime, script: &str, command: &str) -> Started {
    let (serving, inner_serving) = (outer.serve(), inner.serve());
    let socket = inner_serving.socket.as_raw_fd();
    let script = script.replace("INNER", &enter_command(inner, socket, command));
    let command = ["bash", "-c", &script];
    let mut start = Start::new(serving.socket, &command);
    start.inherited.push(inner_serving.socket);
    let running = outer.start(start);
    Started { running, outer: serving.daemon, inner: inner_serving.daemon }
}

struct Started {
    running: Running,
    outer: std::thread::JoinHandle<crate::daemon::Served>,
    inner: std::thread::JoinHandle<crate::daemon::Served>,
}

fn hides(who: As, place: Place) {
    let (outer, inner) = pair(who, place);
    let mountpoint = outer.mountpoint();
    let started = start(
        &outer,
        &inner,
        &format!("cat {mountpoint}/name; INNER; cat {mountpoint}/name; ls {mountpoint}"),
        &format!("cat {mountpoint}/name; ls {mountpoint}"),
    );
    for expected in ["outer", "inner", "both", "name", "only-inner", "outer", "both", "name"] {
        assert_eq!(started.running.line(), expected);
    }
    ended(started.inner);
    started.running.finish();
    ended(started.outer);
}

fn directory(who: As, place: Place) {
    let (outer, inner) = pair(who, place);
    let mountpoint = outer.mountpoint();
    for (from, there, shows) in [
        ("both", format!("{mountpoint}/both"), "name"),
        // The inner runtime has no such directory: its root takes its place.
        ("only-outer", mountpoint.to_owned(), "only-inner"),
    ] {
        let started = start(
            &outer,
            &inner,
            &format!("cd {mountpoint}/{from} && INNER; pwd -P"),
            &format!("pwd -P; ls -d {shows}"),
        );
        assert_eq!(started.running.line(), there);
        assert_eq!(started.running.line(), shows);
        // The shell around still stands where it stood.
        assert_eq!(started.running.line(), format!("{mountpoint}/{from}"));
        ended(started.inner);
        started.running.finish();
        ended(started.outer);
    }
}

/// As root the inner runtime takes the mount of the outer one out of its namespace.
fn lets_go() {
    if !can_mount_as_both() {
        return;
    }
    let (outer, inner) = pair(As::Caller, Place::Present);
    let mountpoint = outer.mountpoint();
    let marker = outer.home().join("go on");
    let mut started = start(
        &outer,
        &inner,
        // The outer command ends at once; the inner one goes on by itself.
        "INNER <&0 & exit 0",
        &format!(
            "grep -c ' {mountpoint} ' /proc/self/mountinfo; \
             while ! test -e '{}'; do read line; done; cat {mountpoint}/name",
            marker.display()
        ),
    );
    assert_eq!(started.running.line(), "1", "the outer mount is still there");
    ended(started.outer);
    fs::write(&marker, "").unwrap();
    started.running.tell("look");
    assert_eq!(started.running.line(), "inner");
    ended(started.inner);
    assert!(Path::new(mountpoint).is_dir());
    started.running.finish();
}

/// Root of a user namespace is privileged in there, and yet may not uncover what lies below the
/// mounts that it was given.
fn held_fast(who: As, place: Place) {
    let (outer, inner) = pair(who, place);
    let mountpoint = outer.mountpoint();
    let started = start(
        &outer,
        &inner,
        &format!("unshare --user --map-root-user INNER; cat {mountpoint}/name"),
        &format!("cat {mountpoint}/name"),
    );
    assert_eq!(started.running.line(), "inner");
    assert_eq!(started.running.line(), "outer");
    ended(started.inner);
    started.running.finish();
    ended(started.outer);
}
