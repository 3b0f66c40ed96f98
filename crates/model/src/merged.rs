//! A stack of layers put together into one tree.

use std::fmt;
use std::ops::Range;

use crate::entry::mode;
use crate::{Digest, Name, NodeKind};

/// The index of a node in a [`MergedTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

impl Position {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    const fn at(self) -> usize {
        self.0 as usize
    }
}

/// One node of a [`MergedTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergedNode<'a> {
    /// Its name; [`Name::ROOT`] for the root.
    pub name: Name<'a>,
    /// What it is.
    pub kind: NodeKind,
    /// The whole `st_mode`, its type bits always agreeing with `kind`.
    pub mode: u32,
    /// The size in bytes; 0 for directories.
    pub size: u64,
    /// The payload; null for directories.
    pub object: Digest,
    /// The directory it is in; the root is its own.
    pub parent: Position,
}

/// What a stack shows: one immutable tree, laid out breadth first.
///
/// The children of a directory are adjacent and sorted by name, and follow the children of every
/// directory before it. So a node needs no list of children, and a position identifies a node
/// within the same stack for ever.
pub struct MergedTree {
    objects: Vec<Digest>,
    modes: Vec<u32>,
    /// Of a directory: the number of its sub-directories.
    sizes: Vec<u64>,
    parents: Vec<u32>,
    /// Where the children of a node start; they end where those of the next node start. One more
    /// than there are nodes.
    children: Vec<u32>,
    names: Names,
}

impl MergedTree {
    /// The tree of no layers: an empty root directory.
    pub fn empty() -> Self {
        let mut tree = TreeWriter::new(0);
        tree.begin_children(Position::ROOT);
        tree.finish()
    }

    /// Number of nodes; never 0, since the root is one.
    #[expect(clippy::len_without_is_empty, reason = "there is always a root")]
    pub fn len(&self) -> usize {
        self.modes.len()
    }

    /// Whether there is a node at that position.
    pub fn contains(&self, position: Position) -> bool {
        position.at() < self.len()
    }

    /// The node at a position of this tree.
    pub fn node(&self, position: Position) -> MergedNode<'_> {
        let at = position.at();
        let kind = self.kind(position);
        MergedNode {
            name: self.name(position),
            kind,
            mode: self.modes[at],
            size: if kind == NodeKind::Directory { 0 } else { self.sizes[at] },
            object: self.objects[at],
            parent: Position(self.parents[at]),
        }
    }

    /// What the node is.
    pub fn kind(&self, position: Position) -> NodeKind {
        match self.modes[position.at()] & mode::TYPE {
            mode::DIRECTORY => NodeKind::Directory,
            mode::SYMLINK => NodeKind::Symlink,
            _ => NodeKind::File,
        }
    }

    /// The name of the node.
    pub fn name(&self, position: Position) -> Name<'_> {
        Name::trusted(self.names.at(position.at()))
    }

    /// The positions of a directory's children, sorted by name; none for anything else.
    pub fn children(&self, position: Position) -> Range<u32> {
        self.children[position.at()]..self.children[position.at() + 1]
    }

    /// The child of that name.
    pub fn child(&self, position: Position, name: Name<'_>) -> Option<Position> {
        let Range { start: mut low, end: mut high } = self.children(position);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.names.at(middle as usize).cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(Position(middle)),
            }
        }
        None
    }

    /// How many of a directory's children are directories; 0 for anything else.
    pub fn subdirectories(&self, position: Position) -> u32 {
        match self.kind(position) {
            // counted as children, which are numbered by a u32
            NodeKind::Directory => self.sizes[position.at()] as u32,
            NodeKind::File | NodeKind::Symlink => 0,
        }
    }

    /// The directory that the node is in; the root is in itself.
    pub fn parent(&self, position: Position) -> Position {
        Position(self.parents[position.at()])
    }

    /// The names from the root to the node, joined by `/`; empty for the root.
    pub fn path(&self, position: Position) -> Vec<u8> {
        let mut up = Vec::new();
        let mut at = position;
        while at != Position::ROOT {
            up.push(at);
            at = self.parent(at);
        }
        let mut path = Vec::new();
        for at in up.into_iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(self.name(at).as_bytes());
        }
        path
    }

    /// Bytes of memory that the tree takes.
    pub fn memory(&self) -> usize {
        let per_node = size_of::<Digest>() + size_of::<u64>() + 2 * size_of::<u32>();
        self.modes.capacity() * per_node
            + self.children.capacity() * size_of::<u32>()
            + self.names.memory()
    }
}

/// Two trees are equal when every position holds the same.
impl PartialEq for MergedTree {
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects
            && self.modes == other.modes
            && self.sizes == other.sizes
            && self.parents == other.parents
            && self.children == other.children
            && self.names == other.names
    }
}

impl Eq for MergedTree {}

