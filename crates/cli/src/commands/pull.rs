//! `spfs pull`: from another repository.

use std::process::ExitCode;

use spfs_model::EnvSpec;

use super::transfer::{TransferArgs, environment};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories::{self, Shared};

/// Copy tags and what they lead to from another repository into the local one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to copy: tags and digests
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,

    /// Where from: a configured name, an address, or a path; when not given, the first of all
    /// configured remotes that has it
    #[arg(long, visible_alias = "remote", short_alias = 'r', value_name = "REPOSITORY")]
    from: Option<String>,

    /// Where to, instead of the local repository
    #[arg(long, value_name = "REPOSITORY")]
    to: Option<String>,

    /// Also update tags that are here already
    #[arg(long, visible_alias = "pull")]
    sync: bool,

    #[command(flatten)]
    transfer: TransferArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let spec = environment(&self.references)?;
        let from = match &self.from {
            Some(name) => repositories::remote(context, name)?,
            None => self.search(&spec, context)?,
        };
        let to = repositories::target(context, self.to.as_deref())?;
        self.transfer.copy(&*from, &*to, &spec, self.sync, context)
    }

    /// The first remote that has all that is asked for, `origin` before the others.
    fn search(&self, spec: &EnvSpec, context: &Context) -> Result<Shared> {
        let mut remotes = repositories::remotes(context)?;
        if remotes.is_empty() {
            return Err(CliError::failed("no remote is configured to pull from").hint(
                "name one with --from, or configure one: [remote.origin] address = \"file:PATH\"",
            ));
        }
        remotes.sort_by_key(|(name, _)| name != "origin");
        let mut first_error = None;
        for (name, repository) in remotes {
            let found = repository.and_then(|repository| {
                spfs_repo::resolve(&[&*repository], spec)?;
                Ok(repository)
            });
            match found {
                Ok(repository) => {
                    tracing::debug!(remote = %name, "pulling");
                    return Ok(repository);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| CliError::failed("no remote is configured")))
    }
}
