//! `spfs clean`: what no tag leads to is removed.

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use spfs_repo::clean::{CleanOptions, CleanReport, PruneOptions, clean};

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::{self, size::Human};
use crate::{now, repositories};

/// Remove what no tag and no runtime leads to, and versions of tags by age or number
///
/// What is younger than 15 minutes stays: somebody may be about to tag it. An AGE is a number and
/// one of y, w, d, h, m, s, such as '4w'. A version of a tag goes when one of the --prune options
/// says so, unless one of the --keep options keeps it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Remove nothing, only tell what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Remove versions of tags that are older than this
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    prune_if_older_than: Option<SignedDuration>,

    /// Remove versions of tags with a higher number than this; the newest has the number 0
    #[arg(long, value_name = "NUMBER")]
    prune_if_more_than: Option<u64>,

    /// Remove versions of a tag that lead to the same as a newer version
    #[arg(long)]
    prune_repeated: bool,

    /// Of those, keep so many
    #[arg(long, value_name = "NUMBER", requires = "prune_repeated", default_value = "1")]
    prune_repeated_keep: u64,

    /// Keep versions of tags that are younger than this
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    keep_if_newer_than: Option<SignedDuration>,

    /// Keep versions of tags with a lower number than this
    #[arg(long, value_name = "NUMBER")]
    keep_if_less_than: Option<u64>,

    /// Prune the tags of all tag namespaces
    #[arg(long)]
    prune_all_tag_namespaces: bool,

    /// Keep files for links in renders although nothing links to them
    #[arg(long)]
    keep_proxies_with_no_links: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,

    /// Left out: see the error
    #[arg(long, hide = true)]
    remove_durable: Option<String>,

    /// Left out: see the error
    #[arg(long, hide = true)]
    runtime_storage: Option<String>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_CLEAN_MAX_TAG_STREAM_CONCURRENCY", hide_env = true)]
    max_tag_stream_concurrency: Option<u64>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_CLEAN_MAX_REMOVAL_CONCURRENCY", hide_env = true)]
    max_removal_concurrency: Option<u64>,

    /// No effect: as much at once as is good for the disks
    #[arg(long, hide = true, env = "SPFS_CLEAN_MAX_DISCOVER_CONCURRENCY", hide_env = true)]
    max_discover_concurrency: Option<u64>,
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Cleaned {
    dry_run: bool,
    tags: u64,
    tags_removed: Vec<String>,
    objects: u64,
    objects_removed: u64,
    payloads: u64,
    payloads_removed: u64,
    renders: u64,
    renders_removed: u64,
    proxies: u64,
    proxies_removed: u64,
    bytes_removed: u64,
    leftovers_removed: u64,
    failed: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        if self.remove_durable.is_some() || self.runtime_storage.is_some() {
            let name = self.remove_durable.as_deref().unwrap_or("NAME");
            let error = "'clean' removes no runtimes: that was a step of upstream's monitor";
            return Err(CliError::usage(error)
                .hint(format!("'spfs runtime remove --remove-durable {name}' removes one")));
        }
        let repository = repositories::chosen(context, &self.repo)?;
        if !repository.secondary().is_empty() {
            let error = format!("{} is more than one repository", repository.location());
            return Err(CliError::failed(error).hint("clean each of them by itself"));
        }
        let mut options = CleanOptions {
            prune: self.prune(now())?,
            keep_proxies: self.keep_proxies_with_no_links,
            ..CleanOptions::new(now())
        };
        if !(self.yes || self.dry_run) {
            options.dry_run = true;
            self.describe(&clean(&*repository, &options)?, true, context)?;
            context.out.finish()?;
            if !output::confirm("Continue with the above plan?")? {
                return Ok(ExitCode::from(2));
            }
        }
        options.dry_run = self.dry_run;
        let report = clean(&*repository, &options)?;
        self.describe(&report, self.dry_run, context)?;
        if report.failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::FAILURE) }
    }

    fn prune(&self, now: Timestamp) -> Result<PruneOptions> {
        let before = |age: Option<SignedDuration>| {
            let too_long = |_| CliError::usage("an age reaches back before all time");
            age.map(|age| now.checked_sub(age).map_err(too_long)).transpose()
        };
        Ok(PruneOptions {
            if_older_than: before(self.prune_if_older_than)?,
            if_version_more_than: self.prune_if_more_than,
            repeated_keep: self.prune_repeated.then_some(self.prune_repeated_keep),
            keep_if_newer_than: before(self.keep_if_newer_than)?,
            keep_if_version_less_than: self.keep_if_less_than,
            all_namespaces: self.prune_all_tag_namespaces,
        })
    }

    fn describe(&self, report: &CleanReport, planned: bool, context: &mut Context) -> Result<()> {
        if self.json {
            return context.out.json(&Cleaned::of(report, planned));
        }
        for pruned in &report.pruned {
            context.out.line(format_args!("{}~{}", pruned.tag, pruned.version))?;
        }
        let word = if planned { "to remove" } else { "removed" };
        let mut line = |number: u64, what: &str, gone: u64| {
            context.out.line(format_args!("{number:>12} {what} visited [{gone:>6} {word}]"))
        };
        line(report.tags, "tags    ", report.pruned.len() as u64)?;
        line(report.objects, "objects ", report.objects_removed)?;
        line(report.payloads, "payloads", report.payloads_removed)?;
        line(report.renders.renders, "renders ", report.renders.renders_removed)?;
        line(report.renders.proxies, "proxies ", report.renders.proxies_removed)?;
        context.out.line(format_args!("{:>12} {word}", Human(report.bytes_removed).to_string()))?;
        for error in &report.failed {
            tracing::error!("{}", CliError::of(error).one_line());
        }
        Ok(())
    }
}

impl Cleaned {
    fn of(report: &CleanReport, dry_run: bool) -> Self {
        let version =
            |pruned: &spfs_repo::clean::PrunedTag| format!("{}~{}", pruned.tag, pruned.version);
        Self {
            dry_run,
            tags: report.tags,
            tags_removed: report.pruned.iter().map(version).collect(),
            objects: report.objects,
            objects_removed: report.objects_removed,
            payloads: report.payloads,
            payloads_removed: report.payloads_removed,
            renders: report.renders.renders,
            renders_removed: report.renders.renders_removed,
            proxies: report.renders.proxies,
            proxies_removed: report.renders.proxies_removed,
            bytes_removed: report.bytes_removed,
            leftovers_removed: report.leftovers_removed,
            failed: report.failed.iter().map(|error| CliError::of(error).one_line()).collect(),
        }
    }
}

/// A number and a unit, as upstream reads ages: a year has 52 weeks.
fn parse_age(text: &str) -> Result<SignedDuration, String> {
    const FORM: &str = "an age is a number and one of y, w, d, h, m, s";
    let unit = text.chars().last().ok_or(FORM)?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| FORM)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'y' => 52 * 7 * 86_400,
        _ => return Err(FORM.to_owned()),
    };
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds >= 0).ok_or(FORM)?;
    Ok(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_numbers_with_one_letter() {
        assert_eq!(parse_age("90s").unwrap(), SignedDuration::from_secs(90));
        assert_eq!(parse_age("1y").unwrap(), SignedDuration::from_hours(52 * 7 * 24));
        for bad in ["", "4", "w", "-1d", "1.5h", "4 weeks", "9999999999999999y", "4ä"] {
            assert!(parse_age(bad).is_err(), "{bad}");
        }
    }
}
