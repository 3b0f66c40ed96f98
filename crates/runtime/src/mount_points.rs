//! The layer that holds the mount points of live layers.
//!
//! Something must stand where a live layer is to be mounted. As in upstream's program that is a
//! layer on top of the stack, of empty directories and files; here it takes the modes of
//! directories that are there anyway, so that they do not change, and is left out of what is
//! committed: what it stands for is not in any repository.
//!
//! Where one mount shows several runtimes nothing can be mounted for one of them: symbolic links
//! stand there instead of the mount points (docs/decisions/0010-live-layers.md).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spfs_model::{
    BlobEntry, Content, Digest, Manifest, ManifestBuilder, ManifestError, MergedTree, NameBuf,
    NewEntry, NodeKind, Position, Tree, mode,
};
use spfs_repo::{AnyRepository, LiveEntry, LiveLayer, RepoError};

/// How a runtime shows what it shows of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveShown {
    /// By mounts inside its own mount namespace, which follow edit mode.
    #[default]
    Mounts,
    /// By symbolic links, where one mount shows several runtimes: what is written goes to the host
    /// whatever the mode of the runtime.
    Links,
}

/// Modes of what is not in the layers.
const DIRECTORY: u32 = mode::DIRECTORY | 0o755;
const FILE: u32 = mode::REGULAR | 0o644;
const LINK: u32 = mode::SYMLINK | 0o777;

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
    /// One place lies below a link.
    #[error(
        "{path} cannot be shown: a live layer shows a directory above it, and a service shows that \
         as a symbolic link"
    )]
    BelowLink {
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

/// Stores the layer with all mount points of `live`, or the links that stand for them, on a stack
/// that shows `lower`.
pub(crate) fn write(
    repository: &dyn AnyRepository,
    lower: &MergedTree,
    live: &[LiveLayer],
    shown: LiveShown,
) -> Result<Digest, MountPointError> {
    let batch = repository.batch()?;
    batch.blob(b"")?;
    let mut root = Folder::default();
    for entry in live.iter().flat_map(|layer| &layer.contents) {
        let failed = |source| MountPointError::Source { path: entry.src.clone(), source };
        let is_folder = fs::symlink_metadata(&entry.src).map_err(failed)?.is_dir();
        let point = match (shown, is_folder) {
            (LiveShown::Links, _) => {
                let target = entry.src.as_os_str().as_encoded_bytes();
                let (object, size) = (batch.blob(target)?, target.len() as u64);
                Point::Link { object, size }
            }
            (LiveShown::Mounts, true) => Point::Folder(Folder::default()),
            (LiveShown::Mounts, false) => Point::File,
        };
        root.insert(entry, point)?;
    }
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
    Link { object: Digest, size: u64 },
    Folder(Folder),
}

impl Folder {
    fn insert(&mut self, entry: &LiveEntry, point: Point) -> Result<(), MountPointError> {
        let path = || entry.dest.to_string();
        let names = entry.dest.names();
        let Some((last, above)) = names.split_last() else { return Ok(()) };
        let mut at = self;
        for name in above {
            match at.0.entry(name.clone()).or_insert_with(|| Point::Folder(Self::default())) {
                Point::Folder(inner) => at = inner,
                Point::File => return Err(MountPointError::BelowFile { path: path() }),
                Point::Link { .. } => return Err(MountPointError::BelowLink { path: path() }),
            }
        }
        match (at.0.get(last), &point) {
            // Two mounts at one place: the later one covers the earlier, as with layers.
            (Some(Point::File | Point::Folder(_)), Point::File | Point::Folder(_)) => {}
            (Some(Point::Folder(_)), Point::Link { .. }) => {
                return Err(MountPointError::BelowLink { path: path() });
            }
            _ => drop(at.0.insert(last.clone(), point)),
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
                Point::Link { object, size } => {
                    Content::Blob(BlobEntry { mode: LINK, size: *size, object: *object })
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
        let written = write(&repository, &below, &live, LiveShown::Mounts).unwrap();
        let expected = [
            ("a".to_owned(), mode::DIRECTORY | 0o2770),
            ("a/b".to_owned(), DIRECTORY),
            ("a/f".to_owned(), FILE),
            ("a/b/c".to_owned(), DIRECTORY),
        ];
        assert_eq!(shown(&repository, written), expected);
    }

    #[test]
    fn links_lead_to_the_host_and_nothing_is_shown_below_them() {
        let repository = MemoryRepository::new();
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("file");
        fs::write(&file, "x").unwrap();
        let live = [layer(&[(host.path(), "a/b"), (&file, "a/f"), (&file, "a/f")])];
        let none = MergedTree::empty();
        let written = write(&repository, &none, &live, LiveShown::Links).unwrap();
        let expected = [("a", DIRECTORY), ("a/b", LINK), ("a/f", LINK)];
        let expected = expected.map(|(path, mode)| (path.to_owned(), mode));
        assert_eq!(shown(&repository, written), expected);
        for places in [["a/b", "a/b/c"], ["a/b/c", "a/b"]] {
            let live = [layer(&places.map(|place| (host.path(), place)))];
            let error = write(&repository, &none, &live, LiveShown::Links).unwrap_err();
            assert!(error.to_string().contains("as a symbolic link"), "{error}");
        }
    }

    #[test]
    fn nothing_is_shown_below_a_file_or_from_nowhere() {
        let repository = MemoryRepository::new();
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("file");
        fs::write(&file, "x").unwrap();
        let below = layer(&[(&file, "a"), (host.path(), "a/b")]);
        let error =
            write(&repository, &MergedTree::empty(), &[below], LiveShown::Mounts).unwrap_err();
        assert!(error.to_string().starts_with("/spfs/a/b cannot be shown"), "{error}");
        let missing = layer(&[(&host.path().join("none"), "a")]);
        let error =
            write(&repository, &MergedTree::empty(), &[missing], LiveShown::Mounts).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
