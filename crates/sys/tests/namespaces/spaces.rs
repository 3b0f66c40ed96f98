//! Private namespaces: what they separate, what they let in, who is in them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};
use spfs_sys::mount::{self, MountError, Namespaces};
use spfs_testkit::program::{
    As, GROUP, Helper, Running, Test, USER, can_mount_as_both, hear, run, say,
};

use crate::roots::{missing, private_root_of_root};

pub(crate) const TESTS: &[Test] = &[
    ("a_mount_in_a_private_namespace_is_seen_only_there", || for_both(private)),
    ("an_ordinary_user_keeps_its_ids_and_groups", ids_and_groups),
    ("mounts_made_outside_arrive_and_mounts_made_inside_stay", || for_both(propagation)),
    ("mounts_made_outside_arrive_in_a_private_root_too", || for_both(propagation_to_root)),
    ("a_process_with_threads_cannot_make_a_user_namespace", threads),
    ("another_process_can_join_by_pid", || for_both(join)),
    ("a_pid_in_another_namespace_is_not_joined", || for_both(moved)),
    ("the_members_of_a_namespace_are_found", || for_both(members)),
    ("a_privileged_process_can_move_to_another_mount_namespace", leave),
];

pub(crate) const HELPERS: &[Helper] = &[
    ("private", private_helper),
    ("ids_and_groups", ids_and_groups_helper),
    ("propagation_outer", propagation_outer),
    ("propagation_inner", propagation_inner),
    ("threads", threads_helper),
    ("joined", joined_helper),
    ("joining", joining_helper),
    ("moved", moved_helper),
    ("leave", leave_helper),
];

/// Runs a test body as root and as an ordinary user.
pub(crate) fn for_both(body: fn(As)) {
    if can_mount_as_both() {
        body(As::Caller);
        body(As::User);
    }
}

/// A folder that everybody may write to.
pub(crate) fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

pub(crate) fn mount_tmpfs(target: &Path) {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, c"mode=0777,size=1m").unwrap();
}

pub(crate) fn path(arguments: &[String]) -> PathBuf {
    PathBuf::from(&arguments[0])
}

fn private(who: As) {
    let dir = folder();
    let mut inside = Running::start("private", who, &[dir.path().to_str().unwrap()]);
    assert_eq!(inside.line(), "mounted");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the mount is seen outside");
    inside.tell("end");
    inside.finish();
}

fn private_helper(arguments: &[String]) {
    let (pid, dir) = (std::process::id(), path(arguments));
    let before = mount::namespace_id(pid).unwrap();
    let ids = (rustix::process::getuid(), rustix::process::getgid());
    let privileged = mount::am_privileged();
    assert_eq!(privileged, ids.0.is_root());
    let made = mount::enter_private_namespace().unwrap();
    assert_eq!(made == Namespaces::Mount, privileged);
    assert_eq!(std::process::id(), pid);
    assert_eq!((rustix::process::getuid(), rustix::process::getgid()), ids);
    let after = mount::namespace_id(pid).unwrap();
    assert_ne!(before, after);
    assert!(after.starts_with("mnt:[") && after.ends_with(']'), "{after}");
    mount_tmpfs(&dir);
    fs::write(dir.join("inside"), "").unwrap();
    say("mounted");
    hear();
}

fn ids_and_groups() {
    if !can_mount_as_both() {
        return;
    }
    let dir = folder();
    let file = dir.path().join("for-the-group");
    fs::write(&file, "text").unwrap();
    std::os::unix::fs::chown(&file, Some(0), Some(GROUP)).unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o640);
    fs::set_permissions(&file, mode).unwrap();
    run("ids_and_groups", As::User, &[dir.path().to_str().unwrap()]);
}

fn ids_and_groups_helper(arguments: &[String]) {
    let dir = path(arguments);
    assert_eq!(mount::enter_private_namespace().unwrap(), Namespaces::UserAndMount);
    for map in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        let text = fs::read_to_string(map).unwrap();
        let fields: Vec<_> = text.split_whitespace().collect();
        assert_eq!(fields, [&USER.to_string(), &USER.to_string(), "1"], "{map}");
    }
    assert_eq!(fs::read_to_string("/proc/self/setgroups").unwrap().trim(), "deny");
    // The group has no number in here, but goes on opening what it opened.
    assert_eq!(fs::read_to_string(dir.join("for-the-group")).unwrap(), "text");
    fs::write(dir.join("own"), "").unwrap();
    use std::os::unix::fs::MetadataExt;
    let own = fs::metadata(dir.join("own")).unwrap();
    assert_eq!((own.uid(), own.gid()), (USER, USER));
    // As every program the user starts in here: no capabilities left.
    let status = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    assert_eq!(effective.trim().trim_start_matches('0'), "");
}

fn propagation(who: As) {
    propagate(who, "same root");
}

fn propagation_to_root(who: As) {
    propagate(who, "private root");
}

fn propagate(who: As, root: &str) {
    let dir = folder();
    let who = if who == As::User { "user" } else { "caller" };
    run("propagation_outer", As::Caller, &[dir.path().to_str().unwrap(), who, root]);
}

