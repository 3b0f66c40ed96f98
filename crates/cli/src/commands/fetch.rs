//! What `run`, `shell`, `reset` and `render` fetch from another repository before they begin.

use spfs_model::{EnvItem, EnvSpec};
use spfs_repo::RepoError;
use spfs_repo::sync::{SyncOptions, SyncReport, sync};

use super::transfer::{CopyArgs, HEADING, tell};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// Whether what a command shows is fetched first.
///
/// Without any of these flags nothing is: what is missing here is read from the secondary
/// repositories while it is needed.
#[derive(Debug, clap::Args)]
pub(super) struct FetchArgs {
    /// First copy what is missing here from 'origin', with the newest versions of the tags
    #[arg(long, alias = "pull", help_heading = HEADING)]
    sync: bool,

    #[command(flatten)]
    copy: CopyArgs,
}

impl FetchArgs {
    /// Fetches what the items of an environment lead to, if that was asked for: from that
    /// repository, or else from `origin`.
    ///
    /// What that repository does not have is left to be found elsewhere.
    pub(super) fn fetch(
        &self,
        reference: &str,
        from: Option<&str>,
        context: &Context,
    ) -> Result<()> {
        if !(self.sync || self.copy.looks_at_everything()) {
            return Ok(());
        }
        if from.is_none() && !repositories::has_origin(context)? {
            tracing::warn!("no remote named \"origin\" is configured: nothing is fetched");
            return Ok(());
        }
        let spec: EnvSpec =
            reference.parse().map_err(|error| CliError::reference(reference, &error))?;
        let from = repositories::remote(context, from.unwrap_or(repositories::ORIGIN))?;
        let to = repositories::local(context)?;
        let bar = self.copy.bar("fetching");
        let options = SyncOptions {
            update_tags: self.sync,
            check: self.copy.looks_at_everything(),
            progress: &bar,
            ..SyncOptions::default()
        };
        let mut total = SyncReport::default();
        for item in spfs_repo::stored_items(&spec)? {
            match sync(&*from, &to, &EnvSpec(vec![item.clone()]), &options) {
                Ok(report) => total += report,
                Err(error) if is_elsewhere(&error, &item) => {
                    tracing::debug!("not fetched: {}", CliError::from(error).one_line());
                }
                Err(error) => return Err(error.into()),
            }
        }
        drop(bar);
        tell("synced", &total);
        Ok(())
    }
}

/// Whether the other repository does not know what was asked for.
fn is_elsewhere(error: &RepoError, item: &EnvItem) -> bool {
    match (error, item) {
        (RepoError::UnknownReference { .. } | RepoError::UnknownVersion { .. }, _) => true,
        (RepoError::UnknownObject { digest }, EnvItem::Digest(asked)) => digest == asked,
        _ => false,
    }
}
