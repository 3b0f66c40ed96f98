//! `spfs man`: manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::Cli;
use crate::context::Context;
use crate::error::{CliError, Result};

/// Write the manual pages of spfs and its commands to a directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory, made when missing
    dir: PathBuf,
}

impl Args {
    pub(crate) fn run(self, _context: &mut Context) -> Result<ExitCode> {
        std::fs::create_dir_all(&self.dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.dir))
            .map_err(|source| {
                let dir = self.dir.display();
                CliError::failed(format!("cannot write manual pages to {dir}")).because(&source)
            })?;
        Ok(ExitCode::SUCCESS)
    }
}
