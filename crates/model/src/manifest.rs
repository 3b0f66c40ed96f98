//! Manifests: the whole hierarchy of one layer.

mod assemble;
mod build;

use std::fmt;
use std::iter::FusedIterator;

pub use assemble::ManifestError;
pub(crate) use assemble::{Assembler, RawEntry};
pub use build::{Content, ManifestBuilder, NewEntry, Node, Tree};

use crate::object::{DigestStrategy, ObjectKind};
use crate::{Digest, EntryKind, Name};

/// The number of a tree in a manifest, in stored order; the root is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeIndex(pub(crate) u32);

impl TreeIndex {
    /// The root of every manifest.
    pub const ROOT: Self = Self(0);

    pub(crate) const fn at(self) -> usize {
        self.0 as usize
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Its name; always UTF-8.
    pub name: Name<'a>,
    /// Its kind.
    pub kind: EntryKind,
    /// The mode as stored.
    pub mode: u32,
    /// The size as stored; only that of a blob means anything.
    pub size: u64,
    /// The payload of a blob, the digest of a tree, null for a mask.
    pub object: Digest,
    /// The tree, when it is one.
    pub tree: Option<TreeIndex>,
}

/// The trees of one layer: every directory with its entries, equal directories stored once.
///
/// All trees and entries lie in three arrays. Trees stand in the order in which they are stored,
/// which is part of the digest; the entries of a tree lie sorted by name, whatever order they are
/// stored in, and that order is remembered.
#[derive(Clone)]
pub struct Manifest {
    trees: Vec<TreeRecord>,
    entries: Vec<EntryRecord>,
    names: String,
    /// Entries seen when every shared tree is walked through each time it occurs.
    expanded: u64,
    /// Stored orders of the trees with [`StoredOrder::Listed`], one after the other.
    listed: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct TreeRecord {
    digest: Digest,
    start: u32,
    len: u32,
    order: StoredOrder,
}

/// The order in which the entries of one tree are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoredOrder {
    /// Trees, then everything else, each by name: what writers of the format do today.
    TreesFirst,
    /// By name: the legacy encoding.
    ByName,
    /// Anything else: from this place of `Manifest::listed` on, numbers within the tree.
    Listed(u32),
}

#[derive(Debug, Clone, Copy)]
struct EntryRecord {
    object: Digest,
    size: u64,
    mode: u32,
    name_start: u32,
    /// Meaningful for trees only.
    tree: TreeIndex,
    name_len: u8,
    kind: EntryKind,
}

impl Manifest {
    /// The manifest of an empty directory.
    pub fn empty() -> Self {
        Self {
            trees: vec![TreeRecord {
                digest: Digest::of(&[0; 8]),
                start: 0,
                len: 0,
                order: StoredOrder::TreesFirst,
            }],
            entries: Vec::new(),
            names: String::new(),
            expanded: 0,
            listed: Vec::new(),
        }
    }

    /// The root directory.
    pub const fn root(&self) -> TreeIndex {
        TreeIndex::ROOT
    }

    /// Number of stored entries; those of a directory that occurs more than once count once.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the root directory has no entries.
    pub fn is_empty(&self) -> bool {
        self.trees[0].len == 0
    }

    /// Number of entries that a walk from the root meets.
    pub const fn expanded_len(&self) -> u64 {
        self.expanded
    }

    /// All trees, in stored order.
    pub fn trees(&self) -> impl ExactSizeIterator<Item = TreeIndex> + use<> {
        // the assembler refuses more trees than a u32 counts
        (0..self.trees.len() as u32).map(TreeIndex)
    }

    /// The digest of a tree.
    pub fn tree_digest(&self, tree: TreeIndex) -> Digest {
        self.trees[tree.at()].digest
    }

    /// Number of entries of a tree.
    pub fn tree_len(&self, tree: TreeIndex) -> usize {
        self.trees[tree.at()].len as usize
    }

    /// The entries of a tree in stored order.
    pub fn entries(&self, tree: TreeIndex) -> Entries<'_> {
        let record = self.trees[tree.at()];
        let order = match record.order {
            StoredOrder::ByName => EntryOrder::ByName,
            StoredOrder::TreesFirst => EntryOrder::Trees,
            StoredOrder::Listed(at) => {
                let at = at as usize;
                EntryOrder::Listed(&self.listed[at..at + record.len as usize])
            }
        };
        Entries { manifest: self, record, next: 0, left: record.len, order }
    }

