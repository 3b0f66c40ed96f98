//! What is done in macOS's own way.

pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod limits;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod reflink;
pub(crate) mod socket;
pub(crate) mod watch;

/// Reads a value of sysctl(3) into `value` and returns its length.
fn sysctl(name: &std::ffi::CStr, value: &mut [u8]) -> std::io::Result<usize> {
    let mut size = value.len();
    // SAFETY: the pointers are valid, `size` is the length of the buffer, and nothing is set.
    let code = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    if code == 0 { Ok(size) } else { Err(std::io::Error::last_os_error()) }
}
