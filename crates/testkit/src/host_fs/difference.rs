//! What a real directory does otherwise than the model, and why that is right.

use spfs_vfs::api::FileType;

use super::HostFs;
use crate::drive::{Outcome, Times};
use crate::ops::Call;

/// Says why an outcome of a real directory is right though it differs from the model's.
pub fn excuse_outcome(call: &Call, model: &Outcome, host: &Outcome) -> Option<&'static str> {
    match (call, model, host) {
        (Call::List { .. }, Outcome::Entries(entries), Outcome::Failed(failed))
            if entries.is_empty() && failed.name == "NotFound" =>
        {
            Some("the kernel does not ask a file system about a removed directory (iterate_dir)")
        }
        _ => None,
    }
}

/// Sets those times of a real directory that need not agree to the model's.
pub fn excuse_times(file_type: FileType, model: &Times, host: &mut Times) {
    // The volume stamps the time of creation itself, and some volumes keep none.
    host.crtime = model.crtime;
    // Nothing can be opened to read a link, so nothing can be opened with O_NOATIME; in the core
    // access times are the kernel's business.
    if file_type == FileType::Symlink {
        host.atime = model.atime;
    }
}

/// Whether a real directory can be read in steps while it changes.
///
/// The position that getdents(2) gives with an entry is that of the next one. tmpfs (Linux 6.18)
/// goes on wrongly when that one is removed meanwhile, and repeats entries that are still there.
pub fn keeps_cookies(host: &HostFs) -> bool {
    !host.is_tmpfs()
}
