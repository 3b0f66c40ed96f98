//! Annotations as `info` and `runtime info` print them.

use std::collections::HashSet;

use spfs_model::{Digest, Object, Platform};

use crate::context::Context;
use crate::error::Result;
use crate::repositories::Sources;

/// Which annotations are printed instead of everything else.
#[derive(Debug, clap::Args)]
pub(super) struct AnnotationArgs {
    /// Print only the value of this annotation; may be repeated
    #[arg(long, value_name = "KEY", alias = "annotation", conflicts_with = "get_all")]
    get: Vec<String>,

    /// Print only the annotations
    #[arg(long, alias = "all-annotations")]
    get_all: bool,
}

impl AnnotationArgs {
    /// Whether annotations are asked for.
    pub(super) const fn are_asked_for(&self) -> bool {
        self.get_all || !self.get.is_empty()
    }

    /// Prints values one a line, or all as a YAML map.
    ///
    /// A key that was given more than once has the value it was given last, in both forms.
    pub(super) fn print(
        &self,
        stack: &[Digest],
        sources: &Sources,
        context: &mut Context,
    ) -> Result<()> {
        let found = annotations(stack, sources)?;
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

/// The annotations of these layers and of everything in these platforms, bottom first. What occurs
/// more than once counts where it lies topmost.
fn annotations(stack: &[Digest], sources: &Sources) -> Result<Vec<(String, String)>> {
    let mut top_first = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = stack.to_vec();
    while let Some(digest) = pending.pop() {
        if !seen.insert(digest) {
            continue;
        }
        match sources.object(&digest)? {
            Object::Layer(layer) => top_first.push(sources.annotations(&layer)?),
            Object::Platform(Platform { stack }) => pending.extend(stack),
            Object::Manifest(_) | Object::Blob { .. } => {}
        }
    }
    Ok(top_first.into_iter().rev().flatten().collect())
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
