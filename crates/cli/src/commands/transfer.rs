//! What `spfs push` and `spfs pull` share: copying between two repositories.

use std::process::ExitCode;

use spfs_model::EnvSpec;
use spfs_repo::AnyRepository;
use spfs_repo::sync::{SyncOptions, SyncReport, sync};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::progress::Bar;
use crate::output::size::Human;

/// Where these flags stand in the help.
pub(super) const HEADING: &str = "Copying";

/// How things are copied; common to all that copies between repositories.
#[derive(Debug, clap::Args)]
pub(super) struct CopyArgs {
    /// Copy what is missing anywhere below, rather than relying on an object that is there to be
    /// complete
    #[arg(long, help_heading = HEADING)]
    check: bool,

    /// The same as --check: what is there and undamaged need not be copied again
    #[arg(long, hide = true)]
    resync: bool,

    /// How to show progress on a terminal: 'bars' or 'none'
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "bars",
        overrides_with = "progress"
    )]
    #[arg(help_heading = HEADING, hide_possible_values = true)]
    progress: ShowProgress,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_SYNC_MAX_CONCURRENT_MANIFESTS", hide_env = true)]
    max_concurrent_manifests: Option<u64>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_SYNC_MAX_CONCURRENT_PAYLOADS", hide_env = true)]
    max_concurrent_payloads: Option<u64>,
}

/// Whether progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ShowProgress {
    /// Where stderr is a terminal
    Bars,
    /// Nowhere
    None,
}

impl CopyArgs {
    /// Whether nothing that is there is relied on to be complete.
    pub(super) const fn looks_at_everything(&self) -> bool {
        self.check || self.resync
    }

    /// A bar, unless there shall be none.
    pub(super) fn bar(&self, doing: &'static str) -> Bar {
        match self.progress {
            ShowProgress::Bars => Bar::files(doing),
            ShowProgress::None => Bar::hidden(),
        }
    }
}

/// How `push` and `pull` copy.
#[derive(Debug, clap::Args)]
pub(super) struct TransferArgs {
    #[command(flatten)]
    copy: CopyArgs,

    /// Copy nothing, only tell what would be copied
    #[arg(long, help_heading = HEADING)]
    dry_run: bool,

    /// Print what was copied as JSON
    #[arg(long, help_heading = HEADING)]
    json: bool,
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
        let bar = self.copy.bar("copying");
        let check = self.copy.looks_at_everything();
        let options = SyncOptions {
            update_tags,
            check,
            dry_run: self.dry_run,
            progress: &bar,
            ..SyncOptions::default()
        };
        let report = sync(from, to, spec, &options)?;
        drop(bar);
        if !self.dry_run {
            to.save()?;
        }
        tell(if self.dry_run { "would be synced" } else { "synced" }, &report);
        if self.json {
            context.out.json(&self.copied(&report))?;
        }
        Ok(ExitCode::SUCCESS)
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

/// Tells what was copied, as upstream does.
pub(super) fn tell(word: &str, report: &SyncReport) {
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
