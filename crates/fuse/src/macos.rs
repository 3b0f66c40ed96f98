//! What is macOS: mounting with macFUSE, its flags and its own operations.
//!
//! Not tried on a Mac by anybody yet; what stands here follows macFUSE's headers and the experience
//! of other projects.
//!
//! macFUSE 5 or later is needed. fuser 0.18 reads a RENAME in its short form; macFUSE 5 sends that
//! form to who does not ask for the flags of renamex_np(2) (INIT bits 25 and 26). It would send them
//! to who does, but fuser 0.18 drops them: RENAME_EXCL would replace what it must not. So they are
//! not asked for, and the kernel refuses these flags by itself. macFUSE 4 always sends the long form,
//! in which fuser finds an empty name. A release of fuser after 0.18 reads both.

use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use fuser::{Errno, InitFlags, KernelConfig, RenameFlags, WriteFlags};
use spfs_sys::macfuse::MacFuseMount;
use spfs_vfs::api::{Allocate, Replace};

use crate::session::Options;
use crate::views::Caller;

/// Names are not kept in a routed mount (`novncache`), and a plain error is understood always.
pub(crate) const NEGATIVE_ENTRIES: bool = false;

/// Each OPENDIR is answered.
pub(crate) const SILENT_OPENDIR: bool = false;

/// Each OPEN is answered.
pub(crate) const SILENT_OPEN: bool = false;

/// Whether poll(2) tells of requests has not been tried.
pub(crate) const POLLED_DEVICE: bool = false;

/// One thread reads requests (fuser's limit on macOS): what may wait for a payload goes to the pool.
pub(crate) const POOLED_PAYLOADS: bool = true;

/// What one request carries at most; `iosize` below is the same.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

pub(crate) fn session_config(_threads: Option<NonZeroUsize>) -> fuser::Config {
    let mut config = fuser::Config::default();
    config.n_threads = Some(1);
    config
}

pub(crate) fn negotiate(config: &mut KernelConfig, _options: &Options) {
    // open(O_TRUNC) is one request. fuser 0.18 asks by itself for FUSE_CASE_INSENSITIVE,
    // FUSE_VOL_RENAME and FUSE_XTIMES, and nobody can undo that: the volume calls itself
    // case-insensitive although names are compared byte by byte.
    if config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC).is_err() {
        tracing::info!("this macFUSE does not pass O_TRUNC on");
    }
    if config.set_max_write(REQUEST_BYTES_MAX).is_err() {
        tracing::warn!("a limit of the FUSE connection was refused");
    }
}

/// Whether a WRITE clears set-user-id: nothing says so here, and all but uid 0 count as lacking the
/// privilege to keep it.
pub(crate) fn kill_on_write(_flags: WriteFlags, caller: Caller) -> bool {
    caller.uid != 0
}

/// Whether the kernel keeps the times of what it writes back: it asks us.
pub(crate) fn is_collected(_flags: WriteFlags, _options: &Options) -> bool {
    false
}

pub(crate) fn replace(from: &OsStr, flags: RenameFlags) -> Result<Replace, Errno> {
    if from.is_empty() {
        tracing::error!("a rename without a name: macFUSE 5 or later is needed");
        return Err(Errno::ENOTSUP);
    }
    if flags.is_empty() { Ok(Replace::Allow) } else { Err(Errno::ENOTSUP) }
}

/// Not asked for (FUSE_ALLOCATE), since F_PREALLOCATE means something else.
pub(crate) fn allocate(_mode: i32) -> Result<Allocate, Errno> {
    Err(Errno::EOPNOTSUPP)
}

/// The options of the one mount of a Mac.
const MOUNT_OPTIONS: &[&str] = &[
    // Daemon and users are not the same: everybody sees the mount, and the kernel checks what each
    // may do by the modes that we tell.
    "allow_other",
    "default_permissions",
    // macFUSE ignores how long a name may be kept (macfuse#712): without this a process would see
    // names that were looked up by another, in another view.
    "novncache",
    // Neither a desktop icon nor a volume for the search index: indexers walk all mounts.
    "nobrowse",
    // Nothing here changes by being read.
    "noatime",
    // As on Linux: layers must not bring privileges.
    "nosuid",
    "nodev",
    "fsname=spfs",
    "volname=spfs",
    // A multiple of the page size, which is 16 KiB on Apple silicon (macfuse#816).
    "iosize=1048576",
    // The default of 60 s unmounts a file system that waits for a slow repository.
    "daemon_timeout=600",
];