/// Plays the machine: a namespace whose mounts are shared, as systemd sets it up.
fn propagation_outer(arguments: &[String]) {
    let dir = path(arguments);
    mount::enter_private_namespace().unwrap();
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
    for name in ["outside", "inside"] {
        fs::create_dir(dir.join(name)).unwrap();
        // Open for the user, who mounts on one of them.
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        fs::set_permissions(dir.join(name), mode).unwrap();
    }
    let who = if arguments[1] == "user" { As::User } else { As::Caller };
    let mut inner = Running::start("propagation_inner", who, &[&arguments[0], &arguments[2]]);
    assert_eq!(inner.line(), "entered");
    mount_tmpfs(&dir.join("outside"));
    fs::write(dir.join("outside/arrived"), "").unwrap();
    inner.tell("look");
    assert_eq!(inner.line(), "mounted");
    assert!(!dir.join("inside/stays").exists(), "a private mount came out");
    inner.finish();
}

fn propagation_inner(arguments: &[String]) {
    let dir = path(arguments);
    mount::enter_private_namespace().unwrap();
    if arguments[1] == "private root" {
        private_root_of_root(&missing());
    }
    say("entered");
    hear();
    assert!(dir.join("outside/arrived").exists(), "an automount would not arrive");
    mount_tmpfs(&dir.join("inside"));
    fs::write(dir.join("inside/stays"), "").unwrap();
    say("mounted");
    hear();
}

fn threads() {
    if can_mount_as_both() {
        run("threads", As::User, &[]);
    }
}

fn threads_helper(_arguments: &[String]) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receiver.recv());
    let error = mount::enter_private_namespace().unwrap_err();
    let code = error.io_error().and_then(std::io::Error::raw_os_error);
    assert_eq!(code, Some(rustix::io::Errno::INVAL.raw_os_error()), "{error}");
    drop(sender);
    thread.join().unwrap().unwrap_err();
}

fn join(who: As) {
    let dir = folder();
    let dir = dir.path().to_str().unwrap();
    let mut member = Running::start("joined", who, &[dir]);
    let namespace = member.line();
    run("joining", who, &[dir, &member.pid().to_string(), &namespace]);
    // What was made by the one who joined is seen by the member.
    member.tell("look");
    member.finish();
}

/// A member: mounts, tells its namespace, and waits.
fn joined_helper(arguments: &[String]) {
    let dir = path(arguments);
    mount::enter_private_namespace().unwrap();
    mount_tmpfs(&dir);
    fs::write(dir.join("member"), "").unwrap();
    say(&mount::namespace_id(std::process::id()).unwrap());
    if hear() == "look" {
        assert!(dir.join("joined").exists());
    }
}

fn joining_helper(arguments: &[String]) {
    let (dir, pid) = (path(arguments), arguments[1].parse().unwrap());
    assert!(!dir.join("member").exists());
    mount::join_namespaces(pid, Some(&arguments[2])).unwrap();
    assert_eq!(mount::namespace_id(std::process::id()).unwrap(), arguments[2]);
    assert!(dir.join("member").exists());
    fs::write(dir.join("joined"), "").unwrap();
    // Once more, from inside.
    mount::join_namespaces(pid, Some(&arguments[2])).unwrap();
}

fn moved(who: As) {
    let dir = folder();
    let member = Running::start("joined", who, &[dir.path().to_str().unwrap()]);
    let namespace = member.line();
    run("moved", who, &[&member.pid().to_string()]);
    let gone = member.pid();
    member.finish();
    let error = mount::join_namespaces(gone, Some(&namespace)).unwrap_err();
    assert!(matches!(error, MountError::Join { pid, .. } if pid == gone), "{error}");
}

fn moved_helper(arguments: &[String]) {
    let before = mount::namespace_id(std::process::id()).unwrap();
    let error = mount::join_namespaces(arguments[0].parse().unwrap(), Some("mnt:[1]")).unwrap_err();
    assert!(matches!(&error, MountError::Moved { expected, .. } if expected == "mnt:[1]"));
    assert_eq!(mount::namespace_id(std::process::id()).unwrap(), before);
}

fn members(who: As) {
    let dir = folder();
    let member = Running::start("joined", who, &[dir.path().to_str().unwrap()]);
    let namespace = member.line();
    assert_eq!(mount::namespace_id(member.pid()).unwrap(), namespace);
    assert_eq!(mount::processes_in_mount_namespace(&namespace).unwrap(), [member.pid()]);
    // Held, or another namespace could be given the same number.
    let held = fs::File::open(format!("/proc/{}/ns/mnt", member.pid())).unwrap();
    member.finish();
    assert_eq!(mount::processes_in_mount_namespace(&namespace).unwrap(), []);
    drop(held);
}

fn leave() {
    if can_mount_as_both() {
        let outside = mount::namespace_id(std::process::id()).unwrap();
        run("leave", As::Caller, &[&std::process::id().to_string(), &outside]);
    }
}

fn leave_helper(arguments: &[String]) {
    mount::enter_private_namespace().unwrap();
    assert_ne!(mount::namespace_id(std::process::id()).unwrap(), arguments[1]);
    mount::join_mount_namespace(arguments[0].parse().unwrap()).unwrap();
    assert_eq!(mount::namespace_id(std::process::id()).unwrap(), arguments[1]);
}
