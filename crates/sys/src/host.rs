//! What this machine offers to a file system in user space: plain facts, for whoever judges them.
//!
//! Gathering changes nothing and mounts nothing. The facts of both systems are
//! types everywhere, so that what is concluded from them can be tested on either.

use std::io;

use crate::platform;

/// A system that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Linux.
    Linux,
    /// macOS.
    MacOs,
}

/// The system that this program runs on.
pub const SYSTEM: System = platform::host::SYSTEM;

/// The facts of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Of one with Linux.
    Linux(LinuxHost),
    /// Of one with macOS.
    MacOs(MacHost),
}

/// Whether a device can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// This process can open it.
    Opens,
    /// There is none.
    Missing,
    /// It is there and cannot be opened, and why.
    Refused(String),
}

impl Device {
    /// What an attempt to open it says.
    pub fn of<T>(opened: io::Result<T>) -> Self {
        match opened {
            Ok(_) => Self::Opens,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

/// A machine with Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxHost {
    /// The kernel's release, such as `6.12.3-arch1`.
    pub release: String,
    /// `/dev/fuse`.
    pub fuse_device: Device,
    /// Whether the kernel knows FUSE (/proc/filesystems): opening the device has made
    /// it load the module, if there is one.
    pub fuse_known: bool,
    /// Whether this process may mount without a user namespace.
    pub privileged: bool,
    /// The setting that keeps ordinary users from making user namespaces, as `name = value`.
    pub namespaces_refused: Option<String>,
}

/// What there is under a name in the root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootName {
    /// Nothing.
    Missing,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// A machine with macOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacHost {
    /// The version, such as `15.4`; empty when unknown.
    pub release: String,
    /// Whether the files of macFUSE are there.
    pub macfuse: bool,
    /// Their version, where it can be read.
    pub macfuse_version: Option<String>,
    /// Whether its library (libfuse 2) is there.
    pub library: bool,
    /// Whether its kernel extension is loaded, which says that it was approved.
    pub extension_loaded: bool,
    /// What `/spfs` is; it is not asked what is mounted on it.
    pub mount_point: RootName,
    /// The text of `/etc/synthetic.conf`; `None` when there is none.
    pub synthetic: Option<String>,
}

/// The value of a key whose value is a text, in a property list that is XML.
pub fn plist_text<'a>(plist: &'a str, key: &str) -> Option<&'a str> {
    let (_, after) = plist.split_once(&format!("<key>{key}</key>"))?;
    let (text, _) = after.trim_start().strip_prefix("<string>")?.split_once("</string>")?;
    Some(text.trim())
}

/// Gathers the facts of this machine.
pub fn facts() -> Host {
    platform::host::facts()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_a_property_list() {
        let plist = "<dict>\n\t<key>CFBundleName</key>\n\t<string>macfuse</string>\n\
                     \t<key>CFBundleVersion</key>\n\t<string> 5.4.0 </string>\n\
                     \t<key>LSUIElement</key><true/></dict>";
        assert_eq!(plist_text(plist, "CFBundleVersion"), Some("5.4.0"));
        assert_eq!(plist_text(plist, "CFBundleName"), Some("macfuse"));
        for key in ["LSUIElement", "CFBundle", ""] {
            assert_eq!(plist_text(plist, key), None, "{key:?}");
        }
        assert_eq!(plist_text("bplist00", "CFBundleVersion"), None);
    }

    #[test]
    fn a_device_is_missing_refused_or_opens() {
        assert_eq!(Device::of(Ok(())), Device::Opens);
        assert_eq!(Device::of::<()>(Err(io::ErrorKind::NotFound.into())), Device::Missing);
        let refused = Device::of::<()>(Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused, Device::Refused("permission denied".to_owned()));
    }

    #[test]
    fn the_facts_are_those_of_this_system() {
        match facts() {
            Host::Linux(facts) => {
                assert_eq!(SYSTEM, System::Linux);
                assert!(facts.release.starts_with(|first: char| first.is_ascii_digit()));
            }
            Host::MacOs(facts) => {
                assert_eq!(SYSTEM, System::MacOs);
                assert!(!facts.release.is_empty());
            }
        }
    }
}
