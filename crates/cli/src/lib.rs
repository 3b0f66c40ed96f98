//! The `spfs` command line.
//!
//! It knows users and nothing else: each command parses its arguments, makes one call into the
//! libraries and prints what came of it. Nothing below this crate prints or reads the environment.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod config;
mod context;
mod doctor;
mod env;
mod error;
mod install;
mod output;
mod repositories;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use spfs_service::Defaults;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::env::Environment;
use crate::error::Result;
use crate::output::LogOptions;

/// Names under which the program is the process that serves a runtime.
const DAEMON_NAMES: [&str; 2] = ["spfs-fuse", "spfs-fuse-macos"];

/// Commands that upstream has as programs of their own, `spfs-COMMAND`.
const PROGRAMS: [&str; 3] = ["clean", "join", "render"];

/// The command line, in which the name `spfs-COMMAND` means `spfs COMMAND`.
fn command_line() -> Vec<std::ffi::OsString> {
    let mut line = env::command_line();
    let name = line.first().map(Path::new).and_then(Path::file_name);
    let command = name.and_then(|name| name.to_str()?.strip_prefix("spfs-"));
    if let Some(command) = PROGRAMS.into_iter().find(|known| Some(*known) == command) {
        line.insert(1, command.into());
    }
    line
}

/// Whether this process was started to serve a runtime.
pub fn called_as_daemon() -> bool {
    let name = env::called_as();
    name.as_deref()
        .map(Path::new)
        .and_then(Path::file_name)
        .is_some_and(|name| DAEMON_NAMES.iter().any(|daemon| name == *daemon))
}

/// Runs the process that serves runtimes; what its arguments do not say the configuration does.
pub fn serve() -> ExitCode {
    let code = spfs_service::main_with(Defaults {
        settings: &|| commands::routed::defaults(Environment::capture()),
        remote: &|name| commands::routed::remote_address(Environment::capture(), name),
    });
    // The runtimes have ended; threads that look after them may be about to.
    spfs_repo::remove_unpacked();
    code
}

/// Reads a text as a configuration file; returns what its user would be warned of, or what is wrong
/// with it.
///
/// # Errors
/// The sentence that a user would read.
pub fn check_config(text: &str) -> std::result::Result<Vec<String>, String> {
    config::check_text(text).map_err(|error| error.to_string())
}

/// Runs the command line of this process and returns its exit status.
pub fn main() -> ExitCode {
    let env = Environment::capture();
    let cli = match Cli::try_parse_from(command_line()) {
        Ok(cli) => cli,
        Err(error) => return output::report_usage(&args::naming_the_variable(error, &env)),
    };
    match run(cli, env) {
        Ok(code) => code,
        Err(error) => {
            if !error.is_broken_pipe() {
                output::report(&error);
            }
            error.exit_code()
        }
    }
}

/// The time of a tag that is made now.
fn now() -> jiff::Timestamp {
    let now = spfs_sys::clock::precise();
    jiff::Timestamp::new(now.secs, now.nanos.cast_signed()).unwrap_or_default()
}

fn run(cli: Cli, env: Environment) -> Result<ExitCode> {
    // On the way into a runtime every millisecond is somebody's start-up time, and the process
    // must stay single-threaded: nothing is read or set up that entering does not need.
    if let Command::Enter(args) = cli.command {
        return args.run(&env);
    }
    let options = LogOptions {
        verbosity: cli.log.verbose,
        file: cli.log.log_file,
        timestamp: cli.log.timestamp,
    };
    output::start_logging(&options, &env)?;
    let mut context = Context::new(env, options.verbosity, cli.repositories.wrap_origin);
    let code = cli.command.run(&mut context)?;
    context.save()?;
    context.out.finish()?;
    Ok(code)
}
