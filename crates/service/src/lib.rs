//! The daemon: control protocol, router and the client that talks to it.
//!
//! **Invariant:** nothing here uses the mount it serves: a request of our own would wait for
//! ourselves.
#![forbid(unsafe_code)]

mod args;
mod client;
mod daemon;
mod failure;
mod handshake;
mod launch;
mod messages;
mod mounted;
mod proto;
mod remount;
mod router;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub use client::{Client, ClientError, ServiceStatus};
pub use failure::{Failure, FailureCode};
pub use launch::{DAEMON_NAME, Launch, LaunchError, Started, start_runtime_daemon};
pub use router::{Emptied, RouteError, Router, RouterFigures};

/// Runs the program `spfs-fuse`.
pub fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Also help and version, which are no errors. Nobody may be listening.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match arguments.command {
        args::Command::Runtime(arguments) => daemon::main(&arguments),
        args::Command::Remount(arguments) => remount::main(&arguments),
    }
}

/// Tells the process that started this one what went wrong.
fn report(text: &str) {
    // Nobody may be listening.
    drop(writeln!(std::io::stderr(), "{text}"));
}
