//! `spfs edit`: whether the active runtime can be changed.

use std::process::ExitCode;

use super::active;
use crate::context::Context;
use crate::error::Result;

/// Make the active runtime editable, in place
///
/// Nothing is mounted again: open files stay open and changes stay. With --off, files that are
/// open for writing are in the way and named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End edit mode; changes stay
    #[arg(long)]
    off: bool,

    /// Keep the runtime and its changes when the last process has ended
    #[arg(short, long, env = "SPFS_KEEP_RUNTIME", hide_env_values = true)]
    #[arg(value_parser = crate::args::switch)]
    keep_runtime: bool,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let mut active = active::connect(context, "'spfs edit'")?;
        let mode = active.client.set_editable(!self.off, self.keep_runtime)?;
        if mode.changed {
            tracing::info!("edit mode {}", if self.off { "disabled" } else { "enabled" });
        }
        if self.keep_runtime && mode.durable {
            tracing::info!(name = %active.name, "the runtime and its changes will be kept");
        }
        Ok(ExitCode::SUCCESS)
    }
}
