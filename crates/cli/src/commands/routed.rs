//! Runtimes as views of the one service, where processes have no mounts of their own.
//!
//! The process asks the service for its view and becomes the command: what it starts inherits the
//! view.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use spfs_runtime::{RuntimeName, Runtimes};
use spfs_service::{MountRequest, ServiceLaunch, Settings, Wanted, connect_or_start};

use super::enter::{MOUNTPOINT, startup};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// What the configuration says to a service.
pub(crate) fn settings(context: &Context) -> Result<Settings> {
    let config = context.config()?;
    let encoding = config.encoding();
    // It is made when the first command needs it.
    repositories::local(context)?;
    Ok(Settings {
        storage_root: config.storage.root.clone(),
        secondary_repositories: repositories::secondary_addresses(context, None)?,
        log: context.env.text("SPFS_LOG").unwrap_or("warn").to_owned(),
        digest_strategy: encoding.strategy,
        encoding_format: encoding.format,
    })
}

/// Gives this process the view of a new runtime and becomes the command; returns what went wrong.
pub(super) fn become_command(
    runtimes: &Runtimes,
    name: &RuntimeName,
    fresh: bool,
    command: &[OsString],
    context: &Context,
) -> CliError {
    let wanted = Wanted::Existing(name.to_string());
    match mount(wanted, context) {
        Ok(mountpoint) => execute(runtimes, name, mountpoint, command, "", context),
        Err(error) => {
            if fresh && let Err(left) = runtimes.discard(name) {
                tracing::warn!("{}", CliError::from(left).one_line());
            }
            error
        }
    }
}

/// Gives this process the view of a runtime that is running and becomes the command; returns what
/// went wrong.
pub(super) fn join(
    runtimes: &Runtimes,
    name: &RuntimeName,
    command: &[OsString],
    context: &Context,
) -> CliError {
    let suffix = format!("-{}", std::process::id());
    match mount(Wanted::Served(name.to_string()), context) {
        Ok(mountpoint) => execute(runtimes, name, mountpoint, command, &suffix, context),
        Err(error) => error,
    }
}

fn mount(runtime: Wanted, context: &Context) -> Result<PathBuf> {
    let program = spfs_sys::process::own_executable().map_err(|source| {
        CliError::failed("cannot tell where the program spfs lies").because(&source)
    })?;
    let settings = settings(context)?;
    let launch = ServiceLaunch {
        program: &program,
        mountpoint: Path::new(MOUNTPOINT),
        root: context.env.service_root(),
        settings: &settings,
    };
    let mut client = connect_or_start(&launch)?;
    let request = MountRequest { root_pid: std::process::id(), runtime };
    let mounted = client.mount(&request)?;
    if mounted.adopt_orphans {
        // What a daemon of the command starts would be a child of init before anybody has seen it.
        // From here on, and as the command, this process is the parent instead.
        if let Err(error) = spfs_sys::process::adopt_orphans() {
            tracing::warn!(%error, "daemons that the command starts may not see /spfs");
        }
    }
    Ok(mounted.mountpoint.into())
}

/// Becomes the command. The view goes with this process when that fails.
fn execute(
    runtimes: &Runtimes,
    name: &RuntimeName,
    mountpoint: PathBuf,
    command: &[OsString],
    suffix: &str,
    context: &Context,
) -> CliError {
    let preserve = match context.config() {
        Ok(config) => &config.environment.variable_names_to_preserve,
        Err(error) => return error,
    };
    let folder = runtimes.folder(name);
    let startup = startup(&folder, name, mountpoint, command.to_vec(), preserve, &context.env);
    spfs_repo::remove_unpacked();
    let failed = startup.prepare(suffix).and_then(|program| program.execute());
    match failed {
        Ok(never) => match never {},
        Err(error) => CliError::entering(name, &error.into()),
    }
}

/// The full address of a repository that a person names.
pub(crate) fn remote_address(
    env: crate::env::Environment,
    name: &str,
) -> std::result::Result<String, String> {
    let context = Context::new(env, 0, None);
    repositories::remote_address(&context, name).map_err(|error| error.one_line())
}

/// What the configuration says to a service that a person starts.
pub(crate) fn defaults(env: crate::env::Environment) -> std::result::Result<Settings, String> {
    let context = Context::new(env, 0, None);
    settings(&context).map_err(|error| error.one_line())
}
