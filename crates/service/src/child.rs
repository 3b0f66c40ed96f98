//! Short-lived children of a daemon, which do what only another process can: each is waited for, and
//! not for ever.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use spfs_sys::process::{End, end, identify, own_executable};

use crate::launch::DAEMON_NAME;
use crate::remount::RemountError;

/// How long a child may take: the kernel asks the daemon a few things for each of its files.
const LIMIT: Duration = Duration::from_secs(120);

/// How long the end of a child that was killed is waited for: what hangs in the kernel does not end.
const END_WAIT: Duration = Duration::from_secs(5);

/// Runs this program with `arguments` and returns what it said. It is told `input` when `known` was
/// called with its pid, and has to hear it all before it says anything.
pub(crate) fn run(
    arguments: impl FnOnce(&mut Command),
    known: &dyn Fn(u32) -> io::Result<()>,
    input: Vec<u8>,
) -> Result<Output, RemountError> {
    let program = own_program()
        .map_err(|source| RemountError::Start { program: DAEMON_NAME.into(), source })?;
    let mut command = Command::new(&program);
    arguments(command.arg0(DAEMON_NAME));
    let child = start(&mut command).map_err(|source| RemountError::Start { program, source })?;
    let knows = known(child.id());
    let input = if knows.is_ok() { input } else { Vec::new() };
    finish(child, input, LIMIT)
        .and_then(|output| knows.map(|()| output))
        .map_err(|error| RemountError::Failed { reason: error.to_string() })
}

/// This program, also when its path cannot be seen from here: it may lie in a runtime.
fn own_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { own_executable() }
}

fn start(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Waits for the end of a child. One that takes longer than `limit` is killed, and what it said by
/// then ends with that.
fn finish(mut child: Child, input: Vec<u8>, limit: Duration) -> io::Result<Output> {
    // It cannot be found when it has ended.
    let id = identify(child.id());
    let (done, ended) = mpsc::channel();
    std::thread::Builder::new().name("spfs-child".into()).spawn(move || {
        if let Some(mut stdin) = child.stdin.take() {
            // Who has ended does not listen, and says why.
            drop(stdin.write_all(&input));
        }
        drop(done.send(child.wait_with_output()));
    })?;
    if let Ok(output) = ended.recv_timeout(limit) {
        return output;
    }
    let late = format!("process {} took longer than {limit:?}", id.as_ref().map_or(0, |id| id.pid));
    if let Ok(id) = id {
        end(id, End::Kill)?;
    }
    match ended.recv_timeout(END_WAIT) {
        Ok(output) => output.map(|mut output| {
            output.stderr.extend_from_slice(late.as_bytes());
            output
        }),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, late)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, input: &[u8], limit: Duration) -> Output {
        let child = start(Command::new("sh").args(["-c", script])).unwrap();
        finish(child, input.to_vec(), limit).unwrap()
    }

    #[test]
    fn what_a_child_is_told_and_says_goes_through() {
        let long = vec![b'x'; 1 << 20];
        let output = shell("wc -c; echo why >&2; exit 3", &long, LIMIT);
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(3), &b"why\n"[..]));
        assert_eq!(output.stdout, b"1048576\n");
        assert_eq!(shell("exec <&-; exit 0", &long, LIMIT).status.code(), Some(0));
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended_and_that_is_said() {
        let begun = Instant::now();
        let limit = Duration::from_millis(300);
        for script in ["echo first; exec sleep 1000", "echo first; kill -STOP $$"] {
            let output = shell(script, &vec![0; 1 << 20], limit);
            assert_eq!((output.status.code(), output.stdout.as_slice()), (None, &b"first\n"[..]));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("took longer than 300ms"), "{said}");
        }
        assert!(begun.elapsed() < END_WAIT, "{:?}", begun.elapsed());
    }
}
