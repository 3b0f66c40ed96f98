//! The daemon: control protocol, router and the client that talks to it.
//!
//! **Invariant:** nothing here uses the mount it serves: a request of our own would wait for
//! ourselves.
#![forbid(unsafe_code)]

mod address;
mod args;
mod child;
mod client;
mod daemon;
mod failure;
mod give_back;
mod handshake;
mod launch;
mod log;
mod messages;
mod mounted;
mod plain;
mod proto;
mod remount;
mod requests;
mod routed;
mod router;
mod serve;
mod settings;
mod signals;
mod start;
mod upkeep;
mod volume;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub use address::Address;
use args::Command;
pub use args::ServiceRoot;
pub use client::{Client, ClientError, Figures, MountRequest, ServiceStatus, Wanted};
pub use failure::{Failure, FailureCode};
pub use launch::{DAEMON_NAME, Launch, LaunchError, Started, start_runtime_daemon};
pub use router::{Emptied, RouteError, Router, RouterFigures};
pub use serve::MountedAt;
pub use settings::{Defaults, Settings};
pub use start::{ServiceError, ServiceLaunch, connect_or_start, start_service};

/// Runs the program `spfs-fuse` without a configuration: it is told everything.
pub fn main() -> ExitCode {
    main_with(settings::NONE)
}

/// Runs the program `spfs-fuse`; `defaults` is asked for what no argument gives.
pub fn main_with(defaults: Defaults<'_>) -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Also help and version, which are no errors. Nobody may be listening.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match arguments.command {
        Some(Command::Service(arguments)) => routed::main(&arguments, defaults),
        Some(Command::Mount(arguments)) => requests::mount(&arguments, defaults),
        Some(Command::Unmount(arguments)) => requests::unmount(&arguments, defaults),
        Some(Command::Status(arguments)) => requests::status(&arguments, defaults),
        Some(Command::Shutdown(arguments)) => requests::shutdown(&arguments, defaults),
        Some(Command::Runtime(arguments)) => daemon::main(&arguments),
        Some(Command::Remount(arguments)) => remount::main(&arguments),
        Some(Command::GiveBack(arguments)) => give_back::main(&arguments),
        None => plain::main(&arguments.plain, defaults),
    }
}

/// Tells the process that started this one what went wrong.
fn report(text: &str) {
    // Nobody may be listening.
    drop(writeln!(std::io::stderr(), "{text}"));
}
