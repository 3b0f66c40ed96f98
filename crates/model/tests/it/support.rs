//! Short ways to say what trees and stacks hold.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use spfs_model::{
    BlobEntry, Digest, DigestStrategy, Dir, EncodingFormat, Live, Manifest, MergedEntry,
    MergedTree, Name, NameBuf, Node, NodeKind, Position, Stack, merge,
};

pub(crate) const STRATEGIES: [DigestStrategy; 2] =
    [DigestStrategy::Legacy, DigestStrategy::WithKindAndSalt];
pub(crate) const FORMATS: [EncodingFormat; 2] =
    [EncodingFormat::Legacy, EncodingFormat::FlatBuffers];

pub(crate) fn vector(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "vectors", file].iter().collect()
}

/// The files of an archive of vectors, by path.
pub(crate) fn archive(file: &str) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(vector(file)).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    let files: BTreeMap<_, _> = entries.collect();
    assert!(!files.is_empty(), "{file}");
    files
}

pub(crate) fn json(file: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(vector(file)).unwrap()).unwrap()
}

pub(crate) fn name(text: &str) -> NameBuf {
    NameBuf::try_from(text).unwrap()
}

pub(crate) fn blob(content: &str) -> BlobEntry {
    let object = Digest::of(content.as_bytes());
    BlobEntry { mode: 0o100_644, size: content.len() as u64, object }
}

pub(crate) fn link(target: &str) -> BlobEntry {
    BlobEntry { mode: 0o120_777, ..blob(target) }
}

/// A directory of a layer.
pub(crate) fn dir<const N: usize>(entries: [(&str, Node); N]) -> Node {
    Node::Directory { mode: 0o040_755, entries: entries_of(entries) }
}

pub(crate) fn file(content: &str) -> Node {
    Node::Blob(blob(content))
}

pub(crate) fn layer<const N: usize>(entries: [(&str, Node); N]) -> Manifest {
    Manifest::build(&entries_of(entries)).unwrap()
}

fn entries_of<T, const N: usize>(entries: [(&str, T); N]) -> BTreeMap<NameBuf, T> {
    entries.into_iter().map(|(text, entry)| (name(text), entry)).collect()
}

/// A directory of a view.
pub(crate) fn live<const N: usize>(entries: [(&str, Live); N]) -> Live {
    Live::Directory { mode: 0o040_755, entries: entries_of(entries) }
}

/// Every path of a tree in order with what is there: `/` after a directory, `@` after a link.
pub(crate) fn paths(tree: &MergedTree) -> Vec<String> {
    let mut paths: Vec<String> = positions(tree)
        .skip(1)
        .map(|position| {
            let path = String::from_utf8(tree.path(position)).unwrap();
            match tree.kind(position) {
                NodeKind::Directory => path + "/",
                NodeKind::File => path,
                NodeKind::Symlink => path + "@",
            }
        })
        .collect();
    paths.sort();
    paths
}

pub(crate) fn positions(tree: &MergedTree) -> impl Iterator<Item = Position> + use<> {
    (0..u32::try_from(tree.len()).unwrap()).map(Position)
}

pub(crate) fn merged_paths(layers: &[&Manifest]) -> Vec<String> {
    paths(&merge(layers))
}

/// Where a path of a tree is.
pub(crate) fn at(tree: &MergedTree, path: &str) -> Position {
    path.split('/').fold(Position::ROOT, |position, part| {
        tree.child(position, Name::new(part.as_bytes()).unwrap()).unwrap()
    })
}

/// The plainest way to hold what a stack shows: maps in maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naive {
    Blob(BlobEntry),
    Directory { mode: u32, entries: BTreeMap<NameBuf, Self> },
}

impl Naive {
    pub(crate) const fn root() -> Self {
        Self::Directory { mode: 0o040_777, entries: BTreeMap::new() }
    }

    /// Puts a layer on top, as the format describes it.
    pub(crate) fn put(&mut self, upper: &BTreeMap<NameBuf, Node>) {
        let Self::Directory { entries, .. } = self else { panic!("not a directory") };
        for (name, node) in upper {
            match node {
                Node::Mask => {
                    entries.remove(name);
                }
                Node::Blob(blob) => {
                    entries.insert(name.clone(), Self::Blob(*blob));
                }
                Node::Directory { mode: upper_mode, entries: upper } => {
                    let below = entries.remove(name);
                    let mut merged = match below {
                        Some(Self::Directory { entries, .. }) => {
                            Self::Directory { mode: *upper_mode, entries }
                        }
                        _ => Self::Directory { mode: *upper_mode, entries: BTreeMap::new() },
                    };
                    merged.put(upper);
                    entries.insert(name.clone(), merged);
                }
            }
        }
    }

    pub(crate) fn of_tree(tree: &MergedTree, position: Position) -> Self {
        let node = tree.node(position);
        if node.kind != NodeKind::Directory {
            return Self::Blob(BlobEntry { mode: node.mode, size: node.size, object: node.object });
        }
        let children = tree.children(position).map(Position);
        let entries =
            children.map(|child| (tree.name(child).into(), Self::of_tree(tree, child))).collect();
        Self::Directory { mode: node.mode, entries }
    }

    pub(crate) fn of_entry(stack: &Stack<'_>, entry: &MergedEntry<'_>) -> Self {
        match &entry.dir {
            None => {
                Self::Blob(BlobEntry { mode: entry.mode, size: entry.size, object: entry.object })
            }
            Some(dir) => Self::of_dir(stack, dir, entry.mode),
        }
    }

    pub(crate) fn of_dir(stack: &Stack<'_>, dir: &Dir, mode: u32) -> Self {
        let listed = stack.list(dir);
        let entries =
            listed.iter().map(|entry| (entry.name.into(), Self::of_entry(stack, entry))).collect();
        Self::Directory { mode, entries }
    }

    /// What a view shows. `below` is what the base has at the same path.
    pub(crate) fn of_live(
        stack: &Stack<'_>,
        live: &Live,
        below: Option<&MergedEntry<'_>>,
        root: bool,
    ) -> Self {
        match live {
            Live::Same if root => Self::of_dir(stack, &stack.root(), 0o040_777),
            Live::Same => Self::of_entry(stack, below.unwrap()),
            Live::Blob(blob) => Self::Blob(*blob),
            Live::Lower(position) => Self::of_tree(stack.bottom().unwrap(), *position),
            Live::LeftOut => panic!("what is left out is not compared"),
            Live::Directory { mode, entries } => {
                let below_dir =
                    if root { Some(stack.root()) } else { below.and_then(|b| b.dir.clone()) };
                let entries = entries.iter().map(|(name, live)| {
                    let below =
                        below_dir.as_ref().and_then(|dir| stack.lookup(dir, name.as_name()));
                    (name.clone(), Self::of_live(stack, live, below.as_ref(), false))
                });
                let mode = if root { 0o040_777 } else { *mode };
                Self::Directory { mode, entries: entries.collect() }
            }
        }
    }
}
