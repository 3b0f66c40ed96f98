//! `spfs version`: the version.

use std::process::ExitCode;

use crate::context::Context;
use crate::error::Result;

/// Print the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        context.out.line(env!("CARGO_PKG_VERSION"))?;
        Ok(ExitCode::SUCCESS)
    }
}
