//! The command line of the daemon's program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use spfs_model::{DigestStrategy, EncodingFormat};
use spfs_runtime::RuntimeName;

use crate::address::Address;
use crate::launch::{DAEMON_NAME, format_of, strategy_of};
use crate::remount::MOUNTPOINT;

/// Serves /spfs
///
/// 'spfs-fuse service' shows each process the view that was given to it, or to one that it descends
/// from; 'spfs-fuse REF MOUNTPOINT' shows REF to everybody, for reading.
#[derive(Debug, Parser)]
#[command(name = DAEMON_NAME, version)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) plain: PlainArguments,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PlainArguments {
    /// What to show: tags and digests joined with '+', bottom first
    #[arg(value_name = "REF", requires = "mountpoint")]
    pub(crate) reference: Option<String>,
    /// Where
    #[arg(value_name = "MOUNTPOINT")]
    pub(crate) mountpoint: Option<PathBuf>,
    /// Stay in the foreground
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Mount options: uid=N and gid=N say whose the files are; remote=NAME, an address or a
    /// configured name, is read before the secondary repositories, and incl_sec_tags=false looks
    /// tags up in the local one alone; what is so anyway is accepted (ro, nosuid, nodev,
    /// default_permissions, allow_other, auto_unmount)
    #[arg(short, long = "options", value_name = "OPTIONS", value_delimiter = ',')]
    pub(crate) options: Vec<MountOption>,
    #[command(flatten)]
    pub(crate) storage: StorageArguments,
    /// The inherited descriptor on which it is told that the mount is there.
    #[arg(long, hide = true)]
    pub(crate) ready: Option<i32>,
}

/// A mount option of the plain form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountOption {
    /// So it is anyway.
    Given,
    /// Whose the files are.
    Uid(u32),
    /// Of which group they are.
    Gid(u32),
    /// A repository to read as well.
    Remote(String),
    /// Whether tags are looked up in other repositories than the local one.
    SecondaryTags(bool),
}

/// Options that hold for every mount of ours, as far as the system allows.
const GIVEN: [&str; 7] =
    ["ro", "nosuid", "nodev", "default_permissions", "allow_other", "auto_unmount", "noatime"];

const SECONDARY_TAGS: &str = "incl_sec_tags";

impl std::str::FromStr for MountOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |number: &str| number.parse().map_err(|_| format!("{number:?} is no number"));
        match text.split_once('=') {
            None if GIVEN.contains(&text) => Ok(Self::Given),
            Some(("uid", uid)) => Ok(Self::Uid(number(uid)?)),
            Some(("gid", gid)) => Ok(Self::Gid(number(gid)?)),
            Some(("remote", remote)) if !remote.is_empty() => Ok(Self::Remote(remote.to_owned())),
            None if text == SECONDARY_TAGS => Ok(Self::SecondaryTags(true)),
            Some((SECONDARY_TAGS, value)) => value
                .parse()
                .map(Self::SecondaryTags)
                .map_err(|_| format!("{SECONDARY_TAGS} is true or false, not {value:?}")),
            _ => Err(format!("the mount option {text:?} is not supported")),
        }
    }
}

impl std::fmt::Display for MountOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given => f.write_str("ro"),
            Self::Uid(uid) => write!(f, "uid={uid}"),
            Self::Gid(gid) => write!(f, "gid={gid}"),
            Self::Remote(remote) => write!(f, "remote={remote}"),
            Self::SecondaryTags(included) => write!(f, "{SECONDARY_TAGS}={included}"),
        }
    }
}

