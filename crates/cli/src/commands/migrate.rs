//! `spfs migrate`: there is nothing to migrate.

use std::path::PathBuf;
use std::process::ExitCode;

use spfs_repo::Repository;

use crate::context::Context;
use crate::error::Result;

/// Bring a repository to the format of this program
///
/// All versions of the format so far are one: a repository that can be opened is left as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the repository lies
    path: PathBuf,

    /// No effect: nothing has to be put in place of anything
    #[arg(long)]
    upgrade: bool,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let path = context.env.absolute(&self.path);
        // Says which versions are known when this one is not.
        let repository = Repository::open(&path)?;
        tracing::info!(path = %repository.root().display(), "the repository needs no migration");
        Ok(ExitCode::SUCCESS)
    }
}
