//! `spfs shell`: an interactive shell in a new runtime.

use std::process::ExitCode;

use super::run::RuntimeArgs;
use crate::context::Context;
use crate::error::Result;

/// Start an interactive shell in a new runtime
///
/// The same as 'spfs run REF' without a command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    runtime: RuntimeArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        self.runtime.start(&[], context)
    }
}
