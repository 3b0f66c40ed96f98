//! `spfs tags`: all tags.

use std::process::ExitCode;

use spfs_model::TagSpec;

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
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
        for name in repository.tags().names()? {
            if !(self.target || self.short || self.json) {
                context.out.line(name)?;
                continue;
            }
            let target = repository.tags().resolve(&TagSpec::from(name.clone()))?.target;
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
        Ok(ExitCode::SUCCESS)
    }
}
