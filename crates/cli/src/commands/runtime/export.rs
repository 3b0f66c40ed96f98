//! `spfs runtime export`: what a runtime holds, as plain files.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use spfs_runtime::control::{ExportOptions, Exported};
use spfs_runtime::{RuntimeName, Runtimes};
use spfs_service::{Client, ClientError};

use super::super::enter::MOUNTPOINT;
use super::super::tree::shown_path;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::size::Human;

/// Save what a runtime holds as plain files, in whatever state it is
///
/// A runtime that is running goes on. One that crashed, or whose journal is damaged, is saved as far
/// as it can be read; what cannot is named, and the exit status is 1. Nothing of the runtime is
/// changed.
///
/// Files keep their modes and times, and names of one file stay hard links. Owners and extended
/// attributes are not saved; special files are named as what is not saved.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The runtime
    name: RuntimeName,

    /// Where to: an empty directory, or one that is not there yet
    directory: PathBuf,

    /// Only what differs from the layers; what was removed is printed, with '-' in front
    #[arg(long)]
    changes: bool,

    /// Print what was saved as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, runtimes: &Runtimes, context: &mut Context) -> Result<ExitCode> {
        let directory = context.env.absolute(&self.directory);
        if directory.starts_with(MOUNTPOINT) {
            let error = format!("{} is inside of a runtime", directory.display());
            return Err(CliError::failed(error).hint("save it outside of /spfs"));
        }
        let options = ExportOptions { directory, changes_only: self.changes };
        let folder = runtimes.folder(&self.name);
        let served = folder.exists() && folder.is_locked()?;
        let exported = match served.then(|| Client::connect(&folder.socket())) {
            Some(Ok(client)) => client.for_runtime(self.name.as_str()).export(&options)?,
            // It is just ending: nobody listens any more, and the lock is about to be given back.
            Some(Err(ClientError::NotServed { .. })) | None => {
                runtimes.export(&self.name, &options)?
            }
            Some(Err(error)) => return Err(error.into()),
        };
        self.tell(&exported, context)?;
        let is_complete = exported.skipped.is_empty() && exported.damage.is_none();
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn tell(&self, exported: &Exported, context: &mut Context) -> Result<()> {
        let Exported { files, directories, links, bytes, removed, skipped, damage } = exported;
        if let Some(damage) = damage {
            tracing::warn!("{damage}; what happened after that is not saved");
        }
        for (path, reason) in skipped {
            tracing::error!("{} is not saved: {reason}", shown_path(path));
        }
        tracing::info!(
            "saved {files} files ({}), {directories} directories and {links} links",
            Human(*bytes)
        );
        if self.json {
            let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
            let skipped = skipped
                .iter()
                .map(|(path, reason)| json!({ "path": text(path), "reason": reason }));
            return context.out.json(&json!({
                "files": files,
                "directories": directories,
                "links": links,
                "bytes": bytes,
                "removed": removed.iter().map(text).collect::<Vec<_>>(),
                "skipped": skipped.collect::<Vec<_>>(),
                "damage": damage,
            }));
        }
        for path in removed {
            context.out.line(format_args!("-{}", shown_path(path)))?;
        }
        Ok(())
    }
}
