//! Entering a runtime on Linux: a private mount namespace with the runtime at `/spfs`, in which
//! this process becomes the user's command.
//!
//! The process that enters is not the one that serves: it mounts, because a mount belongs to the
//! namespaces of whoever opened the FUSE device, and passes the device to the daemon, which stays
//! outside. So nothing of ours runs inside the namespace, and the mount ends with its last process.
//!
//! Only single-threaded processes may make a user namespace, so this is the work of a process that
//! was executed for nothing else.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spfs_repo::LiveEntry;
use spfs_sys::mount::{self, FuseMount, MountError, Namespaces};

use crate::mount_points::LiveShown;
use crate::record::{RecordError, RuntimeRecord};
use crate::startup::{Startup, StartupError};

mod handshake;

use handshake::Handshake;

/// What the mount table shows as the source of our mounts, and as their type after `fuse.`.
pub const MOUNT_SOURCE: &str = "spfs";

/// How long a daemon may take to load a stack before the wait is given up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything needed to enter a runtime whose daemon waits.
#[derive(Debug)]
pub struct EnterPlan {
    /// What to run in it; names the runtime, its folder and its mount point.
    pub startup: Startup,
    /// Whether the runtime may be written from the start.
    pub editable: bool,
    /// What it shows of the host, in the order of mounting.
    pub live: Vec<LiveMount>,
    /// This process's end of the socket pair with the daemon.
    pub handshake: OwnedFd,
    /// The daemon's log: its end is shown when the daemon fails.
    pub log: PathBuf,
    /// How long to wait for the daemon.
    pub patience: Duration,
}

/// A file or directory of the host that a runtime shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMount {
    /// The file or directory: an absolute path without symbolic links.
    pub source: PathBuf,
    /// Where it is shown; it must be there.
    pub target: PathBuf,
}

impl LiveMount {
    /// What a runtime that is mounted at `mountpoint` shows of the host, in the order of mounting;
    /// nothing when it has links to it.
    ///
    /// # Errors
    /// When the record's live layers cannot be read.
    pub fn all(record: &RuntimeRecord, mountpoint: &Path) -> Result<Vec<Self>, RecordError> {
        let mount = |entry: LiveEntry| Self {
            target: mountpoint.join(entry.dest.as_path()),
            source: entry.src,
        };
        if record.config.live_shown == LiveShown::Links {
            return Ok(Vec::new());
        }
        let layers = record.live_layers()?.into_iter();
        Ok(layers.flat_map(|layer| layer.contents).map(mount).collect())
    }
}

/// What is needed to join a runtime that runs.
#[derive(Debug)]
pub struct JoinPlan {
    /// What to run in it.
    pub startup: Startup,
    /// A process of the runtime.
    pub pid: u32,
    /// The mount namespace that it must be in.
    pub namespace: String,
}

/// Why a runtime could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// This user may not make the namespaces that a runtime needs.
    #[error("this machine does not let ordinary users make namespaces ({setting})")]
    Forbidden {
        /// The setting of the machine that forbids it.
        setting: String,
        /// What was refused.
        source: MountError,
    },
    /// A namespace or a mount could not be made.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The daemon cannot serve the runtime.
    #[error("{message}")]
    Refused {
        /// Why, in the daemon's words.
        message: String,
    },
    /// The daemon ended before it served the runtime.
    #[error("the process that serves the runtime has ended{}", said(log))]
    DaemonGone {
        /// The end of its log.
        log: String,
    },
    /// The daemon did not answer in time.
    #[error("the process that serves the runtime did not answer within {} s{}", waited.as_secs(), said(log))]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// The daemon could not be talked to.
    #[error("cannot talk to the process that serves the runtime")]
    Handshake {
        /// Why.
        source: io::Error,
    },
    /// The command could not be started.
    #[error(transparent)]
    Startup(#[from] StartupError),
}

fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; its last words:\n{log}") }
}

