//! Which shell: `$SHELL`, the ones on PATH, the ones in /etc/shells.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A shell for which we write start files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shell {
    pub(super) path: PathBuf,
    pub(super) dialect: Dialect,
}

/// The language of a shell's scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Bash,
    Tcsh,
    Zsh,
}

/// The shell that the user wants to type into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Known(Shell),
    Other(PathBuf),
}

impl Wanted {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Known(shell) => &shell.path,
            Self::Other(path) => path,
        }
    }
}

/// A shell for the scripts of layers and users: `$SHELL` if it is bash or tcsh, else the first of
/// these on PATH or in /etc/shells. The scripts are written for these two.
pub(super) fn for_scripts(environment: &BTreeMap<OsString, OsString>) -> Option<Shell> {
    choose(environment, listed())
}

fn choose(
    environment: &BTreeMap<OsString, OsString>,
    listed: impl Iterator<Item = PathBuf>,
) -> Option<Shell> {
    let own = environment.get(OsStr::new("SHELL")).and_then(|shell| find(environment, shell));
    let on_path = ["bash", "tcsh"].into_iter().filter_map(|n| find(environment, OsStr::new(n)));
    own.into_iter()
        .chain(on_path)
        .chain(listed)
        .filter_map(known)
        .find(|shell| shell.dialect != Dialect::Zsh)
}

/// What `$SHELL` names, when it can be executed.
pub(super) fn wanted(environment: &BTreeMap<OsString, OsString>) -> Option<Wanted> {
    let path = find(environment, environment.get(OsStr::new("SHELL"))?)?;
    Some(known(path.clone()).map_or(Wanted::Other(path), Wanted::Known))
}

fn known(path: PathBuf) -> Option<Shell> {
    let dialect = match path.file_name()?.to_str()? {
        "bash" => Dialect::Bash,
        "tcsh" => Dialect::Tcsh,
        "zsh" => Dialect::Zsh,
        _ => return None,
    };
    Some(Shell { path, dialect })
}

fn find(environment: &BTreeMap<OsString, OsString>, program: &OsStr) -> Option<PathBuf> {
    let program = Path::new(program);
    if program.is_absolute() {
        return is_executable(program).then(|| program.to_owned());
    }
    if program.components().count() != 1 {
        // A relative path means another file in every folder.
        return None;
    }
    std::env::split_paths(environment.get(OsStr::new("PATH"))?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn listed() -> impl Iterator<Item = PathBuf> {
    let text = std::fs::read_to_string("/etc/shells").unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).map(PathBuf::from).collect();
    lines.into_iter().filter(|path| path.is_absolute() && is_executable(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with executables of these names, and an environment that knows only it.
    fn shells(names: &[&str], own: &str) -> (tempfile::TempDir, BTreeMap<OsString, OsString>) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = OsString::from(dir.path());
        (dir, BTreeMap::from([("PATH".into(), path), ("SHELL".into(), own.into())]))
    }

    fn name(shell: Option<Shell>) -> Option<String> {
        Some(shell?.path.file_name()?.to_str()?.to_owned())
    }

    #[test]
    fn the_users_own_shell_comes_first() {
        let (dir, mut environment) = shells(&["bash", "tcsh"], "tcsh");
        assert_eq!(name(for_scripts(&environment)), Some("tcsh".into()));
        let absolute = dir.path().join("tcsh");
        environment.insert("SHELL".into(), absolute.clone().into());
        assert_eq!(for_scripts(&environment).unwrap().path, absolute);
    }

    #[test]
    fn scripts_are_not_given_to_shells_that_cannot_read_them() {
        let (_dir, environment) = shells(&["bash", "tcsh", "zsh", "fish"], "zsh");
        assert_eq!(name(for_scripts(&environment)), Some("bash".into()));
        assert!(
            matches!(wanted(&environment), Some(Wanted::Known(s)) if s.dialect == Dialect::Zsh)
        );
        let (dir, environment) = shells(&["bash", "fish"], "fish");
        assert_eq!(name(for_scripts(&environment)), Some("bash".into()));
        assert_eq!(wanted(&environment), Some(Wanted::Other(dir.path().join("fish"))));
    }

    #[test]
    fn a_shell_that_is_not_there_or_not_executable_is_passed_over() {
        let (dir, mut environment) = shells(&["bash"], "/nowhere/tcsh");
        assert_eq!(name(for_scripts(&environment)), Some("bash".into()));
        assert_eq!(wanted(&environment), None);
        fs::write(dir.path().join("tcsh"), "").unwrap();
        environment.insert("SHELL".into(), "tcsh".into());
        assert_eq!(name(for_scripts(&environment)), Some("bash".into()));
        environment.insert("SHELL".into(), "./bash".into());
        assert_eq!(wanted(&environment), None, "relative to which folder?");
    }

    #[test]
    fn the_list_of_the_machine_comes_last() {
        let (dir, environment) = shells(&["tcsh"], "");
        let listed = || [dir.path().join("zsh"), "/listed/bash".into()].into_iter();
        assert_eq!(name(choose(&environment, listed())), Some("tcsh".into()));
        let nothing = BTreeMap::new();
        assert_eq!(choose(&nothing, listed()).unwrap().path, Path::new("/listed/bash"));
        assert_eq!(choose(&nothing, std::iter::empty()), None);
    }
}
