//! Mounts and mount namespaces.
//!
//! On Linux a private view of the file system is a mount namespace: [`enter_private_namespace`],
//! [`ensure_mountpoint`], [`open_fuse_device`], [`mount_fuse`]. These change the calling thread's
//! view of the world and are for small single-threaded helpers that execute another program next.
//! No function here touches the content of a FUSE mount: it could wait for a server that is not
//! there (or for its own caller).

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::platform;

/// Whether each process can have mounts of its own here. Otherwise one mount shows all runtimes.
pub const HAS_NAMESPACES: bool = platform::mount::HAS_NAMESPACES;

/// What can fail in this module.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A namespace could not be made.
    #[error("cannot create a private mount namespace ({step})")]
    Namespace {
        /// The system call or file that refused.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A namespace of another process could not be entered.
    #[error("cannot enter the namespaces of process {pid} ({step})")]
    Join {
        /// The process.
        pid: u32,
        /// The system call or file that refused.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A process is in another mount namespace than expected: its pid was given away again.
    #[error("process {pid} is not in the mount namespace {expected} any more")]
    Moved {
        /// The process.
        pid: u32,
        /// Where it should be.
        expected: String,
    },
    /// The FUSE device could not be opened.
    #[error("cannot open {}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no directory to mount on, and none can be made.
    #[error("cannot use {} as mount point", path.display())]
    Mountpoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A private root could not be put together.
    #[error("cannot build a private root directory ({step} {})", path.display())]
    PrivateRoot {
        /// The step that failed.
        step: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A mount, a change of one or an unmount failed.
    #[error("cannot {step} {}", path.display())]
    Mount {
        /// What was tried.
        step: &'static str,
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A mount cannot become read-only while files in it are open for writing.
    #[error("files in {} are open for writing", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount table could not be read.
    #[error("cannot read the mount table")]
    Table {
        /// Why.
        source: io::Error,
    },
}

impl MountError {
    /// Returns the operating system's error, where there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Namespace { source, .. }
            | Self::Join { source, .. }
            | Self::Device { source, .. }
            | Self::Mountpoint { source, .. }
            | Self::PrivateRoot { source, .. }
            | Self::Mount { source, .. }
            | Self::Table { source } => Some(source),
            Self::Moved { .. } | Self::Busy { .. } => None,
        }
    }
}

/// The namespaces that [`enter_private_namespace`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// A mount namespace: the caller may mount by itself.
    Mount,
    /// A mount namespace that belongs to a new user namespace, in which only the caller's own user
    /// and group id exist. Capabilities in it end with the next exec (unless the user is root).
    UserAndMount,
}

/// Returns whether this process may mount without a user namespace (effective CAP_SYS_ADMIN).
pub fn am_privileged() -> bool {
    platform::mount::am_privileged()
}

/// Moves this process into a mount namespace of its own, whose mounts no other namespace sees, and
/// into which mounts made outside later still come (where the outside shares them): MS_SLAVE.
///
/// Without privileges a user namespace comes with it. Supplementary groups keep their effect.
///
/// # Errors
/// [`MountError::Namespace`]; [`why_no_user_namespace`] may know the reason. A process with several
/// threads gets `EINVAL`.
pub fn enter_private_namespace() -> Result<Namespaces, MountError> {
    platform::mount::enter_private_namespace()
}

/// Returns the setting of this machine that keeps ordinary users from making namespaces, as
/// `name = value`, if it is one that we know.
pub fn why_no_user_namespace() -> Option<String> {
    platform::mount::why_no_user_namespace()
}

/// How [`ensure_mountpoint`] came by the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mountpoint {
    /// It was there.
    Existing,
    /// It was made.
    Created,
    /// It cannot be made in this root directory, so a private one was put together that has it.
    PrivateRoot,
}

/// Makes sure that the directory `path` exists for this process. Where the root directory cannot be
/// written, everything in it is mounted into a new one beside an empty `path`; only for a name
/// directly below `/`. The working directory stays valid.
///
/// Call it in a private namespace.
///
/// # Errors
/// [`MountError::Mountpoint`] and [`MountError::PrivateRoot`].
pub fn ensure_mountpoint(path: &Path) -> Result<Mountpoint, MountError> {
    platform::mount::ensure_mountpoint(path)
}

