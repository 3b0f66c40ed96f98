//! What the facts of a machine with macOS mean. TEST-ON-MAC: the conclusions are tested with facts
//! as macFUSE's documentation and sources let expect them.

use spfs_sys::host::{MacHost, RootName};

use super::{Agent, Facts, Finding};
use crate::install::synthetic::{self, Entry};

/// The first version whose requests fuser 0.18 understands.
const MACFUSE_MAJOR: u32 = 5;

/// Pre-releases that give no device for a mount.
const MACFUSE_WITHOUT_DEVICE: [&str; 3] = ["5.3.0", "5.3.1", "5.3.2"];

const INSTALL: &str = "install the current macFUSE from https://macfuse.github.io";

pub(super) fn findings(host: &MacHost, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![macfuse(host)];
    if host.macfuse {
        findings.push(extension(host));
    }
    findings.push(backend(&facts.backend, facts.mounted.as_deref()));
    findings.push(mount_point(host));
    findings.push(agent(&facts.agent));
    findings
}

fn macfuse(host: &MacHost) -> Finding {
    const CHECK: &str = "macFUSE";
    if !host.macfuse {
        return Finding::broken(CHECK, "it is not installed", INSTALL);
    }
    if !host.library {
        return Finding::broken(CHECK, "its library libfuse.2.dylib is missing", INSTALL);
    }
    let Some(version) = &host.macfuse_version else {
        let fix = format!("make sure that it is version {MACFUSE_MAJOR} or later");
        return Finding::warning(CHECK, "it is installed, its version cannot be read", fix);
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < MACFUSE_MAJOR) {
        let found = format!("version {version} is too old: its renames are not understood");
        return Finding::broken(CHECK, found, INSTALL);
    }
    if MACFUSE_WITHOUT_DEVICE.contains(&version.as_str()) {
        let found = format!("version {version} is a pre-release that cannot be served");
        return Finding::broken(CHECK, found, INSTALL);
    }
    Finding::ok(CHECK, format!("version {version} is installed"))
}

/// Only a loaded extension is known to be approved; the first mount loads it.
fn extension(host: &MacHost) -> Finding {
    const CHECK: &str = "kernel extension";
    if host.extension_loaded {
        return Finding::ok(CHECK, "it is approved and loaded");
    }
    Finding::warning(
        CHECK,
        "it is not loaded: nothing was mounted since the start, or it is not approved",
        "when mounting fails, approve it: on Apple silicon start in Recovery, choose Reduced \
         Security with user management of kernel extensions in Startup Security Utility; then allow \
         it in System Settings > Privacy & Security and restart",
    )
}

/// Whether the name of a backend, or of a type of file system, is that of macFUSE without a kernel
/// extension.
pub(super) fn is_fskit(text: &str) -> bool {
    text.to_ascii_lowercase().contains("fskit")
}

fn backend(configured: &str, mounted: Option<&str>) -> Finding {
    const CHECK: &str = "macFUSE backend";
    if !is_fskit(configured) && !mounted.is_some_and(is_fskit) {
        return Finding::ok(CHECK, "the kernel backend is used");
    }
    Finding::broken(
        CHECK,
        "backend=fskit is refused: it does not tell which process asks, so that all would see the \
         same files, mounts below /Volumes only, and sends no notifications",
        "take it out of filesystem.backend, and unmount what is mounted at /spfs with it",
    )
}

fn mount_point(host: &MacHost) -> Finding {
    const CHECK: &str = "/spfs";
    let add = || {
        format!(
            "'sudo spfs service install' adds the one line \"{}\" to {}; then restart the Mac",
            synthetic::LINE,
            synthetic::FILE
        )
    };
    let entry = synthetic::entry(host.synthetic.as_deref().unwrap_or_default());
    match (&host.mount_point, entry) {
        (RootName::Directory, Entry::Directory) => {
            Finding::ok(CHECK, format!("it is there, by a line in {}", synthetic::FILE))
        }
        (RootName::Directory, _) => {
            let found = format!("it is there, but no line in {} makes it", synthetic::FILE);
            Finding::warning(CHECK, found, add())
        }
        (_, Entry::Elsewhere(target)) => Finding::broken(
            CHECK,
            format!("{} makes it a link to {target}", synthetic::FILE),
            format!("remove that line, then {}", add()),
        ),
        (RootName::Other, _) => {
            Finding::broken(CHECK, "it is no directory", format!("take it away, then {}", add()))
        }
        (RootName::Missing, Entry::Directory) => Finding::broken(
            CHECK,
            format!("the line in {} has not taken effect", synthetic::FILE),
            format!("restart the Mac, or run: sudo {} -t", synthetic::TOOL),
        ),
        (RootName::Missing, Entry::Missing) => Finding::broken(CHECK, "it does not exist", add()),
    }
}

fn agent(agent: &Agent) -> Finding {
    const CHECK: &str = "launchd";
    let Some(path) = &agent.path else {
        let fix = "set HOME to your home directory";
        return Finding::warning(CHECK, "without a home directory there is no agent", fix);
    };
    let path = path.display();
    match &agent.found {
        None => Finding::ok(CHECK, "no agent is installed: the service is started when needed"),
        Some(found) if *found == agent.expected => {
            Finding::ok(CHECK, format!("{path} starts the service"))
        }
        Some(_) => Finding::warning(
            CHECK,
            format!("{path} is not what this program would write"),
            "write it again with 'spfs service install'",
        ),
    }
}
