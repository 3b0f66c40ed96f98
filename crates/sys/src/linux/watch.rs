//! Watching by pidfds in one epoll, and by the kernel's process event connector (cn_proc).
//!
//! A fork is queued for us before the child runs (copy_process calls proc_fork_connector before
//! wake_up_new_task): whoever has read the queue to its end knows every process that can ask him
//! anything.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send,
    socket_with, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::process::{Fork, Forks, Process, Woken, describe};

/// What an event of the epoll is about, beside pids, which have 32 bits.
const FORKS: u64 = 1 << 32;
const WAKE: u64 = 1 << 33;

/// Without the connector the process table is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Watcher {
    epoll: OwnedFd,
    wake: OwnedFd,
    connector: Option<Connector>,
}

impl Watcher {
    pub(crate) fn new() -> io::Result<Self> {
        let mut watcher = Self::without_forks()?;
        match Connector::new() {
            Ok(connector) => {
                let data = EventData::new_u64(FORKS);
                epoll::add(&watcher.epoll, &connector.socket, data, EventFlags::IN)?;
                watcher.connector = Some(connector);
            }
            Err(error) => tracing::info!(%error, "this kernel does not tell of forks"),
        }
        Ok(watcher)
    }

    pub(crate) fn without_forks() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, wake, connector: None })
    }

    pub(crate) fn sees_all_forks(&self) -> bool {
        self.connector.is_some()
    }

    pub(crate) fn follow(&self, pid: u32) -> io::Result<(Followed, Process)> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::NOENT)?;
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            // The number of a thread: EINVAL, and ENOENT since 6.17.
            Err(Errno::INVAL | Errno::NOENT) => return Err(Errno::INVAL.into()),
            Err(Errno::SRCH) => return Err(Errno::NOENT.into()),
            opened => opened?,
        };
        let data = EventData::new_u64(u64::from(pid));
        epoll::add(&self.epoll, &pidfd, data, EventFlags::IN | EventFlags::ONESHOT)?;
        let followed = Followed { pidfd };
        // Described after the descriptor exists, and alive afterwards: it is the same process.
        let process = describe(pid)?;
        if followed.is_alive() { Ok((followed, process)) } else { Err(Errno::NOENT.into()) }
    }

    pub(crate) fn wait(&self, limit: Duration) -> io::Result<Woken> {
        const EVENTS: usize = 64;
        let limit = if self.connector.is_some() { limit } else { limit.min(LOOK_EVERY) };
        let timeout = Timespec::try_from(limit).ok();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut woken = Woken { forks: self.connector.is_none(), ..Woken::default() };
        for event in events {
            let data = event.data;
            match data.u64() {
                FORKS => woken.forks = true,
                WAKE => drop(rustix::io::read(&self.wake, &mut [0; 8])),
                pid => woken.ended.extend(u32::try_from(pid)),
            }
        }
        Ok(woken)
    }

    pub(crate) fn forks(&self, told: &mut dyn FnMut(Fork)) -> io::Result<Forks> {
        self.connector.as_ref().map_or(Ok(Forks::Missing), |connector| connector.read(told))
    }

    pub(crate) fn wake(&self) {
        // A full counter wakes as well.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

#[derive(Debug)]
pub(crate) struct Followed {
    pidfd: OwnedFd,
}

impl Followed {
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}

/// The process event connector: linux/cn_proc.h.
#[derive(Debug)]
struct Connector {
    socket: OwnedFd,
}

/// CN_IDX_PROC and CN_VAL_PROC, which are the number of the group as well.
const GROUP: u32 = 1;
/// PROC_CN_MCAST_LISTEN.
const LISTEN: u32 = 1;
/// PROC_EVENT_NONE, which acknowledges a request, and PROC_EVENT_FORK.
const ACKNOWLEDGED: u32 = 0;
const FORKED: u32 = 1;

/// nlmsghdr, cn_msg, and what stands before the data of a proc_event.
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = HEADER_BYTES + 20;
const DATA_AT: usize = MESSAGE_BYTES + 16;

/// Room for some ten thousand forks that wait to be read.
const QUEUE_BYTES: usize = 4 << 20;

impl Connector {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(netlink::CONNECTOR),
        )?;
        // More than the usual limit needs privileges; a full queue is noticed.
        if sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, QUEUE_BYTES)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        send(&socket, &listen_request(), SendFlags::empty())?;
        let connector = Self { socket };
        connector.wait_for_acknowledgement()?;
        Ok(connector)
    }

    /// The kernel answers before send(2) returns, or not at all: in another pid or user namespace
    /// than its first one nobody is told anything.
    fn wait_for_acknowledgement(&self) -> io::Result<()> {
        let mut buffer = [0; 256];
        // Forks that come first are no answer; there are not many yet.
        for _ in 0..1024 {
            let event = match self.receive(&mut buffer) {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            if event.and_then(|event| number(event, MESSAGE_BYTES)) == Some(ACKNOWLEDGED) {
                let code = number(event.unwrap_or_default(), DATA_AT).unwrap_or_default();
                return match i32::try_from(code) {
                    Ok(0) | Err(_) => Ok(()),
                    Ok(code) => Err(io::Error::from_raw_os_error(code)),
                };
            }
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "no answer of the process connector"))
    }

    /// Takes one message; `None` when the kernel did not send it.
    fn receive<'b>(&self, buffer: &'b mut [u8; 256]) -> Result<Option<&'b [u8]>, Errno> {
        let (bytes, _, sender) = recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        Ok(sender.filter(|sender| sender.pid() == 0).and_then(|_| buffer.get(..bytes)))
    }

    fn read(&self, told: &mut dyn FnMut(Fork)) -> io::Result<Forks> {
        let mut buffer = [0; 256];
        let mut forks = Forks::All;
        loop {
            match self.receive(&mut buffer) {
                Ok(event) => event.and_then(fork).into_iter().for_each(&mut *told),
                Err(Errno::AGAIN) => return Ok(forks),
                // The queue was full: what came after is still told.
                Err(Errno::NOBUFS) => forks = Forks::Missing,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// nlmsghdr { len, type, flags, seq, pid }, cn_msg { idx, val, seq, ack, len, flags }, LISTEN.
fn listen_request() -> Vec<u8> {
    let mut request = Vec::with_capacity(MESSAGE_BYTES + 4);
    request.extend(((MESSAGE_BYTES + 4) as u32).to_ne_bytes());
    request.extend(NLMSG_DONE.to_ne_bytes());
    request.extend([0; 10]);
    request.extend(GROUP.to_ne_bytes());
    request.extend(GROUP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(4_u16.to_ne_bytes());
    request.extend([0; 2]);
    request.extend(LISTEN.to_ne_bytes());
    request
}

const NLMSG_DONE: u16 = 3;

/// Reads a fork of a process: { parent_pid, parent_tgid, child_pid, child_tgid }. A new thread has
/// another number than its process.
fn fork(event: &[u8]) -> Option<Fork> {
    if number(event, MESSAGE_BYTES)? != FORKED {
        return None;
    }
    let parent = number(event, DATA_AT + 4)?;
    let (child, process) = (number(event, DATA_AT + 8)?, number(event, DATA_AT + 12)?);
    (child == process).then_some(Fork { parent, child })
}

fn number(event: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(event.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn process_of(thread: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|number| number.trim().parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("cannot parse /proc/{thread}/status"))
    })
}

pub(crate) fn is_thread_of(thread: u32, process: u32) -> bool {
    // SAFETY: numbers only; signal 0 is none.
    let code = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) };
    // Without the right to send signals the kernel still says that it is there.
    code == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

pub(crate) fn thread_number() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}
