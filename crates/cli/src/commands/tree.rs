//! A stack as one tree, for the commands that look into it without running it.

use spfs_model::{Digest, MergedTree, Name, NodeKind, Position, mode};

use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories::{self, Sources};

/// What an environment shows, and where its payloads are.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) tree: MergedTree,
    pub(super) sources: Sources,
}

impl Environment {
    /// Puts the layers of a reference together.
    pub(super) fn load(context: &Context, repo: &RepoArgs, reference: &str) -> Result<Self> {
        let sources = repositories::sources(context, repo.remote.as_deref())?;
        let stack = sources.resolve(reference)?;
        Self::of(sources, &stack)
    }

    /// Puts layers together, bottom first.
    pub(super) fn of(sources: Sources, stack: &[Digest]) -> Result<Self> {
        let manifests = sources.load(stack)?;
        let tree = spfs_model::merge(&manifests.iter().collect::<Vec<_>>());
        Ok(Self { tree, sources })
    }

    /// The node at a path, which may be given with or without `/spfs` in front.
    pub(super) fn find(&self, path: &str) -> Result<Position> {
        let mut at = Position::ROOT;
        for part in components(path) {
            let missing = || CliError::failed(format!("there is no {path} in the environment"));
            let name = Name::new(part.as_bytes()).map_err(|_| missing())?;
            at = self.tree.child(at, name).ok_or_else(missing)?;
        }
        Ok(at)
    }
}

/// The names of a path inside an environment.
pub(super) fn components(path: &str) -> impl Iterator<Item = &str> {
    let inside = match path.strip_prefix("/spfs") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    };
    inside.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// The path of a node as users see it.
pub(super) fn shown_path(path: &[u8]) -> String {
    format!("/spfs/{}", String::from_utf8_lossy(path))
}

/// The word for a kind of node.
pub(super) const fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory => "directory",
        NodeKind::File => "file",
        NodeKind::Symlink => "symlink",
    }
}

/// Type and permissions as `ls -l` writes them.
pub(super) fn mode_text(mode: u32) -> String {
    let kind = match mode & mode::TYPE {
        mode::DIRECTORY => 'd',
        mode::SYMLINK => 'l',
        mode::MASK => 'c',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_does() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o040_755), "drwxr-xr-x");
        assert_eq!(mode_text(0o120_777), "lrwxrwxrwx");
        assert_eq!(mode_text(0o104_755), "-rwsr-xr-x");
        assert_eq!(mode_text(0o041_777), "drwxrwxrwt");
        assert_eq!(mode_text(0o102_640), "-rw-r-S---");
    }

    #[test]
    fn a_path_may_begin_at_spfs_or_at_the_root_of_the_environment() {
        let parts = |path| components(path).collect::<Vec<_>>();
        for path in ["a/b", "/a/b", "/spfs/a/b", "./a//b/"] {
            assert_eq!(parts(path), ["a", "b"], "{path}");
        }
        assert_eq!(parts("/spfsx"), ["spfsx"]);
        assert!(parts("/spfs").is_empty() && parts("/").is_empty());
    }
}