    /// The entries of a tree sorted by name.
    pub fn entries_by_name(&self, tree: TreeIndex) -> Entries<'_> {
        let record = self.trees[tree.at()];
        Entries { manifest: self, record, next: 0, left: record.len, order: EntryOrder::ByName }
    }

    /// The entry of that name.
    pub fn find(&self, tree: TreeIndex, name: Name<'_>) -> Option<EntryRef<'_>> {
        let record = self.trees[tree.at()];
        let entries = &self.entries[record.start as usize..][..record.len as usize];
        let at = entries.binary_search_by(|entry| self.name(entry).as_bytes().cmp(name.as_bytes()));
        at.ok().map(|at| self.entry(&entries[at]))
    }

    /// Every blob entry: payload, size and mode. A payload comes as often as entries name it.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64, u32)> + '_ {
        let blobs = self.entries.iter().filter(|entry| entry.kind == EntryKind::Blob);
        blobs.map(|entry| (entry.object, entry.size, entry.mode))
    }

    /// The digest of the manifest.
    pub fn digest(&self, strategy: DigestStrategy) -> Digest {
        let mut hasher = strategy.hasher(ObjectKind::Manifest);
        self.write_body(|part| hasher.update(part));
        hasher.finish()
    }

    /// Gives out, part by part, what is hashed, which is also the legacy encoding.
    pub(crate) fn write_body(&self, mut write: impl FnMut(&[u8])) {
        let mut body = Vec::new();
        for tree in self.trees() {
            body.clear();
            self.write_tree_body(tree, &mut body);
            if tree == TreeIndex::ROOT {
                body.extend_from_slice(&(self.trees.len() as u64 - 1).to_be_bytes());
            }
            write(&body);
        }
    }

    fn write_tree_body(&self, tree: TreeIndex, body: &mut Vec<u8>) {
        let record = self.trees[tree.at()];
        body.extend_from_slice(&u64::from(record.len).to_be_bytes());
        for entry in &self.entries[record.start as usize..][..record.len as usize] {
            write_entry_body(&self.entry(entry), body);
        }
    }

    fn name(&self, entry: &EntryRecord) -> Name<'_> {
        let start = entry.name_start as usize;
        Name::trusted(&self.names.as_bytes()[start..start + usize::from(entry.name_len)])
    }

    fn entry(&self, entry: &EntryRecord) -> EntryRef<'_> {
        EntryRef {
            name: self.name(entry),
            kind: entry.kind,
            mode: entry.mode,
            size: entry.size,
            object: entry.object,
            tree: (entry.kind == EntryKind::Tree).then_some(entry.tree),
        }
    }

    /// The entry at a place of the array; the places of a tree's entries are consecutive.
    pub(crate) fn entry_at(&self, at: u32) -> EntryRef<'_> {
        self.entry(&self.entries[at as usize])
    }

    /// The places of a tree's entries, sorted by name.
    pub(crate) fn places(&self, tree: TreeIndex) -> std::ops::Range<u32> {
        let record = &self.trees[tree.at()];
        record.start..record.start + record.len
    }
}

/// Appends what is hashed for an entry.
pub(crate) fn write_entry_body(entry: &EntryRef<'_>, body: &mut Vec<u8>) {
    body.extend_from_slice(entry.object.as_bytes());
    body.extend_from_slice(match entry.kind {
        EntryKind::Blob => b"file\0",
        EntryKind::Tree => b"tree\0",
        EntryKind::Mask => b"mask\0",
    });
    body.extend_from_slice(&u64::from(entry.mode).to_be_bytes());
    body.extend_from_slice(&entry.size.to_be_bytes());
    body.extend_from_slice(entry.name.as_bytes());
    body.push(0);
}

/// Two manifests are equal when they hold the same trees in the same stored order.
impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.trees.len() == other.trees.len()
            && self.trees().all(|tree| {
                self.tree_digest(tree) == other.tree_digest(tree)
                    && self.entries(tree).eq(other.entries(tree))
            })
    }
}

impl Eq for Manifest {}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for tree in self.trees() {
            map.entry(&tree.0, &self.entries(tree).collect::<Vec<_>>());
        }
        map.finish()
    }
}

/// The entries of one tree.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    manifest: &'a Manifest,
    record: TreeRecord,
    /// Where in the order the search for the next entry starts.
    next: u32,
    left: u32,
    order: EntryOrder<'a>,
}

#[derive(Debug, Clone, Copy)]
enum EntryOrder<'a> {
    ByName,
    /// Trees first: now the trees are given out.
    Trees,
    /// Trees first: now the others.
    Others,
    Listed(&'a [u32]),
}

impl<'a> Entries<'a> {
    fn record_at(&self, at: u32) -> &'a EntryRecord {
        &self.manifest.entries[(self.record.start + at) as usize]
    }

    /// The next entry that is a tree, or that is none.
    fn next_where(&mut self, tree: bool) -> Option<&'a EntryRecord> {
        while self.next < self.record.len {
            let entry = self.record_at(self.next);
            self.next += 1;
            if (entry.kind == EntryKind::Tree) == tree {
                return Some(entry);
            }
        }
        None
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = EntryRef<'a>;

    fn next(&mut self) -> Option<EntryRef<'a>> {
        if self.left == 0 {
            return None;
        }
        let entry = match self.order {
            EntryOrder::ByName => {
                self.next += 1;
                self.record_at(self.next - 1)
            }
            EntryOrder::Listed(order) => {
                self.next += 1;
                self.record_at(order[self.next as usize - 1])
            }
            EntryOrder::Others => self.next_where(false)?,
            EntryOrder::Trees => match self.next_where(true) {
                Some(entry) => entry,
                None => {
                    (self.order, self.next) = (EntryOrder::Others, 0);
                    self.next_where(false)?
                }
            },
        };
        self.left -= 1;
        Some(self.manifest.entry(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Entries<'_> {}
impl FusedIterator for Entries<'_> {}
