//! The difference as a list of paths.

use std::collections::BTreeMap;

use super::DiffError;
use super::walk::{Listing, Sink, Walk};
use crate::{
    BlobEntry, Digest, Live, MergedEntry, MergedNode, MergedTree, NodeKind, Position, Stack,
};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The names from the root down, joined by `/`.
    pub path: Vec<u8>,
    /// How it differs.
    pub kind: ChangeKind,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added(Shown),
    /// It is gone.
    Removed(Shown),
    /// It is something else now. A directory in which something differs counts, too, although it
    /// may be the same itself.
    Changed {
        /// What it was.
        before: Shown,
        /// What it is.
        after: Shown,
    },
}

/// What is shown at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// What it is.
    pub kind: NodeKind,
    /// The whole `st_mode`.
    pub mode: u32,
    /// The size in bytes; 0 for directories.
    pub size: u64,
    /// The payload; null for directories.
    pub object: Digest,
}

impl Shown {
    const fn directory(mode: u32) -> Self {
        Self { kind: NodeKind::Directory, mode, size: 0, object: Digest::NULL }
    }
}

impl From<&MergedEntry<'_>> for Shown {
    fn from(entry: &MergedEntry<'_>) -> Self {
        Self { kind: entry.kind, mode: entry.mode, size: entry.size, object: entry.object }
    }
}

impl From<&BlobEntry> for Shown {
    fn from(blob: &BlobEntry) -> Self {
        let BlobEntry { mode, size, object } = *blob;
        Self { kind: NodeKind::of_blob(mode), mode, size, object }
    }
}

/// Every path at which a view differs from its base, a directory before what is in it.
pub fn changes(base: &Stack<'_>, live: &Live) -> Result<Vec<Change>, DiffError> {
    let mut walk = Walk::new(base, ListSink::new(base));
    walk.live(live)?;
    Ok(walk.sink.sorted())
}

/// Every path at which `after` differs from `before`, a directory before what is in it.
pub fn changes_between(before: &MergedTree, after: &MergedTree) -> Result<Vec<Change>, DiffError> {
    let base = Stack::on(before, Vec::new());
    let mut walk = Walk::new(&base, ListSink::new(&base));
    walk.root(Listing::Tree(after, Position::ROOT))?;
    Ok(walk.sink.sorted())
}

/// The difference between a tree and what a view shows, which is told by how it differs from the
/// layers it stands on.
pub fn changes_from(before: &MergedTree, layers: &MergedTree, live: &[Change]) -> Vec<Change> {
    let mut after = paths(layers);
    for change in live {
        let key = key(&change.path);
        match change.kind {
            ChangeKind::Removed(_) => remove_with_inside(&mut after, &key),
            ChangeKind::Added(shown) | ChangeKind::Changed { after: shown, .. } => {
                if shown.kind != NodeKind::Directory {
                    remove_with_inside(&mut after, &key);
                }
                after.insert(key, shown);
            }
        }
    }
    let before = paths(before);
    let mut changes = Vec::new();
    let mut above = std::collections::HashSet::new();
    for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
        if before.get(path) != after.get(path) {
            above.extend((1..path.len()).map(|len| &path[..len]));
        }
    }
    for (path, shown) in &before {
        let kind = match after.get(path) {
            None => ChangeKind::Removed(*shown),
            Some(now) if now != shown || above.contains(path.as_slice()) => {
                ChangeKind::Changed { before: *shown, after: *now }
            }
            Some(_) => continue,
        };
        changes.push(Change { path: path.join(&b'/'), kind });
    }
    let new = after.iter().filter(|(path, _)| !before.contains_key(*path));
    changes.extend(
        new.map(|(path, shown)| Change { path: path.join(&b'/'), kind: ChangeKind::Added(*shown) }),
    );
    sort(&mut changes);
    changes
}

/// The names on the way to a path, which sort as paths do.
type Key = Vec<Vec<u8>>;

