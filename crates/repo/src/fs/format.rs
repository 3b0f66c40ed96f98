//! The VERSION file.

use std::fs;
use std::path::Path;

use spfs_sys::publish::{self, Durability};

use super::{FILE_MODE, is_absent};
use crate::error::Context;
use crate::{RepoError, Result};

/// The release of upstream whose format is written.
const VERSION: &str = "0.44.0";

/// Refuses repositories of another major version. One without VERSION counts as current.
pub(super) fn check_version(root: &Path) -> Result<()> {
    let path = root.join("VERSION");
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(RepoError::io("read", &path, error)),
    };
    if text.is_empty() {
        return Ok(());
    }
    let Some(major) = major(&text) else {
        return Err(RepoError::BadVersion { path, text });
    };
    let age = match major.cmp(&major_known()) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => "new",
        std::cmp::Ordering::Less => "old",
    };
    Err(RepoError::Version { root: root.to_owned(), found: text, age, known: VERSION })
}

/// Says which format a new repository has.
pub(super) fn write_version(root: &Path) -> Result<()> {
    let path = root.join("VERSION");
    publish::write(&path, FILE_MODE, VERSION.as_bytes(), Durability::Now).at("write", &path)
}

/// The first number of `major.minor.patch`.
fn major(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u64>().ok()?;
    parts.next().filter(|patch| patch.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(major)
}

fn major_known() -> u64 {
    major(VERSION).unwrap_or_default()
}
