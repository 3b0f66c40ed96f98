//! Clones: two files that share their blocks until one of them is written.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;

use crate::platform;

/// Makes `dst` share all of the content of `src`. Not on macOS, where a clone is always a new
/// file: [`clone_new`] works everywhere.
///
/// # Errors
/// [`is_unsupported`] when the volume cannot clone or the files are on different ones.
pub fn clone_file(src: &File, dst: &File) -> io::Result<()> {
    platform::reflink::clone_file(src, dst)
}

/// Makes a new file at `dst` (mode 0600) that is a clone of `src`, and opens it for reading and
/// writing. Nothing is left at `dst` when it fails.
///
/// # Errors
/// [`is_unsupported`] when it has to be copied instead; `AlreadyExists` when `dst` exists.
pub fn clone_new(src: &File, dst: &Path) -> io::Result<File> {
    platform::reflink::clone_new(src, dst)
}

/// Returns whether an error only says that this pair of files cannot be cloned (or this volume has
/// no such operation), so that copying is the thing to do. Not for `ENOSPC` and the like.
pub fn is_unsupported(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else {
        return error.kind() == io::ErrorKind::Unsupported;
    };
    // EXDEV: two volumes. EINVAL: XFS without reflink, unaligned ranges, special files.
    // ENOTTY: file systems that do not know the ioctl. ENOTSUP is EOPNOTSUPP on Linux only.
    [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::XDEV, Errno::INVAL, Errno::NOTTY, Errno::NOSYS]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

/// The fallback frame for platforms that clone into an open file: make, clone, remove on failure.
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "macOS clones into a new name"))]
pub(crate) fn clone_into_new(src: &File, dst: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(dst)?;
    match clone_file(src, &file) {
        Ok(()) => Ok(file),
        Err(error) => {
            // The name is ours: create_new made it. A failing removal would hide the real error.
            drop(fs::remove_file(dst));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_call_for_a_copy_are_unsupported() {
        for errno in [Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL, Errno::NOTTY, Errno::NOSYS] {
            assert!(is_unsupported(&errno.into()), "{errno}");
        }
        for errno in [Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::NOENT, Errno::BADF] {
            assert!(!is_unsupported(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn a_failed_clone_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("clone");
        // A directory can be opened but never cloned.
        let source = File::open(dir.path()).unwrap();
        clone_new(&source, &target).unwrap_err();
        assert!(!target.exists());
    }

    #[test]
    fn clone_new_refuses_an_existing_target_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        fs::write(&target, "mine").unwrap();
        let source = tempfile::tempfile().unwrap();
        let error = clone_new(&source, &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    }
}
