//! `spfs runtime`: the runtimes of this storage.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use spfs_runtime::{
    Listed, PruneStrategy, RemoveOptions, RuntimeError, RuntimeName, RuntimeStatus, Runtimes,
};

use super::annotations::AnnotationArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::{output, repositories};

mod export;

/// Look at and clear up runtimes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,

    /// Look at the runtimes of this repository instead of the local one: a configured name, an
    /// address, or a path
    #[arg(short, long, global = true, value_name = "REPOSITORY")]
    remote: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Info(InfoArgs),
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    Prune(PruneArgs),
    Export(export::Args),
}

/// List the runtimes and the state each is in
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Print the names alone
    #[arg(short, long)]
    quiet: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Print the record of a runtime as JSON
#[derive(Debug, clap::Args)]
struct InfoArgs {
    /// The runtime
    #[arg(env = "SPFS_RUNTIME", hide_env_values = true)]
    name: RuntimeName,

    #[command(flatten)]
    annotations: AnnotationArgs,

    /// Print as JSON, which is what happens anyway
    #[arg(long, hide = true)]
    json: bool,
}

/// Remove runtimes that have ended, with what was changed in them
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The runtimes
    #[arg(value_name = "NAME", required = true)]
    names: Vec<RuntimeName>,

    /// Remove a runtime that seems to run
    #[arg(short, long)]
    force: bool,

    /// Remove a runtime of another user
    #[arg(long)]
    ignore_user: bool,

    /// Remove a runtime of another host
    #[arg(long)]
    ignore_host: bool,

    /// No effect: there is no monitor
    #[arg(long, hide = true)]
    ignore_monitor: bool,

    /// Remove a runtime that was to be kept
    #[arg(long)]
    remove_durable: bool,
}

/// Remove the runtimes that have ended or crashed, but for durable ones
#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Only those that were made before this machine was started
    #[arg(long)]
    from_before_boot: bool,

    /// Also those of other users
    #[arg(long)]
    ignore_user: bool,

    /// Also those of other hosts
    #[arg(long)]
    ignore_host: bool,

    /// No effect: there is no monitor
    #[arg(long, hide = true)]
    ignore_monitor: bool,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let runtimes = repositories::runtimes_of(context, self.remote.as_deref())?;
        match self.what {
            What::List(args) => args.run(&runtimes, context),
            What::Info(args) => args.run(&runtimes, self.remote.as_deref(), context),
            What::Remove(args) => args.run(&runtimes),
            What::Prune(args) => args.run(&runtimes),
            What::Export(args) => args.run(&runtimes, context),
        }
    }
}

/// A line of `runtime list --json`.
#[derive(Debug, serde::Serialize)]
struct Line<'a> {
    name: &'a str,
    status: &'static str,
    running: bool,
    pid: Option<u32>,
    editable: bool,
    durable: bool,
    /// Number of changed files; only told of a crashed runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<u64>,
    user: &'a str,
    host: &'a str,
    created: &'a str,
    stack: Vec<String>,
}

impl<'a> Line<'a> {
    fn of(listed: &'a Listed) -> Self {
        let Listed { name, record, status } = listed;
        let changes = match status {
            RuntimeStatus::Crashed { changes } => *changes,
            _ => None,
        };
        Self {
            name,
            status: status.word(),
            running: status.is_live(),
            pid: record.status.owner,
            editable: record.status.editable,
            durable: record.config.durable,
            changes,
            user: &record.author.user_name,
            host: &record.author.host_name,
            created: &record.author.created,
            stack: record.stack().iter().map(ToString::to_string).collect(),
        }
    }
}

impl ListArgs {
    fn run(self, runtimes: &Runtimes, context: &mut Context) -> Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        let mut listed = Vec::new();
        for runtime in runtimes.list()? {
            match runtime {
                Ok(runtime) => listed.push(runtime),
                // One damaged record does not hide the others.
                Err(error) => {
                    tracing::error!("{}", CliError::from(error).one_line());
                    code = ExitCode::FAILURE;
                }
            }
        }
        if self.json {
            context.out.json(&listed.iter().map(Line::of).collect::<Vec<_>>())?;
        } else {
            for runtime in &listed {
                let name = &runtime.name;
                context.out.line(if self.quiet { name.clone() } else { describe(runtime) })?;
            }
        }
        Ok(code)
    }
}

fn describe(listed: &Listed) -> String {
    let line = Line::of(listed);
    let pid = line.pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string());
    format!(
        "{:37}\trunning={:<5}\tpid={pid:<7}\teditable={:<5}\tdurable={:<5}\tstatus={}",
        line.name, line.running, line.editable, line.durable, listed.status
    )
}

impl InfoArgs {
    fn run(
        self,
        runtimes: &Runtimes,
        remote: Option<&str>,
        context: &mut Context,
    ) -> Result<ExitCode> {
        let record = runtimes.read(&self.name)?;
        if self.annotations.are_asked_for() {
            let sources = repositories::sources(context, remote)?;
            self.annotations.print(&record.stack(), &sources, context)?;
        } else {
            context.out.json(&record)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl RemoveArgs {
    fn run(self, runtimes: &Runtimes) -> Result<ExitCode> {
        let options = RemoveOptions {
            other_user: self.ignore_user,
            other_host: self.ignore_host,
            running: self.force || self.ignore_monitor,
            durable: self.remove_durable,
        };
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            match runtimes.remove(name, options) {
                Ok(()) => tracing::info!(%name, "removed"),
                // As rm(1): what cannot be removed does not keep the others.
                Err(error) => {
                    let error = CliError::from(error);
                    output::report(&error);
                    code = error.exit_code();
                }
            }
        }
        Ok(code)
    }
}

impl PruneArgs {
    fn run(self, runtimes: &Runtimes) -> Result<ExitCode> {
        let strategy = if self.from_before_boot {
            PruneStrategy::CreatedBefore(boot_time()?)
        } else {
            PruneStrategy::Dead
        };
        let options = RemoveOptions {
            other_user: self.ignore_user,
            other_host: self.ignore_host,
            running: self.ignore_monitor,
            durable: false,
        };
        let mut code = ExitCode::SUCCESS;
        for (name, done) in runtimes.prune(strategy, options)? {
            match done {
                Ok(()) => tracing::info!(%name, "removed"),
                // Those of others are not meant unless asked for.
                Err(RuntimeError::OtherUser { .. } | RuntimeError::OtherHost { .. }) => {}
                Err(error) => {
                    tracing::error!("{}", CliError::from(error).one_line());
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

/// When this machine was started, as the kernel tells it.
fn boot_time() -> Result<Timestamp> {
    const SOURCE: &str = "/proc/stat";
    let unknown = || CliError::failed("cannot tell when this machine was started");
    let text = std::fs::read_to_string(SOURCE).map_err(|source| unknown().because(&source))?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds = line.and_then(|seconds| seconds.trim().parse().ok()).ok_or_else(unknown)?;
    Timestamp::from_second(seconds).map_err(|error| unknown().because(&error))
}
