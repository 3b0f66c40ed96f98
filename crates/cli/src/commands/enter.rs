//! `spfs enter`: the step of `spfs run` and `spfs join` that goes into the mount namespace and
//! executes the command.
//!
//! Linux lets only a single-threaded process make or join a user namespace, so this is a program
//! execution of its own, which does nothing else.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use spfs_runtime::enter::{self, EnterPlan, JoinPlan, LiveMount};
use spfs_runtime::startup::Startup;
use spfs_runtime::{RuntimeFolder, RuntimeName};

use crate::env::Environment;
use crate::error::{CliError, Result};

/// Where a runtime shows its files.
pub(crate) const MOUNTPOINT: &str = "/spfs";

/// Enter a runtime whose daemon is waiting, or join one (used by 'spfs run' and 'spfs join')
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The storage root of the runtime
    #[arg(long)]
    storage: PathBuf,

    /// The runtime
    #[arg(long)]
    name: RuntimeName,

    /// The inherited socket to the daemon
    #[arg(long, required_unless_present = "join")]
    handshake: Option<i32>,

    /// Mount so that files can be changed
    #[arg(long)]
    editable: bool,

    /// Show a file or directory of the host
    #[arg(long, num_args = 2, value_names = ["SOURCE", "TARGET"])]
    live: Vec<PathBuf>,

    /// Join the namespaces of this process instead
    #[arg(long, value_name = "PID", requires = "namespace", conflicts_with = "handshake")]
    join: Option<u32>,

    /// The mount namespace that the process must be in
    #[arg(long)]
    namespace: Option<String>,

    /// A variable to set again after the shell's own start files
    #[arg(long, value_name = "VARIABLE")]
    preserve: Vec<String>,

    /// The command; an interactive shell when there is none
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Args {
    pub(crate) fn run(self, env: &Environment) -> Result<ExitCode> {
        let folder = RuntimeFolder::new(&self.storage, &self.name);
        let mountpoint = PathBuf::from(MOUNTPOINT);
        let startup = startup(&folder, &self.name, mountpoint, self.command, &self.preserve, env);
        let failed = match (self.handshake, self.join, self.namespace) {
            (Some(number), ..) => {
                let handshake = spfs_sys::process::take_inherited(number).map_err(|source| {
                    CliError::failed("'spfs enter' is a step of 'spfs run'").because(&source)
                })?;
                enter::enter(EnterPlan {
                    startup,
                    editable: self.editable,
                    live: self.live.chunks_exact(2).map(live_mount).collect(),
                    handshake,
                    log: folder.log(),
                    patience: enter::PATIENCE,
                })
            }
            (None, Some(pid), Some(namespace)) => {
                enter::join(&JoinPlan { startup, pid, namespace })
            }
            _ => return Err(CliError::usage("'spfs enter' is a step of 'spfs run'")),
        };
        match failed {
            Ok(never) => match never {},
            Err(error) => Err(CliError::entering(&self.name, &error)),
        }
    }
}

fn live_mount(pair: &[PathBuf]) -> LiveMount {
    LiveMount { source: pair[0].clone(), target: pair[1].clone() }
}

/// What is started in a runtime.
pub(super) fn startup(
    folder: &RuntimeFolder,
    name: &RuntimeName,
    mountpoint: PathBuf,
    command: Vec<OsString>,
    preserve: &[String],
    env: &Environment,
) -> Startup {
    let set = |name: &String| Some((name.into(), env.value(name)?.to_owned()));
    Startup {
        name: name.clone(),
        folder: folder.path().to_owned(),
        mountpoint,
        command,
        environment: env.all().clone(),
        overrides: preserve.iter().filter_map(set).collect(),
        terminal: std::io::stdin().is_terminal(),
    }
}

/// The beginning of the command line of `spfs enter`.
pub(super) fn command(storage: &Path, name: &RuntimeName, preserve: &[String]) -> Result<Command> {
    let program = spfs_sys::process::own_executable().map_err(|source| {
        CliError::failed("cannot tell where the program spfs lies").because(&source)
    })?;
    let mut command = Command::new(program);
    command.arg("enter").arg("--storage").arg(storage).args(["--name", name.as_str()]);
    for variable in preserve {
        command.args(["--preserve", variable]);
    }
    Ok(command)
}
