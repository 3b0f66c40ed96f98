//! Walks through a view beside its base, as far as the view is listed.

use std::collections::BTreeMap;

use super::DiffError;
use crate::entry::{blob_mode, directory_mode, mode};
use crate::{
    BlobEntry, Dir, Live, MergedEntry, MergedTree, Name, NameBuf, NodeKind, Position, Stack,
};

/// Is told what differs.
pub(super) trait Sink<'a> {
    /// A directory that may differ; what follows is in it, until it is left.
    ///
    /// `path` ends with its name. `before` is what the base has at the path.
    fn enter(&mut self, path: &[u8], before: Option<&MergedEntry<'a>>, mode: u32);

    /// A file or link that differs. What the base has at the path may be a directory.
    fn blob(
        &mut self,
        path: &[u8],
        before: Option<&MergedEntry<'a>>,
        after: &BlobEntry,
    ) -> Result<(), DiffError>;

    /// The base's entry is gone.
    fn removed(&mut self, path: &[u8], before: &MergedEntry<'a>) -> Result<(), DiffError>;

    /// The end of the directory entered last.
    fn leave(&mut self, path: &[u8]) -> Result<(), DiffError>;
}

/// What the view has under a name.
enum Wanted<'l> {
    Same,
    LeftOut,
    Blob(BlobEntry),
    Directory { mode: u32, listing: Listing<'l> },
}

/// What the view has in a directory.
#[derive(Clone, Copy)]
pub(super) enum Listing<'l> {
    Live(&'l BTreeMap<NameBuf, Live>),
    Tree(&'l MergedTree, Position),
}

/// A directory to be compared.
struct Job<'a, 'l> {
    name: Name<'l>,
    before: Option<MergedEntry<'a>>,
    mode: u32,
    listing: Listing<'l>,
}

/// A directory being compared.
struct Level<'a, 'l> {
    /// Length of its path.
    path: usize,
    left: std::vec::IntoIter<Job<'a, 'l>>,
}

pub(super) struct Walk<'a, 'l, S> {
    pub(super) base: &'l Stack<'a>,
    pub(super) sink: S,
    path: Vec<u8>,
}

impl<'a, 'l, S: Sink<'a>> Walk<'a, 'l, S>
where
    'a: 'l,
{
    pub(super) fn new(base: &'l Stack<'a>, sink: S) -> Self {
        Self { base, sink, path: Vec::new() }
    }

    /// Compares the whole view; not even the sink hears of a root that is the same.
    pub(super) fn live(&mut self, root: &'l Live) -> Result<(), DiffError> {
        match self.wanted(root)? {
            Wanted::Same | Wanted::LeftOut => Ok(()),
            Wanted::Blob(_) => Err(DiffError::RootIsNoDirectory),
            Wanted::Directory { listing, .. } => self.root(listing),
        }
    }

    /// Compares a root with this listing.
    pub(super) fn root(&mut self, listing: Listing<'l>) -> Result<(), DiffError> {
        let root = MergedEntry {
            name: Name::ROOT,
            kind: NodeKind::Directory,
            mode: mode::ROOT,
            size: 0,
            object: crate::Digest::NULL,
            dir: Some(self.base.root()),
        };
        let job = Job { name: Name::ROOT, before: Some(root), mode: mode::ROOT, listing };
        // A chain of directories may be longer than the stack is deep, hence no recursion.
        let mut levels = vec![self.enter(&job)?];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path);
            if let Some(job) = level.left.next() {
                levels.push(self.enter(&job)?);
            } else {
                self.sink.leave(&self.path)?;
                levels.pop();
            }
        }
        Ok(())
    }

    /// Compares the entries of a directory, and gives those that are directories for later.
    fn enter(&mut self, job: &Job<'a, 'l>) -> Result<Level<'a, 'l>, DiffError> {
        self.push(job.name);
        self.sink.enter(&self.path, job.before.as_ref(), job.mode);
        let below = job.before.as_ref().and_then(|before| before.dir.as_ref());
        let below = below.map_or_else(Vec::new, |dir| self.base.list(dir));
        let mut below = below.into_iter().peekable();
        let path = self.path.len();
        let mut jobs = Vec::new();
        match job.listing {
            Listing::Live(entries) => {
                for (name, live) in entries {
                    let name = name.as_name();
                    let before = self.pass(&mut below, name)?;
                    self.push(name);
                    let wanted = self.wanted(live)?;
                    jobs.extend(self.entry(name, before, wanted)?);
                    self.path.truncate(path);
                }
            }
            Listing::Tree(tree, position) => {
                for child in tree.children(position).map(Position) {
                    let name = tree.name(child);
                    let before = self.pass(&mut below, name)?;
                    self.push(name);
                    jobs.extend(self.entry(name, before, wanted_node(tree, child))?);
                    self.path.truncate(path);
                }
            }
        }
        for gone in below {
            self.removed(&gone)?;
        }
        Ok(Level { path, left: jobs.into_iter() })
    }

    /// Goes on in the base's listing up to a name; the base's entry of that name, if any.
    fn pass(
        &mut self,
        below: &mut std::iter::Peekable<impl Iterator<Item = MergedEntry<'a>>>,
        name: Name<'_>,
    ) -> Result<Option<MergedEntry<'a>>, DiffError> {
        while let Some(gone) = below.next_if(|entry| entry.name.as_bytes() < name.as_bytes()) {
            self.removed(&gone)?;
        }
        Ok(below.next_if(|entry| entry.name.as_bytes() == name.as_bytes()))
    }

    fn removed(&mut self, gone: &MergedEntry<'a>) -> Result<(), DiffError> {
        let path = self.path.len();
        self.push(gone.name);
        self.sink.removed(&self.path, gone)?;
        self.path.truncate(path);
        Ok(())
    }

    /// Compares one entry.
    fn entry(
        &mut self,
        name: Name<'l>,
        before: Option<MergedEntry<'a>>,
        wanted: Wanted<'l>,
    ) -> Result<Option<Job<'a, 'l>>, DiffError> {
        match wanted {
            Wanted::Same if before.is_none() => {
                Err(DiffError::NothingBelow { path: shown(&self.path) })
            }
            Wanted::Same | Wanted::LeftOut => Ok(None),
            Wanted::Blob(after) => {
                let same = before.as_ref().is_some_and(|before| is_blob(before, &after));
                if !same {
                    self.sink.blob(&self.path, before.as_ref(), &after)?;
                }
                Ok(None)
            }
            Wanted::Directory { mode, listing } => {
                let dir = before.as_ref().and_then(|before| before.dir.as_ref());
                let same = dir.is_some_and(|dir| self.is_same(dir, listing));
                Ok((!same).then_some(Job { name, before, mode, listing }))
            }
        }
    }

    /// Whether a directory of the base is where it always was; its mode is the same then, too.
    fn is_same(&self, dir: &Dir, listing: Listing<'_>) -> bool {
        match (listing, self.base.bottom(), dir.is_only_bottom()) {
            (Listing::Tree(tree, position), Some(bottom), Some(before)) => {
                std::ptr::eq(tree, bottom) && position == before
            }
            _ => false,
        }
    }

    fn wanted(&self, live: &'l Live) -> Result<Wanted<'l>, DiffError> {
        Ok(match live {
            Live::Same => Wanted::Same,
            Live::LeftOut => Wanted::LeftOut,
            Live::Blob(blob) => Wanted::Blob(BlobEntry { mode: blob_mode(blob.mode), ..*blob }),
            Live::Directory { mode, entries } => {
                Wanted::Directory { mode: directory_mode(*mode), listing: Listing::Live(entries) }
            }
            Live::Lower(position) => {
                let bottom = self.base.bottom().filter(|bottom| bottom.contains(*position));
                let bottom = bottom.ok_or_else(|| DiffError::NoSuchNode {
                    path: shown(&self.path),
                    position: position.0,
                })?;
                wanted_node(bottom, *position)
            }
        })
    }

    fn push(&mut self, name: Name<'_>) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
    }
}

fn wanted_node(tree: &MergedTree, position: Position) -> Wanted<'_> {
    let node = tree.node(position);
    match node.kind {
        NodeKind::Directory => {
            Wanted::Directory { mode: node.mode, listing: Listing::Tree(tree, position) }
        }
        NodeKind::File | NodeKind::Symlink => {
            Wanted::Blob(BlobEntry { mode: node.mode, size: node.size, object: node.object })
        }
    }
}

fn is_blob(before: &MergedEntry<'_>, after: &BlobEntry) -> bool {
    before.dir.is_none()
        && (before.mode, before.size, before.object) == (after.mode, after.size, after.object)
}

/// A path for an error message.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
