//! Running programs, and `spfs` with a storage of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Result;

/// The project's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Runs a command; its failure is an error.
pub(crate) fn check(command: &mut Command) -> Result {
    let status = command.status().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

/// Runs a command and returns what it printed; its failure is an error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if !out.status.success() {
        return Err(format!("{command:?} ended with {}", out.status).into());
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Runs a shell script.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    command
}

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// For figures.
    Release,
    /// As the tests are, which is quick after them.
    Debug,
}

/// Builds the program and returns its path.
pub(crate) fn build_spfs(build: Build) -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--quiet", "--package", "spfs"]);
    if build == Build::Release {
        cargo.arg("--release");
    }
    check(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    Ok(target.join(if build == Build::Release { "release/spfs" } else { "debug/spfs" }))
}

/// `spfs` with a storage root of its own.
pub(crate) struct Spfs {
    program: PathBuf,
    /// The storage root.
    pub(crate) storage: PathBuf,
    /// Holds the storage and whatever a task needs; removed at the end.
    pub(crate) dir: TempDir,
}

impl Spfs {
    /// Builds the program for figures and gives it an empty storage below `parent`, or the usual
    /// place.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self> {
        Self::built(Build::Release, parent)
    }

    /// As [`Spfs::new`], built as it is told.
    pub(crate) fn built(build: Build, parent: Option<&Path>) -> Result<Self> {
        let dir = match parent {
            Some(parent) => TempDir::with_prefix_in("spfs-xtask-", parent)?,
            None => TempDir::with_prefix("spfs-xtask-")?,
        };
        Ok(Self { program: build_spfs(build)?, storage: dir.path().join("storage"), dir })
    }

    /// A call of `spfs`.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("SPFS_STORAGE_ROOT", &self.storage)
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("SPFS", &self.program);
        command
    }

    /// Runs `spfs` with these arguments.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result {
        check(&mut self.command(args))
    }

    /// Runs a script inside an editable runtime of `reference`.
    pub(crate) fn edit(&self, reference: &str, script: &str) -> Result {
        let shell = ["bash", "-euo", "pipefail", "-c", script];
        self.run(["run", "--edit", reference, "--"].into_iter().chain(shell))
    }
}
