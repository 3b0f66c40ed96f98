//! Names of runtimes.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The name of a runtime: one component of a tag name, and the name of its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuntimeName(String);

/// Leaves room for the suffixes that tag streams and their locks add to a file name.
const BYTES_MAX: usize = 200;

impl RuntimeName {
    /// Makes a name that no other runtime has.
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that cannot name a runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid runtime name {name:?}: {reason}")]
pub struct RuntimeNameError {
    /// The text.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for RuntimeName {
    type Err = RuntimeNameError;

    fn from_str(name: &str) -> Result<Self, RuntimeNameError> {
        let refuse = |reason| Err(RuntimeNameError { name: name.to_owned(), reason });
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > BYTES_MAX {
            return refuse("it is longer than 200 bytes");
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return refuse("only letters, digits, '-', '_' and '.' are allowed");
        }
        if name.starts_with('-') {
            return refuse("it begins with '-', like an option");
        }
        if name.bytes().all(|b| b == b'.') {
            return refuse("it consists of dots");
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsRef<std::path::Path> for RuntimeName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_name_is_a_valid_name() {
        let name = RuntimeName::random();
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert_ne!(name, RuntimeName::random());
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for bad in ["", ".", "..", "...", "a/b", "../x", "a\0b", "a b", "ä", &"x".repeat(201)] {
            let error = bad.parse::<RuntimeName>().unwrap_err();
            assert_eq!(error.name, bad);
        }
    }

    #[test]
    fn names_of_tag_components_are_accepted() {
        for good in ["a", "my-runtime_1.0", ".hidden", &"x".repeat(200)] {
            assert_eq!(good.parse::<RuntimeName>().unwrap().as_str(), good);
        }
    }
}
