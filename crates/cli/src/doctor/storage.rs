//! What the facts of the storage mean: the repository, and the runtimes in it.

use std::path::{Path, PathBuf};

use super::Finding;

/// The storage of repository and runtimes.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// The configured folder.
    pub(crate) root: PathBuf,
    /// Whether the folder is there.
    pub(crate) there: bool,
    /// Whether runtimes can be made in it, or in which folder not and why.
    pub(crate) startable: Result<(), Refused>,
    /// Whether something can be stored in its repository, or in which folder not and why.
    pub(crate) storable: Result<(), Refused>,
    /// The mode of the folder of all runtimes, if it is there.
    pub(crate) runtimes_mode: Option<u32>,
    /// Whether a changed file can share its blocks with the repository.
    pub(crate) clones: Clones,
    /// The runtimes that crashed, or why they cannot be listed.
    pub(crate) crashed: Result<Vec<Crashed>, String>,
    /// What is wrong with records that cannot be read.
    pub(crate) unreadable: Vec<String>,
}

/// A folder that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The folder.
    pub(crate) path: PathBuf,
    /// Why not.
    pub(crate) why: String,
}

/// Whether a changed file can share its blocks with the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clones {
    /// It can.
    Shared,
    /// It is copied, and why.
    Copied(String),
    /// These two folders lie on different volumes.
    OtherVolume(PathBuf, PathBuf),
    /// Nothing could be tried.
    Unknown,
}

/// A runtime that crashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crashed {
    /// Its name.
    pub(crate) name: String,
    /// The number of changes in it, where that can be read.
    pub(crate) changes: Option<u64>,
}

pub(super) fn findings(storage: &Storage) -> Vec<Finding> {
    let mut findings = vec![root(storage)];
    findings.extend(storage.runtimes_mode.map(|mode| folder(&storage.root, mode)));
    findings.extend(clones(&storage.clones));
    findings.extend(runtimes(&storage.crashed));
    findings.extend(storage.unreadable.iter().map(|error| {
        let fix = "'spfs runtime remove NAME' removes what is left of it";
        Finding::warning("runtimes", error, fix)
    }));
    findings
}

fn root(storage: &Storage) -> Finding {
    const CHECK: &str = "storage root";
    let root = storage.root.display();
    let refused = |what: &str, Refused { path, why }: &Refused| {
        format!("{root} cannot be {what}: {}: {why}", path.display())
    };
    match (&storage.startable, &storage.storable, storage.there) {
        (Ok(()), Ok(()), true) => Finding::ok(CHECK, format!("{root} can be written")),
        (Ok(()), Ok(()), false) => {
            Finding::ok(CHECK, format!("{root} is made when it is first needed"))
        }
        (Ok(()), Err(why), _) => Finding::warning(
            CHECK,
            format!("runtimes start, but {}", refused("written", why)),
            "get yourself write access to that folder, to commit and to tag",
        ),
        (Err(why), _, there) => Finding::broken(
            CHECK,
            refused(if there { "written" } else { "made" }, why),
            "get yourself write access to that folder, or set storage.root (SPFS_STORAGE_ROOT) to \
             one of yours",
        ),
    }
}

/// Permission bits of stat(2).
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The folder of each runtime is its user's alone, which is of no use when others may rename it.
fn folder(root: &Path, mode: u32) -> Finding {
    const CHECK: &str = "runtimes folder";
    let path = root.join("runtimes");
    let path = path.display();
    if mode & (GROUP_WRITES | ALL_WRITE) == 0 || mode & STICKY != 0 {
        return Finding::ok(CHECK, format!("others cannot replace what is in {path}"));
    }
    let found = |who: &str| {
        format!("{who} can replace runtimes of yours in {path} (mode {:o})", mode & 0o7777)
    };
    let fix = format!("chmod +t {path}");
    match mode & ALL_WRITE {
        // Those who share a storage know each other.
        0 => Finding::warning(CHECK, found("others of its group"), fix),
        _ => Finding::broken(CHECK, found("others"), fix),
    }
}

fn clones(clones: &Clones) -> Option<Finding> {
    const CHECK: &str = "cloning";
    match clones {
        Clones::Shared => {
            Some(Finding::ok(CHECK, "changed files and commits share blocks with the repository"))
        }
        // Usual on Linux, and slow with big files alone.
        Clones::Copied(why) => Some(Finding::ok(
            CHECK,
            format!(
                "changed files and commits are copied, since this volume cannot clone ({why}): \
                 Btrfs, XFS with reflink and APFS can"
            ),
        )),
        Clones::OtherVolume(one, other) => Some(Finding::warning(
            CHECK,
            format!("{} and {} are on different volumes", one.display(), other.display()),
            "put both on one volume: then files can be cloned and renamed instead of copied",
        )),
        Clones::Unknown => None,
    }
}

fn runtimes(crashed: &Result<Vec<Crashed>, String>) -> Vec<Finding> {
    const CHECK: &str = "runtimes";
    match crashed {
        Ok(crashed) if crashed.is_empty() => vec![Finding::ok(CHECK, "none has crashed")],
        Ok(crashed) => crashed.iter().map(one_crashed).collect(),
        Err(error) => vec![Finding::broken(CHECK, error, "'spfs check' looks at the repository")],
    }
}

fn one_crashed(crashed: &Crashed) -> Finding {
    let Crashed { name, changes } = crashed;
    let found = match changes {
        Some(changes) => format!("{name} has crashed; {changes} changes are kept in it"),
        None => format!("{name} has crashed; its changes cannot be counted"),
    };
    Finding::warning(
        "runtimes",
        found,
        format!(
            "go on with 'spfs run --rerun {name} -- COMMAND', save its changes with 'spfs runtime \
             export --changes {name} DIR', or drop them with 'spfs runtime remove {name}'"
        ),
    )
}
