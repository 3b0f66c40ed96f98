//! `spfs service`: what a Mac needs so that the service can be mounted and starts by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Subcommand;
use spfs_sys::host::{SYSTEM, System};
use spfs_sys::publish::{self, Durability};

use crate::context::Context;
use crate::env::Environment;
use crate::error::{CliError, Result};
use crate::install::agent;
use crate::install::synthetic::{self, Edit, Entry};

/// Install what a Mac needs to show /spfs, or take it away
///
/// As root this is about the line 'spfs' in /etc/synthetic.conf, which makes the directory to mount
/// on; as an ordinary user about the agent that starts 'spfs-fuse service' at login. Both can be
/// repeated. On Linux neither is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Install what is missing
    Install,
    /// Take away what was installed, and nothing else
    Uninstall,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        if SYSTEM == System::Linux {
            return Err(CliError::failed("there is nothing to install or uninstall on Linux")
                .hint(
                    "each runtime has a mount of its own; 'spfs-fuse service' starts a service",
                ));
        }
        match (self.what, spfs_sys::ids::euid()) {
            (What::Install, 0) => add_line(Path::new(synthetic::FILE))?,
            (What::Uninstall, 0) => remove_line(Path::new(synthetic::FILE))?,
            (What::Install, uid) => install_agent(uid, context)?,
            (What::Uninstall, uid) => uninstall_agent(uid, context)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The text of the file, nothing when there is none.
fn read(file: &Path) -> Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|source| failed("read", file, &source)),
    }
}

fn failed(doing: &str, file: &Path, source: &io::Error) -> CliError {
    CliError::failed(format!("cannot {doing} {}", file.display())).because(source)
}

/// Does what was decided about a file; whether that changed anything.
fn apply(edit: &Edit, file: &Path) -> Result<bool> {
    /// Of the files of this kind.
    const MODE: u32 = 0o644;
    match edit {
        Edit::Nothing => return Ok(false),
        Edit::Write(text) => publish::write(file, MODE, text.as_bytes(), Durability::Now)
            .map_err(|source| failed("write", file, &source))?,
        Edit::Remove => {
            fs::remove_file(file).map_err(|source| failed("remove", file, &source))?;
        }
    }
    Ok(true)
}

fn add_line(file: &Path) -> Result<()> {
    let edit = synthetic::add(&read(file)?).map_err(|target| {
        CliError::failed(format!("{} makes /spfs a link to {target}", file.display()))
            .hint("remove that line by hand if it is not needed any more")
    })?;
    if !apply(&edit, file)? {
        tracing::info!("{} has the line already", file.display());
        return Ok(());
    }
    tracing::info!("added the line '{}' to {}", synthetic::LINE, file.display());
    if !succeeds(Command::new(synthetic::TOOL).arg("-t")) {
        tracing::info!("restart the Mac: then there is a directory /spfs");
    }
    Ok(())
}

fn remove_line(file: &Path) -> Result<()> {
    if apply(&synthetic::remove(&read(file)?), file)? {
        tracing::info!("removed the line '{}' from {}", synthetic::LINE, file.display());
        tracing::info!("the directory /spfs goes with the next start of the Mac");
    } else {
        tracing::info!("{} has no such line", file.display());
    }
    Ok(())
}

/// The agent as this program would write it now.
pub(crate) fn expected_agent(env: &Environment, storage_root: &Path) -> Result<String> {
    let program = spfs_sys::process::own_executable().map_err(|source| {
        CliError::failed("cannot tell where the program spfs lies").because(&source)
    })?;
    let log = home(env)?.join("Library/Logs/spfs-fuse.log");
    let text = |path: &Path| -> Result<String> {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            CliError::failed(format!("launchd cannot be told the path {}", path.display()))
        })
    };
    let (program, root, log) = (text(&program)?, text(storage_root)?, text(&log)?);
    let mut variables = vec![("SPFS_STORAGE_ROOT", root.as_str())];
    // launchd knows nothing of what a shell set.
    variables.extend(env.text("XDG_CONFIG_HOME").map(|value| ("XDG_CONFIG_HOME", value)));
    Ok(agent::plist(&program, &variables, &log))
}

