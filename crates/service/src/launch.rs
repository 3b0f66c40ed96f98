//! Starting the process that serves a runtime.
//!
//! The process that runs `spfs run` starts the daemon and then becomes, by exec, first the helper
//! that enters the runtime and then the user's command. Helper and daemon talk over a socket pair
//! of which each inherits one end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use spfs_model::{DigestStrategy, EncodingFormat};
use spfs_runtime::{RuntimeFolder, RuntimeName};
use spfs_sys::process::{Detached, number_of, spawn_detached};

/// The name that the serving process goes by.
pub const DAEMON_NAME: &str = "spfs-fuse";

/// What a serving process needs to be told; the rest stands in the runtime's record.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// A program that calls [`crate::main`] when it is called [`DAEMON_NAME`].
    pub program: &'a Path,
    /// The repository that holds the record, the folder and the payloads.
    pub storage_root: &'a Path,
    /// The runtime.
    pub name: &'a RuntimeName,
    /// The runtime was made for this start: when it fails, nothing of it is to stay.
    pub fresh: bool,
    /// The runtime that the caller is in, if any.
    pub outer: Option<&'a RuntimeName>,
    /// What the daemon logs, in the form of `RUST_LOG`.
    pub log: &'a str,
    /// How digests of new objects are made.
    pub digest_strategy: DigestStrategy,
    /// How new objects are written.
    pub encoding_format: EncodingFormat,
}

/// A serving process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {} to serve runtime {name}", program.display())]
pub struct LaunchError {
    /// The program.
    pub program: PathBuf,
    /// The runtime.
    pub name: RuntimeName,
    /// Why.
    pub source: io::Error,
}

/// A serving process that waits for the helper that enters the runtime.
#[derive(Debug)]
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// The other end of its handshake socket, for the helper to inherit.
    pub handshake: OwnedFd,
}

/// Starts the process that will serve a runtime. When this fails the caller still owns the
/// runtime's record ([`spfs_runtime::Runtimes::discard`]); afterwards the daemon does.
pub fn start_runtime_daemon(launch: &Launch<'_>) -> Result<Started, LaunchError> {
    start(launch).map_err(|source| LaunchError {
        program: launch.program.to_owned(),
        name: launch.name.clone(),
        source,
    })
}

fn start(launch: &Launch<'_>) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let pid = spawn_detached(&Detached {
        program: launch.program,
        arg0: OsStr::new(DAEMON_NAME),
        arguments: &daemon_arguments(launch, number_of(&theirs)),
        log: Some(&RuntimeFolder::new(launch.storage_root, launch.name).log()),
        inherit: &[theirs.as_fd()],
    })?;
    Ok(Started { pid, handshake: ours.into() })
}

fn daemon_arguments(launch: &Launch<'_>, handshake: i32) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "runtime".into(),
        "--storage".into(),
        launch.storage_root.into(),
        "--name".into(),
        launch.name.as_str().into(),
        "--handshake".into(),
        handshake.to_string().into(),
        "--log".into(),
        launch.log.into(),
        "--digest-strategy".into(),
        strategy_name(launch.digest_strategy).into(),
        "--encoding-format".into(),
        format_name(launch.encoding_format).into(),
    ];
    if launch.fresh {
        arguments.push("--fresh".into());
    }
    if let Some(outer) = launch.outer {
        arguments.extend(["--outer".into(), outer.as_str().into()]);
    }
    arguments
}

/// The names of the configuration file.
pub(crate) const fn strategy_name(strategy: DigestStrategy) -> &'static str {
    match strategy {
        DigestStrategy::Legacy => "Legacy",
        DigestStrategy::WithKindAndSalt => "WithKindAndSalt",
    }
}

pub(crate) const fn format_name(format: EncodingFormat) -> &'static str {
    match format {
        EncodingFormat::Legacy => "Legacy",
        EncodingFormat::FlatBuffers => "FlatBuffers",
    }
}

/// Reads the name of a digest strategy.
pub(crate) fn strategy_of(name: &str) -> Result<DigestStrategy, String> {
    [DigestStrategy::Legacy, DigestStrategy::WithKindAndSalt]
        .into_iter()
        .find(|strategy| strategy_name(*strategy) == name)
        .ok_or_else(|| format!("no digest strategy is called {name:?}"))
}

/// Reads the name of an encoding format.
pub(crate) fn format_of(name: &str) -> Result<EncodingFormat, String> {
    [EncodingFormat::Legacy, EncodingFormat::FlatBuffers]
        .into_iter()
        .find(|format| format_name(*format) == name)
        .ok_or_else(|| format!("no encoding format is called {name:?}"))
}
