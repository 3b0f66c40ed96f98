//! `spfs info`: what something is.

mod layers_of;
mod object;
mod runtime;

use std::process::ExitCode;

use super::annotations::AnnotationArgs;
use super::names::Names;
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
use crate::repositories::{self, Sources};

/// Show what a tag, a digest, a path below /spfs or the active runtime is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tags, digests or paths below /spfs; the active runtime when there is none
    #[arg(value_name = "REF")]
    refs: Vec<String>,

    #[command(flatten)]
    annotations: AnnotationArgs,

    /// Show sizes with units
    #[arg(short = 'H', long)]
    human_readable: bool,

    /// Show the tags of each digest
    #[arg(long)]
    tags: bool,

    /// Shorten digests
    #[arg(long)]
    short: bool,

    /// Show everything below as well
    #[arg(long)]
    follow: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        if self.refs.is_empty() && self.repo.remote.is_none() {
            return if self.annotations.are_asked_for() {
                self.annotations_of_runtime(context)
            } else {
                runtime::show(&self, context)
            };
        }
        let sources = repositories::sources(context, self.repo.remote.as_deref())?;
        let names = Names::load(sources.first(), self.tags || self.json, self.short)?;
        if self.json {
            let all = self.refs.iter().map(|reference| {
                if reference.starts_with("/spfs") {
                    layers_of::json(reference, &sources, context)
                } else {
                    object::json(&sources.find(reference)?, &sources, &names)
                }
            });
            let all = all.collect::<Result<Vec<_>>>()?;
            context.out.json(&all)?;
            return Ok(ExitCode::SUCCESS);
        }
        for (at, reference) in self.refs.iter().enumerate() {
            if at > 0 && !self.annotations.are_asked_for() {
                context.out.line("")?;
            }
            self.show(reference, &sources, &names, context)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(
        &self,
        reference: &str,
        sources: &Sources,
        names: &Names,
        context: &mut Context,
    ) -> Result<()> {
        if reference.starts_with("/spfs") {
            return layers_of::show(reference, sources, self, context);
        }
        let digest = sources.find(reference)?;
        if self.annotations.are_asked_for() {
            return self.annotations.print(&[digest], sources, context);
        }
        object::show(digest, sources, names, self, context)
    }

    fn annotations_of_runtime(&self, context: &mut Context) -> Result<ExitCode> {
        let sources = runtime::sources(context)?;
        let stack = runtime::stack(context, runtime::WITHOUT_REF)?;
        self.annotations.print(&stack, &sources, context)?;
        Ok(ExitCode::SUCCESS)
    }
}
