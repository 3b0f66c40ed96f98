//! Mount namespaces, FUSE mounts by mount(2), the mount table.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_change, mount_remount, unmount,
};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, UnshareFlags, capabilities, move_into_link_name_space,
};

use crate::mount::{FuseMount, MountEntry, MountError, Mountpoint, Namespaces};
use crate::{ids, process, publish};

mod private_root;
mod table;

pub(crate) const HAS_NAMESPACES: bool = true;

pub(crate) fn am_privileged() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

pub(crate) fn enter_private_namespace() -> Result<Namespaces, MountError> {
    let made = if am_privileged() {
        unshare(UnshareFlags::NEWNS)?;
        Namespaces::Mount
    } else {
        let (uid, gid) = (ids::euid(), ids::egid());
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
        map_own_ids(uid, gid)?;
        Namespaces::UserAndMount
    };
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| namespace("mount --make-rslave /")(e.into()))?;
    Ok(made)
}

pub(crate) fn copy_namespace() -> Result<(), MountError> {
    unshare(UnshareFlags::NEWNS)
}

fn namespace(step: &'static str) -> impl Fn(io::Error) -> MountError {
    move |source| MountError::Namespace { step, source }
}

fn unshare(flags: UnshareFlags) -> Result<(), MountError> {
    // SAFETY: neither descriptors nor memory are unshared, only namespaces.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|e| namespace("unshare")(e.into()))
}

/// Lets exactly the caller's own ids exist in the new user namespace: all that the kernel allows
/// without help. It asks for setgroups to be switched off first (CVE-2014-8989); the supplementary
/// groups that the process has stay with it.
fn map_own_ids(uid: u32, gid: u32) -> Result<(), MountError> {
    match fs::write("/proc/self/setgroups", "deny") {
        // Before 3.19 there is no such file, and no need.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.map_err(namespace("/proc/self/setgroups"))?,
    }
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))
        .map_err(namespace("/proc/self/uid_map"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
        .map_err(namespace("/proc/self/gid_map"))
}

pub(crate) fn why_no_user_namespace() -> Option<String> {
    // The second is Debian's, the third Ubuntu's; each file is missing elsewhere.
    [
        ("user.max_user_namespaces", "/proc/sys/user/max_user_namespaces", "0"),
        ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone", "0"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ),
    ]
    .into_iter()
    .find(|(_, path, bad)| fs::read_to_string(path).is_ok_and(|value| value.trim() == *bad))
    .map(|(name, _, bad)| format!("{name} = {bad}"))
}

pub(crate) fn ensure_mountpoint(path: &Path) -> Result<Mountpoint, MountError> {
    let refuse = |source: io::Error| MountError::Mountpoint { path: path.to_owned(), source };
    // O_PATH asks no file system: a mount of an outer runtime may stand there, its server gone.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(_) => return Ok(Mountpoint::Existing),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(refuse(error.into())),
    }
    let refusal = match publish::mkdir_mode(path, 0o755) {
        Ok(()) => return Ok(Mountpoint::Created),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Ok(Mountpoint::Existing);
        }
        Err(error) => error,
    };
    match (Errno::from_io_error(&refusal), path.parent() == Some(Path::new("/"))) {
        (Some(Errno::ACCESS | Errno::PERM | Errno::ROFS), true) => {
            private_root::build(path)?;
            Ok(Mountpoint::PrivateRoot)
        }
        _ => Err(refuse(refusal)),
    }
}

pub(crate) fn open_fuse_device() -> Result<OwnedFd, MountError> {
    let path = Path::new("/dev/fuse");
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| MountError::Device { path: path.to_owned(), source: e.into() })
}

pub(crate) fn mount_fuse(
    device: BorrowedFd<'_>,
    target: &Path,
    options: &FuseMount<'_>,
) -> Result<(), MountError> {
    let refuse = |source: io::Error| MountError::Mount {
        step: "mount a FUSE file system on",
        path: target.to_owned(),
        source,
    };
    // The kernel takes the ids in the numbers of the user namespace that opened the device.
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        ids::euid(),
        ids::egid()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    if let Some(max_read) = options.max_read {
        data.push_str(&format!(",max_read={max_read}"));
    }
    let data = CString::new(data).map_err(|e| refuse(e.into()))?;
    let file_system = format!("fuse.{}", options.subtype);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(options.source, target, file_system, flags, data.as_c_str())
        .map_err(|e| refuse(e.into()))?;
    if options.read_only {
        // MS_RDONLY in the call above would make the file system itself read-only for good; the
        // flag of the mount can be taken back.
        set_read_only(target, true)?;
    }
    Ok(())
}

pub(crate) fn set_read_only(target: &Path, read_only: bool) -> Result<(), MountError> {
    let refuse = |source: io::Error| MountError::Mount {
        step: if read_only { "make read-only" } else { "make writable" },
        path: target.to_owned(),
        source,
    };
    let row = table::row_at(target)?
        .ok_or_else(|| refuse(io::Error::new(io::ErrorKind::NotFound, "nothing is mounted")))?;
    // A remount sets all flags: those not given again are taken away, which for nosuid and nodev
    // would be a hole.
    let mut flags = row.flags();
    flags.set(MountFlags::RDONLY, read_only);
    match mount_remount(target, MountFlags::BIND | flags, "") {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy { path: target.to_owned() }),
        Err(error) => Err(refuse(error.into())),
    }
}

pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    let refuse = |path: &Path, step| {
        let path = path.to_owned();
        move |error: io::Error| MountError::Mount { step, path, source: error }
    };
    let (_from, from_link) = open_exactly(source).map_err(refuse(source, "show"))?;
    let (_to, to_link) = open_exactly(target).map_err(refuse(target, "mount on"))?;
    // Recursive: the kernel does not let an unprivileged namespace uncover what lies below a mount.
    rustix::mount::mount_bind_recursive(&from_link, &to_link)
        .map_err(|error| refuse(target, "mount on")(error.into()))
}

