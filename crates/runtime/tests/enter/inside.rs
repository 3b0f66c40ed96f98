//! What a command finds in a runtime.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use spfs_testkit::TreeBuilder;
use spfs_testkit::layers::Tree;
use spfs_testkit::program::{As, GROUP, Running, Test, USER, can_mount_as_both};

use crate::daemon::{Place, Runtime, ended, everywhere};

pub(crate) const TESTS: &[Test] = &[
    ("the_command_sees_the_runtime_and_nobody_else_does", || everywhere(the_runtime)),
    ("the_command_is_the_users_own_process", || everywhere(the_process)),
    ("status_and_signals_come_through", || everywhere(status)),
    ("a_runtime_that_is_not_editable_refuses_to_be_written", || everywhere(read_only)),
    ("an_editable_runtime_can_be_written", || everywhere(editable)),
    ("the_mount_is_made_writable_and_read_only_while_it_is_used", || everywhere(flag)),
    ("the_working_directory_stays_what_it_was", || everywhere(working_directory)),
    ("everything_else_of_the_machine_is_there", || everywhere(the_machine)),
    ("a_command_can_join_a_running_runtime", || everywhere(join)),
    ("scripts_of_the_layers_set_the_environment", || everywhere(scripts)),
    ("root_shares_its_runtime_with_other_users", other_users),
];

