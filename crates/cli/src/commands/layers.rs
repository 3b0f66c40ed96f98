//! `spfs layers`: all layers of a repository.

use std::process::ExitCode;

use spfs_model::ObjectKind;

use super::objects::ListArgs;
use crate::context::Context;
use crate::error::Result;

/// List the layers that are stored
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    list: ListArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        self.list.run(ObjectKind::Layer, context)
    }
}
