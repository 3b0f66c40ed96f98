//! clonefile, which always makes a new file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, CloneFlags};
use rustix::io::Errno;

pub(crate) fn clone_file(_src: &File, _dst: &File) -> io::Result<()> {
    // clonefile(2) and fclonefileat(2) always make a new file.
    Err(Errno::NOTSUP.into())
}

pub(crate) fn clone_new(src: &File, dst: &Path) -> io::Result<File> {
    rustix::fs::fclonefileat(src, CWD, dst, CloneFlags::NOOWNERCOPY)?;
    // The clone has the mode of its source (a payload is often read-only); its owner may change it.
    let open = || {
        fs::set_permissions(dst, Permissions::from_mode(0o600))?;
        OpenOptions::new().read(true).write(true).open(dst)
    };
    open().inspect_err(|_| {
        // The clone is ours: fclonefileat fails when the name exists.
        drop(fs::remove_file(dst));
    })
}
