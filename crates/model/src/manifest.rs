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

    /// Bytes of the names of all stored entries.
    pub(crate) fn names_len(&self) -> usize {
        self.names.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn raw<'a>(kind: EntryKind, mode: u32, size: u64, object: &str, name: &'a str) -> RawEntry<'a> {
        let object = object.parse().unwrap();
        RawEntry { name: name.as_bytes(), kind, mode, size, object }
    }

    fn tree_digest(entries: &[RawEntry<'_>]) -> String {
        let mut assembler = Assembler::new(1, entries.len());
        for entry in entries {
            assembler.entry(entry).unwrap();
        }
        assembler.end_tree().unwrap().to_string()
    }

    fn entry_digest(entry: &RawEntry<'_>) -> String {
        let mut body = Vec::new();
        let RawEntry { kind, mode, size, object, .. } = *entry;
        let name = Name::new(entry.name).unwrap();
        write_entry_body(&EntryRef { name, kind, mode, size, object, tree: None }, &mut body);
        Digest::of(&body).to_string()
    }

    // Cases of upstream's own tests: the first writers stored sizes of directories.

    #[test]
    fn entries_of_old_data_keep_their_digests() {
        let directory = raw(
            EntryKind::Tree,
            0o040_755,
            36,
            "K53HFSBQEYR4SVFIDUGT63IE233MAMVKBQFXLA7M6HCR2AEMKIJQ====",
            "testcase",
        );
        assert_eq!(
            entry_digest(&directory),
            "VTTVI5AZULVVVIWRQMWKJ67TUAGWIECAS2GVTA7Q2QINS4XK4HQQ===="
        );
        let file = raw(
            EntryKind::Blob,
            0o100_644,
            3293,
            "ZD25L3AN5E3LTZ6MDQOIZUV6KRV5Y4SSXRE4YMYZJJ3PXCQ3FMQA====",
            "swig_full_names.xsl",
        );
        assert_eq!(entry_digest(&file), "GP7DYE22DYLH3I5MB33PW5Z3AZXZIBGOND7MX65KECBMHVMXBUHQ====");
    }

    #[test]
    fn trees_of_old_data_keep_their_digests() {
        let one = [raw(
            EntryKind::Tree,
            0o040_755,
            1,
            "CLWYXZVIKLJ2YUQC32ZLMZGDCVUOL577YAMRABDTZYTJNU6O6SYA====",
            "pkg",
        )];
        assert_eq!(tree_digest(&one), "CHDST3RTAIOJWFBV3OXFB2QZ4U5FTCCJIZXPEQJFCESZMIFZSPTA====");
        let file = |size, object, name| raw(EntryKind::Blob, 0o100_644, size, object, name);
        let mut many = [
            file(342, "NJDVDBWMXKU2BJG6L2LKLS3N3T47VUGXNPBY4BCHBLEEIRNSDILA====", ".helmignore"),
            file(911, "ULAX2BMLX3WKVI7YKRQLJEQDEWJRSDPCFPZPGBJCIQZJ4FIVZIKA====", "Chart.yaml"),
            raw(
                EntryKind::Tree,
                0o040_755,
                1,
                "6LMAERTKGND5WAA4VQQLDAVPXZIHGBOVUCVS7WEGHQIZPWSRJ5FA====",
                "templates",
            ),
            file(1699, "IZFXS6UQJTHYBVYK3KYPPZC3FYX6NL3L3MWXAJUULAJMFTGZPODQ====", "values.yaml"),
        ];
        let known = "KP7FNGMD5XRT5KGZRDT5R33M3BGFS2SJG5DHFKJV3KKWZG3AGVXA====";
        assert_eq!(tree_digest(&many), known);
        // whatever order they are stored in
        many.reverse();
        assert_eq!(tree_digest(&many), known);
        many.swap(0, 2);
        assert_eq!(tree_digest(&many), known);
    }

    #[test]
    fn entries_come_in_stored_order_and_are_found_by_name() {
        let empty = Digest::of(&[0; 8]).to_string();
        let payload = Digest::EMPTY.to_string();
        let file = |name| raw(EntryKind::Blob, 0o100_644, 0, &payload, name);
        let directory = |name| raw(EntryKind::Tree, 0o040_755, 0, &empty, name);
        let orders = [
            [directory("b"), directory("d"), file("a"), file("c")],
            [file("a"), directory("b"), file("c"), directory("d")],
            [file("c"), directory("d"), directory("b"), file("a")],
        ];
        for stored in orders {
            let mut assembler = Assembler::new(2, 4);
            for entry in &stored {
                assembler.entry(entry).unwrap();
            }
            assembler.end_tree().unwrap();
            assembler.end_tree().unwrap();
            let manifest = assembler.finish().unwrap();
            let root = manifest.root();
            let given: Vec<_> = manifest.entries(root).map(|e| e.name.as_bytes()).collect();
            assert_eq!(given, stored.map(|entry| entry.name));
            let sorted: Vec<_> =
                manifest.entries_by_name(root).map(|e| e.name.as_bytes()).collect();
            assert_eq!(sorted, [b"a", b"b", b"c", b"d"]);
            for name in [&b"a"[..], b"b", b"c", b"d"] {
                let name = Name::new(name).unwrap();
                assert_eq!(manifest.find(root, name).unwrap().name, name);
            }
            assert_eq!(manifest.find(root, Name::new(b"ab").unwrap()), None);
            assert_eq!(manifest.expanded_len(), 4);
        }
    }
}