/// A mount of this process.
#[derive(Debug)]
pub struct Volume {
    mount: MacFuseMount,
}

impl Volume {
    /// Mounts with macFUSE's kernel backend and returns the device to serve. Processes can use the
    /// volume once it is served: see [`Volume::wait_until_mounted`]. `read_only`: the kernel refuses to
    /// write.
    ///
    /// # Errors
    /// When macFUSE is missing or refuses.
    pub fn mount(mount_point: &Path, read_only: bool) -> io::Result<(Self, OwnedFd)> {
        let mut options = MOUNT_OPTIONS.to_vec();
        if read_only {
            options.push("rdonly");
        }
        let (mount, device) =
            MacFuseMount::mount(mount_point, &options).map_err(io::Error::other)?;
        Ok((Self { mount }, device))
    }

    /// Waits until the mount, which goes on while it is served already, is complete.
    ///
    /// # Errors
    /// When it is not after `limit`.
    pub fn wait_until_mounted(&self, limit: Duration) -> io::Result<()> {
        const PAUSE: Duration = Duration::from_millis(5);
        let started = Instant::now();
        while !self.mount.is_mounted()? {
            if started.elapsed() > limit {
                let place = self.mount.mount_point().display();
                let text = format!("macFUSE did not mount on {place} within {limit:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Unmounts, with `force` also while files are open; the session then ends.
    ///
    /// # Errors
    /// EBUSY while it is used.
    pub fn unmount(&self, force: bool) -> io::Result<()> {
        self.mount.unmount(force)
    }
}

/// Operations that only macOS has.
macro_rules! platform_operations {
    () => {
        fn setvolname(&self, _req: &Request, _name: &OsStr, reply: ReplyEmpty) {
            reply.error(self.refuse(Op::Setvolname, Errno::ENOTSUP));
        }

        /// exchangedata(2), which is gone since macOS 11.
        fn exchange(
            &self,
            _req: &Request,
            _parent: INodeNo,
            _name: &OsStr,
            _newparent: INodeNo,
            _newname: &OsStr,
            _options: u64,
            reply: ReplyEmpty,
        ) {
            reply.error(self.refuse(Op::Exchange, Errno::ENOTSUP));
        }

        /// Nothing here was ever backed up.
        fn getxtimes(&self, req: &Request, id: INodeNo, reply: fuser::ReplyXTimes) {
            let turn = self.turn(Op::Getxtimes);
            match self.call(&turn, id, |edge| edge.getattr(caller(req), id)) {
                Ok((attr, _)) => reply.xtimes(SystemTime::UNIX_EPOCH, attr.crtime),
                Err(errno) => reply.error(errno),
            }
        }
    };
}
pub(crate) use platform_operations;

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits by which macFUSE would send renames in their long form: RENAME_SWAP, RENAME_EXCL.
    const LONG_RENAME: InitFlags = InitFlags::from_bits_retain(1 << 25 | 1 << 26);

    #[test]
    fn fuser_does_not_ask_for_the_long_form_of_renames() {
        // A release that knows the flags by name reads the long form, too: then use it.
        let known = InitFlags::all().iter_names().map(|(name, _)| name);
        assert!(!known.into_iter().any(|name| name.contains("RENAME_")));
        assert_eq!(LONG_RENAME.bits(), 0x0600_0000);
        assert!(replace(OsStr::new("a"), RenameFlags::from_bits_retain(4)).is_err());
        assert!(replace(OsStr::new(""), RenameFlags::empty()).is_err());
    }

    #[test]
    fn no_mount_option_contradicts_another() {
        let has = |name: &str| MOUNT_OPTIONS.iter().any(|option| option.starts_with(name));
        assert!(has("novncache") && !has("negative_vncache"));
        assert!(!has("local") && !has("defer_permissions") && !has("auto_xattr"));
        assert!(!has("noappledouble") && !has("direct_io") && !has("backend=fskit"));
    }
}
