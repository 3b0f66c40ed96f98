//! `spfs join`: a command in a runtime that is running.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use spfs_runtime::{Member, RuntimeName, Runtimes};

use super::{enter, routed};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// Run a command, or a shell, in a runtime that is running
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The runtime's name
    #[arg(required_unless_present = "pid", conflicts_with = "pid")]
    runtime: Option<RuntimeName>,

    /// The runtime of this process
    #[arg(short, long)]
    pid: Option<u32>,

    /// The command and its arguments; an interactive shell when there is none
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let runtimes = repositories::runtimes(context)?;
        let name = match (self.runtime, self.pid) {
            (Some(name), _) => name,
            (None, Some(pid)) => runtime_of(&runtimes, pid)?,
            (None, None) => return Err(CliError::usage("name a runtime or a process")),
        };
        if context.env.is_routed() {
            return Err(routed::join(&runtimes, &name, &self.command, context));
        }
        let Member { pid, namespace } = runtimes.member(&name)?;
        let preserve = &context.config()?.environment.variable_names_to_preserve;
        let mut command = enter::command(runtimes.root(), &name, preserve)?;
        command.args(["--join", &pid.to_string(), "--namespace", &namespace, "--"]);
        let error = command.args(self.command).exec();
        let program = Path::new(command.get_program()).display();
        Err(CliError::failed(format!("cannot execute {program}")).because(&error))
    }
}

/// The runtime whose mount namespace the process is in.
fn runtime_of(runtimes: &Runtimes, pid: u32) -> Result<RuntimeName> {
    let namespace = spfs_sys::mount::namespace_id(pid).map_err(|source| {
        CliError::failed(format!("cannot look at process {pid}")).because(&source)
    })?;
    let found =
        runtimes.list()?.into_iter().flatten().find(|listed| {
            listed.record.config.mount_namespace.as_deref() == Some(namespace.as_str())
        });
    match found {
        Some(listed) => Ok(listed.name.parse()?),
        None => Err(CliError::failed(format!("process {pid} is in no runtime of this storage"))),
    }
}
