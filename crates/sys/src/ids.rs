//! Who runs this process, and where.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;

/// Returns the effective user id.
pub fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the effective group id.
pub fn egid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Returns the login name of a user; `None` when the user database does not know the id.
pub fn user_name(uid: u32) -> Option<OsString> {
    lookup(uid, |entry| entry.pw_name)
}

/// Returns the name of this machine in the network.
pub fn host_name() -> OsString {
    OsString::from_vec(rustix::system::uname().nodename().to_bytes().to_vec())
}

/// Entries are a few hundred bytes; groups are not part of them. The limit ends the growing for a
/// database that always asks for more.
const ENTRY_BYTES: usize = 1 << 10;
const ENTRY_BYTES_MAX: usize = 1 << 20;

fn lookup(uid: u32, field: impl Fn(&libc::passwd) -> *mut libc::c_char) -> Option<OsString> {
    let mut size = ENTRY_BYTES;
    while size <= ENTRY_BYTES_MAX {
        let mut buffer = vec![0_u8; size];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut result = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the length is the buffer's.
        let code = unsafe {
            libc::getpwuid_r(
                uid,
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut result,
            )
        };
        if code == libc::ERANGE {
            size *= 4;
            continue;
        }
        if code != 0 || result.is_null() {
            return None;
        }
        // SAFETY: a non-null result says that the call filled `entry` in.
        let text = field(unsafe { entry.assume_init_ref() });
        if text.is_null() {
            return None;
        }
        // SAFETY: the fields of an entry are strings with a NUL inside `buffer`, which is alive.
        let text = unsafe { CStr::from_ptr(text) };
        return Some(OsString::from_vec(text.to_bytes().to_vec()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_free_id_has_none() {
        assert_eq!(user_name(0).unwrap(), "root");
        assert_eq!(user_name(3_999_999_999), None);
    }

    #[test]
    fn the_host_has_a_name() {
        assert!(!host_name().is_empty());
    }
}
