//! What may keep runtimes from working on this machine, and the fix for each.
//!
//! `gather` collects facts and changes nothing that stays; what they mean is decided by functions
//! of those facts alone, so that the findings for one system are tested on the other.

mod gather;
mod linux;
mod macos;
mod storage;

use std::path::PathBuf;

use spfs_runtime::{BackendSource, MountBackend};
use spfs_sys::host::Host;
use spfs_sys::limits::Nofile;
use spfs_sys::mount::{DeadMounts, MountEntry};

pub(crate) use gather::gather;

/// How good or bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Runtimes work, but worse than they could, or something waits to be cleared up.
    Warning,
    /// Runtimes, or all commands, do not work.
    Broken,
}

impl State {
    /// The state in one word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Finding {
    /// What it is about, in a word or two that stay the same.
    pub(crate) check: &'static str,
    /// How good it is.
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it; none when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), fix: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn broken(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Broken, found: found.into(), fix: Some(fix.into()) }
    }
}

/// All that is judged.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The machine.
    pub(crate) host: Host,
    /// The limit on open files.
    pub(crate) nofile: Nofile,
    /// The configuration's warnings, or why it cannot be read.
    pub(crate) configuration: Result<Vec<String>, String>,
    /// The configured backend; empty when the configuration cannot be read.
    pub(crate) backend: String,
    /// The storage; none when the configuration cannot be read.
    pub(crate) storage: Option<storage::Storage>,
    /// Mounts of ours whose server is gone or does not answer, or why that is not known.
    pub(crate) stale: Result<DeadMounts, String>,
    /// The one service of all runtimes.
    pub(crate) service: Service,
    /// The file that makes launchd start the service.
    pub(crate) agent: Agent,
    /// The type of file system that the kernel says is mounted at `/spfs`.
    pub(crate) mounted: Option<String>,
}

/// Whether a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    /// There is no socket.
    None,
    /// It answers.
    Answers(PathBuf),
    /// Somebody listens on it and did not answer in time.
    Hangs(PathBuf),
    /// It is there and nobody listens.
    Silent(PathBuf),
}

/// The file that makes launchd start the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Where it belongs; none without a home directory.
    pub(crate) path: Option<PathBuf>,
    /// What it holds, if it is there.
    pub(crate) found: Option<String>,
    /// What it should hold.
    pub(crate) expected: String,
}

/// What the facts mean.
pub(crate) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = match &facts.host {
        Host::Linux(host) => linux::findings(host),
        Host::MacOs(host) => macos::findings(host, facts),
    };
    findings.push(nofile(facts.nofile));
    findings.extend(configuration(&facts.configuration));
    findings.extend(backend(facts));
    if let Some(storage) = &facts.storage {
        findings.extend(storage::findings(storage));
    }
    findings.extend(stale(&facts.stale));
    findings.extend(service(&facts.service));
    findings
}

/// How many open files a runtime needs that many processes work in.
const NOFILE_GOOD: u64 = 4096;

/// Programs raise the limit of their own process, up to what is allowed.
fn nofile(limit: Nofile) -> Finding {
    let Nofile { now, most } = limit;
    let found = format!("{now} files may be open at once, {most} after the daemon has raised it");
    if most >= NOFILE_GOOD {
        return Finding::ok("open files", found);
    }
    let fix = format!("raise the hard limit on open files (ulimit -Hn) to {NOFILE_GOOD} or more");
    Finding::warning("open files", found, fix)
}

fn configuration(read: &Result<Vec<String>, String>) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let warn = |warning: &String| {
        let fix = "correct or remove it; 'spfs config' prints the keys and what is in effect";
        Finding::warning(CHECK, warning, fix)
    };
    match read {
        Ok(warnings) if warnings.is_empty() => vec![Finding::ok(CHECK, "it is understood")],
        Ok(warnings) => warnings.iter().map(warn).collect(),
        Err(error) => vec![Finding::broken(CHECK, error, "correct what it names")],
    }
}

/// A backend that runtimes do not start with.
fn backend(facts: &Facts) -> Option<Finding> {
    facts.configuration.as_ref().ok()?;
    let error = MountBackend::choose(&facts.backend, BackendSource::Configuration).err()?;
    let told = matches!(facts.host, Host::MacOs(_)) && macos::is_fskit(&facts.backend);
    let fix = "set filesystem.backend (SPFS_FILESYSTEM_BACKEND) to another one, or leave it out";
    (!told).then(|| Finding::broken("backend", error.to_string(), fix))
}

fn stale(found: &Result<DeadMounts, String>) -> Vec<Finding> {
    const CHECK: &str = "stale mounts";
    let dead = |entry: &MountEntry| {
        let path = entry.target.display();
        let found = format!("the process that served the mount at {path} is gone");
        Finding::broken(CHECK, found, format!("unmount it: umount -f {path}"))
    };
    let silent = |entry: &MountEntry| {
        let path = entry.target.display();
        let found = format!("what serves the mount at {path} did not answer within a second");
        let fix =
            "see whether the process spfs-fuse is stopped, or waits for a slow disk or remote";
        Finding::warning(CHECK, found, fix)
    };
    match found {
        Ok(found) if found.dead.is_empty() && found.silent.is_empty() => {
            vec![Finding::ok(CHECK, "there are none")]
        }
        Ok(found) => found.dead.iter().map(dead).chain(found.silent.iter().map(silent)).collect(),
        Err(error) => vec![Finding::warning(CHECK, error, "look at the output of 'mount'")],
    }
}

fn service(service: &Service) -> Option<Finding> {
    const CHECK: &str = "service";
    match service {
        // It is started by who needs it.
        Service::None => None,
        Service::Answers(socket) => {
            Some(Finding::ok(CHECK, format!("it answers on {}", socket.display())))
        }
        Service::Hangs(socket) => Some(Finding::warning(
            CHECK,
            format!("it listens on {} and did not answer within a second", socket.display()),
            "see whether the process spfs-fuse is stopped; 'spfs-fuse shutdown --force' ends it",
        )),
        Service::Silent(socket) => Some(Finding::warning(
            CHECK,
            format!("nobody listens on {}: it was killed", socket.display()),
            "start it again with 'spfs-fuse service', or run something: kept runtimes are intact",
        )),
    }
}

#[cfg(test)]
mod tests;
