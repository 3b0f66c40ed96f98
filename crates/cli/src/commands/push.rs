//! `spfs push`: to another repository.

use std::process::ExitCode;

use super::transfer::{TransferArgs, environment};
use crate::context::Context;
use crate::error::Result;
use crate::repositories;

/// Copy tags and what they lead to into another repository
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to copy: tags and digests
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,

    /// Where from, instead of the local repository
    #[arg(long, value_name = "REPOSITORY")]
    from: Option<String>,

    /// Where to: a configured name, an address, or a path
    #[arg(long, visible_alias = "remote", short_alias = 'r', value_name = "REPOSITORY")]
    #[arg(default_value = "origin")]
    to: String,

    /// No effect: tags that are there already are always updated
    #[arg(long, hide = true, alias = "pull")]
    sync: bool,

    #[command(flatten)]
    transfer: TransferArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let spec = environment(&self.references)?;
        let from = repositories::named_or_local(context, self.from.as_deref())?;
        let to = repositories::target(context, Some(&self.to))?;
        self.transfer.copy(&*from, &*to, &spec, true, context)
    }
}
