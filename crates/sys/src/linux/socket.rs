//! Peer credentials, and short paths through /proc/self/fd.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags};

use crate::socket::{Peer, fits, folder_and_name};

/// The other end being gone is an error to handle, not a signal that ends the process.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
pub(crate) const RECV_FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;

pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are valid and `size` is that of the value.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut size,
        )
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // 0 stands for a process outside our pid namespace.
    let pid = u32::try_from(credentials.pid).ok().filter(|&pid| pid != 0);
    Ok(Peer { pid, uid: credentials.uid, gid: credentials.gid })
}

/// Calls `use_path` with a path of the same file that fits into a socket address: through a
/// descriptor of its folder where the real one is too long.
pub(crate) fn with_short_path<T>(
    path: &Path,
    use_path: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    if fits(path) {
        return use_path(path);
    }
    let (folder, name): (&Path, &OsStr) = folder_and_name(path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    short.push(name);
    use_path(&short)
}
