//! `spfs tags`: all tags.

use std::process::ExitCode;

use spfs_model::TagSpec;
use spfs_repo::RepoError;

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// List all tags
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what each tag points to
    #[arg(long)]
    target: bool,

    /// Show what each tag points to, shortened
    #[arg(long)]
    short: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

/// One tag of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    tag: String,
    target: String,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let repository = repositories::chosen(context, &self.repo)?;
        let mut lines = Vec::new();
        let mut damaged = false;
        for name in repository.tags().names()? {
            if !(self.target || self.short || self.json) {
                context.out.line(name)?;
                continue;
            }
            let target = match repository.tags().resolve(&TagSpec::from(name.clone())) {
                Ok(tag) => tag.target,
                // It was removed since it was listed, as the tags of runtimes are when these end.
                Err(RepoError::UnknownReference { .. }) => continue,
                Err(error @ RepoError::DamagedTag { .. }) => {
                    tracing::warn!("{}", CliError::from(error).one_line());
                    damaged = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if self.json {
                lines.push(Line { tag: name.to_string(), target: target.to_string() });
            } else if self.short {
                context.out.line(format_args!("{name} -> {}", target.short()))?;
            } else {
                context.out.line(format_args!("{name} -> {target}"))?;
            }
        }
        if self.json {
            context.out.json(&lines)?;
        }
        Ok(if damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