fn key(path: &[u8]) -> Key {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

/// Removes a path and all below it.
fn remove_with_inside(paths: &mut BTreeMap<Key, Shown>, at: &Key) {
    let inside = paths.range(at.clone()..).take_while(|(path, _)| path.starts_with(at));
    let inside: Vec<Key> = inside.map(|(path, _)| path.clone()).collect();
    for path in &inside {
        paths.remove(path);
    }
}

/// Everything below the root of a tree.
fn paths(tree: &MergedTree) -> BTreeMap<Key, Shown> {
    let positions = (1..tree.len() as u32).map(Position);
    let entry = |at: Position| {
        let MergedNode { kind, mode, size, object, .. } = tree.node(at);
        (key(&tree.path(at)), Shown { kind, mode, size, object })
    };
    positions.map(entry).collect()
}

fn sort(changes: &mut [Change]) {
    let is_slash = |byte: &u8| *byte == b'/';
    changes.sort_by(|a, b| a.path.split(is_slash).cmp(b.path.split(is_slash)));
}

struct ListSink<'a, 'l> {
    base: &'l Stack<'a>,
    changes: Vec<Change>,
    /// Where the entered directories stand in the list; the root stands nowhere.
    entered: Vec<Option<usize>>,
}

impl<'a, 'l> ListSink<'a, 'l> {
    const fn new(base: &'l Stack<'a>) -> Self {
        Self { base, changes: Vec::new(), entered: Vec::new() }
    }

    fn push(&mut self, path: &[u8], before: Option<Shown>, after: Shown) {
        let kind = match before {
            None => ChangeKind::Added(after),
            Some(before) => ChangeKind::Changed { before, after },
        };
        self.changes.push(Change { path: path.to_vec(), kind });
    }

    /// Lists everything inside a directory of the base as gone.
    fn removed_inside(&mut self, path: &[u8], entry: &MergedEntry<'a>) {
        let mut pending = vec![(path.to_vec(), entry.clone())];
        while let Some((path, entry)) = pending.pop() {
            for child in entry.dir.iter().flat_map(|dir| self.base.list(dir)) {
                let path = [&path, child.name.as_bytes()].join(&b'/');
                let kind = ChangeKind::Removed((&child).into());
                self.changes.push(Change { path: path.clone(), kind });
                if child.dir.is_some() {
                    pending.push((path, child));
                }
            }
        }
    }

    fn sorted(mut self) -> Vec<Change> {
        sort(&mut self.changes);
        self.changes
    }
}

impl<'a> Sink<'a> for ListSink<'a, '_> {
    fn enter(&mut self, path: &[u8], before: Option<&MergedEntry<'a>>, mode: u32) {
        let root = self.entered.is_empty();
        self.entered.push((!root).then_some(self.changes.len()));
        if !root {
            self.push(path, before.map(Shown::from), Shown::directory(mode));
        }
    }

    fn blob(
        &mut self,
        path: &[u8],
        before: Option<&MergedEntry<'a>>,
        after: &BlobEntry,
    ) -> Result<(), DiffError> {
        self.push(path, before.map(Shown::from), after.into());
        if let Some(before) = before {
            self.removed_inside(path, before);
        }
        Ok(())
    }

    fn removed(&mut self, path: &[u8], before: &MergedEntry<'a>) -> Result<(), DiffError> {
        let kind = ChangeKind::Removed(before.into());
        self.changes.push(Change { path: path.to_vec(), kind });
        self.removed_inside(path, before);
        Ok(())
    }

    fn leave(&mut self, _path: &[u8]) -> Result<(), DiffError> {
        let Some(Some(at)) = self.entered.pop() else { return Ok(()) };
        let same = match self.changes[at].kind {
            ChangeKind::Changed { before, after } => before == after,
            ChangeKind::Added(_) | ChangeKind::Removed(_) => false,
        };
        if same && at + 1 == self.changes.len() {
            self.changes.pop();
        }
        Ok(())
    }
}
