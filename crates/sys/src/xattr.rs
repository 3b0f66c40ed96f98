//! Extended attributes of files; symbolic links are not followed.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::platform;

/// How [`set`] treats an attribute that exists or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Create or replace.
    Set,
    /// It must not exist.
    Create,
    /// It must exist.
    Replace,
}

/// Returns the value of an attribute; `None` when there is none.
///
/// # Errors
/// When the path cannot be reached or its volume has no attributes.
pub fn get(path: &Path, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    // The value may grow between asking for its size and reading it.
    loop {
        let size = match rustix::fs::lgetxattr_query(path, name) {
            Ok(size) => size,
            Err(platform::xattr::NO_ATTRIBUTE) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut value = vec![0; size];
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(size) => {
                value.truncate(size);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) => {}
            Err(platform::xattr::NO_ATTRIBUTE) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets an attribute.
///
/// # Errors
/// `AlreadyExists` for [`Mode::Create`]; for [`Mode::Replace`] the platform's "no such attribute".
pub fn set(path: &Path, name: &OsStr, value: &[u8], mode: Mode) -> io::Result<()> {
    let flags = match mode {
        Mode::Set => XattrFlags::empty(),
        Mode::Create => XattrFlags::CREATE,
        Mode::Replace => XattrFlags::REPLACE,
    };
    Ok(rustix::fs::lsetxattr(path, name, value, flags)?)
}

/// Returns the names of all attributes.
///
/// # Errors
/// When the path cannot be reached or its volume has no attributes.
pub fn list(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    loop {
        let size = rustix::fs::llistxattr_query(path)?;
        let mut names = vec![0; size];
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(size) => {
                let names = names[..size].split(|&byte| byte == 0);
                return Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect());
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes an attribute and returns whether it was there.
///
/// # Errors
/// When the path cannot be reached or its volume has no attributes.
pub fn remove(path: &Path, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::lremovexattr(path, name) {
        Ok(()) => Ok(true),
        Err(platform::xattr::NO_ATTRIBUTE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reflink::is_unsupported;

    #[test]
    fn attributes_are_set_read_listed_and_removed() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let name = OsStr::new("user.spfs.test");
        match set(&path, name, b"one", Mode::Create) {
            Err(error) if is_unsupported(&error) => {
                eprintln!("SKIPPED: this volume has no extended attributes");
                return;
            }
            result => result.unwrap(),
        }
        let error = set(&path, name, b"two", Mode::Create).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        set(&path, name, &[0; 300], Mode::Replace).unwrap();
        assert_eq!(get(&path, name).unwrap().unwrap(), [0; 300]);
        set(&path, OsStr::new("user.empty"), b"", Mode::Set).unwrap();
        assert_eq!(get(&path, OsStr::new("user.empty")).unwrap().unwrap(), b"");
        let mut names = list(&path).unwrap();
        names.retain(|name| name.starts_with(b"user."));
        names.sort();
        assert_eq!(names, [&b"user.empty"[..], b"user.spfs.test"]);
        assert!(remove(&path, name).unwrap());
        assert!(!remove(&path, name).unwrap());
        assert_eq!(get(&path, name).unwrap(), None);
        assert!(set(&path, name, b"", Mode::Replace).is_err());
    }
}
