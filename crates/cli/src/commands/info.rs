//! `spfs info`: what something is.

mod layers_of;
mod object;
mod runtime;

use std::process::ExitCode;

use super::names::Names;
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::Result;
use crate::repositories::{self, Sources};

/// Show what a tag, a digest, a path below /spfs or the active runtime is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tags, digests or paths below /spfs; the active runtime when there is none
    #[arg(value_name = "REF")]
    refs: Vec<String>,

    /// Print only the value of this annotation; may be repeated
    #[arg(long, value_name = "KEY", alias = "annotation", conflicts_with = "get_all")]
    get: Vec<String>,

    /// Print only the annotations
    #[arg(long, alias = "all-annotations")]
    get_all: bool,

    /// Show sizes with units
    #[arg(short = 'H', long)]
    human_readable: bool,

    /// Show the tags of each digest
    #[arg(long)]
    tags: bool,

    /// Shorten digests
    #[arg(long)]
    short: bool,

    /// Show everything below as well
    #[arg(long)]
    follow: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        if self.refs.is_empty() && self.repo.remote.is_none() {
            return if self.asks_for_annotations() {
                self.annotations_of_runtime(context)
            } else {
                runtime::show(&self, context)
            };
        }
        let sources = repositories::sources(context, self.repo.remote.as_deref())?;
        let names = Names::load(sources.first(), self.tags || self.json, self.short)?;
        if self.json {
            let all = self.refs.iter().map(|reference| {
                if reference.starts_with("/spfs") {
                    layers_of::json(reference, &sources, context)
                } else {
                    object::json(&sources.find(reference)?, &sources, &names)
                }
            });
            let all = all.collect::<Result<Vec<_>>>()?;
            context.out.json(&all)?;
            return Ok(ExitCode::SUCCESS);
        }
        for (at, reference) in self.refs.iter().enumerate() {
            if at > 0 && !self.asks_for_annotations() {
                context.out.line("")?;
            }
            self.show(reference, &sources, &names, context)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(
        &self,
        reference: &str,
        sources: &Sources,
        names: &Names,
        context: &mut Context,
    ) -> Result<()> {
        if reference.starts_with("/spfs") {
            return layers_of::show(reference, sources, self, context);
        }
        let digest = sources.find(reference)?;
        if self.asks_for_annotations() {
            return self.print_annotations(&object::annotations(&[digest], sources)?, context);
        }
        object::show(digest, sources, names, self, context)
    }

    const fn asks_for_annotations(&self) -> bool {
        self.get_all || !self.get.is_empty()
    }

    fn annotations_of_runtime(&self, context: &mut Context) -> Result<ExitCode> {
        let sources = repositories::sources(context, None)?;
        let stack = runtime::stack(context)?;
        self.print_annotations(&object::annotations(&stack, &sources)?, context)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints values one a line, or all as a YAML map.
    ///
    /// A key that was given more than once has the value it was given last, in both forms.
    fn print_annotations(&self, found: &[(String, String)], context: &mut Context) -> Result<()> {
        for key in &self.get {
            match found.iter().rev().find(|(known, _)| known == key) {
                Some((_, value)) => context.out.line(value)?,
                None => {
                    tracing::warn!("there is no annotation {key:?}");
                    context.out.line("")?;
                }
            }
        }
        if self.get_all {
            let last: std::collections::BTreeMap<_, _> =
                found.iter().map(|(key, value)| (key, value)).collect();
            for (key, value) in last {
                context.out.line(format_args!("{}: {}", yaml(key), yaml(value)))?;
            }
            context.out.line("")?;
        }
        Ok(())
    }
}

/// A text as YAML reads it back: plain where nothing can be misread, else in double quotes, which
/// YAML reads as JSON does.
fn yaml(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | ' ');
    let letter_first = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let a_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if letter_first && !a_word && !text.ends_with(' ') && text.chars().all(plain) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::yaml;

    #[test]
    fn texts_that_yaml_would_misread_are_quoted() {
        assert_eq!(yaml("Added newfile"), "Added newfile");
        assert_eq!(yaml("true"), "\"true\"");
        assert_eq!(yaml("1.5"), "\"1.5\"");
        assert_eq!(yaml("a: b"), "\"a: b\"");
        assert_eq!(yaml("two\nlines"), "\"two\\nlines\"");
        assert_eq!(yaml(""), "\"\"");
    }
}
