//! Names and attributes of a view: pure data, no I/O, no clock, no locks.
//!
//! Only *touched* inodes have state here; everything else is read from the lower tree by position.
//! An inode is not a path: a directory's listing maps names to inodes, a directory knows its parent,
//! and a file knows its names, so that a rename changes one listing entry and one parent, whatever
//! lies below. There are no whiteouts: a touched directory's listing is complete.
//!
//! Each change takes the time as an argument and is the same when the journal replays it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use spfs_model::{Name, NameBuf};

use crate::api::{
    Attr, Error, FileType, Ino, New, NewKind, Owner, Remove, Replace, Result, Timestamp,
};
use crate::cell::{Cells, FileCell};
use crate::lower::{Lower, LowerNode};

mod above;
mod attributes;
mod entries;
mod listing;
mod node;
mod restore;

pub(crate) use above::TouchedAbove;
pub(crate) use attributes::{AttrChange, SECURITY_CAPABILITY};
pub(crate) use entries::{Dentry, Entries};
pub(crate) use node::{Body, Directory, Meta, Names, Node, Target};

/// The most names one file may have; ext4 has the same limit (EXT4_LINK_MAX).
const LINKS_MAX: usize = 65_000;

/// The longest target of a symbolic link, in bytes: PATH_MAX without its NUL.
pub(crate) const TARGET_LEN_MAX: usize = 4095;

/// Attributes that all lower inodes share; the layer format stores neither owners nor times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LowerDefaults {
    pub(crate) owner: Owner,
    pub(crate) time: Timestamp,
}

/// All names and attributes of a view.
#[derive(Debug)]
pub(crate) struct Namespace {
    lower: Lower,
    defaults: LowerDefaults,
    nodes: HashMap<Ino, Node>,
    /// Touched inodes that no name leads to; somebody may hold them.
    orphans: BTreeSet<Ino>,
    /// Lower inodes that nothing leads to any more.
    gone: BTreeSet<Ino>,
    next: u64,
    /// Cells of files that are open or touched.
    pub(crate) cells: Cells,
    /// Counts commits; changes carry the generation they were made in.
    generation: u64,
    /// Changes up to this generation are in a layer of the stack.
    committed: u64,
    /// Touched inodes with changes that no layer has yet.
    changed: BTreeSet<Ino>,
}

impl Namespace {
    /// The names and attributes of a lower tree nobody has touched yet.
    pub(crate) fn new(lower: Lower, defaults: LowerDefaults) -> Self {
        Self {
            next: lower.first_free(),
            lower,
            defaults,
            nodes: HashMap::new(),
            orphans: BTreeSet::new(),
            gone: BTreeSet::new(),
            cells: Cells::default(),
            generation: 1,
            committed: 0,
            changed: BTreeSet::new(),
        }
    }

    pub(crate) fn lower(&self) -> &Lower {
        &self.lower
    }

    pub(crate) fn defaults(&self) -> LowerDefaults {
        self.defaults
    }

