//! The process environment: variables, working directory, program path.
//!
//! Nothing else in this crate, and nothing below it, reads the environment (the `env` attributes
//! of the argument definitions are the declared exception). It is taken once at start and passed
//! on, so a command's behaviour follows from its arguments.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use spfs_service::ServiceRoot;
use spfs_sys::host::{SYSTEM, System};

/// Name of the variable that holds the active runtime's name.
pub(crate) const RUNTIME: &str = "SPFS_RUNTIME";

/// Makes runtimes views of the one service, as they are where processes have no mounts of their
/// own: for tests of that on Linux. `link` and `lookup` say what the root of its mount shows.
const ROUTED: &str = "SPFS_TEST_ROUTED";

/// Treats files of macOS as they are treated there: for tests of that on Linux.
const AS_ON_MACOS: &str = "SPFS_TEST_MACOS_FILES";

/// What the process was started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    current_dir: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl Environment {
    /// Takes the environment of this process.
    pub(crate) fn capture() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            current_dir: std::env::current_dir().ok(),
            program: std::env::current_exe().ok(),
        }
    }

    /// An environment of these variables alone.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(k, v)| (k.into(), v.into())).collect();
        Self { variables, current_dir: Some(PathBuf::from("/work")), program: None }
    }

    /// The variable's value; an empty one counts as unset.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// The variable's value as text; `None` when unset, empty or not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.to_str()
    }

    /// All variables whose name and value are UTF-8, in order of their names.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter_map(|(k, v)| Some((k.to_str()?, v.to_str()?)))
    }

    /// All variables.
    pub(crate) fn all(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// The name of the active runtime.
    pub(crate) fn runtime(&self) -> Option<&str> {
        self.text(RUNTIME)
    }

    /// Whether runtimes are views of the one service.
    pub(crate) fn is_routed(&self) -> bool {
        !spfs_sys::mount::HAS_NAMESPACES || self.value(ROUTED).is_some()
    }

    /// What the root of the one service shows.
    pub(crate) fn service_root(&self) -> ServiceRoot {
        match self.text(ROUTED) {
            Some("link") => ServiceRoot::Link,
            Some("lookup") => ServiceRoot::Lookup,
            _ => ServiceRoot::default(),
        }
    }

    /// The system whose habits count for what it leaves in directories.
    pub(crate) fn system(&self) -> System {
        if self.value(AS_ON_MACOS).is_some() { System::MacOs } else { SYSTEM }
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.absolute_path("HOME")
    }

    /// The directory of the user's configuration files (XDG base directory specification).
    pub(crate) fn config_home(&self) -> Option<PathBuf> {
        self.absolute_path("XDG_CONFIG_HOME").or_else(|| Some(self.home()?.join(".config")))
    }

    /// The directory of the user's data (XDG base directory specification).
    pub(crate) fn data_home(&self) -> Option<PathBuf> {
        self.absolute_path("XDG_DATA_HOME").or_else(|| Some(self.home()?.join(".local/share")))
    }

    /// The executable of this process.
    pub(crate) fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// `path` with a leading `~` replaced by the home directory.
    pub(crate) fn expand_home(&self, path: &str) -> PathBuf {
        let Some(rest) = path.strip_prefix('~') else { return PathBuf::from(path) };
        match (self.home(), rest.strip_prefix('/')) {
            (Some(home), Some(rest)) => home.join(rest),
            (Some(home), None) if rest.is_empty() => home,
            _ => PathBuf::from(path),
        }
    }

    /// `path` as an absolute path; relative ones start at the working directory.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        match &self.current_dir {
            Some(dir) => dir.join(path),
            None => path.to_owned(),
        }
    }

    /// Where `program` lies on PATH.
    pub(crate) fn find_program(&self, program: &str) -> Option<PathBuf> {
        let path = self.value("PATH")?;
        std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| is_executable(file))
    }

    /// Relative paths in these variables are to be ignored, says the XDG specification.
    fn absolute_path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// What the text of a variable that is on or off says; `None` when it is neither.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The name that this process was started by.
pub(crate) fn called_as() -> Option<OsString> {
    std::env::args_os().next()
}

/// The name that this process was started by, and its arguments.
pub(crate) fn command_line() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// Whether `path` is a file that somebody may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variables_count_as_unset() {
        let env = Environment::of(&[("SPFS_RUNTIME", ""), ("HOME", "/home/ada")]);
        assert_eq!(env.runtime(), None);
        assert_eq!(env.home(), Some(PathBuf::from("/home/ada")));
    }

    #[test]
    fn xdg_directories_fall_back_to_home_and_ignore_relative_paths() {
        let env = Environment::of(&[("HOME", "/home/ada"), ("XDG_DATA_HOME", "data")]);
        assert_eq!(env.data_home(), Some(PathBuf::from("/home/ada/.local/share")));
        assert_eq!(env.config_home(), Some(PathBuf::from("/home/ada/.config")));
        assert_eq!(Environment::of(&[]).data_home(), None);
    }

    #[test]
    fn tilde_stands_for_home_only_in_front_of_a_slash() {
        let env = Environment::of(&[("HOME", "/home/ada")]);
        assert_eq!(env.expand_home("~/x"), PathBuf::from("/home/ada/x"));
        assert_eq!(env.expand_home("~"), PathBuf::from("/home/ada"));
        assert_eq!(env.expand_home("~bob/x"), PathBuf::from("~bob/x"));
        assert_eq!(env.expand_home("/a/~"), PathBuf::from("/a/~"));
    }
}
