//! The entering process's end of the start: it gives the mounted FUSE device to the daemon and
//! waits until that serves it.
//!
//! One byte carries the device; then comes the line `pid=<pid> mntns=<namespace>`. The answer is the
//! line `ok`, or `error <message>` with line ends written as `\n` and backslashes as `\\`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::EnterError;

/// Longer answers are cut off: a message is a few lines.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How much of the daemon's log is shown when it fails.
const LOG_BYTES_MAX: u64 = 4096;
const LOG_LINES_MAX: usize = 10;

#[derive(Debug)]
pub(super) struct Handshake {
    stream: UnixStream,
    patience: Duration,
    log: PathBuf,
}

impl Handshake {
    pub(super) fn new(socket: OwnedFd, patience: Duration, log: PathBuf) -> Self {
        Self { stream: socket.into(), patience, log }
    }

    /// Sends the device and closes it here: the daemon's end must be the only one, or its death
    /// would leave the mount waiting instead of failing.
    pub(super) fn offer(&self, device: OwnedFd) -> Result<(), EnterError> {
        let pid = std::process::id();
        let send = || {
            let namespace = spfs_sys::mount::namespace_id(pid)?;
            self.stream.set_write_timeout(Some(self.patience))?;
            spfs_sys::socket::send_fd(&self.stream, &[1], device.as_fd())?;
            (&self.stream).write_all(format!("pid={pid} mntns={namespace}\n").as_bytes())
        };
        send().map_err(|error| self.failed(error))
    }

    pub(super) fn wait(&self) -> Result<(), EnterError> {
        let answer = self.answer().map_err(|error| self.failed(error))?;
        match answer.strip_suffix(b"\n") {
            Some(b"ok") => Ok(()),
            Some(line) => match line.strip_prefix(b"error ") {
                Some(message) => Err(EnterError::Refused { message: unescape(message) }),
                None => Err(self.failed(io::ErrorKind::InvalidData.into())),
            },
            None => Err(EnterError::DaemonGone { log: self.last_words() }),
        }
    }

    /// Reads up to the first line end, or to the end.
    fn answer(&self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.patience;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(b"\n") && answer.len() < ANSWER_BYTES_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match (&self.stream).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }

    fn failed(&self, source: io::Error) -> EnterError {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, WouldBlock};
        match source.kind() {
            BrokenPipe | ConnectionReset => EnterError::DaemonGone { log: self.last_words() },
            TimedOut | WouldBlock => {
                EnterError::TimedOut { waited: self.patience, log: self.last_words() }
            }
            _ => EnterError::Handshake { source },
        }
    }

    fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES_MAX)))?;
            let mut text = Vec::new();
            file.take(LOG_BYTES_MAX).read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        // Without a log the error alone has to do.
        let text = read().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }
}

fn unescape(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
