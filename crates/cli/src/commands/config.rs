//! `spfs config`: the configuration in effect.

use std::process::ExitCode;

use crate::context::Context;
use crate::error::Result;

/// Print the configuration in effect as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON, which is what happens anyway
    #[arg(long, hide = true)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let config = context.config()?.clone();
        context.out.json(&config)?;
        Ok(ExitCode::SUCCESS)
    }
}
