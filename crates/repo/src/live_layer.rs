//! Live layers: files and directories of the host that a runtime shows in `/spfs`.

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use spfs_model::{Name, NameBuf};

/// What the spec file of a live layer says first; upstream's default, too.
const API: &str = "spfs/v0/livelayer";

/// Where runtimes show their files; the destinations of a spec file may begin with it.
const MOUNTPOINT: &str = "/spfs";

/// Each takes a mount; more than any kernel allows a namespace would fail half-way.
const CONTENTS_MAX: usize = 1000;

/// Files and directories of the host, each with its place in `/spfs`.
///
/// In the form of upstream's runtime records, but for the directory in front of the sources, which
/// has been put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveLayer {
    /// Which kind of spec file it came from.
    #[serde(default = "api")]
    pub api: String,
    /// What it shows, in the order of mounting.
    pub contents: Vec<LiveEntry>,
}

/// One file or directory of the host and its place in `/spfs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveEntry {
    /// The file or directory: an absolute path without symbolic links.
    #[serde(alias = "bind")]
    pub src: PathBuf,
    /// Where it is shown.
    pub dest: LivePath,
}

fn api() -> String {
    API.to_owned()
}

/// The content of a spec file of a live layer, before its sources are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct LiveSpec {
    #[serde(default)]
    contents: Vec<LiveEntry>,
}

impl LiveSpec {
    /// Looks for the sources, which must be below the directory of the spec file when all symbolic
    /// links are followed: whoever is handed a live layer is not to show what lies elsewhere.
    pub(crate) fn below(self, directory: &Path) -> Result<LiveLayer, String> {
        if self.contents.len() > CONTENTS_MAX {
            return Err(format!("it has more than {CONTENTS_MAX} entries"));
        }
        let entry = |LiveEntry { src, dest }| {
            let src = source_below(directory, &src)?;
            Ok(LiveEntry { src, dest })
        };
        let contents = self.contents.into_iter().map(entry).collect::<Result<_, String>>()?;
        Ok(LiveLayer { api: api(), contents })
    }
}

fn source_below(directory: &Path, src: &Path) -> Result<PathBuf, String> {
    let shown = src.display();
    if src.is_absolute() {
        return Err(format!("the source {shown} is not relative to the directory of the file"));
    }
    let found = fs::canonicalize(directory.join(src))
        .map_err(|error| format!("cannot find the source {shown}: {error}"))?;
    if !found.starts_with(directory) {
        return Err(format!("the source {shown} leads out of the directory of the file"));
    }
    let metadata = fs::metadata(&found)
        .map_err(|error| format!("cannot look at the source {shown}: {error}"))?;
    if metadata.is_dir() || metadata.is_file() {
        Ok(found)
    } else {
        Err(format!("the source {shown} is neither a file nor a directory"))
    }
}

/// A place in `/spfs` that is not `/spfs` itself, relative to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct LivePath(PathBuf);

impl LivePath {
    /// The path, relative to `/spfs`.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The names on the way to it; there is at least one.
    pub fn names(&self) -> Vec<NameBuf> {
        // Each was looked at when the path was made.
        let name = |part: Component<'_>| NameBuf::new(part.as_os_str().as_encoded_bytes()).ok();
        self.0.components().filter_map(name).collect()
    }
}

impl fmt::Display for LivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MOUNTPOINT}/{}", self.0.display())
    }
}

/// A path that is no place in `/spfs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is no path inside of /spfs", path.display())]
pub struct LivePathError {
    /// The path.
    pub path: PathBuf,
}

impl TryFrom<PathBuf> for LivePath {
    type Error = LivePathError;

    fn try_from(path: PathBuf) -> Result<Self, LivePathError> {
        let refused = || LivePathError { path: path.clone() };
        // Any other path is one below /spfs as well, however it begins.
        let inside = path.strip_prefix(MOUNTPOINT).or_else(|_| path.strip_prefix("/"));
        let inside = inside.unwrap_or(&path);
        let mut plain = PathBuf::new();
        for component in inside.components() {
            match component {
                Component::Normal(name) if is_name(name.as_encoded_bytes()) => plain.push(name),
                Component::CurDir => {}
                _ => return Err(refused()),
            }
        }
        if plain.as_os_str().is_empty() { Err(refused()) } else { Ok(Self(plain)) }
    }
}

fn is_name(bytes: &[u8]) -> bool {
    Name::new(bytes).is_ok_and(|name| name.as_str().is_some())
}

impl From<LivePath> for PathBuf {
    fn from(path: LivePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Option<String> {
        LivePath::try_from(PathBuf::from(path)).ok().map(|path| path.to_string())
    }

    #[test]
    fn places_are_below_spfs() {
        assert_eq!(place("/spfs/a/b").as_deref(), Some("/spfs/a/b"));
        assert_eq!(place("a//b/./c/").as_deref(), Some("/spfs/a/b/c"));
        assert_eq!(place("/docs").as_deref(), Some("/spfs/docs"));
        for outside in ["", ".", "/", "/spfs", "/spfs/", "../a", "a/../b", "/spfs/../etc"] {
            assert_eq!(place(outside), None, "{outside}");
        }
    }

    #[test]
    fn records_are_in_upstreams_form() {
        let json = r#"{"api":"spfs/v0/livelayer","contents":[{"src":"/host/docs","dest":"docs"}]}"#;
        let layer: LiveLayer = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&layer).unwrap(), json);
        assert_eq!(layer.contents[0].dest.names(), [NameBuf::new(*b"docs").unwrap()]);
    }
}