fn layer() -> Tree {
    TreeBuilder::new()
        .file("file", 0o644, *b"from the layer\n")
        .file("bin/tool", 0o755, *b"#!/bin/sh\necho \"tool $1\"\n")
        .dir("folder/below", 0o755)
        .build()
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

fn the_runtime(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let mountpoint = runtime.mountpoint();
    let script = format!(
        "cat {mountpoint}/file; {mountpoint}/bin/tool runs; ls {mountpoint}; read line; echo end"
    );
    let mut entered = runtime.enter(false, &sh(&script));
    for expected in ["from the layer", "tool runs", "bin", "file", "folder"] {
        assert_eq!(entered.running.line(), expected);
    }
    assert!(!Path::new(mountpoint).join("file").exists(), "the mount is seen outside");
    entered.running.tell("go on");
    assert_eq!(entered.running.line(), "end");
    entered.finish();
}

fn the_process(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let mountpoint = runtime.mountpoint();
    let group = runtime.home().join("group");
    fs::write(&group, "of the group").unwrap();
    chown(&group, Some(0), Some(GROUP)).unwrap();
    fs::set_permissions(&group, fs::Permissions::from_mode(0o640)).unwrap();
    let script = format!(
        "echo $$; echo $(id -u) $(id -g); echo $SPFS_RUNTIME; stat -c '%u %g' {mountpoint}/file; \
         cat {}; echo; readlink /proc/self/ns/mnt; ls -l /proc/self/fd | grep -c 'socket:\\|fuse'",
        group.display()
    );
    let entered = runtime.enter(false, &sh(&script));
    let pid = entered.running.pid();
    let id = if who == As::User { USER } else { 0 };
    assert_eq!(entered.running.line(), pid.to_string(), "the pid has changed");
    assert_eq!(entered.running.line(), format!("{id} {id}"));
    assert_eq!(entered.running.line(), "runtime-of-test");
    assert_eq!(entered.running.line(), format!("{id} {id}"));
    assert_eq!(entered.running.line(), "of the group");
    let namespace = entered.running.line();
    assert_eq!(entered.running.line(), "0", "a descriptor of ours is left in the command");
    // grep found nothing.
    let (served, status) = entered.status();
    assert_eq!(status.code(), Some(1));
    assert_eq!((served.pid, served.namespace), (pid, namespace), "what the daemon was told");
}

fn status(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    assert_eq!(runtime.enter(false, &sh("exit 37")).status().1.code(), Some(37));
    assert_eq!(runtime.enter(false, &sh("kill -KILL $$")).status().1.signal(), Some(9));
    assert_eq!(runtime.enter(false, &["/nowhere/command"]).status().1.code(), Some(127));
}

fn read_only(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let mountpoint = runtime.mountpoint();
    let script = format!(
        "for f in new file; do {{ echo x >{mountpoint}/$f; }} 2>&1 | grep -o 'Read-only file system'; \
         done; test -w {mountpoint} || echo not writable"
    );
    let entered = runtime.enter(false, &["bash", "-c", &script]);
    assert_eq!(entered.running.line(), "Read-only file system");
    assert_eq!(entered.running.line(), "Read-only file system");
    assert_eq!(entered.running.line(), "not writable");
    entered.finish();
    assert_eq!(runtime.view.change_count(), 0);
}

fn editable(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let mountpoint = runtime.mountpoint();
    let script = format!(
        "cd {mountpoint} && echo new >new && echo more >>file && rm -r folder && cat new file && ls"
    );
    let entered = runtime.enter(true, &sh(&script));
    for expected in ["new", "from the layer", "more", "bin", "file", "new"] {
        assert_eq!(entered.running.line(), expected);
    }
    entered.finish();
    assert!(runtime.view.change_count() > 0);
    // The changes are the view's: the next start shows them.
    let entered = runtime.enter(false, &sh(&format!("cat {mountpoint}/file")));
    assert_eq!(entered.running.line(), "from the layer");
    assert_eq!(entered.running.line(), "more");
    entered.finish();
}

fn flag(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let mountpoint = runtime.mountpoint();
    let script = format!(
        "readlink /proc/self/ns/mnt; while read word; do case $word in \
         open) exec 3>{mountpoint}/held && echo opened;; close) exec 3>&- && echo closed;; \
         write) echo x 2>/dev/null >{mountpoint}/new && echo written || echo refused;; esac; done"
    );
    let mut entered = runtime.enter(false, &["bash", "-c", &script]);
    let namespace = entered.running.line();
    let pid = entered.running.pid().to_string();
    let change = |flag: &str| {
        let helper = Running::start("flag", who, &[mountpoint, &pid, &namespace, flag]);
        let answer = helper.line();
        helper.finish();
        answer
    };
    let mut ask = |word: &str| {
        entered.running.tell(word);
        entered.running.line()
    };
    assert_eq!(ask("write"), "refused");
    assert_eq!(change("rw"), "done");
    assert_eq!(ask("write"), "written");
    assert_eq!(ask("open"), "opened");
    assert_eq!(change("ro"), format!("files in {mountpoint} are open for writing"));
    assert_eq!(ask("write"), "written");
    assert_eq!(ask("close"), "closed");
    assert_eq!(change("ro"), "done");
    assert_eq!(ask("write"), "refused");
    entered.finish();
}

fn working_directory(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let home = runtime.home();
    let deep = home.join("one/two");
    fs::create_dir_all(&deep).unwrap();
    fs::write(home.join("one/beside"), "relative\n").unwrap();
    let entered =
        runtime.enter_from(&deep, false, &sh("pwd -P; cat ../beside; cd ../../..; pwd -P"));
    assert_eq!(entered.running.line(), deep.to_str().unwrap());
    assert_eq!(entered.running.line(), "relative");
    assert_eq!(entered.running.line(), home.parent().unwrap().to_str().unwrap());
    entered.finish();
    let entered = runtime.enter_from(Path::new("/"), false, &sh("pwd -P; ls -d proc usr"));
    for expected in ["/", "proc", "usr"] {
        assert_eq!(entered.running.line(), expected);
    }
    entered.finish();
    if place == Place::Present {
        // The empty folder below the mount is left for the mount.
        let mountpoint = Path::new(runtime.mountpoint());
        let entered = runtime.enter_from(mountpoint, false, &sh("pwd -P; cat file; cat ./file"));
        assert_eq!(entered.running.line(), runtime.mountpoint());
        assert_eq!(entered.running.line(), "from the layer");
        assert_eq!(entered.running.line(), "from the layer");
        entered.finish();
    }
}

fn the_machine(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let count = fs::read_dir("/").unwrap().count() + usize::from(place == Place::Absent);
    let script = "ls -A / | wc -l; test -e /proc/self/status && test -d /sys/kernel && \
         echo x >/dev/null && head -c 4 /dev/zero | wc -c; readlink -f /bin/sh; \
         touch /.no 2>/dev/null || echo refused";
    let entered = runtime.enter(false, &sh(script));
    assert_eq!(entered.running.line(), count.to_string());
    assert_eq!(entered.running.line(), "4");
    assert_eq!(entered.running.line(), fs::canonicalize("/bin/sh").unwrap().to_str().unwrap());
    if who == As::User || place == Place::Absent {
        assert_eq!(entered.running.line(), "refused");
    }
    entered.finish();
    drop(fs::remove_file("/.no"));
}

fn join(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let mountpoint = runtime.mountpoint();
    let script = format!(
        "readlink /proc/self/ns/mnt; read line; cat {mountpoint}/joined; read line; cat {mountpoint}/file"
    );
    let mut entered = runtime.enter(true, &sh(&script));
    let namespace = entered.running.line();
    let pid = entered.running.pid();

    let script = format!(
        "echo $SPFS_RUNTIME; readlink /proc/self/ns/mnt; pwd -P; id -u; \
         echo hello >{mountpoint}/joined && echo done; read line; cat {mountpoint}/file"
    );
    let mut joined = runtime.join(&runtime.home(), pid, &namespace, &sh(&script));
    assert_eq!(joined.line(), "runtime-of-test");
    assert_eq!(joined.line(), namespace);
    assert_eq!(joined.line(), runtime.home().to_str().unwrap());
    assert_eq!(joined.line(), if who == As::User { USER.to_string() } else { "0".into() });
    assert_eq!(joined.line(), "done");
    let wrong = runtime.join(&runtime.home(), pid, "mnt:[1]", &sh("echo entered"));
    let expected = format!("error: process {pid} is not in the mount namespace mnt:[1] any more");
    assert_eq!(wrong.line(), expected);
    assert_eq!(wrong.status().code(), Some(1));

    entered.running.tell("look");
    assert_eq!(entered.running.line(), "hello");
    entered.running.tell("end");
    assert_eq!(entered.running.line(), "from the layer");
    // The first command ends; the runtime goes on with the one that joined.
    let daemon = entered.leave();
    assert!(!daemon.is_finished());
    joined.tell("look");
    assert_eq!(joined.line(), "from the layer");
    joined.finish();
    ended(daemon);
}

fn scripts(who: As, place: Place) {
    let layer = TreeBuilder::new()
        .file("etc/spfs/startup.d/20.sh", 0o644, *b"export TRACE=\"$TRACE two\"\n")
        .file("etc/spfs/startup.d/10.sh", 0o644, *b"export TRACE=one\n")
        .build();
    let runtime = Runtime::new(who, place, &layer);
    let entered = runtime.enter(false, &sh("echo $TRACE"));
    assert_eq!(entered.running.line(), "one two");
    entered.finish();
    let script = fs::metadata(runtime.folder().join("startup.sh")).unwrap();
    assert_eq!(
        (script.mode() & 0o7777, script.uid()),
        (0o600, if who == As::User { USER } else { 0 })
    );
}

fn other_users() {
    if !can_mount_as_both() {
        return;
    }
    let runtime = Runtime::new(As::Caller, Place::Present, &layer());
    let script = format!(
        "setpriv --reuid {USER} --regid {USER} --clear-groups cat {}/file",
        runtime.mountpoint()
    );
    let entered = runtime.enter(false, &sh(&script));
    assert_eq!(entered.running.line(), "from the layer");
    entered.finish();
}
