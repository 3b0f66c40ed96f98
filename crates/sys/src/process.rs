//! Processes: who they are, whether they live, and how to start one that outlives its parent.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

use crate::platform;

mod spawn;
mod watch;
pub use spawn::{Detached, spawn_detached};
pub use watch::{
    Followed, Fork, Forks, Processes, System, Watcher, Woken, is_thread_of, process_of,
    thread_number,
};

/// Names one process for as long as the machine runs, however often its pid is given away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The number that the system calls take.
    pub pid: u32,
    /// What tells this process from others that had or will have the same pid: on Linux the time
    /// of its start in clock ticks since boot, on macOS the kernel's unique process number.
    pub start: u64,
}

/// What the kernel tells of a living process, to any other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// The process.
    pub id: ProcessId,
    /// The pid of its parent now: the one that adopted it when its own parent has ended.
    pub parent: u32,
    /// The `start` of the process that spawned it, which a later adoption does not change. Only
    /// macOS remembers it.
    pub spawner: Option<u64>,
}

/// Returns the identity and the parent of a process.
///
/// # Errors
/// `NotFound` when there is no such process, or only its exit status is left.
pub fn describe(pid: u32) -> io::Result<Process> {
    platform::process::describe(pid)
}

/// Returns the identity of a process.
///
/// # Errors
/// As [`describe`].
pub fn identify(pid: u32) -> io::Result<ProcessId> {
    Ok(describe(pid)?.id)
}

/// Returns the pid of the parent that a process has now.
///
/// # Errors
/// As [`describe`].
pub fn parent(pid: u32) -> io::Result<u32> {
    Ok(describe(pid)?.parent)
}

/// Returns the effective user of a process.
///
/// # Errors
/// As [`describe`].
pub fn user(pid: u32) -> io::Result<u32> {
    platform::process::user(pid)
}

/// Returns whether this very process still runs. A zombie does not.
pub(crate) fn alive(id: ProcessId) -> bool {
    identify(id.pid).is_ok_and(|found| found == id)
}

/// Returns whether any process has this pid now, maybe another one than the caller thinks of, and
/// whether or not it can be seen from here. A zombie does not count.
pub fn exists(pid: u32) -> bool {
    if describe(pid).is_ok() {
        return true;
    }
    // Where /proc hides the processes of others (hidepid), the kernel still tells that it is there.
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    number.is_some_and(|number| rustix::process::test_kill_process(number) == Err(Errno::PERM))
}

/// Returns the pids of all processes that can be seen from here.
///
/// # Errors
/// When the process table cannot be read.
pub fn list() -> io::Result<Vec<u32>> {
    platform::process::list()
}

/// Waits until a process has ended, at most for `limit`, and returns whether it has.
///
/// # Errors
/// When the kernel cannot watch it.
pub fn wait_for_end(id: ProcessId, limit: Duration) -> io::Result<bool> {
    platform::process::wait_for_end(id, limit)
}

/// How to end a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM: it may finish what it does.
    Ask,
    /// SIGKILL.
    Kill,
}

/// Sends a signal that ends exactly this process, and returns whether it was there to receive it.
///
/// # Errors
/// `PermissionDenied` for processes of others.
pub fn end(id: ProcessId, how: End) -> io::Result<bool> {
    platform::process::end(id, how)
}

/// Returns whether this process ignores a signal, as whoever started it may have decided (nohup, or
/// a shell for what it runs in the background).
///
/// # Errors
/// `InvalidInput` when there is no such signal.
pub fn ignores_signal(number: i32) -> io::Result<bool> {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed, and the buffer is for exactly what is written to it.
    let code = unsafe { libc::sigaction(number, std::ptr::null(), found.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain numbers and a function pointer that may be absent: zeros, and what was written,
    // are values.
    let found = unsafe { found.assume_init() };
    Ok(found.sa_sigaction == libc::SIG_IGN)
}

/// Makes this process, and the program that it executes next, the parent of every descendant whose
/// own parent ends, in place of the first process of the machine. Returns whether there is such a
/// thing here; only Linux has it.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn adopt_orphans() -> io::Result<bool> {
    platform::process::adopt_orphans()
}

/// Sets the name by which tools like `ps` and `top` list this process, where it is not the name of
/// the executable. The kernel keeps 15 bytes of it.
///
/// # Errors
/// `InvalidInput` for a name with a NUL byte.
pub fn set_name(name: &str) -> io::Result<()> {
    platform::process::set_name(name)
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Sets whether a descriptor is closed when this process executes another program. Everything that
/// Rust opens is; set it back only right before an exec.
///
/// # Errors
/// When the descriptor is not open.
pub(crate) fn set_close_on_exec(fd: impl AsFd, close: bool) -> io::Result<()> {
    let flags = if close { FdFlags::CLOEXEC } else { FdFlags::empty() };
    Ok(fcntl_setfd(fd, flags)?)
}

/// Takes over a descriptor that this process inherited by its number, and closes it on exec from
/// now on. Each number may be taken once, before anything else uses it: it is what a parent of our
/// own making passed in an argument.
///
/// # Errors
/// `InvalidInput` for standard input, output, error and negative numbers; `EBADF` when it is not
/// open.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {number} cannot be passed on"),
        ));
    }
    // SAFETY: a borrow for one call that fails cleanly on a closed descriptor.
    let probe = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(probe)?;
    if flags.contains(FdFlags::CLOEXEC) {
        // What came through an exec has the flag off: this one was opened by ourselves and has
        // an owner already.
        return Err(Errno::BADF.into());
    }
    fcntl_setfd(probe, FdFlags::CLOEXEC)?;
    // SAFETY: it is open and, having come through exec, belongs to no value of this process; the
    // flag set above refuses a second taker.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets the program that `command` executes inherit a descriptor under the number it has here.
/// It is kept open as long as the command.
pub fn pass_on(command: &mut Command, fd: OwnedFd) {
    use std::os::unix::process::CommandExt;
    let keep = move || set_close_on_exec(&fd, false);
    // SAFETY: one fcntl, which is async-signal-safe.
    unsafe { command.pre_exec(keep) };
}

/// Returns the path of the running executable, or `/proc/self/exe` when it was replaced on disk.
///
/// # Errors
/// When the system does not tell.
pub fn own_executable() -> io::Result<std::path::PathBuf> {
    platform::process::own_executable()
}

/// Replaces this process by another program, with an argument zero of its own. Returns only when
/// that fails.
pub fn exec(
    program: &OsStr,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Error {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.exec()
}

/// The number of an owned descriptor as an argument for the process that inherits it.
pub fn number_of(fd: impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

#[cfg(test)]
mod tests;
