//! What the facts of a machine with Linux mean.

use spfs_sys::host::{Device, LinuxHost};

use super::Finding;

/// The first kernel of the line that all of this is tested on.
const KERNEL_GOOD: (u32, u32) = (6, 0);

/// The first kernel that mounts FUSE inside a user namespace.
const KERNEL_FOR_USERS: (u32, u32) = (4, 18);

pub(super) fn findings(host: &LinuxHost) -> Vec<Finding> {
    vec![device(host), namespaces(host), kernel(host)]
}

fn device(host: &LinuxHost) -> Finding {
    const CHECK: &str = "fuse";
    match &host.fuse_device {
        Device::Opens if host.fuse_known => {
            Finding::ok(CHECK, "/dev/fuse can be opened, and the kernel knows FUSE")
        }
        Device::Opens => Finding::broken(
            CHECK,
            "/dev/fuse can be opened, but /proc/filesystems does not list fuse",
            "load the kernel's module: modprobe fuse",
        ),
        Device::Missing => Finding::broken(
            CHECK,
            "there is no /dev/fuse",
            "load the kernel's module (modprobe fuse); in a container give it the device, as with \
             --device /dev/fuse",
        ),
        Device::Refused(why) => Finding::broken(
            CHECK,
            format!("/dev/fuse cannot be opened: {why}"),
            "give users access: chmod 0666 /dev/fuse (distributions do so by a udev rule); in a \
             container allow the device",
        ),
    }
}

fn namespaces(host: &LinuxHost) -> Finding {
    const CHECK: &str = "user namespaces";
    match &host.namespaces_refused {
        _ if host.privileged => Finding::ok(CHECK, "not needed: this user may mount"),
        None => Finding::ok(CHECK, "no known setting refuses them"),
        Some(setting) => Finding::broken(
            CHECK,
            format!("{setting} keeps ordinary users from making them"),
            "have that setting changed (docs/troubleshooting.md), or run as root",
        ),
    }
}

fn kernel(host: &LinuxHost) -> Finding {
    const CHECK: &str = "kernel";
    let found = format!("Linux {}", host.release);
    match version(&host.release) {
        Some(version) if version >= KERNEL_GOOD => Finding::ok(CHECK, found),
        Some(version) if version < KERNEL_FOR_USERS && !host.privileged => Finding::broken(
            CHECK,
            format!("{found} cannot mount FUSE inside a user namespace"),
            "use Linux 4.18 or later, better 6 or later, or run as root",
        ),
        _ => Finding::warning(CHECK, found, "Linux 6 or later is recommended"),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