    /// The number that the next new inode gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Ino, &Node)> {
        self.nodes.iter().map(|(ino, node)| (*ino, node))
    }

    /// The cells of the touched regular files.
    pub(crate) fn touched_files(&self) -> impl Iterator<Item = &Arc<FileCell>> {
        self.nodes.values().filter_map(|node| match &node.body {
            Body::File { cell, .. } => Some(cell),
            _ => None,
        })
    }

    /// The touched inodes with changes that no layer has yet.
    pub(crate) fn changed(&self) -> &BTreeSet<Ino> {
        &self.changed
    }

    /// Tells whether an inode stands elsewhere than the stack has it.
    pub(crate) fn is_placed(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.placed > self.committed)
    }

    /// The generation of changes made now, and the last one that is in the stack.
    pub(crate) fn generations(&self) -> (u64, u64) {
        (self.generation, self.committed)
    }

    /// Goes on from a state that a journal has kept.
    pub(crate) fn restore_counters(&mut self, next: u64, generation: u64, committed: u64) {
        self.next = next;
        self.generation = generation;
        self.committed = committed;
        self.changed =
            self.nodes().filter(|(_, node)| node.changed > committed).map(|(ino, _)| ino).collect();
    }

    /// Puts back an inode that a journal has kept.
    pub(crate) fn restore_node(&mut self, ino: Ino, node: Node) {
        if node.is_orphan() {
            self.orphans.insert(ino);
        }
        self.nodes.insert(ino, node);
    }

    /// The next new inode gets this number; the journal says so.
    pub(crate) fn replay_number(&mut self, ino: Ino) {
        self.next = ino.0;
    }

    /// Begins a commit: changes from now on belong to the next one. Returns its generation.
    pub(crate) fn seal(&mut self) -> u64 {
        let sealed = self.generation;
        self.generation += 1;
        sealed
    }

    /// The changes up to `generation` are in the stack now.
    pub(crate) fn committed(&mut self, generation: u64) {
        self.committed = generation;
        let nodes = &self.nodes;
        self.changed.retain(|ino| nodes.get(ino).is_some_and(|node| node.changed > generation));
    }

    /// The type of an inode.
    pub(crate) fn type_of(&self, ino: Ino) -> Result<FileType> {
        match self.nodes.get(&ino) {
            Some(node) => Ok(node.file_type()),
            None => self.untouched(ino).map(|node| node.file_type),
        }
    }

    /// What the lower tree says of an inode nobody has touched, unless it is gone.
    fn untouched(&self, ino: Ino) -> Result<LowerNode<'_>> {
        if self.gone.contains(&ino) {
            return Err(Error::Stale);
        }
        self.lower.node(ino).ok_or(Error::Stale)
    }

    fn require_directory(&self, ino: Ino) -> Result<()> {
        match self.type_of(ino)? {
            FileType::Directory => Ok(()),
            _ => Err(Error::NotDirectory),
        }
    }

    /// No name leads to an inode that somebody holds: a restart will not know it, nor what is recorded
    /// of its attributes.
    pub(crate) fn is_removed(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(Node::is_orphan)
    }

    /// Fails for what was there before the stack was exchanged: it can be read as long as somebody
    /// holds it, but there is no place any more at which a change of it could be recorded.
    pub(crate) fn require_current(&self, ino: Ino) -> Result<()> {
        let is_current = ino == Ino::ROOT || ino.0 >= self.lower.current_first();
        if is_current { Ok(()) } else { Err(Error::Stale) }
    }

    /// Gives an inode state of its own: what the lower tree says, to begin with.
    pub(crate) fn touch(&mut self, ino: Ino) -> Result<&mut Node> {
        self.require_current(ino)?;
        if !self.nodes.contains_key(&ino) {
            let node = self.lower_node(ino)?;
            self.nodes.insert(ino, node);
        }
        self.nodes.get_mut(&ino).ok_or(Error::Stale)
    }

    fn lower_node(&self, ino: Ino) -> Result<Node> {
        let lower = self.untouched(ino)?;
        let parent = self.lower.parent(ino).ok_or(Error::Stale)?;
        let names = || -> Names {
            Name::new(lower.name)
                .map(|name| vec![(parent, NameBuf::from(name))])
                .unwrap_or_default()
        };
        let body = match lower.file_type {
            FileType::Directory => Body::Directory(Directory {
                parent,
                name: lower.name.into(),
                entries: None,
                removed: false,
            }),
            FileType::Symlink => Body::Symlink {
                target: Target::Payload { digest: lower.digest, size: lower.size },
                names: names(),
            },
            _ => Body::File {
                cell: self.cells.of_lower(ino, lower.digest, lower.size),
                names: names(),
            },
        };
        let time = self.defaults.time;
        let meta = Meta {
            perm: lower.perm,
            owner: self.defaults.owner,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            xattrs: None,
        };
        Ok(Node { meta, body, changed: 0, placed: 0 })
    }

    /// Remembers that something a layer holds has changed.
    pub(crate) fn mark(&mut self, ino: Ino) -> Result<()> {
        let generation = self.generation;
        self.touch(ino)?.changed = generation;
        self.changed.insert(ino);
        Ok(())
    }

    /// Remembers that the stack has nothing to compare an inode with, nor what lies below it.
    pub(crate) fn mark_placed(&mut self, ino: Ino) -> Result<()> {
        let generation = self.generation;
        self.touch(ino)?.placed = generation;
        self.mark(ino)
    }

    /// The cell of a regular file, touched or not.
    pub(crate) fn cell(&self, ino: Ino) -> Result<Arc<FileCell>> {
        match self.nodes.get(&ino).map(|node| &node.body) {
            Some(Body::File { cell, .. }) => Ok(Arc::clone(cell)),
            Some(Body::Directory(_)) => Err(Error::IsDirectory),
            Some(_) => Err(Error::Invalid),
            None => {
                let lower = self.untouched(ino)?;
                match lower.file_type {
                    FileType::Regular => Ok(self.cells.of_lower(ino, lower.digest, lower.size)),
                    FileType::Directory => Err(Error::IsDirectory),
                    _ => Err(Error::Invalid),
                }
            }
        }
    }

    /// Makes a new inode under a name that is free.
    pub(crate) fn create(
        &mut self,
        dir: Ino,
        name: Name<'_>,
        new: New<'_>,
        now: Timestamp,
    ) -> Result<Ino> {
        self.require_current(dir)?;
        self.require_free(dir, name)?;
        let ino = Ino(self.next);
        let node = self.new_node(ino, dir, name, new, now)?;
        let file_type = node.file_type();
        self.next += 1;
        self.nodes.insert(ino, node);
        self.changed.insert(ino);
        self.listing_mut(dir)?.0.insert(name.as_bytes(), ino, file_type);
        self.listing_changed(dir, now)?;
        Ok(ino)
    }

    fn new_node(
        &self,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
        new: New<'_>,
        now: Timestamp,
    ) -> Result<Node> {
        let names = vec![(dir, NameBuf::from(name))];
        let body = match new.kind {
            NewKind::Regular => Body::File { cell: self.cells.of_new(ino), names },
            NewKind::Directory => Body::Directory(Directory {
                parent: dir,
                name: name.as_bytes().into(),
                entries: Some(Entries::new()),
                removed: false,
            }),
            NewKind::Symlink(target) => {
                check_target(target)?;
                Body::Symlink { target: Target::Text(target.into()), names }
            }
            NewKind::Fifo => Body::Special { file_type: FileType::Fifo, names },
            NewKind::Socket => Body::Special { file_type: FileType::Socket, names },
            NewKind::CharDevice(_) => Body::Special { file_type: FileType::CharDevice, names },
            NewKind::BlockDevice(_) => Body::Special { file_type: FileType::BlockDevice, names },
        };
        let rdev = match new.kind {
            NewKind::CharDevice(rdev) | NewKind::BlockDevice(rdev) => rdev,
            _ => 0,
        };
        let (perm, owner) = self.inherit(dir, &new)?;
        let meta = Meta {
            perm,
            owner,
            rdev,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            xattrs: None,
        };
        Ok(Node { meta, body, changed: self.generation, placed: self.generation })
    }

    /// A set-group-id directory passes its group on, to directories the bit too
    /// (inode_init_owner in the kernel).
    fn inherit(&self, dir: Ino, new: &New<'_>) -> Result<(u16, Owner)> {
        let parent = self.attr_of_names(dir)?;
        let perm = match new.kind {
            NewKind::Symlink(_) => 0o777,
            _ => new.perm & 0o7777,
        };
        if parent.perm & 0o2000 == 0 {
            return Ok((perm, new.owner));
        }
        let owner = Owner { uid: new.owner.uid, gid: parent.owner.gid };
        let bit = if new.kind == NewKind::Directory { 0o2000 } else { 0 };
        Ok((perm | bit, owner))
    }

    fn require_free(&self, dir: Ino, name: Name<'_>) -> Result<()> {
        self.require_directory(dir)?;
        if self.is_removed(dir) {
            return Err(Error::NotFound);
        }
        match self.find(dir, name)? {
            Some(_) => Err(Error::Exists),
            None => Ok(()),
        }
    }

    /// Gives an inode another name.
    pub(crate) fn link(
        &mut self,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let file_type = self.type_of(ino)?;
        self.require_current(ino)?;
        self.require_current(dir)?;
        self.require_free(dir, name)?;
        if file_type == FileType::Directory {
            return Err(Error::NotPermitted);
        }
        if self.is_removed(ino) {
            return Err(Error::NotFound);
        }
        let names = self.touch(ino)?.names_mut().ok_or(Error::NotPermitted)?;
        if names.len() >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        names.push((dir, NameBuf::from(name)));
        self.touch(ino)?.meta.ctime = now;
        self.mark_placed(ino)?;
        self.listing_mut(dir)?.0.insert(name.as_bytes(), ino, file_type);
        self.listing_changed(dir, now)
    }

    /// Takes a name away. Returns the inode if that was its last name.
    pub(crate) fn remove(
        &mut self,
        dir: Ino,
        name: Name<'_>,
        what: Remove,
        now: Timestamp,
    ) -> Result<Option<Ino>> {
        self.require_current(dir)?;
        self.require_directory(dir)?;
        let (ino, file_type) = self.find(dir, name)?.ok_or(Error::NotFound)?;
        match (what, file_type) {
            (Remove::File, FileType::Directory) => return Err(Error::IsDirectory),
            (Remove::Directory, FileType::Directory) => self.require_empty(ino)?,
            (Remove::Directory, _) => return Err(Error::NotDirectory),
            (Remove::File, _) => {}
        }
        let (entries, lower) = self.listing_mut(dir)?;
        entries.remove(lower, name.as_bytes());
        self.listing_changed(dir, now)?;
        self.unname(ino, dir, name, now)
    }

    /// Takes one name of an inode away from the inode's side. Returns it if it was the last.
    fn unname(
        &mut self,
        ino: Ino,
        dir: Ino,
        name: Name<'_>,
        now: Timestamp,
    ) -> Result<Option<Ino>> {
        let node = self.touch(ino)?;
        node.meta.ctime = now;
        match &mut node.body {
            Body::Directory(directory) => {
                directory.removed = true;
                directory.entries = Some(Entries::new());
            }
            _ => {
                let names = node.names_mut().ok_or(Error::Stale)?;
                names.retain(|(d, n)| !(*d == dir && n.as_name() == name));
            }
        }
        let orphan = node.is_orphan();
        if orphan {
            self.orphans.insert(ino);
        }
        self.mark(ino)?;
        Ok(orphan.then_some(ino))
    }

    fn require_empty(&self, dir: Ino) -> Result<()> {
        if self.entry_count(dir) == 0 { Ok(()) } else { Err(Error::NotEmpty) }
    }

    /// Moves a name. Returns an inode that lost its last name by being replaced.
    pub(crate) fn rename(
        &mut self,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        replace: Replace,
        now: Timestamp,
    ) -> Result<Option<Ino>> {
        self.require_current(from.0)?;
        self.require_current(to.0)?;
        let Some(moves) = self.check_rename(from, to, replace)? else {
            return Ok(None);
        };
        match (replace, moves.target) {
            (Replace::Exchange, Some(target)) => {
                self.exchange(from, to, moves.source, target, now)?;
                Ok(None)
            }
            (_, target) => self.move_entry(from, to, moves.source, target, now),
        }
    }

    /// Checks a rename in the kernel's order (do_renameat2, vfs_rename); `None`: nothing to do.
    fn check_rename(
        &self,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        replace: Replace,
    ) -> Result<Option<Moves>> {
        self.require_directory(from.0)?;
        self.require_directory(to.0)?;
        let source = self.find(from.0, from.1)?.ok_or(Error::NotFound)?;
        let target = self.find(to.0, to.1)?;
        match (replace, target) {
            (Replace::Refuse, Some(_)) => return Err(Error::Exists),
            (Replace::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        if self.is_removed(to.0) {
            return Err(Error::NotFound);
        }
        if source.1 == FileType::Directory && self.is_within(to.0, source.0) {
            return Err(Error::Invalid);
        }
        if let Some((ino, FileType::Directory)) = target
            && self.is_within(from.0, ino)
        {
            let exchange = replace == Replace::Exchange;
            return Err(if exchange { Error::Invalid } else { Error::NotEmpty });
        }
        if target.is_some_and(|target| target.0 == source.0) {
            return Ok(None);
        }
        if let (Replace::Allow, Some(target)) = (replace, target) {
            match (source.1 == FileType::Directory, target.1 == FileType::Directory) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) => self.require_empty(target.0)?,
                (false, false) => {}
            }
        }
        Ok(Some(Moves { source, target }))
    }

    fn move_entry(
        &mut self,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        source: (Ino, FileType),
        target: Option<(Ino, FileType)>,
        now: Timestamp,
    ) -> Result<Option<Ino>> {
        let (entries, lower) = self.listing_mut(from.0)?;
        entries.remove(lower, from.1.as_bytes());
        let (entries, lower) = self.listing_mut(to.0)?;
        match target {
            Some(_) => entries.replace(lower, to.1.as_bytes(), source.0, source.1),
            None => entries.insert(to.1.as_bytes(), source.0, source.1),
        }
        let orphan = match target {
            Some((ino, _)) => self.unname(ino, to.0, to.1, now)?,
            None => None,
        };
        self.rehome(source.0, from, to, now)?;
        self.listing_changed(from.0, now)?;
        self.listing_changed(to.0, now)?;
        Ok(orphan)
    }

    fn exchange(
        &mut self,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        source: (Ino, FileType),
        target: (Ino, FileType),
        now: Timestamp,
    ) -> Result<()> {
        let (entries, lower) = self.listing_mut(from.0)?;
        entries.replace(lower, from.1.as_bytes(), target.0, target.1);
        let (entries, lower) = self.listing_mut(to.0)?;
        entries.replace(lower, to.1.as_bytes(), source.0, source.1);
        self.rehome(source.0, from, to, now)?;
        self.rehome(target.0, to, from, now)?;
        self.listing_changed(from.0, now)?;
        self.listing_changed(to.0, now)
    }

    /// Tells an inode its new place.
    fn rehome(
        &mut self,
        ino: Ino,
        from: (Ino, Name<'_>),
        to: (Ino, Name<'_>),
        now: Timestamp,
    ) -> Result<()> {
        let node = self.touch(ino)?;
        node.meta.ctime = now;
        match &mut node.body {
            Body::Directory(directory) => {
                directory.parent = to.0;
                directory.name = to.1.as_bytes().into();
            }
            _ => {
                let names = node.names_mut().ok_or(Error::Stale)?;
                let place = names.iter_mut().find(|(d, n)| *d == from.0 && n.as_name() == from.1);
                *place.ok_or(Error::Stale)? = (to.0, NameBuf::from(to.1));
            }
        }
        self.mark_placed(ino)
    }

    /// Tells whether `dir` is `ancestor` or lies below it.
    fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.parent(at) {
                Ok(parent) if parent != at => at = parent,
                _ => return false,
            }
        }
    }

    /// Forgets an inode that nothing leads to any more. Returns its cell, if it is a file.
    pub(crate) fn reap(&mut self, ino: Ino) -> Option<Arc<FileCell>> {
        if !self.orphans.remove(&ino) {
            return None;
        }
        self.changed.remove(&ino);
        self.cells.forget(ino);
        if self.lower.contains(ino) {
            self.gone.insert(ino);
        }
        match self.nodes.remove(&ino)?.body {
            Body::File { cell, .. } => Some(cell),
            _ => None,
        }
    }

    /// All inodes without a name.
    pub(crate) fn orphans(&self) -> Vec<Ino> {
        self.orphans.iter().copied().collect()
    }

    /// The attributes as names and metadata tell them; a file's size is its cell's.
    pub(crate) fn attr_of_names(&self, ino: Ino) -> Result<Attr> {
        match self.nodes.get(&ino) {
            Some(node) => Ok(self.touched_attr(ino, node)),
            None => self.lower_attr(ino),
        }
    }
}

struct Moves {
    source: (Ino, FileType),
    target: Option<(Ino, FileType)>,
}

fn check_target(target: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Error::NotFound);
    }
    if target.len() > TARGET_LEN_MAX {
        return Err(Error::NameTooLong);
    }
    if target.contains(&0) { Err(Error::Invalid) } else { Ok(()) }
}