fn home(env: &Environment) -> Result<PathBuf> {
    env.home().ok_or_else(|| {
        CliError::failed("without a home directory there is no agent").hint("set HOME")
    })
}

fn install_agent(uid: u32, context: &Context) -> Result<()> {
    let file = agent::path(&home(&context.env)?);
    let expected = expected_agent(&context.env, &context.config()?.storage.root)?;
    if read(&file)? == expected {
        tracing::info!("{} is there already", file.display());
    } else {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|source| failed("create", folder, &source))?;
        }
        // One that is loaded keeps what it was loaded with.
        succeeds(launchctl(&["bootout", &format!("gui/{uid}/{}", agent::LABEL)]));
        apply(&Edit::Write(expected), &file)?;
        tracing::info!("wrote {}", file.display());
    }
    let path = file.to_string_lossy();
    if !succeeds(launchctl(&["bootstrap", &format!("gui/{uid}"), &path])) {
        tracing::info!("launchd runs it from the next login on, unless it does so already");
    }
    match synthetic::entry(&read(Path::new(synthetic::FILE))?) {
        Entry::Directory => Ok(()),
        _ => Err(CliError::failed("the agent is installed, the directory /spfs is not")
            .hint("run 'sudo spfs service install' as well")),
    }
}

fn uninstall_agent(uid: u32, context: &Context) -> Result<()> {
    let file = agent::path(&home(&context.env)?);
    succeeds(launchctl(&["bootout", &format!("gui/{uid}/{}", agent::LABEL)]));
    if file.exists() {
        apply(&Edit::Remove, &file)?;
        tracing::info!("removed {}", file.display());
    } else {
        tracing::info!("there is no {}", file.display());
    }
    match synthetic::entry(&read(Path::new(synthetic::FILE))?) {
        Entry::Directory => {
            tracing::info!("'sudo spfs service uninstall' takes the directory /spfs away");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn launchctl(arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/launchctl");
    command.args(arguments);
    command
}

/// Runs a program of the system whose failure is told in other words.
fn succeeds(mut command: impl std::borrow::BorrowMut<Command>) -> bool {
    let command = command.borrow_mut();
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_line_comes_and_goes_and_the_rest_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("synthetic.conf");
        fs::write(&file, "nix\n").unwrap();
        add_line(&file).unwrap();
        add_line(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nix\nspfs\n");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        remove_line(&file).unwrap();
        remove_line(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nix\n");
    }

    #[test]
    fn a_file_that_was_made_for_the_line_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("synthetic.conf");
        add_line(&file).unwrap();
        remove_line(&file).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("synthetic.conf");
        for bytes in [&b"spfs\tUsers/x\n"[..], b"\xff\n"] {
            fs::write(&file, bytes).unwrap();
            let error = add_line(&file).unwrap_err().to_string();
            assert!(error.contains("synthetic.conf"), "{error}");
            assert_eq!(fs::read(&file).unwrap(), bytes);
        }
    }

    #[test]
    fn the_agent_is_told_what_only_a_shell_would_know() {
        let env = Environment::of(&[("HOME", "/Users/ada"), ("XDG_CONFIG_HOME", "/cfg")]);
        let text = expected_agent(&env, Path::new("/data/spfs")).unwrap();
        let value = |key| spfs_sys::host::plist_text(&text, key);
        assert_eq!(value("SPFS_STORAGE_ROOT"), Some("/data/spfs"));
        assert_eq!(value("XDG_CONFIG_HOME"), Some("/cfg"));
        assert_eq!(value("StandardErrorPath"), Some("/Users/ada/Library/Logs/spfs-fuse.log"));
        assert!(expected_agent(&Environment::of(&[]), Path::new("/data")).is_err());
    }
}
