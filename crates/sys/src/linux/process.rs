//! Identity by pid and start time, from /proc; handles by pidfd.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process::{End, Process, ProcessId, alive};

pub(crate) fn describe(pid: u32) -> io::Result<Process> {
    // One read: a router asks this about every process it has not met. All fields together have
    // less than 52 numbers and a name of 64 bytes at most.
    let mut line = [0; 2048];
    let mut read = || File::open(format!("/proc/{pid}/stat"))?.read(&mut line);
    let size = read().map_err(|error| match Errno::from_io_error(&error) {
        // A process that ends between open and read.
        Some(Errno::SRCH) => Errno::NOENT.into(),
        _ => error,
    })?;
    let stat = line.get(..size).and_then(Stat::parse).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("cannot parse /proc/{pid}/stat"))
    })?;
    if matches!(stat.state, b'Z' | b'X' | b'x') {
        return Err(Errno::NOENT.into());
    }
    let id = ProcessId { pid, start: stat.start };
    Ok(Process { id, parent: stat.parent, spawner: None })
}

/// `Uid:` and the real, effective, saved and file system user, in proc_pid_status(5).
pub(crate) fn user(pid: u32) -> io::Result<u32> {
    describe(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    users.and_then(|users| users.split_ascii_whitespace().nth(1)?.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("cannot parse /proc/{pid}/status"))
    })
}

struct Stat {
    state: u8,
    parent: u32,
    start: u64,
}

impl Stat {
    /// `pid (name) state ppid … starttime …`: fields 3, 4 and 22 of proc(5). The name may contain
    /// blanks and parentheses, so counting starts behind the last one.
    fn parse(line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(line.get(end + 1..)?).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start })
    }
}

pub(crate) fn list() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

pub(crate) fn wait_for_end(id: ProcessId, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let Some(process) = open(id)? else {
        return Ok(true);
    };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn end(id: ProcessId, how: End) -> io::Result<bool> {
    let signal = match how {
        End::Ask => Signal::TERM,
        End::Kill => Signal::KILL,
    };
    let Some(process) = open(id)? else {
        return Ok(false);
    };
    match pidfd_send_signal(process.as_fd(), signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens exactly this process: the start time is compared after the descriptor exists, so that a
/// pid given away in between is noticed.
fn open(id: ProcessId) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(id.pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) if alive(id) => Ok(Some(process)),
        Ok(_) | Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// PR_SET_CHILD_SUBREAPER: kept by exec, not inherited by fork.
pub(crate) fn adopt_orphans() -> io::Result<bool> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(true)
}

pub(crate) fn set_name(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    Ok(rustix::thread::set_name(&name)?)
}

/// Marks all descriptors from `first` on to be closed by exec; false where the kernel is too old.
pub(crate) fn close_on_exec_from(first: u32) -> bool {
    let last = u32::MAX;
    // SAFETY: takes numbers only, and closes nothing now.
    let code =
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    code == 0
}

pub(crate) fn own_executable() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // A program that was replaced while it runs reads as `… (deleted)`; the link itself still
    // leads to it.
    if path.exists() { Ok(path) } else { Ok(PathBuf::from("/proc/self/exe")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identify;

    #[test]
    fn the_name_of_a_process_cannot_confuse_the_fields() {
        let tail = " S 12 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        for name in ["bash", "a) S 99 (b", "x y (z))", "\u{fffd} 1 2 3"] {
            let stat = Stat::parse(format!("42 ({name}){tail}").as_bytes()).unwrap();
            assert_eq!((stat.state, stat.parent, stat.start), (b'S', 12, 987_654), "{name}");
        }
        assert!(Stat::parse(b"42 (bash) S 12").is_none());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn the_start_time_differs_from_that_of_pid_one() {
        assert_ne!(identify(1).unwrap().start, identify(std::process::id()).unwrap().start);
    }
}
