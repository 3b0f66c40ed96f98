//! `spfs untag`: versions of a tag are removed.

use std::process::ExitCode;

use spfs_model::TagSpec;
use spfs_repo::{AnyRepository, RepoError};

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// Remove a version of a tag, or the whole tag
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tag; with a version (TAG~N) only that version is removed
    tag: String,

    /// Remove the newest version
    #[arg(long, conflicts_with = "all")]
    latest: bool,

    /// Remove every version
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let spec: TagSpec = self.tag.parse()?;
        // `tag~0` names the newest version expressly, though it reads like the tag alone.
        let has_version = self.tag.rsplit('/').next().is_some_and(|name| name.contains('~'));
        if has_version && (self.all || self.latest) {
            let flag = if self.all { "--all" } else { "--latest" };
            let error = CliError::usage(format!(
                "{flag} and a version, {}, are not to be combined",
                self.tag
            ));
            return Err(error.hint(format!("'spfs untag {}' removes that version alone", self.tag)));
        }
        let repository = repositories::chosen(context, &self.repo)?;
        if !(self.all || self.latest || has_version) {
            // Nobody is to be asked for the version of a tag that does not exist.
            repository.tags().resolve(&spec)?;
            let error = CliError::failed(format!("which versions of {spec} are to be removed?"));
            return Err(
                error.hint(format!("--all, --latest, or one of them: {spec}~0, {spec}~1, …"))
            );
        }
        if self.all {
            remove_all(&*repository, &spec)?;
        } else {
            let record = repository.tags().resolve(&spec)?;
            repository.tags().remove_version(spec.tag(), &record)?;
        }
        repository.save()?;
        tracing::info!(tag = %self.tag, "removed");
        Ok(ExitCode::SUCCESS)
    }
}

fn remove_all(repository: &dyn AnyRepository, spec: &TagSpec) -> Result<()> {
    if repository.tags().remove_stream(spec.tag())? {
        return Ok(());
    }
    Err(RepoError::UnknownReference { reference: spec.tag().to_string() }.into())
}
