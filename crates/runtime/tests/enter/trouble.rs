//! Starts that fail: always with a reason, never by waiting for ever.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use spfs_testkit::TreeBuilder;
use spfs_testkit::layers::Tree;
use spfs_testkit::program::{As, LIMIT, Test, can_mount_as_both};

use crate::daemon::{Place, Runtime, Start, everywhere};

pub(crate) const TESTS: &[Test] = &[
    ("the_daemons_reason_is_told", || everywhere(refused)),
    ("a_daemon_that_dies_is_told_with_its_last_words", || everywhere(dies)),
    ("a_silent_daemon_is_given_up", || everywhere(silent)),
    ("a_daemon_that_is_gone_already_is_told", || everywhere(gone)),
    ("a_process_with_threads_is_told_that_it_cannot", threads),
    ("a_mount_point_that_is_a_file_is_named", || everywhere(file)),
    ("processes_are_told_when_the_daemon_dies_later", || everywhere(later)),
];

fn layer() -> Tree {
    TreeBuilder::new().file("file", 0o644, *b"content\n").build()
}

/// Enters with a daemon that receives everything and then does `what` with the device still open.
fn enter_with(
    runtime: &Runtime,
    what: impl FnOnce(UnixStream, std::os::fd::OwnedFd) + Send + 'static,
) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let daemon = std::thread::spawn(move || {
        ours.set_read_timeout(Some(LIMIT)).unwrap();
        let (_, device) = spfs_sys::socket::recv_fd(&ours, &mut [0]).unwrap();
        let mut line = String::new();
        BufReader::new(&ours).read_line(&mut line).unwrap();
        what(ours, device.unwrap());
    });
    let command = ["echo", "the command runs"];
    let start = Start { mode: "impatient", ..Start::new(theirs.into(), &command) };
    let running = runtime.start(start);
    let line = running.line();
    assert_eq!(running.status().code(), Some(1));
    daemon.join().unwrap();
    line
}

fn refused(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let line = enter_with(&runtime, |mut socket, _device| {
        socket.write_all(b"error layer ABCD is missing\n").unwrap();
    });
    assert_eq!(line, "error: layer ABCD is missing");
}

fn dies(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    fs::write(runtime.folder().join("daemon.log"), "the disk is full\n").unwrap();
    let line = enter_with(&runtime, |_socket, _device| {});
    assert_eq!(line, "error: the process that serves the runtime has ended; its last words:");
}

fn silent(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let line = enter_with(&runtime, |socket, _device| {
        // Until the other end gives up.
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut nothing = String::new();
        assert_eq!(BufReader::new(&socket).read_line(&mut nothing).unwrap(), 0);
    });
    assert_eq!(line, "error: the process that serves the runtime did not answer within 0 s");
}

fn gone(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let running = runtime.start(Start::new(theirs.into(), &["true"]));
    assert_eq!(running.line(), "error: the process that serves the runtime has ended");
    assert_eq!(running.status().code(), Some(1));
}

fn threads() {
    if !can_mount_as_both() {
        return;
    }
    let runtime = Runtime::new(As::User, Place::Present, &layer());
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let start = Start { helper: "enter_with_threads", ..Start::new(theirs.into(), &["true"]) };
    let running = runtime.start(start);
    assert_eq!(running.line(), "error: cannot create a private mount namespace (unshare)");
    assert_eq!(running.status().code(), Some(1));
}

fn file(who: As, place: Place) {
    if place == Place::Absent {
        return;
    }
    let runtime = Runtime::new(who, place, &layer());
    fs::remove_dir(runtime.mountpoint()).unwrap();
    fs::write(runtime.mountpoint(), "").unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let running = runtime.start(Start::new(theirs.into(), &["true"]));
    let expected = format!("error: cannot use {} as mount point", runtime.mountpoint());
    assert_eq!(running.line(), expected);
    assert_eq!(running.status().code(), Some(1));
}

/// The daemon says that it serves and then closes the device, as its death does.
fn later(who: As, place: Place) {
    let runtime = Runtime::new(who, place, &layer());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let script = format!(
        "read line; ls {} 2>&1 | grep -o 'endpoint is not connected'",
        runtime.mountpoint()
    );
    let mut running = runtime.start(Start::new(theirs.into(), &["sh", "-c", &script]));
    ours.set_read_timeout(Some(LIMIT)).unwrap();
    let (_, device) = spfs_sys::socket::recv_fd(&ours, &mut [0]).unwrap();
    let mut line = String::new();
    BufReader::new(&ours).read_line(&mut line).unwrap();
    // The shell looks for startup scripts: it gets the error, and goes on.
    drop(device);
    let mut stream = &ours;
    stream.write_all(b"ok\n").unwrap();
    running.tell("look");
    assert_eq!(running.line(), "endpoint is not connected");
    running.finish();
    assert!(!Path::new(runtime.mountpoint()).join("file").exists());
}
