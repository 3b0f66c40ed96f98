//! A repository in a temporary directory.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use spfs_model::{Digest, TagName};
use spfs_repo::{AnyRepository, CommitOptions, Repository, commit_path};
use tempfile::TempDir;

use crate::layers::{Said, Tree};

/// A repository that is removed with the value.
#[derive(Debug)]
pub struct TestRepo {
    repository: Repository,
    seconds: AtomicI64,
    dir: TempDir,
}

impl Default for TestRepo {
    fn default() -> Self {
        Self::new()
    }
}

impl TestRepo {
    /// A new, empty repository.
    pub fn new() -> Self {
        let dir = crate::environment::open_directory().expect("tests can make directories");
        let repository = Repository::create(dir.path().join("repo"))
            .expect("a repository can be made in an empty directory");
        Self { repository, seconds: AtomicI64::new(1_700_000_000), dir }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        self.repository.root()
    }

    /// A directory beside the repository, on the same volume.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Commits a tree without masks as a layer and returns its digest.
    pub fn commit(&self, tree: &Tree) -> Digest {
        let dir = TempDir::new_in(self.dir.path()).expect("tests can make directories");
        write_tree(dir.path(), tree).expect("tests can write files");
        let options = CommitOptions { allow_empty: true, ..CommitOptions::default() };
        let committed = commit_path(&self.repository, dir.path(), &options);
        committed.unwrap_or_else(|error| panic!("cannot commit: {error}")).layer
    }

    /// Commits a tree and tags the layer, like `org/name`.
    pub fn publish(&self, tag: &str, tree: &Tree) -> Digest {
        let layer = self.commit(tree);
        self.tag(tag, layer);
        layer
    }

    /// Points a tag at something; every tag is a second younger than the one before.
    pub fn tag(&self, tag: &str, target: Digest) {
        let name: TagName = tag.parse().unwrap_or_else(|error| panic!("{tag} is no tag: {error}"));
        let seconds = self.seconds.fetch_add(1, Ordering::Relaxed);
        let time = Timestamp::from_second(seconds).expect("the clock of a test runs a few seconds");
        let pushed = self.repository.tags().push(&name, target, "test@test", time);
        pushed.unwrap_or_else(|error| panic!("cannot tag {tag}: {error}"));
    }
}

/// Writes a tree without masks into a real directory.
pub fn write_tree(dir: &Path, tree: &Tree) -> std::io::Result<()> {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    for (name, said) in tree {
        let path = dir.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let permissions = |perm: u16| fs::Permissions::from_mode(u32::from(perm));
        match said {
            Said::File { perm, content } => {
                fs::write(&path, content)?;
                fs::set_permissions(&path, permissions(*perm))?;
            }
            Said::Symlink(target) => std::os::unix::fs::symlink(target, &path)?,
            Said::Directory { perm, entries } => {
                fs::create_dir(&path)?;
                write_tree(&path, entries)?;
                fs::set_permissions(&path, permissions(*perm))?;
            }
            Said::Mask => {
                let reason = format!("{} is a mask, which only layers have", path.display());
                return Err(std::io::Error::other(reason));
            }
        }
    }
    Ok(())
}
