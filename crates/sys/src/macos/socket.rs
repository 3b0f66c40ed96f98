//! Peer credentials, and short paths through a symbolic link.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::socket::{Peer, fits, folder_and_name};

/// Rust's runtime ignores SIGPIPE, so a closed other end is an error here too.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::empty();
/// The flag is set after receiving: there is no MSG_CMSG_CLOEXEC.
pub(crate) const RECV_FLAGS: RecvFlags = RecvFlags::empty();

/// sys/un.h: the level of LOCAL_PEERPID.
const SOL_LOCAL: libc::c_int = 0;

pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both pointers are valid for one id each.
    if unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut pid: libc::pid_t = 0;
    let mut size = size_of::<libc::pid_t>() as libc::socklen_t;
    // SAFETY: both pointers are valid and `size` is that of the value.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            SOL_LOCAL,
            libc::LOCAL_PEERPID,
            (&raw mut pid).cast(),
            &raw mut size,
        )
    };
    let pid = if code == 0 { u32::try_from(pid).ok().filter(|&pid| pid != 0) } else { None };
    Ok(Peer { pid, uid, gid })
}

/// Calls `use_path` with a path of the same file that fits into a socket address (103 bytes here):
/// through a short-lived symbolic link to its folder where the real one is too long.
pub(crate) fn with_short_path<T>(
    path: &Path,
    use_path: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    if fits(path) {
        return use_path(path);
    }
    let (folder, name) = folder_and_name(path)?;
    let folder = fs::canonicalize(folder)?;
    let shortcut = Shortcut::make()?;
    let link = shortcut.0.join("d");
    symlink(folder, &link)?;
    let result = use_path(&link.join(name));
    fs::remove_file(&link)?;
    result
}

/// A private folder with a short name; anybody may write to /tmp, so it must be newly made.
struct Shortcut(PathBuf);

impl Shortcut {
    fn make() -> io::Result<Self> {
        for attempt in 0..1000_u32 {
            let path = PathBuf::from(format!("/tmp/.s{}-{attempt}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EXIST.into())
    }
}

impl Drop for Shortcut {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

/// The kernel tells the users of others' sockets to root alone.
pub(crate) const TELLS_TCP_PEERS: bool = false;

pub(crate) fn tcp_peer(_own: std::net::SocketAddr, _peer: std::net::SocketAddr) -> Option<u32> {
    None
}
