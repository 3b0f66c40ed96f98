//! One mount table for all; macFUSE does the mounting.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;

use crate::mount::{FuseMount, MountEntry, MountError, Mountpoint, Namespaces};

/// There are no mount namespaces: one daemon mounts once and tells its callers apart.
const NO_NAMESPACES: &str = "macOS has no mount namespaces";
const BY_MACFUSE: &str = "on macOS macFUSE mounts";

pub(crate) const HAS_NAMESPACES: bool = false;

fn unsupported(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

pub(crate) fn am_privileged() -> bool {
    crate::ids::euid() == 0
}

pub(crate) fn enter_private_namespace() -> Result<Namespaces, MountError> {
    Err(MountError::Namespace { step: "unshare", source: unsupported(NO_NAMESPACES) })
}

pub(crate) fn why_no_user_namespace() -> Option<String> {
    None
}

pub(crate) fn ensure_mountpoint(path: &Path) -> Result<Mountpoint, MountError> {
    let refuse = |source| MountError::Mountpoint { path: path.to_owned(), source };
    match crate::publish::mkdir_mode(path, 0o755) {
        Ok(()) => Ok(Mountpoint::Created),
        Err(_) if path.is_dir() => Ok(Mountpoint::Existing),
        // The root of the system volume is sealed: /etc/synthetic.conf makes names in it.
        Err(source) => Err(refuse(source)),
    }
}

pub(crate) fn open_fuse_device() -> Result<OwnedFd, MountError> {
    Err(MountError::Device {
        path: PathBuf::from("/dev/macfuse0"),
        source: unsupported(BY_MACFUSE),
    })
}

pub(crate) fn mount_fuse(
    _device: BorrowedFd<'_>,
    target: &Path,
    _options: &FuseMount<'_>,
) -> Result<(), MountError> {
    Err(failed("mount a FUSE file system on", target, unsupported(BY_MACFUSE)))
}

pub(crate) fn set_read_only(target: &Path, read_only: bool) -> Result<(), MountError> {
    let step = if read_only { "make read-only" } else { "make writable" };
    Err(failed(step, target, unsupported("the one mount of macOS serves all runtimes")))
}

pub(crate) fn bind(_source: &Path, target: &Path) -> Result<(), MountError> {
    Err(failed("mount on", target, unsupported("macOS cannot show a directory in two places")))
}

pub(crate) fn set_bound_read_only(
    _source: &Path,
    target: &Path,
    read_only: bool,
) -> Result<(), MountError> {
    set_read_only(target, read_only)
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> MountError {
    MountError::Mount { step, path: path.to_owned(), source }
}

pub(crate) fn detach(target: &Path) -> Result<(), MountError> {
    unmount(target, libc::MNT_FORCE).map_err(|source| failed("unmount", target, source))
}

pub(crate) fn unmount_unused(target: &Path) -> Result<(), MountError> {
    unmount(target, 0).map_err(|source| failed("unmount", target, source))
}

fn unmount(target: &Path, flags: libc::c_int) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with NUL, and a number.
    match unsafe { libc::unmount(target.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// unmount(2), then Disk Arbitration (it asks Finder and Spotlight to let go), then by force,
/// which is what a mount needs whose server was killed.
pub(crate) fn force_unmount(target: &Path) -> Result<(), MountError> {
    if unmount(target, 0).is_ok() {
        return Ok(());
    }
    let asked = Command::new("/usr/sbin/diskutil")
        .args([OsStr::new("unmount"), target.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if asked.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    detach(target)
}

/// getfsstat(2) with MNT_NOWAIT: the kernel's own list, no file system is asked.
pub(crate) fn mounts() -> Result<Vec<MountEntry>, MountError> {
    let table = |source| MountError::Table { source };
    // SAFETY: no buffer asks for the number of mounts.
    let count = unsafe { libc::getfsstat(std::ptr::null_mut(), 0, libc::MNT_NOWAIT) };
    let count = usize::try_from(count).map_err(|_| table(io::Error::last_os_error()))?;
    // Some more, for those that appear meanwhile.
    let mut buffer: Vec<libc::statfs> = Vec::with_capacity(count + 8);
    let bytes = buffer.capacity() * size_of::<libc::statfs>();
    let bytes = libc::c_int::try_from(bytes).map_err(|e| table(io::Error::other(e)))?;
    // SAFETY: the buffer has the size that is passed.
    let count = unsafe { libc::getfsstat(buffer.as_mut_ptr(), bytes, libc::MNT_NOWAIT) };
    let count = usize::try_from(count).map_err(|_| table(io::Error::last_os_error()))?;
    // SAFETY: the call filled in `count` values, and never more than the buffer has room for.
    unsafe { buffer.set_len(count.min(buffer.capacity())) };
    Ok(buffer.iter().map(entry).collect())
}

fn entry(stat: &libc::statfs) -> MountEntry {
    let id = stat.f_fsid;
    // SAFETY: `fsid_t` is two 32-bit numbers, which the libc crate keeps private.
    let [low, high] = unsafe { std::mem::transmute::<libc::fsid_t, [u32; 2]>(id) };
    MountEntry {
        target: PathBuf::from(text(&stat.f_mntonname)),
        file_system: text(&stat.f_fstypename),
        source: text(&stat.f_mntfromname),
        owner: Some(stat.f_owner),
        read_only: stat.f_flags & libc::MNT_RDONLY as u32 != 0,
        id: u64::from(high) << 32 | u64::from(low),
    }
}

fn text(field: &[libc::c_char]) -> OsString {
    let bytes = field.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0);
    OsString::from_vec(bytes.collect())
}

pub(crate) fn mount_at(path: &Path) -> Result<Option<MountEntry>, MountError> {
    // The later of two mounts at one path is on top.
    Ok(mounts()?.into_iter().rfind(|entry| entry.target == path))
}

/// macFUSE shows `fsname=NAME` as it is, and osxfuse as `NAME@osxfuse0`.
pub(crate) fn is_source(entry: &MountEntry, source: &str) -> bool {
    let name = entry.source.as_bytes();
    name.strip_prefix(source.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'@')
}

pub(crate) fn namespace_id(_pid: u32) -> io::Result<String> {
    Err(unsupported(NO_NAMESPACES))
}

pub(crate) fn processes_in_mount_namespace(_id: &str) -> io::Result<Vec<u32>> {
    Err(unsupported(NO_NAMESPACES))
}

pub(crate) fn copy_namespace() -> Result<(), MountError> {
    Err(MountError::Namespace { step: "unshare", source: unsupported(NO_NAMESPACES) })
}

pub(crate) fn join_namespaces(pid: u32, _expected: Option<&str>) -> Result<(), MountError> {
    join_mount_namespace(pid)
}

pub(crate) fn join_mount_namespace(pid: u32) -> Result<(), MountError> {
    let source = io::Error::from(Errno::NOTSUP);
    Err(MountError::Join { pid, step: NO_NAMESPACES, source })
}
