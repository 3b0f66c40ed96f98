//! How tags are named: `org/name~version`.

use std::fmt;
use std::str::FromStr;

/// The name of a tag stream: `org/name`, or `name` alone. An org may have several components.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName {
    org: Option<Box<str>>,
    name: Box<str>,
}

impl TagName {
    /// Everything before the last slash.
    pub fn org(&self) -> Option<&str> {
        self.org.as_deref()
    }

    /// What follows the last slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The components of the path at which the stream is kept, the name being the last one.
    ///
    /// None of them is empty, `.` or `..`.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        let org = self.org().unwrap_or_default().split('/');
        org.filter(|part| !matches!(*part, "" | ".")).chain([self.name()])
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.org {
            Some(org) => f.pad(&format!("{org}/{}", self.name)),
            None => f.pad(&self.name),
        }
    }
}

impl FromStr for TagName {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        let refuse = |reason| ParseTagError { text: text.to_owned(), reason };
        let (org, name) = match text.rsplit_once('/') {
            Some((org, name)) => (org, name),
            None => ("", text),
        };
        if name.is_empty() {
            return Err(refuse(ParseTagErrorReason::NoName));
        }
        if let Some(found) = text.chars().find(|&c| !is_allowed(c)) {
            return Err(refuse(ParseTagErrorReason::Character { found }));
        }
        if text.split('/').any(|part| part == "..") || name == "." {
            return Err(refuse(ParseTagErrorReason::Dots));
        }
        Ok(Self { org: (!org.is_empty()).then(|| org.into()), name: name.into() })
    }
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

/// One version of a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagSpec {
    tag: TagName,
    version: u64,
}

impl TagSpec {
    /// That version of the tag; 0 is the newest.
    pub const fn new(tag: TagName, version: u64) -> Self {
        Self { tag, version }
    }

    /// The tag.
    pub const fn tag(&self) -> &TagName {
        &self.tag
    }

    /// Everything of the tag's name before the last slash.
    pub fn org(&self) -> Option<&str> {
        self.tag.org()
    }

    /// What follows the last slash of the tag's name.
    pub fn name(&self) -> &str {
        self.tag.name()
    }

    /// How many versions back from the newest, which is 0.
    pub const fn version(&self) -> u64 {
        self.version
    }
}

impl From<TagName> for TagSpec {
    fn from(tag: TagName) -> Self {
        Self::new(tag, 0)
    }
}

impl fmt::Display for TagSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            0 => self.tag.fmt(f),
            version => f.pad(&format!("{}~{version}", self.tag)),
        }
    }
}

impl FromStr for TagSpec {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        let refuse = |reason| ParseTagError { text: text.to_owned(), reason };
        let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
        let (tag, version) = match text[name_start..].find('~') {
            None => (text, 0),
            Some(tilde) => {
                let (tag, version) = (&text[..name_start + tilde], &text[name_start + tilde + 1..]);
                // `parse` would take a sign as well
                let digits = version.bytes().all(|byte| byte.is_ascii_digit());
                let version = version.parse().ok().filter(|_| digits);
                (tag, version.ok_or_else(|| refuse(ParseTagErrorReason::Version))?)
            }
        };
        let tag = tag.parse().map_err(|error: ParseTagError| refuse(error.reason))?;
        Ok(Self { tag, version })
    }
}

/// A text that names no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tag: {reason}")]
pub struct ParseTagError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: ParseTagErrorReason,
}

/// What is wrong with the name of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseTagErrorReason {
    /// Nothing follows the last slash.
    #[error("its name is empty")]
    NoName,
    /// A character that tags cannot have.
    #[error("{found:?} is not allowed, only ASCII letters and digits, '-', '_', '.' and '/'")]
    Character {
        /// The first of them.
        found: char,
    },
    /// A component that stands for a directory.
    #[error("it cannot contain '..', nor be named '.'")]
    Dots,
    /// What follows the tilde is no number.
    #[error("a version is a number after '~', such as '~1'")]
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Option<String>, String, u64) {
        let spec: TagSpec = text.parse().unwrap();
        (spec.org().map(str::to_owned), spec.name().to_owned(), spec.version())
    }

    #[test]
    fn parts_are_told_apart() {
        let some = |org: &str| Some(org.to_owned());
        assert_eq!(parts("name"), (None, "name".into(), 0));
        assert_eq!(parts("org/name"), (some("org"), "name".into(), 0));
        assert_eq!(parts("a/b/name~12"), (some("a/b"), "name".into(), 12));
        assert_eq!(parts("name~18446744073709551615"), (None, "name".into(), u64::MAX));
        assert_eq!(
            parts("deep/er/org.with-chars_1/name.with-dots_2"),
            (some("deep/er/org.with-chars_1"), "name.with-dots_2".into(), 0)
        );
        assert_eq!(parts("/name"), (None, "name".into(), 0));
        assert_eq!(parts(".tag"), (None, ".tag".into(), 0));
    }

    #[test]
    fn oddities_that_upstream_accepts_lead_to_the_same_path() {
        let path = |text: &str| {
            let tag: TagName = text.parse().unwrap();
            tag.components().map(str::to_owned).collect::<Vec<_>>().join("/")
        };
        assert_eq!(path("a//b"), "a/b");
        assert_eq!(path("./a"), "a");
        assert_eq!(path("/a/b"), "a/b");
        assert_eq!(path("a/./b/c"), "a/b/c");
    }

    #[test]
    fn printing_leaves_out_the_newest_version_only() {
        for text in ["name", "org/name", "a/b/name~12", "a//b"] {
            assert_eq!(text.parse::<TagSpec>().unwrap().to_string(), text);
        }
        assert_eq!("org/name~0".parse::<TagSpec>().unwrap().to_string(), "org/name");
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        use ParseTagErrorReason::*;
        let refused = [
            ("", NoName),
            ("org/", NoName),
            ("~1", NoName),
            ("a b", Character { found: ' ' }),
            ("a+b", Character { found: '+' }),
            ("naïve", Character { found: 'ï' }),
            ("#ns/a", Character { found: '#' }),
            ("org~1/name", Character { found: '~' }),
            ("../a", Dots),
            ("a/../b", Dots),
            ("a/..", Dots),
            ("a/.", Dots),
            ("name~", Version),
            ("name~x", Version),
            ("name~+1", Version),
            ("name~-1", Version),
            ("name~1~2", Version),
            ("name~18446744073709551616", Version),
        ];
        for (text, reason) in refused {
            assert_eq!(text.parse::<TagSpec>().unwrap_err().reason, reason, "{text}");
        }
    }
}
