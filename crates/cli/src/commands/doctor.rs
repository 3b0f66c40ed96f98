//! `spfs doctor`: what may keep runtimes from working here.

use std::process::ExitCode;

use crate::context::Context;
use crate::doctor::{self, Finding, State};
use crate::error::Result;

/// Look for what may keep runtimes from working here, and tell the fix
///
/// Nothing is changed. The exit status is 1 when something is broken; a warning is something that
/// works, but could be better or waits to be cleared up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let findings = doctor::findings(&doctor::gather(context));
        if self.json {
            context.out.json(&findings)?;
        } else {
            for finding in &findings {
                tell(finding, context)?;
            }
        }
        let is_broken = findings.iter().any(|finding| finding.state == State::Broken);
        Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn tell(finding: &Finding, context: &mut Context) -> Result<()> {
    let Finding { check, state, found, fix } = finding;
    context.out.line(format_args!("{:8} {check}: {found}", state.word()))?;
    match fix {
        Some(fix) => context.out.line(format_args!("{:8} fix: {fix}", "")),
        None => Ok(()),
    }
}
