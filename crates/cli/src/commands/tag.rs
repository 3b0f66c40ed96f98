//! `spfs tag`: names for what is stored.

use std::process::ExitCode;

use spfs_model::{Digest, TagName};
use spfs_repo::AnyRepository;

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
        put(&*repository, &self.tags, target, context, |done| {
            done.iter().for_each(|tag| tracing::info!(%tag, "created"));
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what was stored, and tags it.
pub(super) fn put_all(
    repository: &dyn AnyRepository,
    tags: &[TagName],
    digest: Digest,
    context: &Context,
) -> Result<()> {
    put(repository, tags, digest, context, |done| {
        tracing::info!(%digest, "created");
        done.iter().for_each(|tag| tracing::info!(tag = tag.to_string(), "created"));
    })
}

/// Points tags at something, signed by the configured user, and tells which, up to the first that
/// fails; nothing is told before it is saved.
fn put(
    repository: &dyn AnyRepository,
    tags: &[TagName],
    target: Digest,
    context: &Context,
    tell: impl FnOnce(&[TagName]),
) -> Result<()> {
    let user = context.config()?.signature();
    let one = |tag: &TagName| repository.tags().push(tag, target, &user, now());
    let mut done = 0;
    let failed = tags.iter().try_for_each(|tag| one(tag).map(|_| done += 1));
    repository.save()?;
    tell(&tags[..done]);
    Ok(failed?)
}