/// Opens what is at `path` without using it, and gives another path to it that nobody can change.
fn open_exactly(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    let link = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let mode = rustix::fs::fstat(&opened)?.st_mode;
    let found = fs::read_link(if is_link(mode) { path } else { &link })?;
    if found != path || is_link(mode) {
        let reason = format!("it is {} now", found.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok((opened, link))
}

fn is_link(mode: rustix::fs::RawMode) -> bool {
    rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::Symlink
}

pub(crate) fn set_bound_read_only(
    source: &Path,
    target: &Path,
    read_only: bool,
) -> Result<(), MountError> {
    let mut changed: Vec<PathBuf> = Vec::new();
    for row in table::rows()? {
        let Ok(inside) = row.entry.target.strip_prefix(target) else { continue };
        // Nothing joined would end in a slash, which a file does not have.
        let original = match inside.as_os_str().is_empty() {
            true => source.to_owned(),
            false => source.join(inside),
        };
        let wanted = read_only || is_read_only(&original);
        if row.entry.read_only == wanted {
            continue;
        }
        if let Err(error) = set_read_only(&row.entry.target, wanted) {
            for done in &changed {
                // The first error is the one to tell.
                drop(set_read_only(done, !wanted));
            }
            return Err(error);
        }
        changed.push(row.entry.target);
    }
    Ok(())
}

/// Whether nothing can be written there; so it is taken for read-only when that cannot be told.
fn is_read_only(path: &Path) -> bool {
    match rustix::fs::statvfs(path) {
        Ok(found) => found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        Err(_) => true,
    }
}

pub(crate) fn detach(target: &Path) -> Result<(), MountError> {
    unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(|e| MountError::Mount {
        step: "unmount",
        path: target.to_owned(),
        source: e.into(),
    })
}

pub(crate) fn unmount_unused(target: &Path) -> Result<(), MountError> {
    unmount(target, UnmountFlags::NOFOLLOW).map_err(|e| MountError::Mount {
        step: "unmount",
        path: target.to_owned(),
        source: e.into(),
    })
}

/// A plain unmount when nobody uses it; then one that aborts the FUSE connection, so that waiting
/// processes get an error; then one that only hides it.
pub(crate) fn force_unmount(target: &Path) -> Result<(), MountError> {
    for flags in [UnmountFlags::empty(), UnmountFlags::FORCE] {
        if unmount(target, flags | UnmountFlags::NOFOLLOW).is_ok() {
            return Ok(());
        }
    }
    detach(target)
}

pub(crate) fn mounts() -> Result<Vec<MountEntry>, MountError> {
    Ok(table::rows()?.into_iter().map(|row| row.entry).collect())
}

pub(crate) fn mount_at(path: &Path) -> Result<Option<MountEntry>, MountError> {
    Ok(table::row_at(path)?.map(|row| row.entry))
}

/// Matches the source that a FUSE mount was given.
pub(crate) fn is_source(entry: &MountEntry, source: &str) -> bool {
    entry.source == OsStr::new(source)
}

pub(crate) fn namespace_id(pid: u32) -> io::Result<String> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/mnt"))?.to_string_lossy().into_owned())
}

pub(crate) fn processes_in_mount_namespace(id: &str) -> io::Result<Vec<u32>> {
    let mut pids = process::list()?;
    pids.retain(|&pid| namespace_id(pid).is_ok_and(|found| found == id));
    Ok(pids)
}

pub(crate) fn join_namespaces(pid: u32, expected: Option<&str>) -> Result<(), MountError> {
    let user = open_namespace(pid, "user")?;
    let mount = open_namespace(pid, "mnt")?;
    if let Some(expected) = expected {
        // Compared on the opened namespaces: from here on it does not matter who has the pid.
        let number = inode(pid, &mount)?;
        if expected != format!("mnt:[{number}]") {
            return Err(MountError::Moved { pid, expected: expected.to_owned() });
        }
    }
    // First the user namespace: its owner has the capability for the other one only in there.
    // Entering the one we are in is an error.
    if inode(pid, &user)? != inode(pid, &open_namespace(std::process::id(), "user")?)? {
        enter(pid, &user, LinkNameSpaceType::User, "setns of the user namespace")?;
    }
    enter(pid, &mount, LinkNameSpaceType::Mount, "setns of the mount namespace")
}

pub(crate) fn join_mount_namespace(pid: u32) -> Result<(), MountError> {
    let mount = open_namespace(pid, "mnt")?;
    enter(pid, &mount, LinkNameSpaceType::Mount, "setns of the mount namespace")
}

fn open_namespace(pid: u32, kind: &'static str) -> Result<fs::File, MountError> {
    let step = if kind == "user" { "open ns/user" } else { "open ns/mnt" };
    fs::File::open(format!("/proc/{pid}/ns/{kind}")).map_err(|source| MountError::Join {
        pid,
        step,
        source,
    })
}

fn inode(pid: u32, namespace: &fs::File) -> Result<u64, MountError> {
    let metadata = namespace.metadata();
    Ok(metadata.map_err(|source| MountError::Join { pid, step: "fstat", source })?.ino())
}

fn enter(
    pid: u32,
    namespace: &fs::File,
    kind: LinkNameSpaceType,
    step: &'static str,
) -> Result<(), MountError> {
    use std::os::fd::AsFd;
    move_into_link_name_space(namespace.as_fd(), Some(kind)).map_err(|e| MountError::Join {
        pid,
        step,
        source: e.into(),
    })
}