/// Opens the FUSE device. The mount belongs to the user namespace in which this happens.
///
/// # Errors
/// [`MountError::Device`].
pub fn open_fuse_device() -> Result<OwnedFd, MountError> {
    platform::mount::open_fuse_device()
}

/// Options of a FUSE mount. Permissions are always checked by the kernel (`default_permissions`),
/// and set-user-id programs and devices on it always have no effect (`nosuid,nodev`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuseMount<'a> {
    /// What the mount table shows as source, and by which [`mount_at`] recognises our mounts.
    pub source: &'a str,
    /// What the mount table shows as type after `fuse.`.
    pub subtype: &'a str,
    /// Whether other users than the one who mounts may use it.
    pub allow_other: bool,
    /// Whether writing is refused. [`set_read_only`] changes it later.
    pub read_only: bool,
    /// Largest read request in bytes, if it should be limited.
    pub max_read: Option<u32>,
}

/// Mounts a FUSE file system and returns at once; whoever serves `device` answers.
///
/// # Errors
/// [`MountError::Mount`].
pub fn mount_fuse(
    device: BorrowedFd<'_>,
    target: &Path,
    options: &FuseMount<'_>,
) -> Result<(), MountError> {
    platform::mount::mount_fuse(device, target, options)
}

/// Makes a mount refuse or allow writing, for all processes of this mount namespace; its other
/// flags stay.
///
/// # Errors
/// [`MountError::Busy`] when files are open for writing.
pub fn set_read_only(target: &Path, read_only: bool) -> Result<(), MountError> {
    platform::mount::set_read_only(target, read_only)
}

/// Shows a file or directory of this machine at `target` as well, with all that is mounted below
/// it. Call it in a private namespace.
///
/// Both paths are absolute, and no symbolic link may be on either: a path that was looked at
/// before must lead to the same place now.
///
/// # Errors
/// [`MountError::Mount`]; with `InvalidInput` when a path leads elsewhere.
pub fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    platform::mount::bind(source, target)
}

/// Makes what [`bind`] shows at `target`, and what is mounted below, refuse or allow writing. What
/// is read-only where it comes from stays so.
///
/// # Errors
/// As [`set_read_only`]; what was changed before an error is changed back.
pub fn set_bound_read_only(
    source: &Path,
    target: &Path,
    read_only: bool,
) -> Result<(), MountError> {
    platform::mount::set_bound_read_only(source, target, read_only)
}

/// Takes the topmost mount at `target` out of this namespace; processes that use it go on until
/// they let go.
///
/// # Errors
/// [`MountError::Mount`] when nothing is mounted there, or it came from a more privileged namespace.
pub fn detach(target: &Path) -> Result<(), MountError> {
    platform::mount::detach(target)
}

/// Unmounts what nobody uses.
///
/// # Errors
/// [`MountError::Mount`], with `ResourceBusy` inside while somebody does.
pub fn unmount(target: &Path) -> Result<(), MountError> {
    platform::mount::unmount_unused(target)
}

/// Takes a mount away whose server is gone or does not answer, by ever harder means.
///
/// # Errors
/// [`MountError::Mount`] with the last refusal.
pub fn force_unmount(target: &Path) -> Result<(), MountError> {
    platform::mount::force_unmount(target)
}

/// One mount as the mount table of this process shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Where.
    pub target: PathBuf,
    /// The type, such as `ext4` or `fuse.spfs`.
    pub file_system: OsString,
    /// The source: a device, or the name that a FUSE file system gave itself.
    pub source: OsString,
    /// Whether this mount refuses writing.
    pub read_only: bool,
    /// The user who mounted it, where the table tells.
    pub owner: Option<u32>,
    /// Its number in this boot: the mount's own on Linux, the file system's on macOS.
    pub id: u64,
}

impl MountEntry {
    /// Returns whether a FUSE server is behind it.
    pub fn is_fuse(&self) -> bool {
        let name = self.file_system.as_encoded_bytes();
        name == b"fuse" || name.starts_with(b"fuse.") || name == b"macfuse" || name == b"osxfuse"
    }
}

/// Returns all mounts, in the order of the mount table.
///
/// # Errors
/// [`MountError::Table`].
pub fn mounts() -> Result<Vec<MountEntry>, MountError> {
    platform::mount::mounts()
}

