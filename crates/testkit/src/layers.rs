//! Layers and stacks for tests: described as nested maps, stored as manifests and payloads, and
//! shown by the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use spfs_model::{
    BlobEntry, Digest, DigestStrategy, Manifest, MergedTree, Name, NameBuf, Node, merge, mode,
};
use spfs_vfs::api::{
    Access, Attr, File, Ino, New, NewKind, Owner, Result as VfsResult, Timestamp, Vfs,
};

use crate::ModelFs;
use crate::model_fs::Clock;
use crate::ops::Rng;

mod payloads;
mod random;
mod read;

pub use payloads::PayloadStore;
pub use read::{tree_of_merged, tree_of_vfs};

/// What a layer says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A regular file.
    File {
        /// Permission bits.
        perm: u16,
        /// Its content.
        content: Arc<[u8]>,
    },
    /// A symbolic link with this target.
    Symlink(String),
    /// A directory.
    Directory {
        /// Permission bits.
        perm: u16,
        /// What it holds.
        entries: Tree,
    },
    /// What lies below is removed.
    Mask,
}

/// The entries of a directory, or of the root of a layer.
pub type Tree = BTreeMap<NameBuf, Said>;

/// Puts a tree together from paths; directories on the way are made with permissions 0755.
#[derive(Debug, Clone, Default)]
pub struct TreeBuilder {
    root: Tree,
}

impl TreeBuilder {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, perm: u16, content: impl Into<Arc<[u8]>>) -> Self {
        self.add(path, Said::File { perm, content: content.into() })
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.add(path, Said::Symlink(target.to_owned()))
    }

    /// Adds an empty directory, or sets the permissions of one that is there.
    #[must_use]
    pub fn dir(mut self, path: &str, perm: u16) -> Self {
        let (parent, name) = split(path);
        match directory_at(&mut self.root, parent).get_mut(name.as_bytes()) {
            Some(Said::Directory { perm: old, .. }) => *old = perm,
            _ => return self.add(path, Said::Directory { perm, entries: Tree::new() }),
        }
        self
    }

    /// Removes what lower layers have at a path.
    #[must_use]
    pub fn mask(self, path: &str) -> Self {
        self.add(path, Said::Mask)
    }

    /// The tree.
    pub fn build(self) -> Tree {
        self.root
    }

    fn add(mut self, path: &str, said: Said) -> Self {
        let (parent, name) = split(path);
        let name = NameBuf::new(name.as_bytes()).expect("a test names its files properly");
        directory_at(&mut self.root, parent).insert(name, said);
        self
    }
}

fn split(path: &str) -> (Option<&str>, &str) {
    path.rsplit_once('/').map_or((None, path), |(parent, name)| (Some(parent), name))
}

fn directory_at<'a>(mut tree: &'a mut Tree, path: Option<&str>) -> &'a mut Tree {
    for name in path.into_iter().flat_map(|path| path.split('/')) {
        let name = NameBuf::new(name.as_bytes()).expect("a test names its directories properly");
        let empty = || Said::Directory { perm: 0o755, entries: Tree::new() };
        let Said::Directory { entries, .. } = tree.entry(name).or_insert_with(empty) else {
            panic!("{path:?} leads through something that is no directory");
        };
        tree = entries;
    }
    tree
}

/// Lays a layer on top of what the layers below show (format.md, section 9, without its bugs): a
/// directory on a directory adds to it, everything else replaces.
pub fn lay(below: &mut Tree, layer: &Tree) {
    for (name, said) in layer {
        match (said, below.get_mut(name.as_bytes())) {
            (Said::Mask, _) => {
                below.remove(name.as_bytes());
            }
            (
                Said::Directory { perm, entries },
                Some(Said::Directory { perm: old_perm, entries: old }),
            ) => {
                *old_perm = *perm;
                lay(old, entries);
            }
            (Said::Directory { perm, entries }, _) => {
                // Masks in a directory that is new here have nothing to remove.
                let mut shown = Tree::new();
                lay(&mut shown, entries);
                below.insert(name.clone(), Said::Directory { perm: *perm, entries: shown });
            }
            (said, _) => {
                below.insert(name.clone(), said.clone());
            }
        }
    }
}

/// Stores a tree: its files as payloads, its names as a manifest.
pub fn manifest_of(tree: &Tree, payloads: &PayloadStore) -> Manifest {
    Manifest::build(&nodes_of(tree, payloads)).expect("the names of a test are UTF-8")
}

