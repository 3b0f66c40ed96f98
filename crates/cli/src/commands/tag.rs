//! `spfs tag`: names for what is stored.

use std::process::ExitCode;

use spfs_model::TagName;

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
use crate::{now, repositories};

/// Give something one or more tags
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to tag: a tag or a digest
    #[arg(value_name = "REF")]
    target: String,

    /// The tags
    #[arg(value_name = "TAG", required = true)]
    tags: Vec<TagName>,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let repository = repositories::chosen(context, &self.repo)?;
        let target = spfs_repo::resolve_reference(&[&*repository], &self.target)?;
        for tag in &self.tags {
            put(&*repository, tag, target, context)?;
            tracing::info!(%tag, "created");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Points a tag at something, signed by the configured user.
pub(super) fn put(
    repository: &dyn spfs_repo::AnyRepository,
    tag: &TagName,
    target: spfs_model::Digest,
    context: &Context,
) -> Result<()> {
    let user = context.config()?.signature();
    repository.tags().push(tag, target, &user, now())?;
    Ok(())
}