/// Returns the mount whose root is `path` (the topmost where several are), without asking its file
/// system; `None` when `path` is not a mount point.
///
/// # Errors
/// [`MountError::Table`]; [`MountError::Mount`] when `path` cannot be reached.
pub fn mount_at(path: &Path) -> Result<Option<MountEntry>, MountError> {
    platform::mount::mount_at(path)
}

/// Our FUSE mounts that are of no use to anybody now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadMounts {
    /// Their server is gone.
    pub dead: Vec<MountEntry>,
    /// Their server is there and did not answer in time: it is stopped, or very busy.
    pub silent: Vec<MountEntry>,
}

/// Asks our FUSE mounts (those with this source), all at once, whether anybody serves them, and
/// waits at most for `limit` for all answers.
///
/// A dead mount answers at once, with an error that says so; one whose server is only slow would
/// hold the caller, so the questions are asked from threads that may be left behind.
///
/// # Errors
/// [`MountError::Table`].
pub fn dead_mounts(source: &str, limit: Duration) -> Result<DeadMounts, MountError> {
    let is_ours = |entry: &MountEntry| entry.is_fuse() && platform::mount::is_source(entry, source);
    let entries: Vec<MountEntry> = mounts()?.into_iter().filter(is_ours).collect();
    let deadline = Instant::now() + limit;
    let asked: Vec<_> = entries.iter().map(|entry| ask(&entry.target)).collect();
    let mut found = DeadMounts::default();
    for (entry, answer) in entries.into_iter().zip(asked) {
        let left = deadline.saturating_duration_since(Instant::now());
        match answer.recv_timeout(left) {
            Ok(Some(Errno::NOTCONN | Errno::NXIO)) => found.dead.push(entry),
            // It answers, if only that this user has no business there.
            Ok(_) => {}
            // The thread could not be started, which says nothing.
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => found.silent.push(entry),
        }
    }
    Ok(found)
}

fn ask(target: &Path) -> mpsc::Receiver<Option<Errno>> {
    let (sender, receiver) = mpsc::channel();
    let target = target.to_owned();
    let question = move || {
        // The receiver has gone when the answer comes too late.
        let _ = sender.send(rustix::fs::statvfs(&target).err());
    };
    drop(thread::Builder::new().name("spfs-ask".into()).spawn(question));
    receiver
}

/// Returns our FUSE mounts (those with this source) whose server is gone.
///
/// # Errors
/// [`MountError::Table`].
pub fn stale_mounts(source: &str) -> Result<Vec<MountEntry>, MountError> {
    const LIMIT: Duration = Duration::from_secs(2);
    Ok(dead_mounts(source, LIMIT)?.dead)
}

/// Returns the name of a process's mount namespace, such as `mnt:[4026531841]`.
///
/// # Errors
/// `NotFound` when there is no such process; `PermissionDenied` for processes of others.
pub fn namespace_id(pid: u32) -> io::Result<String> {
    platform::mount::namespace_id(pid)
}

/// Returns the processes in a mount namespace. Those of other users may be missing, and those that
/// come and go meanwhile.
///
/// # Errors
/// When the process table cannot be read.
pub fn processes_in_mount_namespace(id: &str) -> io::Result<Vec<u32>> {
    platform::mount::processes_in_mount_namespace(id)
}

/// Gives this process a copy of all mounts for itself: what it changes of them from now on, nobody
/// else sees.
///
/// # Errors
/// [`MountError::Namespace`], for example without CAP_SYS_ADMIN in its user namespace.
pub fn copy_namespace() -> Result<(), MountError> {
    platform::mount::copy_namespace()
}

/// Moves this process into the user and mount namespaces of another one. `expected`, the name of
/// its mount namespace, guards against a pid that was given away again. The working directory
/// becomes the root of that namespace.
///
/// # Errors
/// [`MountError::Join`]; [`MountError::Moved`] when the process is not in that namespace.
pub fn join_namespaces(pid: u32, expected: Option<&str>) -> Result<(), MountError> {
    platform::mount::join_namespaces(pid, expected)
}

/// As [`join_namespaces`], for the mount namespace alone: a privileged process leaves the runtime
/// in which it was started.
///
/// # Errors
/// As [`join_namespaces`].
pub fn join_mount_namespace(pid: u32) -> Result<(), MountError> {
    platform::mount::join_mount_namespace(pid)
}
