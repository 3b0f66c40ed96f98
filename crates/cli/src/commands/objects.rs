//! What `spfs layers` and `spfs platforms` share: all objects of a kind.

use std::process::ExitCode;

use spfs_model::{Digest, ObjectKind};

use super::names::Names;
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// How objects are listed.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Shorten digests
    #[arg(long)]
    short: bool,

    /// Show the tags of each
    #[arg(long)]
    tags: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

/// One object of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    digest: String,
    tags: Vec<String>,
}

impl ListArgs {
    pub(super) fn run(self, kind: ObjectKind, context: &mut Context) -> Result<ExitCode> {
        let repository = repositories::chosen(context, &self.repo)?;
        let names = Names::load(&*repository, self.tags || self.json, self.short)?;
        let mut code = ExitCode::SUCCESS;
        let mut lines = Vec::new();
        for digest in repository.objects().iterate(None)? {
            match digest.and_then(|digest| Ok((digest, repository.objects().read(&digest)?.1))) {
                Ok((digest, object)) if object.kind() == kind => {
                    if self.json {
                        lines.push(line(&digest, &names));
                    } else {
                        context.out.line(names.show(&digest))?;
                    }
                }
                Ok(_) => {}
                // One damaged object does not hide the others.
                Err(error) => {
                    tracing::error!("{}", CliError::from(error).one_line());
                    code = ExitCode::FAILURE;
                }
            }
        }
        if self.json {
            context.out.json(&lines)?;
        }
        Ok(code)
    }
}

fn line(digest: &Digest, names: &Names) -> Line {
    let tags = names.tags(digest).iter().map(ToString::to_string).collect();
    Line { digest: digest.to_string(), tags }
}
