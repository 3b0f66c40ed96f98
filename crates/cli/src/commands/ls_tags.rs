//! `spfs ls-tags`: tags as a hierarchy.

use std::process::ExitCode;

use spfs_repo::{AnyRepository, TagListing};

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
use crate::repositories;

/// List the tags below a path, as a directory is listed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to look
    #[arg(default_value = "/")]
    path: String,

    /// List everything below
    #[arg(long)]
    recursive: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let repository = repositories::chosen(context, &self.repo)?;
        let folder = self.path.trim_matches('/');
        // As upstream, a path that begins with a slash is answered with such paths.
        let prefix = if self.path.starts_with('/') && folder.is_empty() { "/" } else { "" };
        let mut found = Vec::new();
        list(&*repository, folder, self.recursive, prefix.to_owned(), &mut found)?;
        if self.json {
            context.out.json(&found)?;
        } else {
            for line in found {
                context.out.line(line)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(
    repository: &dyn AnyRepository,
    folder: &str,
    recursive: bool,
    prefix: String,
    found: &mut Vec<String>,
) -> Result<()> {
    for entry in repository.tags().list(folder)? {
        match entry {
            TagListing::Tag(name) => found.push(format!("{prefix}{name}")),
            TagListing::Folder(name) if recursive => {
                let below =
                    if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                list(repository, &below, true, format!("{prefix}{name}/"), found)?;
            }
            TagListing::Folder(name) => found.push(format!("{prefix}{name}/")),
        }
    }
    Ok(())
}
