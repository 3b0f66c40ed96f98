//! `spfs check`: is everything there, and as it should be?

use std::process::ExitCode;

use spfs_repo::check::{CheckOptions, CheckReport, Fault, Problem, Subject, check, check_objects};

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
use crate::output::progress::Bar;
use crate::repositories;

/// How many of the things that need something damaged are named.
const DEPENDENTS_SHOWN: usize = 3;

/// Check that everything in a repository is there and undamaged
///
/// Every object is read and compared with its digest. The check goes on after the first problem
/// and names what depends on what is damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what these lead to; everything when there is none
    #[arg(value_name = "REF")]
    references: Vec<String>,

    /// Compare the content of every payload with its digest, too
    #[arg(long)]
    payloads: bool,

    /// Fetch what is missing or damaged from this repository
    #[arg(long, value_name = "REPOSITORY", num_args = 0..=1, default_missing_value = "origin")]
    pull: Option<String>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true)]
    max_tag_stream_concurrency: Option<u64>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true)]
    max_object_concurrency: Option<u64>,
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Checked {
    sound: bool,
    tags: u64,
    objects: u64,
    payloads: u64,
    bytes: u64,
    problems: Vec<Line>,
}

/// One problem of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    subject: String,
    fault: String,
    repaired: bool,
    needed_by: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let repository = repositories::chosen(context, &self.repo)?;
        let source = match &self.pull {
            Some(name) => Some(repositories::remote(context, name)?),
            None => None,
        };
        let bar = Bar::files("checking");
        let options = CheckOptions {
            payloads: self.payloads,
            repair_from: source.as_deref(),
            progress: &bar,
        };
        let report = if self.references.is_empty() {
            check(&*repository, &options)?
        } else {
            let mut roots = Vec::new();
            for reference in &self.references {
                roots.push(spfs_repo::resolve_reference(&[&*repository], reference)?);
            }
            check_objects(&*repository, &roots, &options)?
        };
        drop(bar);
        if self.json {
            context.out.json(&Checked::of(&report))?;
        } else {
            describe(&report, context)?;
        }
        if report.is_sound() {
            return Ok(ExitCode::SUCCESS);
        }
        if source.is_none() {
            tracing::info!("running with '--pull' may be able to resolve these issues");
        }
        Ok(ExitCode::FAILURE)
    }
}

fn describe(report: &CheckReport, context: &mut Context) -> Result<()> {
    let out = &mut context.out;
    for problem in &report.problems {
        out.line(problem)?;
        let needed = &problem.needed_by;
        for dependent in needed.iter().take(DEPENDENTS_SHOWN) {
            out.line(format_args!("  needed by {dependent}"))?;
        }
        if needed.len() > DEPENDENTS_SHOWN {
            out.line(format_args!("  and by {} more", needed.len() - DEPENDENTS_SHOWN))?;
        }
    }
    let count = |fits: &dyn Fn(&Subject) -> bool| {
        let mut counts = [0; 3];
        for Problem { subject, fault, repaired, .. } in &report.problems {
            if fits(subject) {
                counts[usize::from(*fault != Fault::Missing)] += 1;
                counts[2] += usize::from(*repaired);
            }
        }
        let [missing, damaged, repaired] = counts;
        format!("({missing} missing, {damaged} damaged, {repaired} repaired)")
    };
    let tags = count(&|subject| matches!(subject, Subject::Tag { .. }));
    let objects = count(&|subject| matches!(subject, Subject::Object(_)));
    let payloads = count(&|subject| matches!(subject, Subject::Payload(_)));
    out.line(format_args!("{:>12} tags visited     {tags}", report.tags))?;
    out.line(format_args!("{:>12} objects visited  {objects}", report.objects))?;
    out.line(format_args!("{:>12} payloads visited {payloads}", report.payloads))?;
    out.line(format_args!("{:>12} bytes total payload footprint", report.bytes))?;
    if report.problems.is_empty() {
        out.line("No issues found")?;
    }
    Ok(())
}

impl Checked {
    fn of(report: &CheckReport) -> Self {
        let line = |problem: &Problem| Line {
            subject: problem.subject.to_string(),
            fault: problem.fault.to_string(),
            repaired: problem.repaired,
            needed_by: problem.needed_by.iter().map(ToString::to_string).collect(),
        };
        Self {
            sound: report.is_sound(),
            tags: report.tags,
            objects: report.objects,
            payloads: report.payloads,
            bytes: report.bytes,
            problems: report.problems.iter().map(line).collect(),
        }
    }
}
