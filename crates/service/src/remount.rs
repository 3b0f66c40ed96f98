//! Making the mount of a runtime read-only or writable.
//!
//! Only a process inside the runtime's namespaces can do that, and the processes of an ordinary
//! user have no capabilities in there. A short-lived child of the serving process, which made the
//! namespaces' owner, gets them by joining. Joining needs a process with one thread.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use spfs_sys::mount::{self, MountError};

use crate::args::RemountArguments;
use crate::launch::DAEMON_NAME;

/// Where runtimes are mounted.
pub(crate) const MOUNTPOINT: &str = "/spfs";

/// The child's exit code that says "files are open for writing".
const BUSY: u8 = 16;

/// Why a mount could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemountError {
    #[error("no process of the runtime could be found in {namespace}")]
    Nobody { namespace: String },
    #[error("files are open for writing")]
    Busy,
    #[error("cannot start {}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot change the mount of the runtime: {reason}")]
    Failed { reason: String },
}

/// How often another process is tried when one has ended meanwhile.
const ATTEMPTS: usize = 5;

/// Changes the mount that is in `namespace`. `first` is the process to try first.
pub(crate) fn set_read_only(
    namespace: &str,
    first: u32,
    read_only: bool,
) -> Result<(), RemountError> {
    let is_there = |pid: u32| mount::namespace_id(pid).is_ok_and(|id| id == namespace);
    let mut failed = RemountError::Nobody { namespace: namespace.to_owned() };
    for _ in 0..ATTEMPTS {
        let found = || mount::processes_in_mount_namespace(namespace).ok()?.first().copied();
        let Some(pid) = Some(first).filter(|pid| is_there(*pid)).or_else(found) else { break };
        match run_child(namespace, pid, read_only) {
            Err(error @ RemountError::Failed { .. }) if !is_there(pid) => failed = error,
            other => return other,
        }
    }
    Err(failed)
}

fn run_child(namespace: &str, pid: u32, read_only: bool) -> Result<(), RemountError> {
    let program = own_program()
        .map_err(|source| RemountError::Start { program: DAEMON_NAME.into(), source })?;
    let mut command = Command::new(&program);
    command.arg0(DAEMON_NAME).arg("remount").arg("--pid").arg(pid.to_string());
    command.arg("--namespace").arg(namespace).arg("--target").arg(MOUNTPOINT);
    if read_only {
        command.arg("--read-only");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| RemountError::Start { program, source })?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(BUSY) => Err(RemountError::Busy),
        _ => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(RemountError::Failed { reason })
        }
    }
}

/// This program, also when its path cannot be seen from here: it may lie in a runtime.
fn own_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { spfs_sys::process::own_executable() }
}

/// The child.
pub(crate) fn main(arguments: &RemountArguments) -> ExitCode {
    match remount(arguments.pid, &arguments.namespace, &arguments.target, arguments.read_only) {
        Ok(()) => ExitCode::SUCCESS,
        Err(MountError::Busy { .. }) => ExitCode::from(BUSY),
        Err(error) => {
            crate::report(&crate::failure::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn remount(pid: u32, namespace: &str, target: &Path, read_only: bool) -> Result<(), MountError> {
    mount::join_namespaces(pid, Some(namespace))?;
    mount::set_read_only(target, read_only)
}