/// Makes the namespaces and the mount, waits until the daemon serves it, and becomes the command.
///
/// # Errors
/// Returns only when something failed; the caller should end then, and with it the namespaces.
pub fn enter(plan: EnterPlan) -> Result<Infallible, EnterError> {
    let mountpoint = plan.startup.mountpoint.clone();
    let cwd = std::env::current_dir().ok();
    let namespaces = mount::enter_private_namespace().map_err(explain)?;
    if namespaces == Namespaces::Mount {
        leave_outer_runtime(&mountpoint)?;
    }
    mount::ensure_mountpoint(&mountpoint)?;
    let device = mount::open_fuse_device()?;
    mount::mount_fuse(
        device.as_fd(),
        &mountpoint,
        &FuseMount {
            source: MOUNT_SOURCE,
            subtype: MOUNT_SOURCE,
            // In a user namespace there is nobody else to allow.
            allow_other: namespaces == Namespaces::Mount && spfs_sys::ids::euid() == 0,
            read_only: !plan.editable,
            max_read: None,
        },
    )?;
    let handshake = Handshake::new(plan.handshake, plan.patience, plan.log);
    handshake.offer(device)?;
    handshake.wait()?;
    show_live(&plan.live, plan.editable)?;
    move_into(&mountpoint, cwd.as_deref());
    Ok(plan.startup.prepare("")?.execute()?)
}

/// Enters the namespaces of a running runtime and becomes the command.
///
/// # Errors
/// As [`enter`].
pub fn join(plan: &JoinPlan) -> Result<Infallible, EnterError> {
    let cwd = std::env::current_dir();
    mount::join_namespaces(plan.pid, Some(&plan.namespace))?;
    // The other namespace begins at its root; the same folder may be missing there.
    stand_in(&plan.startup.mountpoint, cwd.ok().as_deref());
    let suffix = format!("-{}", std::process::id());
    Ok(plan.startup.prepare(&suffix)?.execute()?)
}

/// Mounts what the runtime shows of the host. A read-only runtime refuses writing there too.
fn show_live(live: &[LiveMount], editable: bool) -> Result<(), MountError> {
    for LiveMount { source, target } in live {
        mount::bind(source, target)?;
        mount::set_bound_read_only(source, target, !editable)?;
    }
    Ok(())
}

fn explain(source: MountError) -> EnterError {
    let refused = source.io_error().is_some_and(|e| {
        // ENOSPC: the limit of user namespaces is 0.
        matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull)
    });
    match mount::why_no_user_namespace().filter(|_| refused) {
        Some(setting) => EnterError::Forbidden { setting, source },
        None => source.into(),
    }
}

/// Takes the mounts of the runtimes around us out of the new namespace, so that they can end while
/// this one goes on. What came from a more privileged namespace the kernel holds fast (EINVAL), as
/// it does for everybody without privileges: the new mount covers it.
fn leave_outer_runtime(mountpoint: &Path) -> Result<(), MountError> {
    while mount::mounts()?
        .iter()
        .any(|entry| entry.target == mountpoint && entry.is_fuse() && entry.source == MOUNT_SOURCE)
    {
        match mount::detach(mountpoint) {
            Ok(()) => {}
            Err(held)
                if held.io_error().is_some_and(|e| e.kind() == io::ErrorKind::InvalidInput) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A process that stands below the mount point stands in what was there before, the empty folder
/// or the runtime around: it goes to the same place in the new mount.
fn move_into(mountpoint: &Path, cwd: Option<&Path>) {
    if cwd.is_some_and(|cwd| cwd.starts_with(mountpoint)) {
        stand_in(mountpoint, cwd);
    }
}

/// Goes to a folder; where it is missing, to the root of the runtime, and says so: a command that
/// means the folder it is started in must not do its work at the root of the machine.
fn stand_in(mountpoint: &Path, cwd: Option<&Path>) {
    if cwd.is_some_and(|cwd| std::env::set_current_dir(cwd).is_ok()) {
        return;
    }
    let missing = cwd.unwrap_or(Path::new("the folder this was started in"));
    let (missing, place) = (missing.display(), mountpoint.display());
    // Nothing is logged here: what follows is the command. Nobody may be reading, either.
    let _ = writeln!(io::stderr(), " WARN {missing} is not there: standing in {place}");
    if std::env::set_current_dir(mountpoint).is_err() {
        // The root always exists.
        drop(std::env::set_current_dir("/"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_daemon_are_shown() {
        let error = EnterError::DaemonGone { log: "no such layer".into() };
        assert_eq!(
            error.to_string(),
            "the process that serves the runtime has ended; its last words:\nno such layer"
        );
        let error = EnterError::TimedOut { waited: PATIENCE, log: String::new() };
        assert_eq!(
            error.to_string(),
            "the process that serves the runtime did not answer within 30 s"
        );
    }
}
