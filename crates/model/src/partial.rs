//! The first characters of a digest, as people type them.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// Characters of a digest's text that carry bits; the rest is padding.
const LEN_MAX: usize = 52;

/// The first characters of a digest's text form: from one to all 52 that are no padding.
///
/// Upstream decodes such a text, which some lengths do not allow; here every length is good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialDigest(Box<str>);

impl PartialDigest {
    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the digest starts so.
    pub fn matches(&self, digest: &Digest) -> bool {
        digest.to_string().starts_with(&*self.0)
    }

    /// Whether upstream takes a text of this length for a partial digest and not for a tag.
    pub(crate) const fn is_upstreams(&self) -> bool {
        !matches!(self.0.len() % 8, 1 | 3 | 6)
    }
}

impl fmt::Display for PartialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Digest> for PartialDigest {
    fn from(digest: Digest) -> Self {
        Self(digest.to_string()[..LEN_MAX].into())
    }
}

impl FromStr for PartialDigest {
    type Err = ParsePartialDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = matches!(text.len(), 1..=LEN_MAX)
            && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
        if good { Ok(Self(text.into())) } else { Err(Self::Err { text: text.to_owned() }) }
    }
}

/// A text with which no digest starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the start of a digest: it takes 1 to 52 characters of A-Z and 2-7")]
pub struct ParsePartialDigestError {
    /// The text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_the_text_matches_its_digest_and_no_other() {
        let digest = Digest::EMPTY;
        let text = digest.to_string();
        for len in 1..=LEN_MAX {
            let partial: PartialDigest = text[..len].parse().unwrap();
            assert!(partial.matches(&digest), "{partial}");
            assert!(!partial.matches(&Digest::NULL), "{partial}");
        }
        assert!(PartialDigest::from(digest).matches(&digest));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "4oym", "4OYM=", "0", "1", "8", "A/B", "é", &"A".repeat(53)] {
            assert!(text.parse::<PartialDigest>().is_err(), "{text}");
        }
    }
}
