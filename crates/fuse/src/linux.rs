//! What is Linux: the flags of INIT, which requests it stops sending, its numbers.

use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fuser::{Errno, InitFlags, KernelConfig, RenameFlags, WriteFlags};
use spfs_sys::mount::{self, FuseMount};
use spfs_vfs::api::{Allocate, Replace};

use crate::session::{Options, RootMode};
use crate::views::Caller;

/// The kernel keeps names that do not exist, too.
pub(crate) const NEGATIVE_ENTRIES: bool = true;

/// An OPENDIR answered with ENOSYS is not sent again, nor is RELEASEDIR; the kernel then takes
/// directories as FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE (fuse_file_open).
pub(crate) const SILENT_OPENDIR: bool = true;

/// An OPEN answered with ENOSYS is not sent again, nor is RELEASE, and pages stay from one open to the
/// next (fuse_file_open, since Linux 3.16).
pub(crate) const SILENT_OPEN: bool = true;

/// poll(2) tells whether there is a request (fuse_dev_poll).
pub(crate) const POLLED_DEVICE: bool = true;

/// Several threads read requests, so one that waits for a payload holds nobody up.
pub(crate) const POOLED_PAYLOADS: bool = false;

/// Threads that read requests when the options do not say: one a processor, but enough that a few
/// which wait for a payload leave some for the others. They share the device: a descriptor for each
/// (FUSE_DEV_IOC_CLONE) was not measurably faster, and a kernel may refuse it where the device was
/// opened in another user namespace.
const THREADS: std::ops::RangeInclusive<usize> = 4..=16;

/// The most that one READ or WRITE carries: 256 pages, the kernel's limit (fs.fuse.max_pages_limit).
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Requests that the kernel may have under way for itself (writeback, read-ahead, RELEASE). The
/// kernel's own default of 12 makes them wait for each other.
const BACKGROUND_MAX: u16 = 256;

pub(crate) fn session_config(threads: Option<NonZeroUsize>) -> fuser::Config {
    let mut config = fuser::Config::default();
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    config.n_threads =
        Some(threads.map_or_else(
            || processors().clamp(*THREADS.start(), *THREADS.end()),
            NonZeroUsize::get,
        ));
    config
}

/// Asks the kernel for what we can do; what it does not know is left out.
pub(crate) fn negotiate(config: &mut KernelConfig, options: &Options) {
    let wanted = [
        // Without it each write of a page asks for security.capability first.
        Some(InitFlags::FUSE_HANDLE_KILLPRIV_V2),
        // Where a link in the root leads is asked by each caller for himself.
        (options.root != RootMode::Link).then_some(InitFlags::FUSE_CACHE_SYMLINKS),
        Some(InitFlags::FUSE_PARALLEL_DIROPS),
        // A listing always brings attributes along (no READDIRPLUS_AUTO): most programs that list
        // a large directory look at its files only afterwards, which the adaptive mode takes for
        // disinterest; then 100 000 names cost 100 000 LOOKUPs. To those who want names alone the
        // attributes cost a few microseconds a name, once.
        Some(InitFlags::FUSE_DO_READDIRPLUS),
        // open(O_TRUNC) is one request.
        Some(InitFlags::FUSE_ATOMIC_O_TRUNC),
        options.writeback.then_some(InitFlags::FUSE_WRITEBACK_CACHE),
    ];
    for flag in wanted.into_iter().flatten() {
        if config.add_capabilities(flag).is_err() {
            tracing::info!(?flag, "this kernel's FUSE lacks a capability");
        }
    }
    if config.set_max_write(REQUEST_BYTES_MAX).is_err()
        || config.set_max_background(BACKGROUND_MAX).is_err()
    {
        tracing::warn!("a limit of the FUSE connection was refused");
    }
}

/// Whether a WRITE clears set-user-id: the kernel says so (HANDLE_KILLPRIV_V2).
pub(crate) fn kill_on_write(flags: WriteFlags, _caller: Caller) -> bool {
    flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID)
}

/// Whether a WRITE brings pages of which the kernel keeps the times.
pub(crate) fn is_collected(flags: WriteFlags, options: &Options) -> bool {
    options.writeback && flags.contains(WriteFlags::FUSE_WRITE_CACHE)
}

pub(crate) fn replace(_from: &OsStr, flags: RenameFlags) -> Result<Replace, Errno> {
    if flags.is_empty() {
        Ok(Replace::Allow)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(Replace::Refuse)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(Replace::Exchange)
    } else {
        // RENAME_WHITEOUT is for the layers of an overlay, which this is not.
        Err(Errno::EINVAL)
    }
}

pub(crate) fn allocate(mode: i32) -> Result<Allocate, Errno> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(Allocate::Extend),
        libc::FALLOC_FL_KEEP_SIZE => Ok(Allocate::KeepSize),
        PUNCH => Ok(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocate::ZeroRange),
        ZERO_KEEP => Ok(Allocate::ZeroRangeKeepSize),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// A mount of this process, for a service that shows several views. The mount of a single runtime
/// is made by the process that enters it, inside its own mount namespace.
#[derive(Debug)]
pub struct Volume {
    mount_point: PathBuf,
}

/// What the mount table shows as the source of our mounts, and as their type after `fuse.`.
const SOURCE: &str = "spfs";

impl Volume {
    /// Mounts and returns the device to serve. `read_only`: the kernel refuses to write.
    ///
    /// # Errors
    /// Without the privileges of root; when the mount point is no directory.
    pub fn mount(mount_point: &Path, read_only: bool) -> io::Result<(Self, OwnedFd)> {
        let device = mount::open_fuse_device().map_err(io::Error::other)?;
        let options = FuseMount {
            source: SOURCE,
            subtype: SOURCE,
            // Others see the default view, and the daemon's user need not be root to be asked.
            allow_other: spfs_sys::ids::euid() == 0,
            read_only,
            max_read: None,
        };
        mount::mount_fuse(device.as_fd(), mount_point, &options).map_err(io::Error::other)?;
        Ok((Self { mount_point: mount_point.to_owned() }, device))
    }

    /// Waits until the mount is complete, which it is at once.
    ///
    /// # Errors
    /// None.
    pub fn wait_until_mounted(&self, _limit: Duration) -> io::Result<()> {
        Ok(())
    }

    /// Unmounts, with `force` also while files are open: these processes get errors then.
    ///
    /// # Errors
    /// EBUSY while it is used.
    pub fn unmount(&self, force: bool) -> io::Result<()> {
        let done = if force {
            mount::force_unmount(&self.mount_point)
        } else {
            mount::unmount(&self.mount_point)
        };
        done.map_err(io::Error::other)
    }
}

/// Operations that only another system has.
macro_rules! platform_operations {
    () => {};
}
pub(crate) use platform_operations;
