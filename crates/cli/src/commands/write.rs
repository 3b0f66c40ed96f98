//! `spfs write`: a blob from a file or from standard input.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use spfs_model::TagName;

use super::tag;
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// Store standard input, or a file, as a blob
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tag the blob; may be repeated
    #[arg(short, long = "tag", value_name = "TAG")]
    tags: Vec<TagName>,

    /// Store this file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let repository = repositories::target(context, self.repo.remote.as_deref())?;
        let batch = repository.batch()?;
        let (digest, _) = match &self.file {
            None => batch.blob_from_reader(&mut std::io::stdin().lock())?,
            Some(path) => {
                let file = File::open(path).map_err(|source| {
                    CliError::failed(format!("cannot read {}", path.display())).because(&source)
                })?;
                batch.blob_from_file(&file, path)?
            }
        };
        batch.finish()?;
        tag::put_all(&*repository, &self.tags, digest, context)?;
        Ok(ExitCode::SUCCESS)
    }
}
