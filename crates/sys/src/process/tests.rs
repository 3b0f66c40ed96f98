use super::*;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

const LIMIT: Duration = Duration::from_secs(20);

/// A child that waits until its standard input ends.
fn waiting() -> Child {
    Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn this_process_is_alive_and_its_identity_stays() {
    let me = identify(std::process::id()).unwrap();
    assert_eq!(me, identify(me.pid).unwrap());
    assert!(alive(me));
    assert!(!alive(ProcessId { start: me.start + 1, ..me }), "a pid that was given away again");
    assert!(list().unwrap().contains(&me.pid));
}

#[test]
fn the_parent_of_a_child_is_its_parent() {
    let mut child = waiting();
    let description = describe(child.id()).unwrap();
    assert_eq!(description.parent, std::process::id());
    assert_eq!(parent(child.id()).unwrap(), std::process::id());
    assert!(description.id.start >= identify(std::process::id()).unwrap().start);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn the_user_of_a_process_is_known() {
    let mut command = Command::new("/bin/cat");
    let other = if crate::ids::euid() == 0 { 54_321 } else { crate::ids::euid() };
    if crate::ids::euid() == 0 {
        command.uid(other).current_dir("/");
    }
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(user(child.id()).unwrap(), other);
    assert_eq!(user(std::process::id()).unwrap(), crate::ids::euid());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(user(0).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_ignored_signal_is_known_as_such() {
    // Nobody else here has to do with SIGURG, which does nothing by itself, and SIGCHLD.
    // SAFETY: no handler is involved.
    unsafe { libc::signal(libc::SIGURG, libc::SIG_IGN) };
    assert!(ignores_signal(libc::SIGURG).unwrap());
    assert!(!ignores_signal(libc::SIGCHLD).unwrap());
    assert_eq!(ignores_signal(-1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_zombie_does_not_live() {
    let mut child = waiting();
    let id = identify(child.id()).unwrap();
    assert!(alive(id) && exists(id.pid));
    assert!(!wait_for_end(id, Duration::ZERO).unwrap());
    drop(child.stdin.take());
    assert!(wait_for_end(id, LIMIT).unwrap(), "its end was not noticed");
    assert!(!alive(id) && !exists(id.pid), "only its status is left");
    child.wait().unwrap();
    assert!(!alive(id) && !exists(id.pid));
    assert_eq!(identify(id.pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(wait_for_end(id, LIMIT).unwrap());
}

#[test]
fn only_the_process_meant_is_ended() {
    let mut child = waiting();
    let id = identify(child.id()).unwrap();
    let other = ProcessId { start: id.start + 1, ..id };
    assert!(!end(other, End::Kill).unwrap());
    assert!(alive(id));
    assert!(end(id, End::Ask).unwrap());
    assert!(wait_for_end(id, LIMIT).unwrap());
    child.wait().unwrap();
    assert!(!end(id, End::Kill).unwrap());
}

#[test]
fn impossible_pids_are_not_found() {
    for pid in [0x7fff_ffff, u32::MAX] {
        assert_eq!(identify(pid).unwrap_err().kind(), io::ErrorKind::NotFound, "{pid}");
        assert!(!exists(pid));
        let id = ProcessId { pid, start: 1 };
        assert!(!alive(id) && !end(id, End::Kill).unwrap());
        assert!(wait_for_end(id, Duration::ZERO).unwrap());
    }
}

#[test]
fn descriptors_are_taken_once_and_only_when_they_came_through_exec() {
    for number in [-1, 0, 1, 2] {
        let error = take_inherited(number).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let own = tempfile::tempfile().unwrap();
    assert!(take_inherited(own.as_raw_fd()).is_err(), "it has an owner");
    // Without the flag it looks as one that was inherited.
    set_close_on_exec(&own, false).unwrap();
    let number = std::os::fd::IntoRawFd::into_raw_fd(own);
    let taken = take_inherited(number).unwrap();
    assert!(take_inherited(number).is_err(), "it was taken");
    drop(taken);
    assert!(take_inherited(number).is_err(), "it is closed");
}

#[test]
fn a_passed_descriptor_has_the_same_number_in_the_program() {
    let (mut reader, writer) = io::pipe().unwrap();
    let number = writer.as_raw_fd();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("echo passed > /dev/fd/{number}")]);
    pass_on(&mut command, writer.into());
    assert!(command.status().unwrap().success());
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "passed\n");
}

#[test]
fn the_executable_is_found() {
    assert!(own_executable().unwrap().exists());
}

fn daemon(script: &str, log: Option<&Path>, inherit: &[BorrowedFd<'_>]) -> io::Result<u32> {
    spawn_detached(&Detached {
        program: Path::new("/bin/sh"),
        arg0: OsStr::new("daemon-of-test"),
        arguments: &["-c".into(), script.into()],
        log,
        inherit,
    })
}

/// Reads a line that a daemon writes, or fails.
fn line(reader: io::PipeReader) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        sender.send(line).unwrap();
    });
    receiver.recv_timeout(LIMIT).expect("the daemon says nothing")
}

#[test]
fn a_detached_process_is_nobodys_child_in_a_session_of_its_own() {
    let (reader, writer) = io::pipe().unwrap();
    let script = format!(
        "echo $$ $PPID \"$(cut -d' ' -f6 /proc/$$/stat)\" > /dev/fd/{}",
        writer.as_raw_fd()
    );
    let pid = daemon(&script, None, &[writer.as_fd()]).unwrap();
    drop(writer);
    let line = line(reader);
    let numbers: Vec<u32> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [own, parent, session] = numbers[..] else { panic!("{line:?}") };
    assert_eq!(own, pid);
    assert_ne!(parent, std::process::id());
    assert_ne!(session, pid, "a session leader could get a terminal");
    let ours = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold spaces: state, parent, group, session. It is 0 when the leader
    // of the session lives outside of this pid namespace.
    let ours = ours.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
    assert_ne!(session.to_string(), ours);
}

#[test]
fn a_detached_process_keeps_no_descriptor_but_those_listed() {
    let (reader, writer) = io::pipe().unwrap();
    let (mut leak, leaked) = io::pipe().unwrap();
    set_close_on_exec(&leaked, false).unwrap();
    let (wait, go) = io::pipe().unwrap();
    let script = format!(
        "echo \"$(pwd) $(readlink /proc/$$/fd/0) $(ls /proc/$$/fd | tr '\\n' ' ')\" > /dev/fd/{}; \
         read line < /dev/fd/{}",
        writer.as_raw_fd(),
        wait.as_raw_fd()
    );
    let pid = daemon(&script, None, &[writer.as_fd(), wait.as_fd()]).unwrap();
    let id = identify(pid).unwrap();
    let own = [writer.as_raw_fd(), wait.as_raw_fd(), leaked.as_raw_fd()];
    drop((writer, wait, leaked));
    let line = line(reader);
    let mut words = line.split_whitespace();
    assert_eq!((words.next(), words.next()), (Some("/"), Some("/dev/null")));
    let open: Vec<RawFd> = words.map(|word| word.parse().unwrap()).collect();
    assert!(open.contains(&own[0]) && open.contains(&own[1]), "{open:?}");
    assert!(!open.contains(&own[2]), "a caller's pipe stays open in the daemon: {open:?}");
    // While the daemon lives, the other end of that pipe must already see its end.
    assert!(alive(id));
    assert_eq!(leak.read(&mut [0]).unwrap(), 0);
    drop(go);
    assert!(wait_for_end(id, LIMIT).unwrap());
}

#[test]
fn the_output_of_a_detached_process_goes_to_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::write(&log, "before\n").unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    daemon("echo out; echo error >&2", Some(&log), &[writer.as_fd()]).unwrap();
    drop(writer);
    // Ends when the daemon does.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\nout\nerror\n");
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error() {
    let missing = spawn_detached(&Detached {
        program: Path::new("/nowhere/program"),
        arg0: OsStr::new("program"),
        arguments: &[],
        log: None,
        inherit: &[],
    });
    assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn many_daemons_can_be_started_at_once() {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (mut reader, writer) = io::pipe().unwrap();
                let number = writer.as_raw_fd();
                let pid = daemon(&format!("echo $$ > /dev/fd/{number}"), None, &[writer.as_fd()])
                    .unwrap();
                drop(writer);
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                assert_eq!(text.trim(), pid.to_string());
            });
        }
    });
}

#[test]
fn executing_nothing_returns_the_reason() {
    let error = exec(OsStr::new("/nowhere/program"), &[], &[]);
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_name_can_be_set_for_this_process() {
    let mut command = Command::new("/bin/true");
    // SAFETY: the closure runs in the child, where it makes one system call.
    unsafe { command.pre_exec(|| set_name("spfs-fuse")) };
    assert!(command.status().unwrap().success());
    assert!(set_name("a\0b").is_err());
}

#[test]
fn whoever_adopts_orphans_is_the_parent_of_what_is_left() {
    const OTHER: &str = "SPFS_TEST_ADOPTS";
    if std::env::var_os(OTHER).is_none() {
        // In a process of its own: it goes for all threads, and orphans of other tests are not ours.
        let test = "process::tests::whoever_adopts_orphans_is_the_parent_of_what_is_left";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(OTHER, "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    if !adopt_orphans().unwrap() {
        return;
    }
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let orphan: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let id = identify(orphan).unwrap();
    assert_eq!(parent(orphan).unwrap(), std::process::id());
    assert!(end(id, End::Kill).unwrap());
    assert!(wait_for_end(id, LIMIT).unwrap());
}
