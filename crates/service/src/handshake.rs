//! The serving process's end of the start: it is given the mounted FUSE device by the process that
//! enters the runtime, and tells it when to go on.
//!
//! The other process sends one byte with the device, then the line `pid=<pid> mntns=<namespace>`.
//! The answer is the line `ok`, or `error <message>` with line ends written as `\n`.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the other process may take to make its namespaces and mount.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer lines are no lines of ours.
const LINE_BYTES_MAX: u64 = 256;

/// The connection to the process that enters the runtime.
#[derive(Debug)]
pub(crate) struct Handshake {
    stream: UnixStream,
}

/// What the process that enters the runtime has made.
#[derive(Debug)]
pub(crate) struct Entered {
    /// The FUSE device, mounted.
    pub(crate) device: OwnedFd,
    /// The process, which becomes the runtime's first command.
    pub(crate) pid: u32,
    /// The mount namespace it made.
    pub(crate) namespace: String,
}

impl Handshake {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { stream: socket.into() }
    }

    /// Waits for the device.
    pub(crate) fn receive(&self) -> io::Result<Entered> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let mut first = [0];
        let device = match spfs_sys::socket::recv_fd(&self.stream, &mut first)? {
            (1, Some(device)) => device,
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => return Err(invalid("no descriptor came with the first byte")),
        };
        let line = self.line()?;
        let mut words = line.split(' ');
        let pid = words.next().and_then(|word| word.strip_prefix("pid="));
        let namespace = words.next().and_then(|word| word.strip_prefix("mntns="));
        match (pid.and_then(|pid| pid.parse().ok()), namespace, words.next()) {
            (Some(pid), Some(namespace), None) => {
                Ok(Entered { device, pid, namespace: namespace.to_owned() })
            }
            _ => Err(invalid(&format!("unexpected line {line:?}"))),
        }
    }

    #[expect(
        clippy::unbuffered_bytes,
        reason = "a buffer would take bytes of what comes after the line"
    )]
    fn line(&self) -> io::Result<String> {
        let mut line = Vec::new();
        for byte in (&self.stream).take(LINE_BYTES_MAX).bytes() {
            match byte? {
                b'\n' => {
                    return String::from_utf8(line).map_err(|_| invalid("the line is no text"));
                }
                byte => line.push(byte),
            }
        }
        Err(invalid("the line has no end"))
    }

    /// Lets the other process go on.
    pub(crate) fn accept(mut self) -> io::Result<()> {
        self.stream.write_all(b"ok\n")
    }

    /// Tells the other process why it cannot go on.
    pub(crate) fn refuse(mut self, reason: &str) -> io::Result<()> {
        let reason = reason.replace('\\', "\\\\").replace('\n', "\\n");
        self.stream.write_all(format!("error {reason}\n").as_bytes())
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn pair() -> (UnixStream, Handshake) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        (theirs, Handshake::new(ours.into()))
    }

    #[test]
    fn the_device_and_its_namespace_arrive() {
        let (mut theirs, handshake) = pair();
        let device = File::open("/dev/null").unwrap();
        spfs_sys::socket::send_fd(&theirs, &[1], device.as_fd()).unwrap();
        theirs.write_all(b"pid=42 mntns=mnt:[4026531841]\n").unwrap();
        let entered = handshake.receive().unwrap();
        assert_eq!((entered.pid, entered.namespace.as_str()), (42, "mnt:[4026531841]"));
        handshake.accept().unwrap();
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ok\n");
    }

    #[test]
    fn a_refusal_is_one_line() {
        let (mut theirs, handshake) = pair();
        handshake.refuse("no layer\n  caused by a\\b").unwrap();
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "error no layer\\n  caused by a\\\\b\n");
    }

    #[test]
    fn a_process_that_goes_away_is_noticed() {
        let (theirs, handshake) = pair();
        drop(theirs);
        assert_eq!(handshake.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn anything_else_is_refused() {
        let device = File::open("/dev/null").unwrap();
        for bad in ["pid=x mntns=y\n", "mntns=y pid=1\n", "pid=1 mntns=y z\n", "pid=1 mntns=y"] {
            let (mut theirs, handshake) = pair();
            spfs_sys::socket::send_fd(&theirs, &[1], device.as_fd()).unwrap();
            theirs.write_all(bad.as_bytes()).unwrap();
            drop(theirs);
            assert_eq!(
                handshake.receive().unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{bad}"
            );
        }
        let (mut theirs, handshake) = pair();
        theirs.write_all(&[1]).unwrap();
        assert_eq!(handshake.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
