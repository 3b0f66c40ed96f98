//! `spfs read`: the content of a stored file.

use std::io;
use std::process::ExitCode;

use spfs_model::{Digest, EnvItem, EnvSpec, NodeKind, Object};

use super::tree::Environment;
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories::{self, Sources};

/// Print the content of a blob, or of a file in a stack
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A blob, or tags and digests joined with '+', bottom first
    #[arg(value_name = "REF")]
    reference: String,

    /// The file, with or without /spfs in front; not for a blob
    path: Option<String>,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let sources = repositories::sources(context, self.repo.remote.as_deref())?;
        if let Some((payload, size)) = self.blob(&sources)? {
            return print(&sources, &payload, size, context);
        }
        let Some(path) = &self.path else {
            let error = format!("{} is not a blob: which file of it is meant?", self.reference);
            return Err(CliError::failed(error).hint(format!(
                "'spfs read {} PATH'; 'spfs ls' lists what is there",
                self.reference
            )));
        };
        let stack = sources.resolve(&self.reference)?;
        let environment = Environment::of(sources, &stack)?;
        let node = environment.tree.node(environment.find(path)?);
        if node.kind == NodeKind::Directory {
            return Err(CliError::failed(format!("{path} is a directory")));
        }
        print(&environment.sources, &node.object, node.size, context)
    }

    /// The payload and its size, when the reference is that of a blob.
    fn blob(&self, sources: &Sources) -> Result<Option<(Digest, u64)>> {
        let single = match self.reference.parse() {
            Ok(EnvSpec(items)) => {
                matches!(&*items, [item] if !matches!(item, EnvItem::SpecFile(_)))
            }
            Err(_) => true,
        };
        if !single {
            return Ok(None);
        }
        match sources.object(&sources.find(&self.reference)?)? {
            Object::Blob { payload, size } => Ok(Some((payload, size))),
            _ => Ok(None),
        }
    }
}

fn print(
    sources: &Sources,
    payload: &Digest,
    size: u64,
    context: &mut Context,
) -> Result<ExitCode> {
    let mut file = sources.payload(payload)?;
    let printed = io::copy(&mut file, &mut context.out).map_err(CliError::writing_output)?;
    if printed != size {
        let error = format!("payload {payload} is damaged: it has {printed} bytes, not {size}");
        return Err(CliError::failed(error)
            .hint("'spfs check --pull REPO' fetches it again from a repository that has it"));
    }
    Ok(ExitCode::SUCCESS)
}
