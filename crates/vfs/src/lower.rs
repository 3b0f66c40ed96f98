//! The immutable trees below a view, addressed by inode number.
//!
//! An inode of the lower tree is its position there: [`Ino`] = first number of the tree's range +
//! position. So nothing has to be remembered for what nobody touched. A view starts with one tree,
//! whose root is [`Ino::ROOT`]; when its stack is exchanged while it lives, the new tree takes a
//! fresh range above all numbers given so far, and no number ever changes its meaning.

use std::sync::Arc;

use spfs_model::{Digest, MergedTree, Name, NodeKind, Position};

use crate::api::{FileType, Ino};

/// One tree and the numbers of its inodes.
#[derive(Debug, Clone)]
struct Range {
    first: u64,
    tree: Arc<MergedTree>,
}

impl Range {
    fn ino(&self, position: u32) -> Ino {
        Ino(self.first + u64::from(position))
    }
}

/// All lower trees of a view, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Lower {
    ranges: Vec<Range>,
}

/// What a lower tree says of one inode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LowerNode<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) file_type: FileType,
    pub(crate) perm: u16,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

impl Lower {
    /// Takes the first tree. Its root becomes [`Ino::ROOT`], all other positions count from `first`,
    /// which is [`Ino::ROOT`]'s number for a view whose stack has never been exchanged.
    pub(crate) fn new(tree: Arc<MergedTree>, first: u64) -> Self {
        Self { ranges: vec![Range { first, tree }] }
    }

    /// Returns the number that position 0 of the current tree has.
    pub(crate) fn current_first(&self) -> u64 {
        self.current_range().first
    }

    /// Returns the first number above those of the first tree.
    pub(crate) fn first_free(&self) -> u64 {
        let first = &self.ranges[0];
        first.first + first.tree.len() as u64
    }

    /// Adds the tree of another stack with numbers from `first` on and makes it the current one.
    /// Returns the first number above its range.
    pub(crate) fn push(&mut self, first: u64, tree: Arc<MergedTree>) -> u64 {
        let end = first + tree.len() as u64;
        self.ranges.push(Range { first, tree });
        end
    }

    /// Forgets former trees of which all numbers are below `oldest`.
    pub(crate) fn forget_before(&mut self, oldest: Ino) {
        let current = self.current_first();
        self.ranges.retain(|range| {
            range.first == current || range.first + range.tree.len() as u64 > oldest.0
        });
    }

    /// Returns the tree of the current stack.
    pub(crate) fn current(&self) -> &Arc<MergedTree> {
        &self.current_range().tree
    }

    fn current_range(&self) -> &Range {
        self.ranges.last().unwrap_or_else(|| unreachable!("a view has at least one lower tree"))
    }

    /// Returns the position of an inode in the current tree, if it is there.
    pub(crate) fn current_position(&self, ino: Ino) -> Option<Position> {
        if ino == Ino::ROOT {
            return Some(Position::ROOT);
        }
        let range = self.current_range();
        let position = ino.0.checked_sub(range.first)?;
        (position < range.tree.len() as u64).then_some(Position(position as u32))
    }

    fn locate(&self, ino: Ino) -> Option<(&Range, Position)> {
        if ino == Ino::ROOT {
            return Some((self.current_range(), Position::ROOT));
        }
        self.ranges.iter().find_map(|range| {
            let position = ino.0.checked_sub(range.first)?;
            (position < range.tree.len() as u64).then_some((range, Position(position as u32)))
        })
    }

    /// Tells whether the number belongs to a lower tree.
    pub(crate) fn contains(&self, ino: Ino) -> bool {
        self.locate(ino).is_some()
    }

    /// Returns what the lower tree says of an inode.
    pub(crate) fn node(&self, ino: Ino) -> Option<LowerNode<'_>> {
        let (range, position) = self.locate(ino)?;
        let node = range.tree.node(position);
        Some(LowerNode {
            name: if position == Position::ROOT { b"" } else { node.name.as_bytes() },
            file_type: file_type(node.kind),
            perm: (node.mode & 0o7777) as u16,
            size: node.size,
            digest: node.object,
        })
    }

    /// Returns the directory that holds an inode in its own tree; the root is its own parent.
    pub(crate) fn parent(&self, ino: Ino) -> Option<Ino> {
        let (range, position) = self.locate(ino)?;
        let parent = range.tree.parent(position);
        Some(if parent == Position::ROOT { Ino::ROOT } else { range.ino(parent.0) })
    }

    /// Returns the inode of a name in a lower directory.
    pub(crate) fn child(&self, dir: Ino, name: Name<'_>) -> Option<(Ino, FileType)> {
        let (range, position) = self.locate(dir)?;
        let child = range.tree.child(position, name)?;
        Some((range.ino(child.0), file_type(range.tree.node(child).kind)))
    }

    /// Returns the inodes of a lower directory's entries: adjacent numbers in name order.
    pub(crate) fn children(&self, dir: Ino) -> std::ops::Range<u64> {
        match self.locate(dir) {
            Some((range, position)) => {
                let children = range.tree.children(position);
                range.ino(children.start).0..range.ino(children.end).0
            }
            None => 0..0,
        }
    }

    /// Returns the inodes of everything below a lower directory, level by level: a tree is laid out
    /// breadth-first, so each level's numbers are adjacent.
    pub(crate) fn levels_below(&self, dir: Ino) -> impl Iterator<Item = std::ops::Range<u64>> {
        let level = |range: std::ops::Range<u64>| (!range.is_empty()).then_some(range);
        std::iter::successors(level(self.children(dir)), move |above| {
            let (first, last) = (Ino(above.start), Ino(above.end - 1));
            level(self.children(first).start..self.children(last).end)
        })
    }

    /// Returns the number of sub-directories of a lower directory.
    pub(crate) fn subdirectories(&self, dir: Ino) -> u32 {
        self.locate(dir).map_or(0, |(range, position)| range.tree.subdirectories(position))
    }

    /// Returns the number of entries of a lower directory.
    pub(crate) fn child_count(&self, dir: Ino) -> u64 {
        let children = self.children(dir);
        children.end - children.start
    }
}

fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Directory => FileType::Directory,
        NodeKind::File => FileType::Regular,
        NodeKind::Symlink => FileType::Symlink,
    }
}