impl fmt::Debug for MergedTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // positions are numbered by a u32
        let nodes = (0..self.len() as u32).map(Position);
        f.debug_list()
            .entries(nodes.map(|position| {
                let MergedNode { mode, size, object, .. } = self.node(position);
                let path = self.path(position).escape_ascii().to_string();
                (position.0, path, format_args!("{mode:06o}").to_string(), size, object.short())
            }))
            .finish()
    }
}

/// Writes a [`MergedTree`] breadth first.
#[derive(Debug)]
pub(crate) struct TreeWriter(MergedTree);

impl TreeWriter {
    /// A writer with a root, and room for `nodes` more nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut writer = Self(MergedTree {
            objects: Vec::with_capacity(nodes + 1),
            modes: Vec::with_capacity(nodes + 1),
            sizes: Vec::with_capacity(nodes + 1),
            parents: Vec::with_capacity(nodes + 1),
            children: Vec::with_capacity(nodes + 2),
            names: Names::with_capacity(nodes + 1),
        });
        writer.child(Name::ROOT, mode::ROOT, 0, Digest::NULL, Position::ROOT);
        writer
    }

    /// Number of nodes so far.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.0.modes.len())
            .expect("2^32 nodes take more than 200 GB, so memory is exhausted before")
    }

    /// Says that the children of this node follow. Every node has its turn, in order.
    pub(crate) fn begin_children(&mut self, parent: Position) {
        debug_assert_eq!(self.0.children.len(), parent.at());
        self.0.children.push(self.len());
    }

    /// Adds a child; `mode` tells what it is.
    pub(crate) fn child(
        &mut self,
        name: Name<'_>,
        mode: u32,
        size: u64,
        object: Digest,
        parent: Position,
    ) {
        let tree = &mut self.0;
        let directory = mode & mode::TYPE == mode::DIRECTORY;
        if directory && !tree.modes.is_empty() {
            tree.sizes[parent.at()] += 1;
        }
        tree.objects.push(if directory { Digest::NULL } else { object });
        tree.modes.push(mode);
        tree.sizes.push(if directory { 0 } else { size });
        tree.parents.push(parent.0);
        tree.names.push(name.as_bytes());
    }

    /// The tree, when every node had its turn.
    pub(crate) fn finish(mut self) -> MergedTree {
        self.0.children.push(self.len());
        debug_assert_eq!(self.0.children.len(), self.0.modes.len() + 1);
        self.0.shrink();
        self.0
    }
}

impl MergedTree {
    fn shrink(&mut self) {
        self.objects.shrink_to_fit();
        self.modes.shrink_to_fit();
        self.sizes.shrink_to_fit();
        self.parents.shrink_to_fit();
        self.children.shrink_to_fit();
        self.names.shrink();
    }
}

/// Many names, one after the other, found by number.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    bytes: Vec<u8>,
    /// Where names start, counted from their group's start; one more than there are names.
    starts: Vec<u32>,
    /// Where groups of [`Names::GROUP`] start, so that names may exceed 4 GiB together.
    groups: Vec<u64>,
}

impl Names {
    const GROUP: usize = 4096;

    fn with_capacity(names: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(names.saturating_mul(16)),
            starts: {
                let mut starts = Vec::with_capacity(names + 1);
                starts.push(0);
                starts
            },
            groups: vec![0],
        }
    }

    fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        if self.starts.len().is_multiple_of(Self::GROUP) {
            self.groups.push(self.bytes.len() as u64);
        }
        // a group of 4096 names of 255 bytes is shorter than a u32 counts
        let group = self.groups[self.starts.len() / Self::GROUP];
        self.starts.push((self.bytes.len() as u64 - group) as u32);
    }

    fn at(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.start(at + 1)]
    }

    fn start(&self, at: usize) -> usize {
        self.groups[at / Self::GROUP] as usize + self.starts[at] as usize
    }

    fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.starts.capacity() * size_of::<u32>()
            + self.groups.capacity() * size_of::<u64>()
    }

    fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.starts.shrink_to_fit();
        self.groups.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_across_groups() {
        let mut names = Names::with_capacity(0);
        for number in 0..3 * Names::GROUP {
            names.push(number.to_string().as_bytes());
        }
        for number in 0..3 * Names::GROUP {
            assert_eq!(names.at(number), number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_empty_tree_has_a_root_without_children() {
        let tree = MergedTree::empty();
        assert_eq!(tree.len(), 1);
        assert!(tree.children(Position::ROOT).is_empty());
        assert_eq!(tree.child(Position::ROOT, Name::new(b"a").unwrap()), None);
        let root = tree.node(Position::ROOT);
        assert_eq!(
            (root.kind, root.mode, root.parent),
            (NodeKind::Directory, 0o040_777, Position::ROOT)
        );
        assert_eq!(tree.path(Position::ROOT), b"");
    }
}
