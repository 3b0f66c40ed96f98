use super::*;
use std::fs;
use std::io::BufRead;
use std::thread;

const PATIENCE: Duration = Duration::from_secs(20);

fn pair(patience: Duration) -> (UnixStream, Handshake, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (theirs, ours) = UnixStream::pair().unwrap();
    (theirs, Handshake::new(ours.into(), patience, dir.path().join("daemon.log")), dir)
}

#[test]
fn the_device_is_offered_with_pid_and_namespace_and_closed_here() {
    let (theirs, ours, _dir) = pair(PATIENCE);
    let (mut reader, writer) = io::pipe().unwrap();
    ours.offer(writer.into()).unwrap();
    let mut first = [0];
    let (count, device) = spfs_sys::socket::recv_fd(&theirs, &mut first).unwrap();
    assert_eq!((count, first), (1, [1]));
    let mut line = String::new();
    io::BufReader::new(&theirs).read_line(&mut line).unwrap();
    let pid = std::process::id();
    let namespace = spfs_sys::mount::namespace_id(pid).unwrap();
    assert_eq!(line, format!("pid={pid} mntns={namespace}\n"));
    // The daemon's end is the only one: the pipe ends with it.
    drop(device.expect("the descriptor"));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn ok_lets_the_process_go_on() {
    let (mut theirs, ours, _dir) = pair(PATIENCE);
    let daemon = thread::spawn(move || {
        theirs.write_all(b"o").unwrap();
        theirs.write_all(b"k\n").unwrap();
        theirs
    });
    ours.wait().unwrap();
    drop(daemon.join().unwrap());
}

#[test]
fn a_refusal_is_told_in_the_daemons_words() {
    let (mut theirs, ours, _dir) = pair(PATIENCE);
    theirs.write_all(b"error no layer\\n  caused by a\\\\b\n").unwrap();
    let error = ours.wait().unwrap_err();
    assert!(
        matches!(&error, EnterError::Refused { message } if message == "no layer\n  caused by a\\b")
    );
    assert_eq!(error.to_string(), "no layer\n  caused by a\\b");
}

#[test]
fn the_last_lines_of_a_dead_daemons_log_are_told() {
    for answer in ["", "erro", "ok"] {
        let (mut theirs, ours, dir) = pair(PATIENCE);
        let lines: String = (0..1000).map(|n| format!("line {n} of a long log\n")).collect();
        fs::write(dir.path().join("daemon.log"), lines + "cannot open the payloads").unwrap();
        theirs.write_all(answer.as_bytes()).unwrap();
        drop(theirs);
        let error = ours.wait().unwrap_err();
        let EnterError::DaemonGone { log } = error else { panic!("{error}") };
        assert_eq!(log.lines().count(), LOG_LINES_MAX);
        assert!(log.ends_with("line 999 of a long log\ncannot open the payloads"), "{log}");
    }
}

#[test]
fn a_daemon_that_is_gone_before_the_offer_is_told_too() {
    let (theirs, ours, _dir) = pair(PATIENCE);
    drop(theirs);
    let device = tempfile::tempfile().unwrap();
    let error = ours.offer(device.into()).unwrap_err();
    assert!(matches!(&error, EnterError::DaemonGone { log } if log.is_empty()), "{error}");
}

#[test]
fn a_silent_daemon_is_not_waited_for_for_ever() {
    let (mut theirs, ours, _dir) = pair(Duration::from_millis(20));
    theirs.write_all(b"o").unwrap();
    let error = ours.wait().unwrap_err();
    assert!(matches!(&error, EnterError::TimedOut { .. }), "{error}");
}

#[test]
fn other_answers_are_errors() {
    for answer in ["\n", "okay\n", "error\n"] {
        let (mut theirs, ours, _dir) = pair(PATIENCE);
        theirs.write_all(answer.as_bytes()).unwrap();
        let error = ours.wait().unwrap_err();
        assert!(matches!(&error, EnterError::Handshake { .. }), "{answer:?}: {error}");
    }
}
