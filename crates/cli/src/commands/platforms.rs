//! `spfs platforms`: all platforms of a repository.

use std::process::ExitCode;

use spfs_model::ObjectKind;

use super::objects::ListArgs;
use crate::context::Context;
use crate::error::Result;

/// List the platforms that are stored
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    list: ListArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        self.list.run(ObjectKind::Platform, context)
    }
}
