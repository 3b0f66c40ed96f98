//! `spfs init`: make something new.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;
use crate::error::Result;
use crate::repositories;

/// Make a new repository
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an empty repository, or complete one that is there already
    Repo {
        /// The folder in which it is to lie, as a path or a 'file:' address; or the archive, as a
        /// 'tar:' address
        path: PathBuf,
    },
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let What::Repo { path } = self.what;
        repositories::init(context, &path)?;
        Ok(ExitCode::SUCCESS)
    }
}
