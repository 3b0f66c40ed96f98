//! `spfs reset`: changes of the active runtime are dropped.

use std::process::ExitCode;

use spfs_runtime::control::ResetOptions;

use super::active;
use super::fetch::FetchArgs;
use crate::context::Context;
use crate::error::Result;
use crate::repositories;

/// Drop changes of the active runtime: all of them, or those below PATHS
///
/// A path may be given with or without /spfs in front; '*', '?' and '**' stand for names, within
/// one directory or across them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to drop; everything when there is none
    paths: Vec<String>,

    /// Become editable as well
    #[arg(short, long)]
    edit: bool,

    /// Show this stack instead of the present one; drops all changes
    #[arg(short, long = "ref", value_name = "REF", conflicts_with = "paths")]
    reference: Option<String>,

    #[command(flatten)]
    fetch: FetchArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let mut active = active::connect(context, "'spfs reset'")?;
        let stack = match &self.reference {
            Some(reference) => {
                self.fetch.fetch(reference, None, context)?;
                Some(repositories::sources(context, None)?.resolve(reference)?)
            }
            None => None,
        };
        let patterns = self.paths.iter().map(|path| inside(path)).collect();
        let paths = active.client.reset(&ResetOptions { patterns, stack })?;
        tracing::info!(paths, "reset");
        if self.edit && active.client.set_editable(true, false)?.changed {
            tracing::info!("edit mode enabled");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The pattern as seen from the root of the runtime.
fn inside(path: &str) -> String {
    match path.strip_prefix("/spfs") {
        Some("" | "/") => "/**".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn paths_below_spfs_are_anchored_at_the_root_of_the_runtime() {
        assert_eq!(inside("/spfs/a/b"), "/a/b");
        assert_eq!(inside("/spfs"), "/**");
        assert_eq!(inside("a/*"), "a/*");
        assert_eq!(inside("/spfsx"), "/spfsx");
    }
}
