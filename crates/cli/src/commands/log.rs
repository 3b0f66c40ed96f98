//! `spfs log`: the versions of a tag.

use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use spfs_model::TagSpec;

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
use crate::repositories;

/// Show the versions of a tag, newest first
///
/// Each line is the beginning of the digest, the tag, who set it, when, and the message that was
/// given with 'spfs commit -m'.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tag
    tag: String,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

/// One version of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    tag: String,
    target: String,
    user: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let sources = repositories::sources(context, self.repo.remote.as_deref())?;
        let spec: TagSpec = self.tag.parse()?;
        let tags = sources.first().tags();
        // An unknown tag, or a version that is not there, is an error.
        tags.resolve(&spec)?;
        let stream = tags.stream(spec.tag())?;
        let zone = TimeZone::system();
        let mut lines = Vec::new();
        for (version, record) in (0..).zip(stream.tags().iter().rev().cloned()).skip(skip(&spec)) {
            let tag = TagSpec::new(spec.tag().clone(), version).to_string();
            // What is missing or damaged has no message, and is listed all the same.
            let message = sources.annotation(&record.target, spfs_repo::MESSAGE).unwrap_or(None);
            let time = record.time.to_zoned(zone.clone());
            if self.json {
                lines.push(Line {
                    tag,
                    target: record.target.to_string(),
                    user: record.user,
                    time: record.time.to_string(),
                    message,
                });
                continue;
            }
            let digest = &record.target.to_string()[..10];
            let message = message.and_then(|text| Some(format!(" {}", text.lines().next()?)));
            context.out.line(format_args!(
                "{digest} {tag} {} {}{}",
                record.user,
                time.strftime(format_for(record.time)),
                message.unwrap_or_default()
            ))?;
        }
        if self.json {
            context.out.json(&lines)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The form of a time as upstream has it: fractions of seconds in groups of three digits.
fn format_for(time: Timestamp) -> &'static str {
    match time.subsec_nanosecond().unsigned_abs() {
        0 => "%Y-%m-%d %H:%M:%S %:z",
        nanos if nanos.is_multiple_of(1_000_000) => "%Y-%m-%d %H:%M:%S%.3f %:z",
        nanos if nanos.is_multiple_of(1_000) => "%Y-%m-%d %H:%M:%S%.6f %:z",
        _ => "%Y-%m-%d %H:%M:%S%.9f %:z",
    }
}

/// How many of the newest versions are not asked for.
fn skip(spec: &TagSpec) -> usize {
    usize::try_from(spec.version()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_seconds_have_three_six_or_nine_digits_or_none() {
        let shown = |nanos| {
            let time = Timestamp::new(1_700_000_000, nanos).unwrap();
            let shown = time.to_zoned(TimeZone::UTC).strftime(format_for(time)).to_string();
            shown.strip_prefix("2023-11-14 22:13:20").unwrap().to_owned()
        };
        assert_eq!(shown(0), " +00:00");
        assert_eq!(shown(120_000_000), ".120 +00:00");
        assert_eq!(shown(890_780_000), ".890780 +00:00");
        assert_eq!(shown(1), ".000000001 +00:00");
    }
}
