//! Daemons: processes that outlive the one that started them and keep nothing of it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{open_log, set_close_on_exec};

/// A process to start in a session of its own.
#[derive(Debug, Clone, Copy)]
pub struct Detached<'a> {
    /// The program; an absolute path, since the process starts in `/`.
    pub program: &'a Path,
    /// What it sees as argument zero.
    pub arg0: &'a OsStr,
    /// Its other arguments.
    pub arguments: &'a [OsString],
    /// Where its output goes (appended, made with mode 0600, and readable to it); nowhere when `None`.
    pub log: Option<&'a Path>,
    /// Descriptors that it inherits, under the numbers they have here. No other one is.
    pub inherit: &'a [BorrowedFd<'a>],
}

/// Starts a process that is nobody's child here: whoever waits for all its children does not meet
/// it, no terminal signal reaches it, and no descriptor of the caller stays open in it but those
/// listed. Returns its pid once the program runs.
///
/// # Errors
/// When it cannot be forked or the program cannot be executed.
pub fn spawn_detached(spec: &Detached<'_>) -> io::Result<u32> {
    let mut command = Command::new(spec.program);
    command.arg0(spec.arg0).args(spec.arguments).current_dir("/").stdin(Stdio::null());
    match spec.log {
        Some(path) => {
            let log = open_log(path)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        None => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    let (mut from_child, to_parent) = io::pipe()?;
    let report = OwnedFd::from(to_parent);
    let numbers: Vec<RawFd> = spec.inherit.iter().map(AsRawFd::as_raw_fd).collect();
    let prepare = move || {
        leave_parent(&report)?;
        keep_only(&numbers)
    };
    // SAFETY: between fork and exec only system calls are made, on values that exist already.
    unsafe { command.pre_exec(prepare) };
    let mut middle = command.spawn()?;
    drop(command);
    middle.wait()?;
    let mut pid = [0; 4];
    from_child.read_exact(&mut pid)?;
    Ok(u32::from_ne_bytes(pid))
}

/// In the child: becomes the grandchild, whose parent has ended, in a session without a terminal
/// that it cannot get back either (it does not lead the session). The child ends here, and the
/// grandchild tells its pid.
fn leave_parent(report: &OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: the process is a fresh fork with one thread, which goes on in the grandchild with
    // system calls only.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: ends this process at once and runs nothing of it.
        _ => unsafe { libc::_exit(0) },
    }
    rustix::io::write(report, &std::process::id().to_ne_bytes())?;
    Ok(())
}

/// Marks every descriptor but the standard ones and `numbers` to be closed by the exec. Callers
/// leave pipes open (make's job server, test harnesses), and would wait for the daemon to end.
fn keep_only(numbers: &[RawFd]) -> io::Result<()> {
    if !crate::platform::process::close_on_exec_from(3) {
        mark_one_by_one();
    }
    for &number in numbers {
        // SAFETY: the caller's borrow in `Detached::inherit` keeps it open, and fork copied it.
        set_close_on_exec(unsafe { BorrowedFd::borrow_raw(number) }, false)?;
    }
    Ok(())
}

/// Where the kernel has no call for all of them. Numbers above the limit can only be left over from
/// a time when it was higher.
fn mark_one_by_one() {
    const NUMBERS_MAX: u64 = 1 << 16;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let end = limit.unwrap_or(NUMBERS_MAX).min(NUMBERS_MAX) as RawFd;
    for number in 3..end {
        // SAFETY: fails cleanly on closed numbers and changes nothing but a flag.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
