//! `spfs completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::Cli;
use crate::context::Context;
use crate::error::Result;

/// Print the completion script for a shell
///
/// For bash, 'source <(spfs completions bash)' in ~/.bashrc; other shells read it from a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        // Written to memory first: the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "spfs", &mut script);
        context.out.bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
