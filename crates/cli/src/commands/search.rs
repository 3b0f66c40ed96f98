//! `spfs search`: tags that contain a term.

use std::process::ExitCode;

use spfs_repo::AnyRepository;

use crate::context::Context;
use crate::error::Result;
use crate::repositories;

/// Find tags that contain TERM in the local repository and all remotes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to look for
    term: String,

    /// Print as JSON, with the repository of each tag
    #[arg(long)]
    json: bool,

    /// Look in this repository alone: a configured name, an address, or a path
    #[arg(short, long, value_name = "REPOSITORY")]
    remote: Option<String>,
}

/// One tag of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    tag: String,
    /// The remote's name; absent for the local repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let lines = match &self.remote {
            Some(name) => self.matches(&*repositories::remote(context, name)?, Some(name))?,
            None => self.everywhere(context)?,
        };
        if self.json {
            context.out.json(&lines)?;
        } else {
            for line in lines {
                context.out.line(line.tag)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn everywhere(&self, context: &Context) -> Result<Vec<Line>> {
        let mut lines = self.matches(&repositories::local(context)?, None)?;
        for (name, repository) in repositories::remotes(context)? {
            match repository {
                Ok(repository) => lines.extend(self.matches(&*repository, Some(&name))?),
                // A remote that is down does not keep the others from being searched.
                Err(error) => tracing::warn!(remote = %name, "{}", error.one_line()),
            }
        }
        Ok(lines)
    }

    fn matches(&self, repository: &dyn AnyRepository, remote: Option<&str>) -> Result<Vec<Line>> {
        let names = repository.tags().names()?.into_iter().map(|name| name.to_string());
        let found = names.filter(|name| name.contains(&self.term));
        Ok(found.map(|tag| Line { tag, remote: remote.map(str::to_owned) }).collect())
    }
}
