//! The layer that holds the mount points of live layers.
//!
//! Something must stand where a live layer is to be mounted. As in upstream's program that is a
//! layer on top of the stack, of empty directories and files; here it takes the modes of
//! directories that are there anyway, so that they do not change, and is left out of what is
//! committed: what it stands for is not in any repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use spfs_model::{
    BlobEntry, Content, Digest, Manifest, ManifestBuilder, ManifestError, MergedTree, NameBuf,
    NewEntry, NodeKind, Position, Tree, mode,
};
use spfs_repo::{AnyRepository, LiveEntry, LiveLayer, RepoError};

/// Modes of what is not in the layers.
const DIRECTORY: u32 = mode::DIRECTORY | 0o755;
const FILE: u32 = mode::REGULAR | 0o644;

/// Why the mount points could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountPointError {
    /// What is to be shown cannot be looked at.
    #[error("the live layer shows {}, which cannot be looked at", path.display())]
    Source {
        /// The file or directory of the host.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// One place lies below a file.
    #[error("{path} cannot be shown: a live layer shows a file above it")]
    BelowFile {
        /// The place.
        path: String,
    },
    /// The layer cannot be made.
    #[error("cannot make the layer of the mount points")]
    Manifest(#[from] ManifestError),
    /// The layer cannot be stored.
    #[error("cannot store the layer of the mount points")]
    Store(#[from] RepoError),
}

/// Stores the layer with all mount points of `live` on a stack that shows `lower`; returns it with
/// its manifest.
pub(crate) fn write(
    repository: &dyn AnyRepository,
    lower: &MergedTree,
    live: &[LiveLayer],
) -> Result<Digest, MountPointError> {
    let mut root = Folder::default();
    for entry in live.iter().flat_map(|layer| &layer.contents) {
        root.insert(entry)?;
    }
    let batch = repository.batch()?;
    batch.blob(b"")?;
    let manifest = root.manifest(lower)?;
    let written = spfs_repo::stage_layer(&*batch, Some(manifest), &[], 0)?;
    batch.finish()?;
    Ok(written.layer)
}

/// A directory with mount points in it.
#[derive(Debug, Default)]
struct Folder(BTreeMap<NameBuf, Point>);

#[derive(Debug)]
enum Point {
    File,
    Folder(Folder),
}

impl Folder {
    fn insert(&mut self, entry: &LiveEntry) -> Result<(), MountPointError> {
        let failed = |source| MountPointError::Source { path: entry.src.clone(), source };
        let is_folder = fs::symlink_metadata(&entry.src).map_err(failed)?.is_dir();
        let names = entry.dest.names();
        let mut at = self;
        for (number, name) in names.iter().enumerate() {
            let is_last = number + 1 == names.len();
            let new =
                if is_last && !is_folder { Point::File } else { Point::Folder(Self::default()) };
            match at.0.entry(name.clone()).or_insert(new) {
                Point::Folder(inner) => at = inner,
                Point::File if is_last => return Ok(()),
                Point::File => {
                    return Err(MountPointError::BelowFile { path: entry.dest.to_string() });
                }
            }
        }
        Ok(())
    }

    fn manifest(&self, lower: &MergedTree) -> Result<Manifest, ManifestError> {
        let mut builder = ManifestBuilder::new();
        let root = self.tree(&mut builder, lower, Some(Position::ROOT))?;
        builder.finish(root)
    }

    /// `at` is the directory of the same path in the layers below. Paths of mount points are short
    /// enough for the kernel, so the depth of this recursion is bounded.
    fn tree(
        &self,
        builder: &mut ManifestBuilder,
        lower: &MergedTree,
        at: Option<Position>,
    ) -> Result<Tree, ManifestError> {
        let mut entries = Vec::with_capacity(self.0.len());
        for (name, point) in &self.0 {
            let content = match point {
                Point::File => {
                    Content::Blob(BlobEntry { mode: FILE, size: 0, object: Digest::EMPTY })
                }
                Point::Folder(folder) => {
                    let below = at
                        .and_then(|at| lower.child(at, name.as_name()))
                        .filter(|below| lower.kind(*below) == NodeKind::Directory);
                    let mode = below.map_or(DIRECTORY, |below| lower.node(below).mode);
                    Content::Directory { mode, tree: folder.tree(builder, lower, below)? }
                }
            };
            entries.push(NewEntry { name: name.clone(), content });
        }
        builder.directory(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spfs_repo::MemoryRepository;

    fn layer(entries: &[(&std::path::Path, &str)]) -> LiveLayer {
        let entry = |(src, dest): &(&std::path::Path, &str)| LiveEntry {
            src: src.to_path_buf(),
            dest: PathBuf::from(dest).try_into().unwrap(),
        };
        LiveLayer { api: String::new(), contents: entries.iter().map(entry).collect() }
    }

    fn shown(repository: &MemoryRepository, layer: Digest) -> Vec<(String, u32)> {
        let manifests = spfs_repo::load_stack(&[repository], &[layer]).unwrap();
        let tree = spfs_model::merge(&manifests.iter().collect::<Vec<_>>());
        let positions = (1..tree.len() as u32).map(Position);
        let path = |at| String::from_utf8(tree.path(at)).unwrap();
        positions.map(|at| (path(at), tree.node(at).mode)).collect()
    }

    #[test]
    fn the_layer_holds_the_way_to_every_place_and_keeps_modes() {
        let repository = MemoryRepository::new();
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("file");
        fs::write(&file, "x").unwrap();
        let mut builder = ManifestBuilder::new();
        let empty = builder.directory(Vec::new()).unwrap();
        let a = Content::Directory { mode: mode::DIRECTORY | 0o2770, tree: empty };
        let a = NewEntry { name: NameBuf::new(*b"a").unwrap(), content: a };
        let root = builder.directory(vec![a]).unwrap();
        let below = spfs_model::merge(&[&builder.finish(root).unwrap()]);
        let live = [layer(&[(host.path(), "a/b"), (&file, "/spfs/a/f"), (host.path(), "a/b/c")])];
        let written = write(&repository, &below, &live).unwrap();
        let expected = [
            ("a".to_owned(), mode::DIRECTORY | 0o2770),
            ("a/b".to_owned(), DIRECTORY),
            ("a/f".to_owned(), FILE),
            ("a/b/c".to_owned(), DIRECTORY),
        ];
        assert_eq!(shown(&repository, written), expected);
    }

    #[test]
    fn nothing_is_shown_below_a_file_or_from_nowhere() {
        let repository = MemoryRepository::new();
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("file");
        fs::write(&file, "x").unwrap();
        let below = layer(&[(&file, "a"), (host.path(), "a/b")]);
        let error = write(&repository, &MergedTree::empty(), &[below]).unwrap_err();
        assert!(error.to_string().starts_with("/spfs/a/b cannot be shown"), "{error}");
        let missing = layer(&[(&host.path().join("none"), "a")]);
        let error = write(&repository, &MergedTree::empty(), &[missing]).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
