//! Makes manifests in the order in which upstream stores them.

use std::collections::{BTreeMap, HashMap};

use super::{Assembler, Manifest, ManifestError, RawEntry};
use crate::entry::mode;
use crate::{BlobEntry, Digest, EntryKind, NameBuf};

/// A directory given to a [`ManifestBuilder`]; good for that builder alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tree(u32);

/// An entry of a directory to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Its name.
    pub name: NameBuf,
    /// What it is.
    pub content: Content,
}

/// What an entry to be stored is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A file or symbolic link.
    Blob(BlobEntry),
    /// A directory that the builder was given before.
    Directory {
        /// The whole `st_mode`.
        mode: u32,
        /// Its entries.
        tree: Tree,
    },
    /// Removes what lies below.
    Mask {
        /// Its mode; [`mode::MASK`] when nothing else is asked for.
        mode: u32,
    },
}

/// Builds a manifest from its leaves to its root, which suits both walks and threads.
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    trees: Vec<BuiltTree>,
    by_digest: HashMap<Digest, Tree>,
}

#[derive(Debug)]
struct BuiltTree {
    digest: Digest,
    /// Trees first, then the others, each by name.
    entries: Vec<NewEntry>,
}

impl ManifestBuilder {
    /// A builder without directories.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory whose sub-directories were added before; the order of entries is free.
    pub fn directory(&mut self, mut entries: Vec<NewEntry>) -> Result<Tree, ManifestError> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.sort_by_key(|entry| !matches!(entry.content, Content::Directory { .. }));
        let mut assembler = Assembler::new(1, entries.len());
        for entry in &entries {
            assembler.entry(&self.raw(entry))?;
        }
        let digest = assembler.end_tree()?;
        if let Some(&tree) = self.by_digest.get(&digest) {
            return Ok(tree);
        }
        let tree = u32::try_from(self.trees.len())
            .map(Tree)
            .map_err(|_| ManifestError::TooLarge { limit: u32::MAX.into() })?;
        self.trees.push(BuiltTree { digest, entries });
        self.by_digest.insert(digest, tree);
        Ok(tree)
    }

    /// The manifest with this directory as its root; directories not reached from it are left out.
    pub fn finish(mut self, root: Tree) -> Result<Manifest, ManifestError> {
        let mut seen = vec![false; self.trees.len()];
        let mut assembler = self.assembler();
        let mut pending = vec![root];
        while let Some(tree) = pending.pop() {
            if std::mem::replace(&mut seen[tree.0 as usize], true) {
                continue;
            }
            // Given up piece by piece: a million entries are not held twice.
            let entries = std::mem::take(&mut self.trees[tree.0 as usize].entries);
            for entry in &entries {
                assembler.entry(&self.raw(entry))?;
            }
            assembler.end_tree()?;
            // popped in stored order: every tree of the first is met before the second
            pending.extend(entries.iter().rev().filter_map(|entry| match entry.content {
                Content::Directory { tree, .. } => Some(tree),
                Content::Blob(_) | Content::Mask { .. } => None,
            }));
        }
        assembler.finish()
    }

    /// An assembler with room for everything: growing would hold it twice.
    fn assembler(&self) -> Assembler {
        let all = || self.trees.iter().flat_map(|tree| &tree.entries);
        let names = all().map(|entry| entry.name.as_bytes().len()).sum();
        let mut assembler = Assembler::new(self.trees.len(), all().count());
        assembler.reserve_names(names);
        assembler
    }

    fn raw<'a>(&self, entry: &'a NewEntry) -> RawEntry<'a> {
        let name = entry.name.as_bytes();
        match entry.content {
            Content::Blob(BlobEntry { mode, size, object }) => {
                RawEntry { name, kind: EntryKind::Blob, mode, size, object }
            }
            Content::Directory { mode, tree } => RawEntry {
                name,
                kind: EntryKind::Tree,
                mode,
                size: 0,
                object: self.trees[tree.0 as usize].digest,
            },
            Content::Mask { mode } => {
                RawEntry { name, kind: EntryKind::Mask, mode, size: 0, object: Digest::NULL }
            }
        }
    }
}

/// A hierarchy to be stored, nested.
#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    /// A file or symbolic link.
    Blob(BlobEntry),
    /// A directory.
    Directory {
        /// Its mode; that of the root is not stored.
        mode: u32,
        /// Its entries.
        entries: BTreeMap<NameBuf, Self>,
    },
    /// Removes what lies below.
    Mask,
}

impl Node {
    /// An empty directory.
    pub const fn directory(mode: u32) -> Self {
        Self::Directory { mode, entries: BTreeMap::new() }
    }
}

/// Taken apart level by level, since a chain of directories may be longer than the stack is deep.
impl Drop for Node {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        let take = |node: &mut Self| match node {
            Self::Directory { entries, .. } => std::mem::take(entries),
            Self::Blob(_) | Self::Mask => BTreeMap::new(),
        };
        pending.extend(take(self).into_values());
        while let Some(mut node) = pending.pop() {
            pending.extend(take(&mut node).into_values());
        }
    }
}

impl Manifest {
    /// The manifest of a directory.
    pub fn build(root: &BTreeMap<NameBuf, Node>) -> Result<Self, ManifestError> {
        let mut builder = ManifestBuilder::new();
        // directories on the way down, each with what is left to do and what is done
        let mut path = vec![(None, root.iter(), Vec::with_capacity(root.len()))];
        loop {
            let Some((_, left, done)) = path.last_mut() else {
                return Err(ManifestError::NoRoot);
            };
            match left.next() {
                Some((name, Node::Blob(blob))) => {
                    done.push(NewEntry { name: name.clone(), content: Content::Blob(*blob) });
                }
                Some((name, Node::Mask)) => done.push(NewEntry {
                    name: name.clone(),
                    content: Content::Mask { mode: mode::MASK },
                }),
                Some((name, Node::Directory { mode, entries })) => {
                    path.push((Some((name, *mode)), entries.iter(), Vec::new()));
                }
                None => {
                    let Some((name, _, done)) = path.pop() else { continue };
                    let tree = builder.directory(done)?;
                    match (name, path.last_mut()) {
                        (Some((name, mode)), Some((_, _, parent))) => parent.push(NewEntry {
                            name: name.clone(),
                            content: Content::Directory { mode, tree },
                        }),
                        _ => return builder.finish(tree),
                    }
                }
            }
        }
    }
}
