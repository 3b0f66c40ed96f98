//! `spfs render`: layers as plain files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use spfs_model::{Digest, EnvSpec, merge};
use spfs_repo::AnyRepository;
use spfs_repo::render::{RenderStore, RenderSummary, Strategy, render, render_manifest};

use super::fetch::FetchArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::progress::Bar;
use crate::repositories;

/// Make plain files and directories of layers
///
/// With TARGET, what a runtime of REF would show is put into that directory. Without it each layer
/// is rendered into the local repository. Prints where, and what was done, as one line of JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to render: tags and digests joined with '+', bottom first
    reference: String,

    /// Where to; it is made when it is missing
    target: Option<PathBuf>,

    /// Write into a directory that is not empty; what is in the way of a file is replaced
    #[arg(long)]
    allow_existing: bool,

    /// How files get their content; Copy with TARGET, else HardLink. Writing to a linked file
    /// damages the repository
    #[arg(long, value_enum, ignore_case = true)]
    strategy: Option<StrategyName>,

    #[command(flatten)]
    fetch: FetchArgs,

    /// Print as JSON, which is what happens anyway
    #[arg(long, hide = true)]
    json: bool,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_RENDER_MAX_CONCURRENT_BLOBS", hide_env = true)]
    max_concurrent_blobs: Option<u64>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_RENDER_MAX_CONCURRENT_BRANCHES", hide_env = true)]
    max_concurrent_branches: Option<u64>,
}

/// The strategies in upstream's words.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StrategyName {
    /// Link to files that have the right mode and owner
    #[value(name = "HardLink")]
    HardLink,
    /// Link to the payloads; modes are not set
    #[value(name = "HardLinkNoProxy")]
    HardLinkNoProxy,
    /// Copy, sharing blocks where the volume can
    #[value(name = "Copy")]
    Copy,
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::HardLink => Self::HardLink,
            StrategyName::HardLinkNoProxy => Self::HardLinkNoProxy,
            StrategyName::Copy => Self::Copy,
        }
    }
}

/// What is printed.
#[derive(Debug, serde::Serialize)]
struct Rendered {
    paths_rendered: Vec<PathBuf>,
    render_summary: RenderSummary,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let spec: EnvSpec =
            self.reference.parse().map_err(|error| CliError::reference(&self.reference, &error))?;
        self.fetch.fetch(&self.reference, None, context)?;
        let local = repositories::local(context)?;
        let share = context.config()?.storage.allow_payload_sharing_between_users;
        let store = RenderStore::new(&local, share);
        let strategy = self.strategy.map(Strategy::from);
        let strategy = strategy.unwrap_or(match self.target {
            Some(_) => Strategy::Copy,
            None => Strategy::HardLink,
        });
        // Only what lies here can be linked to.
        let source = repositories::as_one(context, strategy != Strategy::Copy)?;
        let stack = spfs_repo::resolve(&[&source], &spec)?;
        let bar = Bar::files("rendering");
        let rendered = match &self.target {
            Some(target) => {
                let target = context.env.absolute(target);
                let manifests = spfs_repo::load_stack(&[&source], &stack)?;
                let tree = merge(&manifests.iter().collect::<Vec<_>>());
                let existing = self.allow_existing;
                let render_summary =
                    render(&source, &tree, &target, strategy, existing, &store, &bar)?;
                Rendered { paths_rendered: vec![target], render_summary }
            }
            None => each_layer(&source, &stack, strategy, &store, &bar)?,
        };
        drop(bar);
        context.out.json_line(&rendered)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn each_layer(
    source: &dyn AnyRepository,
    stack: &[Digest],
    strategy: Strategy,
    store: &RenderStore,
    bar: &Bar,
) -> Result<Rendered> {
    let mut paths_rendered = Vec::new();
    let mut render_summary = RenderSummary::default();
    for layer in spfs_repo::load_layers(&[source], stack)? {
        let (Some(digest), Some(manifest)) = (layer.layer.manifest, layer.manifest) else {
            continue;
        };
        let (path, summary) = render_manifest(source, &digest, &manifest, strategy, store, bar)?;
        paths_rendered.push(path);
        render_summary += summary;
    }
    Ok(Rendered { paths_rendered, render_summary })
}
