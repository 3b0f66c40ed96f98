//! /proc and /dev tell.

use std::fs::{self, File};

use crate::host::{Device, Host, LinuxHost, System};
use crate::mount;

pub(crate) const SYSTEM: System = System::Linux;

pub(crate) fn facts() -> Host {
    // Opening the device makes the kernel load the module.
    let fuse_device = Device::of(File::options().read(true).write(true).open("/dev/fuse"));
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    Host::Linux(LinuxHost {
        release: rustix::system::uname().release().to_string_lossy().into_owned(),
        fuse_device,
        fuse_known: knows_fuse(&known),
        privileged: mount::am_privileged(),
        namespaces_refused: mount::why_no_user_namespace(),
    })
}

/// Lines are `nodev fuse` and the like, with a tab.
fn knows_fuse(file_systems: &str) -> bool {
    file_systems.lines().any(|line| line.split_whitespace().last() == Some("fuse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuse_is_found_among_similar_names() {
        assert!(knows_fuse("nodev\tproc\nnodev\tfuse\n\tfuseblk\n"));
        assert!(!knows_fuse("nodev\tproc\n\tfuseblk\nnodev\tfusectl\n"));
        assert!(!knows_fuse(""));
    }
}