/// Which repositories are read, and how new objects are written; what is not given is as the
/// configuration of 'spfs' says.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StorageArguments {
    /// The local repository
    #[arg(long, value_name = "DIR")]
    pub(crate) storage: Option<PathBuf>,
    /// A repository that is read when the local one lacks something; may be repeated
    #[arg(long, value_name = "ADDRESS", requires = "storage")]
    pub(crate) secondary: Vec<String>,
    /// What to log, in the form of RUST_LOG
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How digests of new objects are made.
    #[arg(long, hide = true, value_parser = strategy_of)]
    pub(crate) digest_strategy: Option<DigestStrategy>,
    /// How new objects are written.
    #[arg(long, hide = true, value_parser = format_of)]
    pub(crate) encoding_format: Option<EncodingFormat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount once and show each process its own view
    Service(ServiceArguments),
    /// Give a process and all that it starts a view
    Mount(MountArguments),
    /// Take a view away
    Unmount(UnmountArguments),
    /// Show what is being served
    Status(StatusArguments),
    /// End the service
    Shutdown(ShutdownArguments),
    /// Serves one runtime in a mount of its own; started by `spfs run`.
    #[command(hide = true)]
    Runtime(RuntimeArguments),
    /// Makes the mount of a process read-only or writable; started by the serving process.
    #[command(hide = true)]
    Remount(RemountArguments),
    /// Lets files have the content of the layers again; started by the serving process.
    #[command(hide = true)]
    GiveBack(GiveBackArguments),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceArguments {
    /// Where to mount
    #[arg(long, value_name = "DIR", default_value = MOUNTPOINT)]
    pub(crate) mountpoint: PathBuf,
    /// Also listen on this port of this machine, as HOST:PORT; 'default' is 127.0.0.1:37738
    #[arg(long, value_name = "ADDR", value_parser = crate::address::port)]
    pub(crate) listen: Option<SocketAddr>,
    /// Stay in the foreground
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// What the root shows: names that are looked up for each caller, or links
    #[arg(long, value_enum, default_value_t = ServiceRoot::default())]
    pub(crate) root: ServiceRoot,
    #[command(flatten)]
    pub(crate) storage: StorageArguments,
    /// The inherited descriptor on which it is told that the service is there.
    #[arg(long, hide = true)]
    pub(crate) ready: Option<i32>,
}

/// What the root of the mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceRoot {
    /// Names that are looked up for each caller
    Lookup,
    /// Links that lead each caller to his view
    Link,
}

impl Default for ServiceRoot {
    /// Where system agents open programs by their path on behalf of others, these have to be the
    /// same for all.
    fn default() -> Self {
        if spfs_sys::mount::HAS_NAMESPACES { Self::Lookup } else { Self::Link }
    }
}

/// Which service is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceAddress {
    /// The service: HOST:PORT, or the path of a socket; that of the local repository by default
    #[arg(long, value_name = "ADDR", value_parser = crate::address::service)]
    pub(crate) service: Option<Address>,
    #[command(flatten)]
    pub(crate) storage: StorageArguments,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MountArguments {
    /// What to show: tags and digests joined with '+', bottom first; '-' is empty
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// The process that gets the view; the one that started this program by default
    #[arg(long, value_name = "PID")]
    pub(crate) root_process: Option<u32>,
    /// Let it change files; changes are kept in the runtime
    #[arg(long)]
    pub(crate) editable: bool,
    /// The name of the runtime; runtime-PID by default
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime_name: Option<RuntimeName>,
    #[command(flatten)]
    pub(crate) address: ServiceAddress,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UnmountArguments {
    /// The process that the view was given to; the one that started this program by default
    #[arg(long, value_name = "PID", conflicts_with = "runtime_name")]
    pub(crate) root_process: Option<u32>,
    /// The runtime
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime_name: Option<RuntimeName>,
    /// Even though files are open for writing
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) address: ServiceAddress,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArguments {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: ServiceAddress,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ShutdownArguments {
    /// Even though processes have views
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) address: ServiceAddress,
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
pub(crate) struct GiveBackArguments {
    /// Where the view is.
    #[arg(long)]
    pub(crate) target: PathBuf,
    /// A process that has the mount, if it is in a namespace of its own.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The mount namespace the process must be in.
    #[arg(long, requires = "pid")]
    pub(crate) namespace: Option<String>,
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
