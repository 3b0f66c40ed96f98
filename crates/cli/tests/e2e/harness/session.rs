//! A shell that stays in a runtime while the test looks on from outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::command::Spfs;
use super::{LIMIT, Outcome};

/// A running shell, driven through its standard input.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// Ends the output of each command; followed by its status.
const MARK: &str = "--spfs-e2e-end--";

impl Session {
    pub(super) fn start(spfs: Spfs) -> Self {
        let mut command = spfs.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut session = Self { child, stdin, lines };
        session.ok("true");
        session
    }

    /// Runs a command in the shell; its standard error is part of the output.
    pub(crate) fn sh(&mut self, command: &str) -> Outcome {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{{ {command}\n}} 2>&1 </dev/null; echo \"{MARK}$?\"").unwrap();
        let mut output = String::new();
        loop {
            let line = self
                .lines
                .recv_timeout(LIMIT)
                .unwrap_or_else(|error| panic!("{command}: {error}, after {output:?}"));
            if let Some((last, code)) = line.split_once(MARK) {
                output.push_str(last);
                let code = code.parse().unwrap();
                return Outcome { code, stdout: output, stderr: String::new() };
            }
            output.push_str(&line);
            output.push('\n');
        }
    }

    /// Runs a command that must succeed and returns its output.
    pub(crate) fn ok(&mut self, command: &str) -> String {
        let outcome = self.sh(command);
        assert_eq!(outcome.code, 0, "{command}: {}", outcome.stdout);
        outcome.stdout
    }

    /// Runs a command that must fail and returns its output.
    pub(crate) fn fails(&mut self, command: &str) -> String {
        let outcome = self.sh(command);
        assert_ne!(outcome.code, 0, "{command}: {}", outcome.stdout);
        outcome.stdout
    }

    /// Ends the shell and waits for it.
    pub(crate) fn end(mut self) -> i32 {
        self.stdin = None;
        self.wait()
    }

    fn wait(&mut self) -> i32 {
        let mut status = None;
        super::wait_for("the session to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stdin = None;
        if matches!(self.child.try_wait(), Ok(None)) && std::thread::panicking() {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}
