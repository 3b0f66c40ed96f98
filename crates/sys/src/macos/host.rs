//! The file system and sysctl(3) tell; nothing is asked of macFUSE itself.

use std::fs;
use std::path::Path;

use crate::host::{Host, MacHost, RootName, System, plist_text};

pub(crate) const SYSTEM: System = System::MacOs;

/// Where macFUSE installs itself.
const MACFUSE: &str = "/Library/Filesystems/macfuse.fs";

/// Where macFUSE and MacPorts install libfuse 2.
const LIBRARIES: [&str; 2] = ["/usr/local/lib/libfuse.2.dylib", "/opt/local/lib/libfuse.2.dylib"];

pub(crate) fn facts() -> Host {
    let info = fs::read_to_string(Path::new(MACFUSE).join("Contents/Info.plist"));
    Host::MacOs(MacHost {
        release: release(),
        macfuse: Path::new(MACFUSE).is_dir(),
        macfuse_version: info.ok().and_then(|info| {
            plist_text(&info, "CFBundleShortVersionString")
                .or_else(|| plist_text(&info, "CFBundleVersion"))
                .map(str::to_owned)
        }),
        library: LIBRARIES.iter().any(|path| Path::new(path).exists()),
        // The devices are made when the extension is loaded.
        extension_loaded: Path::new("/dev/macfuse0").exists(),
        mount_point: root_name(Path::new("/spfs")),
        synthetic: fs::read("/etc/synthetic.conf")
            .ok()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    })
}

/// lstat of a mount point may be answered by what is mounted there, which may be dead: then it
/// is a directory all the same.
fn root_name(path: &Path) -> RootName {
    let mounted =
        crate::mount::mounts().is_ok_and(|mounts| mounts.iter().any(|entry| entry.target == path));
    if mounted {
        return RootName::Directory;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => RootName::Directory,
        Ok(_) => RootName::Other,
        Err(_) => RootName::Missing,
    }
}

fn release() -> String {
    let mut value = [0; 64];
    let length = super::sysctl(c"kern.osproductversion", &mut value).unwrap_or(0);
    let text = value.get(..length).unwrap_or_default();
    String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
}
