//! The command line of the daemon's program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use spfs_model::{DigestStrategy, EncodingFormat};
use spfs_runtime::RuntimeName;

use crate::launch::{DAEMON_NAME, format_of, strategy_of};

/// Serves /spfs.
#[derive(Debug, Parser)]
#[command(name = DAEMON_NAME, version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves one runtime in a mount of its own; started by `spfs run`.
    #[command(hide = true)]
    Runtime(RuntimeArguments),
    /// Makes the mount of a process read-only or writable; started by the serving process.
    #[command(hide = true)]
    Remount(RemountArguments),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RuntimeArguments {
    /// The repository with the runtime's record.
    #[arg(long)]
    pub(crate) storage: PathBuf,
    /// The runtime.
    #[arg(long)]
    pub(crate) name: RuntimeName,
    /// The inherited descriptor of the socket to the process that enters the runtime.
    #[arg(long)]
    pub(crate) handshake: i32,
    /// Leave nothing of the runtime when it cannot be started.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The runtime that the caller is in.
    #[arg(long)]
    pub(crate) outer: Option<RuntimeName>,
    /// What to log.
    #[arg(long, default_value = "warn")]
    pub(crate) log: String,
    /// How digests of new objects are made.
    #[arg(long, value_parser = strategy_of, default_value = "WithKindAndSalt")]
    pub(crate) digest_strategy: DigestStrategy,
    /// How new objects are written.
    #[arg(long, value_parser = format_of, default_value = "FlatBuffers")]
    pub(crate) encoding_format: EncodingFormat,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RemountArguments {
    /// A process that has the mount.
    #[arg(long)]
    pub(crate) pid: u32,
    /// The mount namespace the process must be in.
    #[arg(long)]
    pub(crate) namespace: String,
    /// Where the mount is.
    #[arg(long)]
    pub(crate) target: PathBuf,
    /// Refuse writing; otherwise it is allowed.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Show again what is not shown any more, instead.
    #[arg(long)]
    pub(crate) show: bool,
    /// Files and directories of the host, and where each is shown.
    #[arg(long, num_args = 2, value_names = ["SOURCE", "TARGET"])]
    pub(crate) live: Vec<PathBuf>,
}
