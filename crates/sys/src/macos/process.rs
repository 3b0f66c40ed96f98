//! Identity by the kernel's unique process number, from libproc; waiting by kqueue.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::kqueue::{Event, EventFilter, EventFlags, ProcessEvents, kevent, kqueue};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{End, Process, ProcessId, alive};

/// sys/proc_info_private.h. Not in the public headers, but asserted by XNU's own tests, and unlike
/// PROC_PIDTBSDINFO the kernel answers it for processes of every user.
const PROC_PIDUNIQIDENTIFIERINFO: libc::c_int = 17;

#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueInfo {
    uuid: [u8; 16],
    /// Never given twice in a boot.
    unique_id: u64,
    /// The one of the process that spawned it; stays when launchd adopts the process.
    parent_unique_id: u64,
    id_version: i32,
    original_parent_id_version: i32,
    reserved: [u64; 2],
}

const _: () = assert!(size_of::<UniqueInfo>() == 56);
const _: () = assert!(size_of::<libc::proc_bsdshortinfo>() == 64);

/// `p_stat` of a process of which only the exit status is left (sys/proc.h).
const SZOMB: u32 = 5;

pub(crate) fn describe(pid: u32) -> io::Result<Process> {
    let (unique, short) = (unique_info(pid)?, short_info(pid)?);
    if short.pbsi_status == SZOMB {
        return Err(Errno::NOENT.into());
    }
    let id = ProcessId { pid, start: unique.unique_id };
    Ok(Process { id, parent: short.pbsi_ppid, spawner: Some(unique.parent_unique_id) })
}

pub(crate) fn user(pid: u32) -> io::Result<u32> {
    let short = short_info(pid)?;
    if short.pbsi_status == SZOMB {
        return Err(Errno::NOENT.into());
    }
    Ok(short.pbsi_uid)
}

fn unique_info(pid: u32) -> io::Result<UniqueInfo> {
    let mut info = UniqueInfo {
        uuid: [0; 16],
        unique_id: 0,
        parent_unique_id: 0,
        id_version: 0,
        original_parent_id_version: 0,
        reserved: [0; 2],
    };
    // SAFETY: the buffer is a plain value of exactly the size that is passed.
    let got = unsafe {
        libc::proc_pidinfo(
            number(pid)?,
            PROC_PIDUNIQIDENTIFIERINFO,
            0,
            (&raw mut info).cast(),
            size_of::<UniqueInfo>() as libc::c_int,
        )
    };
    complete(got, size_of::<UniqueInfo>())?;
    Ok(info)
}

fn short_info(pid: u32) -> io::Result<libc::proc_bsdshortinfo> {
    let mut info = std::mem::MaybeUninit::<libc::proc_bsdshortinfo>::zeroed();
    // SAFETY: the buffer has exactly the size that is passed.
    let got = unsafe {
        libc::proc_pidinfo(
            number(pid)?,
            libc::PROC_PIDT_SHORTBSDINFO,
            0,
            info.as_mut_ptr().cast(),
            size_of::<libc::proc_bsdshortinfo>() as libc::c_int,
        )
    };
    complete(got, size_of::<libc::proc_bsdshortinfo>())?;
    // SAFETY: it holds numbers only, for which zeros and what the kernel wrote are values.
    Ok(unsafe { info.assume_init() })
}

/// proc_pidinfo returns the bytes it filled in, and 0 with errno set when it failed.
fn complete(got: libc::c_int, want: usize) -> io::Result<()> {
    if usize::try_from(got) == Ok(want) {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        Some(Errno::SRCH) => Err(Errno::NOENT.into()),
        _ if got > 0 => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("proc_pidinfo filled in {got} bytes of {want}"),
        )),
        _ => Err(error),
    }
}

fn number(pid: u32) -> io::Result<libc::c_int> {
    libc::c_int::try_from(pid).map_err(|_| Errno::NOENT.into())
}

pub(crate) fn list() -> io::Result<Vec<u32>> {
    // SAFETY: no buffer asks for the number of processes.
    let count = unsafe { libc::proc_listallpids(std::ptr::null_mut(), 0) };
    if count <= 0 {
        return Err(io::Error::last_os_error());
    }
    // Some more, for those that start meanwhile.
    let mut pids = vec![0_i32; count as usize + 64];
    let bytes = (pids.len() * size_of::<libc::pid_t>()) as libc::c_int;
    // SAFETY: the buffer has the size that is passed.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), bytes) };
    if count <= 0 {
        return Err(io::Error::last_os_error());
    }
    pids.truncate(count as usize);
    Ok(pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect())
}

pub(crate) fn wait_for_end(id: ProcessId, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let Some(pid) = to_pid(id) else {
        return Ok(true);
    };
    let queue = kqueue()?;
    let filter = EventFilter::Proc { pid, flags: ProcessEvents::EXIT };
    let watch = [Event::new(filter, EventFlags::ADD | EventFlags::ONESHOT, std::ptr::null_mut())];
    let mut events = Vec::<Event>::with_capacity(1);
    // SAFETY: the watched filter carries no descriptor.
    match unsafe { kevent(&queue, &watch, spare_capacity(&mut events), Some(Duration::ZERO)) } {
        Ok(_) => {}
        Err(Errno::SRCH) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    // Only now: a pid given away before the watch began is another process.
    while alive(id) {
        let left = deadline.saturating_duration_since(Instant::now());
        events.clear();
        // SAFETY: as above.
        match unsafe { kevent(&queue, &[], spare_capacity(&mut events), Some(left)) } {
            Ok(0) => return Ok(!alive(id)),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

pub(crate) fn end(id: ProcessId, how: End) -> io::Result<bool> {
    let signal = match how {
        End::Ask => Signal::TERM,
        End::Kill => Signal::KILL,
    };
    // There is no handle of a process: the check and the signal are two steps.
    let Some(pid) = to_pid(id).filter(|_| alive(id)) else {
        return Ok(false);
    };
    match kill_process(pid, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn to_pid(id: ProcessId) -> Option<Pid> {
    i32::try_from(id.pid).ok().and_then(Pid::from_raw)
}

/// Only launchd adopts processes.
pub(crate) fn adopt_orphans() -> io::Result<bool> {
    Ok(false)
}

/// The name of a process is that of its executable and cannot be changed.
pub(crate) fn set_name(name: &str) -> io::Result<()> {
    std::ffi::CString::new(name)?;
    Ok(())
}

/// There is no call for all descriptors.
pub(crate) fn close_on_exec_from(_first: u32) -> bool {
    false
}

pub(crate) fn own_executable() -> io::Result<PathBuf> {
    std::env::current_exe()
}
