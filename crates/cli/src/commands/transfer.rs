//! What `spfs push` and `spfs pull` share: copying between two repositories.

use std::process::ExitCode;

use spfs_model::EnvSpec;
use spfs_repo::AnyRepository;
use spfs_repo::sync::{SyncOptions, SyncReport, sync};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::progress::Bar;
use crate::output::size::Human;

/// How things are copied.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Copying")]
pub(super) struct TransferArgs {
    /// Look at everything below, rather than relying on an object that is there to be complete
    #[arg(long)]
    check: bool,

    /// Copy nothing, only tell what would be copied
    #[arg(long)]
    dry_run: bool,

    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_SYNC_MAX_CONCURRENT_MANIFESTS", hide_env = true)]
    max_concurrent_manifests: Option<u64>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_SYNC_MAX_CONCURRENT_PAYLOADS", hide_env = true)]
    max_concurrent_payloads: Option<u64>,
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Copied {
    dry_run: bool,
    tags: u64,
    tags_skipped: u64,
    objects: u64,
    objects_skipped: u64,
    payloads: u64,
    payloads_skipped: u64,
    bytes: u64,
}

/// The references of the command line as one environment.
pub(super) fn environment(references: &[String]) -> Result<EnvSpec> {
    let mut all = EnvSpec::default();
    for reference in references {
        let spec: EnvSpec =
            reference.parse().map_err(|error| CliError::reference(reference, &error))?;
        all.0.extend(spec.0);
    }
    Ok(all)
}

impl TransferArgs {
    /// Copies what the references lead to, and tells what was copied.
    pub(super) fn copy(
        &self,
        from: &dyn AnyRepository,
        to: &dyn AnyRepository,
        spec: &EnvSpec,
        update_tags: bool,
        context: &mut Context,
    ) -> Result<ExitCode> {
        let bar = Bar::files("copying");
        let options =
            SyncOptions { update_tags, check: self.check, dry_run: self.dry_run, progress: &bar };
        let report = sync(from, to, spec, &options)?;
        drop(bar);
        self.tell(&report);
        if self.json {
            context.out.json(&self.copied(&report))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn tell(&self, report: &SyncReport) {
        let word = if self.dry_run { "would be synced" } else { "synced" };
        tracing::info!(
            "{word}:\n\t{} tags ({} skipped)\n\t{} objects ({} skipped)\n\t{} payloads ({} skipped) ({})",
            report.tags,
            report.tags_skipped,
            report.objects,
            report.objects_skipped,
            report.payloads,
            report.payloads_skipped,
            Human(report.bytes)
        );
    }

    const fn copied(&self, report: &SyncReport) -> Copied {
        Copied {
            dry_run: self.dry_run,
            tags: report.tags,
            tags_skipped: report.tags_skipped,
            objects: report.objects,
            objects_skipped: report.objects_skipped,
            payloads: report.payloads,
            payloads_skipped: report.payloads_skipped,
            bytes: report.bytes,
        }
    }
}
