//! Peer credentials, and short paths through /proc/self/fd.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags};

use crate::socket::{Peer, fits, folder_and_name};

/// The other end being gone is an error to handle, not a signal that ends the process.
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
pub(crate) const RECV_FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// /proc/net/tcp shows the users of all sockets.
pub(crate) const TELLS_TCP_PEERS: bool = true;

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

/// TCP_ESTABLISHED (include/net/tcp_states.h), as the table shows it.
const ESTABLISHED: &str = "01";

/// The peer's socket has a line of its own in the table, seen from its side, with the user who made
/// it: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
/// (proc_pid_net(5)).
///
/// A socket that its process has closed is nobody's any more, and the table shows uid 0 and inode 0
/// for it (sock_i_uid, get_timewait4_sock): whoever sends a request and closes at once must not be
/// taken for root.
pub(crate) fn tcp_peer(own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let table = if own.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let table = std::fs::read_to_string(table).ok()?;
    let (local, remote) = (in_table(peer), in_table(own));
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_peer = fields.next()? == local && fields.next()? == remote;
        if !is_peer || fields.next()? != ESTABLISHED {
            return None;
        }
        let uid = fields.nth(3)?.parse().ok()?;
        (fields.nth(1)? != "0").then_some(uid)
    })
}

/// An address as the table shows it: words of four bytes in the machine's own order.
fn in_table(address: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        let word = |word: &[u8]| word.try_into().map_or(0, u32::from_ne_bytes);
        bytes.chunks_exact(4).map(|bytes| format!("{:08X}", word(bytes))).collect()
    };
    let host = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{host}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_user_at_the_other_end_of_a_connection_is_known() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                assert!(host.starts_with('['), "IPv4 is everywhere");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let own = server.local_addr().unwrap();
            assert_eq!(tcp_peer(own, peer), Some(crate::ids::euid()));
            assert_eq!(tcp_peer(own, SocketAddr::new(peer.ip(), 1)), None);
            drop(client);
            // A child that another test has just forked has it open until it execs.
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while tcp_peer(own, peer).is_some() {
                assert!(limit > std::time::Instant::now(), "a closed socket belongs to nobody");
                std::thread::yield_now();
            }
        }
    }
}
