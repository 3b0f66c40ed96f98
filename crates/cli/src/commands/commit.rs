//! `spfs commit`: a directory, or the changes in a runtime, become a layer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use spfs_model::{Digest, TagName};
use spfs_repo::AnyRepository;
use spfs_runtime::control::{CommitKind, CommitOptions, MacosFiles};
use spfs_sys::host::System;

use super::{active, tag};
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::progress::Bar;
use crate::repositories;

/// Store a directory, or the changes in the active runtime, as a layer
///
/// Inside an editable runtime, 'spfs commit layer' stores what was changed and puts it on the
/// runtime's stack; 'spfs commit platform' stores the whole stack, with the changes on top.
/// Both end edit mode. Elsewhere, '--path' stores a directory and '--ref' a stack of what is
/// stored already.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to store of the active runtime; 'layer' may stand beside --path, 'platform' beside --ref
    #[arg(value_enum)]
    kind: Option<Kind>,

    /// Store this directory as a layer
    #[arg(long, value_name = "DIR", conflicts_with = "reference")]
    path: Option<PathBuf>,

    /// Store this stack (REF+REF…, bottom first) as a platform
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,

    /// Tag the result; may be repeated
    #[arg(short, long = "tag", value_name = "TAG")]
    tags: Vec<TagName>,

    /// Say what was done; kept as the layer's annotation 'message'
    #[arg(short, long, conflicts_with = "reference")]
    message: Option<String>,

    /// Stay in edit mode
    #[arg(long, conflicts_with_all = ["path", "reference"])]
    keep_editing: bool,

    /// Store what Finder and Spotlight keep for themselves (.DS_Store, ._*, .Spotlight-V100,
    /// .fseventsd, .Trashes) like all other files; on macOS it is left out otherwise
    #[arg(long, conflicts_with_all = ["path", "reference"])]
    keep_macos_files: bool,

    /// Store even when there is nothing in it
    #[arg(long, hide = true)]
    allow_empty: bool,

    /// Print what was stored as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,

    /// No effect: each file is read once anyway
    #[arg(long, hide = true)]
    hash_while_committing: bool,

    /// No effect: each file is read once anyway
    #[arg(long, hide = true)]
    hash_first: bool,

    /// No effect: as many files at once as there are processors
    #[arg(long, hide = true, env = "SPFS_COMMIT_MAX_CONCURRENT_BLOBS", hide_env = true)]
    max_concurrent_blobs: Option<u64>,

    /// No effect: as many directories at once as there are processors
    #[arg(long, hide = true, env = "SPFS_COMMIT_MAX_CONCURRENT_BRANCHES", hide_env = true)]
    max_concurrent_branches: Option<u64>,
}

/// What to store of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The changes
    Layer,
    /// The stack, with the changes on top
    Platform,
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Stored {
    digest: String,
    tags: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        self.check_kind()?;
        let digest = match (&self.path, &self.reference, self.kind) {
            (Some(path), ..) => {
                let repository = repositories::target(context, self.repo.remote.as_deref())?;
                let digest = self.directory(&*repository, path, context)?;
                tag::put_all(&*repository, &self.tags, digest, context)?;
                digest
            }
            (None, Some(reference), _) => {
                let sources = repositories::sources(context, self.repo.remote.as_deref())?;
                let stack = sources.resolve(reference)?;
                let digest = spfs_repo::write_platform(sources.first(), &stack, self.allow_empty)?;
                tag::put_all(sources.first(), &self.tags, digest, context)?;
                digest
            }
            (None, None, Some(kind)) => self.runtime(kind, context)?,
            (None, None, None) => return Err(CliError::usage("it is not said what to commit").hint(
                "KIND of the active runtime: 'layer' or 'platform'; or --path DIR, or --ref REF",
            )),
        };
        if self.json {
            let tags = self.tags.iter().map(ToString::to_string).collect();
            context.out.json(&Stored { digest: digest.to_string(), tags })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what the kind of a commit does not go with.
    fn check_kind(&self) -> Result<()> {
        let refused = |message: &str, hint: &str| Err(CliError::usage(message).hint(hint));
        match self.kind {
            Some(Kind::Platform) if self.path.is_some() => refused(
                "a directory becomes a layer, not a platform",
                "'spfs commit --path DIR -t TAG', then 'spfs commit --ref REF+TAG'",
            ),
            Some(Kind::Layer) if self.reference.is_some() => refused(
                "a stack becomes a platform, not a layer",
                "'spfs commit --ref REF' stores it as one",
            ),
            Some(_)
                if self.path.is_none()
                    && self.reference.is_none()
                    && self.repo.remote.is_some() =>
            {
                refused(
                    "the active runtime is stored in the local repository, not in --remote",
                    "commit it, then 'spfs push TAG --to REPOSITORY'",
                )
            }
            _ => Ok(()),
        }
    }

    /// Stores a directory.
    fn directory(
        &self,
        repository: &dyn AnyRepository,
        path: &Path,
        context: &Context,
    ) -> Result<Digest> {
        let bar = Bar::files("committing");
        let options = spfs_repo::CommitOptions {
            allow_empty: self.allow_empty,
            annotations: &self.annotations(),
            annotation_inline_max: context.config()?.filesystem.annotation_size_limit,
            progress: &bar,
            ..spfs_repo::CommitOptions::default()
        };
        let path = context.env.absolute(path);
        Ok(spfs_repo::commit_path(repository, &path, &options)?.layer)
    }

    /// Stores what the active runtime holds, and says what became of its edit mode.
    fn runtime(&self, kind: Kind, context: &Context) -> Result<Digest> {
        let mut active = active::connect(context, "'spfs commit layer|platform'")?;
        let options = CommitOptions {
            kind: match kind {
                Kind::Layer => CommitKind::Layer,
                Kind::Platform => CommitKind::Platform,
            },
            annotations: self.annotations(),
            keep_editing: self.keep_editing,
            allow_empty: self.allow_empty,
            macos_files: macos_files(context.env.system(), self.keep_macos_files),
        };
        let was_editable = active.status()?.editable;
        let bar = Bar::files("committing");
        let done = active.client.commit(&options, &mut |at| bar.set(at.files, at.bytes))?;
        drop(bar);
        if done.left_out > 0 {
            let count = done.left_out;
            tracing::info!(count, "files of macOS left out; --keep-macos-files stores them");
        }
        tag::put_all(&repositories::local(context)?, &self.tags, done.digest, context)?;
        if was_editable && !done.editable {
            tracing::info!("edit mode disabled");
        } else if done.editable && !self.keep_editing {
            tracing::warn!("edit mode stays on: {}", active::open_files(&done.busy));
        }
        Ok(done.digest)
    }

    fn annotations(&self) -> Vec<(String, String)> {
        let message = self.message.iter().map(|text| (spfs_repo::MESSAGE.to_owned(), text.clone()));
        message.collect()
    }
}

/// What becomes of the files that macOS leaves wherever it looks.
fn macos_files(system: System, keep: bool) -> MacosFiles {
    match (system, keep) {
        (System::MacOs, false) => MacosFiles::LeaveOut,
        _ => MacosFiles::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_macos_are_left_out_on_macos_alone_and_only_unless_asked_for() {
        assert_eq!(macos_files(System::MacOs, false), MacosFiles::LeaveOut);
        assert_eq!(macos_files(System::MacOs, true), MacosFiles::Keep);
        assert_eq!(macos_files(System::Linux, false), MacosFiles::Keep);
        assert_eq!(macos_files(System::Linux, true), MacosFiles::Keep);
    }
}