fn nodes_of(tree: &Tree, payloads: &PayloadStore) -> BTreeMap<NameBuf, Node> {
    let blob = |mode: u32, content: &[u8]| {
        let object = payloads.put(content);
        Node::Blob(BlobEntry { mode, size: content.len() as u64, object })
    };
    let node = |said: &Said| match said {
        Said::File { perm, content } => blob(mode::REGULAR | u32::from(*perm), content),
        Said::Symlink(target) => blob(mode::SYMLINK | 0o777, target.as_bytes()),
        Said::Directory { perm, entries } => Node::Directory {
            mode: mode::DIRECTORY | u32::from(*perm),
            entries: nodes_of(entries, payloads),
        },
        Said::Mask => Node::Mask,
    };
    tree.iter().map(|(name, said)| (name.clone(), node(said))).collect()
}

/// A stack of layers, in every form that a test needs.
#[derive(Debug)]
pub struct BaseStack {
    /// The manifests, bottom first.
    pub manifests: Vec<Manifest>,
    /// Digests of the layers, bottom first.
    pub layers: Vec<Digest>,
    /// What the stack shows, as the product merges it.
    pub merged: Arc<MergedTree>,
    /// What the stack shows, as [`lay`] says.
    pub shown: Tree,
    /// The content of the files.
    pub payloads: Arc<PayloadStore>,
}

impl BaseStack {
    /// Stacks layers, bottom first.
    pub fn new(layers: &[Tree]) -> Self {
        let payloads = Arc::new(PayloadStore::new());
        let manifests: Vec<_> = layers.iter().map(|tree| manifest_of(tree, &payloads)).collect();
        let mut shown = Tree::new();
        layers.iter().for_each(|layer| lay(&mut shown, layer));
        let digests = manifests.iter().map(|m| m.digest(DigestStrategy::WithKindAndSalt));
        Self {
            layers: digests.collect(),
            merged: Arc::new(merge(&manifests.iter().collect::<Vec<_>>())),
            shown,
            payloads,
            manifests,
        }
    }

    /// A random stack of up to four small layers that overlap, with masks and changes of type, and
    /// files of up to 300 000 bytes.
    pub fn random(seed: u64) -> Self {
        Self::random_up_to(seed, u32::MAX)
    }

    /// The same with files of up to `content_max` bytes.
    pub fn random_up_to(seed: u64, content_max: u32) -> Self {
        Self::new(&random::layers(&mut Rng::new(seed), content_max))
    }

    /// A model that shows the stack, everything owned by `owner` and stamped `time`.
    pub fn model(&self, clock: Clock, owner: Owner, time: Timestamp) -> ModelFs {
        let model = ModelFs::new(clock, 0o777, owner);
        show(&Arc::new(model.clone()), Ino::ROOT, &self.shown, owner)
            .expect("an empty model has room for a small tree");
        model.stamp_all(time);
        model
    }
}

/// Makes everything that a tree of no masks says in a directory.
pub fn show<V: Vfs>(vfs: &Arc<V>, dir: Ino, tree: &Tree, owner: Owner) -> VfsResult<()> {
    for (name, said) in tree {
        show_one(vfs, dir, name.as_name(), said, owner)?;
    }
    Ok(())
}

/// Makes what is said of one name in a directory.
pub fn show_one<V: Vfs>(
    vfs: &Arc<V>,
    dir: Ino,
    name: Name<'_>,
    said: &Said,
    owner: Owner,
) -> VfsResult<()> {
    let make = |kind, perm| -> VfsResult<Attr> {
        let made = vfs.create(dir, name, New { kind, perm, owner })?;
        // What a set-group-id parent hands down is not what a layer says.
        let exact = spfs_vfs::api::SetAttr {
            perm: Some(perm).filter(|_| !matches!(kind, NewKind::Symlink(_))),
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            ..Default::default()
        };
        vfs.setattr(made.ino, &exact)
    };
    match said {
        Said::File { perm, content } => {
            let file = vfs.open(make(NewKind::Regular, *perm)?.ino, Access::Write)?;
            file.write_at(0, content, false)
        }
        Said::Symlink(target) => make(NewKind::Symlink(target.as_bytes()), 0o777).map(drop),
        Said::Directory { perm, entries } => {
            let made = make(NewKind::Directory, *perm)?;
            show(vfs, made.ino, entries, owner)
        }
        Said::Mask => Ok(()),
    }
}
