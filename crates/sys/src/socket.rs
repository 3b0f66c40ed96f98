//! Unix sockets: descriptors as messages, who is at the other end, and paths of any length.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::platform;

/// The process at the other end of a connection, as the kernel recorded it when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its pid; `None` when it cannot be seen from here.
    pub pid: Option<u32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// Returns who is at the other end.
///
/// # Errors
/// When the socket is not connected.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    platform::socket::peer(socket.as_fd())
}

/// Whether [`tcp_peer`] can tell who is at the other end.
pub const TELLS_TCP_PEERS: bool = platform::socket::TELLS_TCP_PEERS;

/// Returns the user at the other end of a TCP connection within this machine; `None` when that
/// cannot be told, as on macOS.
pub fn tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    platform::socket::tcp_peer(own, peer)
}

/// Sends `data` (at least one byte) and a descriptor with its first byte.
///
/// # Errors
/// When the other end has closed, or a timeout set on the stream has passed.
pub fn send_fd(socket: &UnixStream, data: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    use std::io::Write;
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if data.is_empty() || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        // A descriptor travels with a byte; and the space above is for exactly one.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing to send with"));
    }
    let iov = [io::IoSlice::new(data)];
    let sent = retry_on_intr(|| {
        sendmsg(socket, &iov, &mut control, platform::socket::SEND_FLAGS | SendFlags::empty())
    })?;
    // The descriptor went with the first byte, the rest is plain data.
    let mut stream = socket;
    stream.write_all(&data[sent..])
}

/// Receives up to `buffer.len()` bytes and the descriptor that came with them, if one did. It is
/// closed on exec. Zero bytes mean that the other end has closed.
///
/// # Errors
/// When a timeout set on the stream has passed (`WouldBlock`).
pub fn recv_fd(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [io::IoSliceMut::new(buffer)];
    let message =
        retry_on_intr(|| recvmsg(socket, &mut iov, &mut control, platform::socket::RECV_FLAGS))?;
    let mut received = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            // More than one cannot fit; what is not kept is closed here.
            received = fds.last().or(received);
        }
    }
    if let Some(fd) = &received {
        crate::process::set_close_on_exec(fd, true)?;
    }
    Ok((message.bytes, received))
}

/// Binds a socket with these permission bits at a path of any length and listens. Nothing may have
/// the name yet; the folder should be private, since the bits are set after the name appears.
///
/// # Errors
/// `AddrInUse` when the name is taken; else as bind(2), also when the file name itself is longer
/// than a socket address (about 80 bytes).
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let listener = platform::socket::with_short_path(path, |short| UnixListener::bind(short))?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Connects to a socket at a path of any length.
///
/// # Errors
/// `ConnectionRefused` when nobody listens there any more, `NotFound` when there is no socket.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    platform::socket::with_short_path(path, |short| UnixStream::connect(short))
}

/// Splits a path into the folder and the name in it, both needed to shorten it.
pub(crate) fn folder_and_name(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Ok((folder, name))
}

/// Returns whether a socket address has room for the path (and the NUL that ends it).
pub(crate) fn fits(path: &Path) -> bool {
    path.as_os_str().len() < std::mem::size_of_val(&ADDRESS.sun_path)
}

// SAFETY: an address is plain numbers, for which all zeros is a value.
const ADDRESS: libc::sockaddr_un = unsafe { std::mem::zeroed() };

#[cfg(test)]
mod tests;
