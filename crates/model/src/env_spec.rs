//! What an environment is made of: `tag+DIGEST+/path/to/spec.spfs.yaml`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Digest, ParseTagError, PartialDigest, TagSpec};

/// One item of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EnvItem {
    /// An object by its digest.
    Digest(Digest),
    /// An object by the start of its digest.
    ///
    /// The text may be the name of a tag as well; upstream never tries that for an item.
    PartialDigest(PartialDigest),
    /// A spec file by its absolute path.
    SpecFile(PathBuf),
    /// A tag.
    Tag(TagSpec),
}

impl fmt::Display for EnvItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::PartialDigest(partial) => partial.fmt(f),
            Self::SpecFile(path) => path.display().fmt(f),
            Self::Tag(tag) => match tag.to_string().parse() {
                Ok(Self::Tag(_)) => tag.fmt(f),
                // Without its number it would be read as something else, such as a digest.
                _ => write!(f, "{tag}~0"),
            },
        }
    }
}

impl FromStr for EnvItem {
    type Err = ParseEnvError;

    /// Tries what an item can be in upstream's order. Texts of a length that upstream does not
    /// take for a partial digest are tags here too: `USD` is one.
    fn from_str(text: &str) -> Result<Self, ParseEnvError> {
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        match text.parse::<PartialDigest>() {
            Ok(partial) if partial.is_upstreams() => return Ok(Self::PartialDigest(partial)),
            _ => {}
        }
        if Path::new(text).is_absolute() {
            return Ok(Self::SpecFile(text.into()));
        }
        if text.is_empty() {
            return Err(ParseEnvError::EmptyItem);
        }
        text.parse().map(Self::Tag).map_err(|source| ParseEnvError::Item { source })
    }
}

/// The text of the empty environment.
const EMPTY: &str = "-";

/// The items of an environment, bottom first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EnvSpec(pub Vec<EnvItem>);

impl EnvSpec {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for EnvSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str(EMPTY);
        };
        match first.to_string().as_str() {
            // A tag of that name, which alone would mean the empty environment.
            EMPTY if rest.is_empty() => write!(f, "{EMPTY}~0")?,
            text => f.write_str(text)?,
        }
        rest.iter().try_for_each(|item| write!(f, "+{item}"))
    }
}

impl FromStr for EnvSpec {
    type Err = ParseEnvError;

    fn from_str(text: &str) -> Result<Self, ParseEnvError> {
        match text {
            "" | EMPTY => Ok(Self::default()),
            _ => text.split('+').map(str::parse).collect::<Result<_, _>>().map(Self),
        }
    }
}

/// A text that describes no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEnvError {
    /// Nothing stands before, between or after `+`.
    #[error("an item of an environment is empty: items are separated by single '+'")]
    EmptyItem,
    /// An item is none of what it could be.
    #[error("an item of an environment is a digest, an absolute path or a tag")]
    Item {
        /// Why it is no tag.
        source: ParseTagError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<EnvItem> {
        text.parse::<EnvSpec>().unwrap().0
    }

    #[test]
    fn nothing_and_a_dash_are_the_empty_environment() {
        assert_eq!(items(""), []);
        assert_eq!(items("-"), []);
        assert_eq!(EnvSpec::default().to_string(), "-");
    }

    #[test]
    fn a_tag_that_is_called_like_the_empty_environment_is_printed_as_a_tag() {
        let spec: EnvSpec = "-~0".parse().unwrap();
        assert_eq!(spec.to_string(), "-~0");
        assert_eq!(items("-+a").len(), 2);
        assert_eq!("-+a".parse::<EnvSpec>().unwrap().to_string(), "-+a");
        // or like the start of a digest
        assert_eq!("OOYM~0+a".parse::<EnvSpec>().unwrap().to_string(), "OOYM~0+a");
    }

    #[test]
    fn items_stay_in_order_and_are_told_apart() {
        let text = format!("a/b~2+{}+4OYMIQUY+/x/env.spfs.yaml+USD", Digest::EMPTY);
        assert_eq!(
            items(&text),
            [
                EnvItem::Tag("a/b~2".parse().unwrap()),
                EnvItem::Digest(Digest::EMPTY),
                EnvItem::PartialDigest("4OYMIQUY".parse().unwrap()),
                EnvItem::SpecFile("/x/env.spfs.yaml".into()),
                EnvItem::Tag("USD".parse().unwrap()),
            ]
        );
        assert_eq!(text.parse::<EnvSpec>().unwrap().to_string(), text);
    }

    #[test]
    fn empty_items_and_white_space_are_refused() {
        for text in ["+", "a+", "+a", "a++b"] {
            assert_eq!(text.parse::<EnvSpec>(), Err(ParseEnvError::EmptyItem), "{text}");
        }
        for text in ["a + b", " ", "a b"] {
            assert!(matches!(text.parse::<EnvSpec>(), Err(ParseEnvError::Item { .. })), "{text}");
        }
    }
}
