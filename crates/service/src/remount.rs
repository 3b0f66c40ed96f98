//! Making the mount of a runtime read-only or writable.
//!
//! Only a process inside the runtime's namespaces can do that, and the processes of an ordinary
//! user have no capabilities in there. A short-lived child of the serving process, which made the
//! namespaces' owner, gets them by joining. Joining needs a process with one thread.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use spfs_runtime::enter::LiveMount;
use spfs_sys::mount::{self, MountError};

use crate::args::RemountArguments;
use crate::child;

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

/// Shows again what is shown of the host: the kernel takes a mount away when it forgets the name
/// that it stands on.
pub(crate) fn show_again(
    namespace: &str,
    first: u32,
    live: &[LiveMount],
    read_only: bool,
) -> Result<(), RemountError> {
    in_namespace(namespace, first, &|pid| {
        let mode: &[&str] = if read_only { &["--show", "--read-only"] } else { &["--show"] };
        run_child(namespace, pid, live, mode)
    })
}

/// Changes the mount that is in `namespace`, and what is shown of the host in it. `first` is the
/// process to try first.
pub(crate) fn set_read_only(
    namespace: &str,
    first: u32,
    live: &[LiveMount],
    read_only: bool,
) -> Result<(), RemountError> {
    in_namespace(namespace, first, &|pid| {
        run_child(namespace, pid, live, if read_only { &["--read-only"] } else { &[] })
    })
}

/// Does something to a process of a namespace that stays there until it is done.
pub(crate) fn in_namespace(
    namespace: &str,
    first: u32,
    work: &dyn Fn(u32) -> Result<(), RemountError>,
) -> Result<(), RemountError> {
    let is_there = |pid: u32| mount::namespace_id(pid).is_ok_and(|id| id == namespace);
    let mut failed = RemountError::Nobody { namespace: namespace.to_owned() };
    for _ in 0..ATTEMPTS {
        let found = || mount::processes_in_mount_namespace(namespace).ok()?.first().copied();
        let Some(pid) = Some(first).filter(|pid| is_there(*pid)).or_else(found) else { break };
        match work(pid) {
            Err(error @ RemountError::Failed { .. }) if !is_there(pid) => failed = error,
            other => return other,
        }
    }
    Err(failed)
}

fn run_child(
    namespace: &str,
    pid: u32,
    live: &[LiveMount],
    flags: &[&str],
) -> Result<(), RemountError> {
    let arguments = |command: &mut Command| {
        command.arg("remount").arg("--pid").arg(pid.to_string());
        command.arg("--namespace").arg(namespace).arg("--target").arg(MOUNTPOINT);
        command.args(flags);
        for LiveMount { source, target } in live {
            command.arg("--live").arg(source).arg(target);
        }
    };
    let output = child::run(arguments, &|_| Ok(()), Vec::new())?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(BUSY) => Err(RemountError::Busy),
        _ => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(RemountError::Failed { reason })
        }
    }
}

/// The child.
pub(crate) fn main(arguments: &RemountArguments) -> ExitCode {
    match remount(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(MountError::Busy { .. }) => ExitCode::from(BUSY),
        Err(error) => {
            crate::report(&crate::failure::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn remount(arguments: &RemountArguments) -> Result<(), MountError> {
    let RemountArguments { pid, namespace, target, read_only, show, live } = arguments;
    mount::join_namespaces(*pid, Some(namespace))?;
    let live: Vec<(&Path, &Path)> =
        live.chunks_exact(2).map(|pair| (pair[0].as_path(), pair[1].as_path())).collect();
    if *show {
        return show_missing(&live, *read_only);
    }
    if !read_only {
        mount::set_read_only(target, false)?;
        return set_live(&live, false);
    }
    set_live(&live, true)?;
    mount::set_read_only(target, true).inspect_err(|_| {
        // That error is the one to tell.
        drop(set_live(&live, false));
    })
}

fn show_missing(live: &[(&Path, &Path)], read_only: bool) -> Result<(), MountError> {
    for (source, target) in live {
        if mount::mount_at(target)?.is_none() {
            mount::bind(source, target)?;
            mount::set_bound_read_only(source, target, read_only)?;
        }
    }
    Ok(())
}

/// All or none.
fn set_live(live: &[(&Path, &Path)], read_only: bool) -> Result<(), MountError> {
    for (number, (source, target)) in live.iter().enumerate() {
        if let Err(error) = mount::set_bound_read_only(source, target, read_only) {
            for (source, target) in &live[..number] {
                drop(mount::set_bound_read_only(source, target, !read_only));
            }
            return Err(error);
        }
    }
    Ok(())
}
