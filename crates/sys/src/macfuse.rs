//! Mounting with macFUSE, through the library that it installs.
//!
//! The library is opened when somebody mounts and not linked: so the program starts on a Mac without
//! macFUSE, and explains itself. Only the kernel backend gives a descriptor to serve; the FSKit
//! backend has none.
//!
//! Elsewhere everything here fails with [`MacFuseError::NotMacOs`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Why macFUSE did not mount.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MacFuseError {
    /// This is another system.
    #[error("macFUSE mounts on macOS alone")]
    NotMacOs,
    /// The library is not there.
    #[error("macFUSE is not installed: {reason}")]
    NotInstalled {
        /// What the loader says of the places where it was looked for.
        reason: String,
    },
    /// The library is not the one that was expected.
    #[error("the library of macFUSE has no function {function}")]
    NoFunction {
        /// What is missing.
        function: &'static str,
    },
    /// A path or option holds a NUL byte.
    #[error("{what:?} cannot be handed to macFUSE: it holds a NUL byte")]
    Nul {
        /// The path or option.
        what: String,
    },
    /// macFUSE refused.
    #[error("macFUSE cannot mount on {}", mount_point.display())]
    Mount {
        /// The mount point.
        mount_point: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mount gave no descriptor.
    #[error("macFUSE gave no device for {}: is its FSKit backend chosen?", mount_point.display())]
    NoDevice {
        /// The mount point.
        mount_point: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A mount made by macFUSE. Dropping it gives the library's channel back; unmounting is a step of
/// its own.
#[derive(Debug)]
pub struct MacFuseMount {
    mount_point: PathBuf,
    _channel: imp::Channel,
}

impl MacFuseMount {
    /// Mounts with these options (`-o`) and returns the device to serve. The volume is usable only
    /// once somebody serves it: see [`MacFuseMount::is_mounted`].
    ///
    /// # Errors
    /// When macFUSE is not installed, its kernel extension is not allowed, or it refuses.
    pub fn mount(mount_point: &Path, options: &[&str]) -> Result<(Self, OwnedFd), MacFuseError> {
        let (channel, device) = imp::mount(mount_point, options)?;
        Ok((Self { mount_point: mount_point.to_owned(), _channel: channel }, device))
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Whether the mount stands in the system's table. Nobody is asked who might have to answer for
    /// the mount itself.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn is_mounted(&self) -> io::Result<bool> {
        imp::is_mounted(&self.mount_point)
    }

    /// Unmounts; with `force` also while files are open.
    ///
    /// # Errors
    /// EBUSY while it is used, and whatever unmount(2) says.
    pub fn unmount(&self, force: bool) -> io::Result<()> {
        imp::unmount(&self.mount_point, force)
    }
}

#[cfg(not(target_os = "macos"))]
mod imp {
    use super::{MacFuseError, OwnedFd, Path, io};

    #[derive(Debug)]
    pub(super) enum Channel {}

    pub(super) fn mount(_: &Path, _: &[&str]) -> Result<(Channel, OwnedFd), MacFuseError> {
        Err(MacFuseError::NotMacOs)
    }

    pub(super) fn is_mounted(_: &Path) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn unmount(_: &Path, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "macos")]
mod imp {
    use std::ffi::{CStr, CString, c_char, c_int, c_void};
    use std::os::fd::BorrowedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::ptr::NonNull;

    use super::{MacFuseError, OwnedFd, Path, io};

    /// Where macFUSE and MacPorts install libfuse 2.
    const LIBRARIES: [&CStr; 2] =
        [c"/usr/local/lib/libfuse.2.dylib", c"/opt/local/lib/libfuse.2.dylib"];

    /// `struct fuse_args` of libfuse 2 (fuse_opt.h).
    #[repr(C)]
    struct Arguments {
        count: c_int,
        values: *mut *mut c_char,
        allocated: c_int,
    }

    type Mount = unsafe extern "C" fn(*const c_char, *mut Arguments) -> *mut c_void;
    type FreeArguments = unsafe extern "C" fn(*mut Arguments);
    type ChannelFd = unsafe extern "C" fn(*mut c_void) -> c_int;
    type DestroyChannel = unsafe extern "C" fn(*mut c_void);

    /// The functions that are needed. The library stays loaded for the life of the process.
    struct Library {
        mount: Mount,
        free_arguments: FreeArguments,
        channel_fd: ChannelFd,
        destroy_channel: DestroyChannel,
    }

    /// The library's side of a mount: it owns the descriptor of which we have a duplicate.
    #[derive(Debug)]
    pub(super) struct Channel {
        channel: NonNull<c_void>,
        destroy: DestroyChannel,
    }

    // SAFETY: libfuse's channel is bound to no thread, and only one owner of a `Channel` calls it.
    unsafe impl Send for Channel {}
    // SAFETY: nothing is done through a shared reference.
    unsafe impl Sync for Channel {}

    impl Drop for Channel {
        fn drop(&mut self) {
            // SAFETY: the channel came from fuse_mount and is destroyed once.
            unsafe { (self.destroy)(self.channel.as_ptr()) }
        }
    }

    impl Library {
        fn open() -> Result<Self, MacFuseError> {
            let mut reason = String::new();
            for path in LIBRARIES {
                // SAFETY: the path is a C string; what the library does when it is loaded is macFUSE's.
                let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
                if let Some(handle) = NonNull::new(handle) {
                    return Self::of(handle);
                }
                reason.push_str(&loader_error());
                reason.push(' ');
            }
            Err(MacFuseError::NotInstalled { reason: reason.trim_end().to_owned() })
        }

        fn of(handle: NonNull<c_void>) -> Result<Self, MacFuseError> {
            let find = |name: &'static CStr| {
                // SAFETY: the handle is that of an open library, the name a C string.
                let found = unsafe { libc::dlsym(handle.as_ptr(), name.as_ptr()) };
                let function = name.to_str().unwrap_or("?");
                NonNull::new(found).ok_or(MacFuseError::NoFunction { function })
            };
            // SAFETY: these are the signatures in macFUSE's fuse_common_compat.h, fuse_opt.h and
            // fuse_lowlevel.h for libfuse 2; a pointer to a function has the size of any pointer.
            unsafe {
                Ok(Self {
                    mount: std::mem::transmute::<NonNull<c_void>, Mount>(find(c"fuse_mount")?),
                    free_arguments: std::mem::transmute::<NonNull<c_void>, FreeArguments>(find(
                        c"fuse_opt_free_args",
                    )?),
                    channel_fd: std::mem::transmute::<NonNull<c_void>, ChannelFd>(find(
                        c"fuse_chan_fd",
                    )?),
                    destroy_channel: std::mem::transmute::<NonNull<c_void>, DestroyChannel>(find(
                        c"fuse_chan_destroy",
                    )?),
                })
            }
        }
    }

    fn loader_error() -> String {
        // SAFETY: dlerror gives a C string that lives until the next call of the loader, or null.
        let text = unsafe {
            let text = libc::dlerror();
            if text.is_null() { return String::new() } else { CStr::from_ptr(text) }
        };
        text.to_string_lossy().into_owned()
    }

    fn c_string(bytes: &[u8]) -> Result<CString, MacFuseError> {
        CString::new(bytes)
            .map_err(|_| MacFuseError::Nul { what: String::from_utf8_lossy(bytes).into_owned() })
    }

    pub(super) fn mount(
        mount_point: &Path,
        options: &[&str],
    ) -> Result<(Channel, OwnedFd), MacFuseError> {
        let library = Library::open()?;
        let path = c_string(mount_point.as_os_str().as_bytes())?;
        let words = [c"spfs".to_owned(), c"-o".to_owned(), c_string(options.join(",").as_bytes())?];
        let mut values: Vec<*mut c_char> =
            words.iter().map(|word| word.as_ptr().cast_mut()).collect();
        values.push(std::ptr::null_mut());
        let mut arguments = Arguments { count: 3, values: values.as_mut_ptr(), allocated: 0 };
        // SAFETY: path and words are C strings that live through the call; libfuse replaces what it
        // changes by copies of its own (`allocated`), which are freed right after.
        let channel = unsafe {
            let channel = (library.mount)(path.as_ptr(), &raw mut arguments);
            let error = io::Error::last_os_error();
            (library.free_arguments)(&raw mut arguments);
            NonNull::new(channel).ok_or(error)
        };
        let mount_point = mount_point.to_owned();
        let channel = match channel {
            Ok(channel) => Channel { channel, destroy: library.destroy_channel },
            Err(source) => return Err(MacFuseError::Mount { mount_point, source }),
        };
        // SAFETY: the channel is alive. Asking for its descriptor also starts the mount itself,
        // since macFUSE 5.3.3.
        let borrowed = unsafe { (library.channel_fd)(channel.channel.as_ptr()) };
        let device = if borrowed < 0 {
            Err(io::Error::last_os_error())
        } else {
            // SAFETY: the descriptor belongs to the channel, which is alive.
            unsafe { BorrowedFd::borrow_raw(borrowed) }.try_clone_to_owned()
        };
        match device {
            Ok(device) => Ok((channel, device)),
            Err(source) => Err(MacFuseError::NoDevice { mount_point, source }),
        }
    }

    pub(super) fn is_mounted(mount_point: &Path) -> io::Result<bool> {
        // SAFETY: without a buffer the call counts the mounts.
        let count = unsafe { libc::getfsstat(std::ptr::null_mut(), 0, libc::MNT_NOWAIT) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        // Room for what is mounted meanwhile.
        let mut table: Vec<libc::statfs> = Vec::with_capacity(count + 16);
        let bytes = table.capacity() * std::mem::size_of::<libc::statfs>();
        let bytes = c_int::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the buffer has room for `bytes` bytes. MNT_NOWAIT asks no file system.
        let filled = unsafe { libc::getfsstat(table.as_mut_ptr(), bytes, libc::MNT_NOWAIT) };
        let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the call has filled that many, which is at most what there was room for.
        unsafe { table.set_len(filled.min(table.capacity())) };
        let wanted = mount_point.as_os_str().as_bytes();
        Ok(table.iter().any(|entry| {
            let name = entry.f_mntonname.iter().take_while(|&&byte| byte != 0);
            name.map(|&byte| byte as u8).eq(wanted.iter().copied())
        }))
    }

    pub(super) fn unmount(mount_point: &Path, force: bool) -> io::Result<()> {
        let path = CString::new(mount_point.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let flags = if force { libc::MNT_FORCE } else { 0 };
        // SAFETY: the path is a C string.
        let code = unsafe { libc::unmount(path.as_ptr(), flags) };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn elsewhere_mounting_says_that_it_is_for_macos() {
        let error = MacFuseMount::mount(Path::new("/spfs"), &["volname=spfs"]).unwrap_err();
        assert!(matches!(error, MacFuseError::NotMacOs), "{error}");
    }
}
