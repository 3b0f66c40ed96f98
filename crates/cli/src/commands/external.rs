//! Commands that are programs of their own: `spfs X` runs `spfs-X`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::CommandFactory;

use crate::args::Cli;
use crate::context::Context;
use crate::env::{Environment, is_executable};
use crate::error::{CliError, Result};

/// Becomes the program `spfs-WORD` with the rest of the words as arguments.
pub(crate) fn run(words: &[OsString], context: &Context) -> Result<ExitCode> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(CliError::usage("a command is missing"));
    };
    let name = name.to_string_lossy();
    let Some(program) = find(&name, &context.env) else {
        return Err(unknown(&name));
    };
    let error = Command::new(&program).args(arguments).exec();
    Err(CliError::failed(format!("cannot execute {}", program.display())).because(&error))
}

/// PATH first, then beside the running program.
fn find(name: &str, env: &Environment) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    let program = format!("spfs-{name}");
    env.find_program(&program).or_else(|| {
        let beside = env.program()?.parent()?.join(program);
        is_executable(&beside).then_some(beside)
    })
}

fn unknown(name: &str) -> CliError {
    let error = CliError::failed(format!(
        "unknown command {name:?}, and no program spfs-{name} in PATH or beside spfs"
    ));
    match nearest(name) {
        Some(command) => error.hint(format!("did you mean 'spfs {command}'?")),
        None => error.hint("see 'spfs --help' for the commands"),
    }
}

/// The command that may have been meant.
fn nearest(name: &str) -> Option<String> {
    let cli = Cli::command();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    spfs_repo::nearest(name, shown.map(clap::Command::get_name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_nonsense_is_not() {
        assert_eq!(nearest("comit").as_deref(), Some("commit"));
        assert_eq!(nearest("rum").as_deref(), Some("run"));
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest("entre"), None, "hidden commands are not suggested");
    }
}
