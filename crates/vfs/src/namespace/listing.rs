//! Directories: finding names, reading listings, parents and paths.

use std::ops::ControlFlow;

use spfs_model::Name;

use crate::api::{Cookie, DirEntry, Error, FileType, Ino, Result, Timestamp};
use crate::lower::Lower;

use super::{Body, Entries, Namespace};

/// The most components of a path that is put together for a message; a cycle would be a bug, and
/// the kernel refuses paths over PATH_MAX anyway.
const PATH_DEPTH_MAX: usize = 4096;

impl Namespace {
    /// The listing of a touched directory.
    fn entries(&self, dir: Ino) -> Option<&Entries> {
        match &self.nodes.get(&dir)?.body {
            Body::Directory(directory) => directory.entries.as_ref(),
            _ => None,
        }
    }

    /// The listing of a directory, to be changed.
    pub(super) fn listing_mut(&mut self, dir: Ino) -> Result<(&mut Entries, &Lower)> {
        self.touch(dir)?;
        let Self { nodes, lower, .. } = self;
        match nodes.get_mut(&dir).map(|node| &mut node.body) {
            Some(Body::Directory(directory)) => {
                let entries =
                    directory.entries.get_or_insert_with(|| Entries::of_lower(lower, dir));
                Ok((entries, lower))
            }
            _ => Err(Error::NotDirectory),
        }
    }

    /// A listing has changed: so have the directory's times.
    pub(super) fn listing_changed(&mut self, dir: Ino, now: Timestamp) -> Result<()> {
        let node = self.touch(dir)?;
        node.meta.mtime = now;
        node.meta.ctime = now;
        self.mark(dir)
    }

    /// Finds a name in a directory.
    pub(crate) fn find(&self, dir: Ino, name: Name<'_>) -> Result<Option<(Ino, FileType)>> {
        self.require_directory(dir)?;
        Ok(match self.entries(dir) {
            Some(entries) => entries
                .get(&self.lower, name.as_bytes())
                .map(|dentry| (dentry.ino, dentry.file_type)),
            None => self.lower.child(dir, name),
        })
    }

    /// The number of entries of a directory.
    pub(crate) fn entry_count(&self, dir: Ino) -> u64 {
        match self.entries(dir) {
            Some(entries) => entries.len() as u64,
            None => self.lower.child_count(dir),
        }
    }

    pub(super) fn subdirectories(&self, dir: Ino) -> u32 {
        match self.entries(dir) {
            Some(entries) => entries.subdirectories(),
            None => self.lower.subdirectories(dir),
        }
    }

    /// Calls `each` for the entries behind a cookie until it breaks.
    pub(crate) fn read_directory(
        &self,
        dir: Ino,
        after: Cookie,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.require_directory(dir)?;
        match self.entries(dir) {
            Some(entries) => {
                for (cookie, dentry) in entries.after(after.0) {
                    let name = dentry.name(&self.lower);
                    if emit(name, dentry.ino, dentry.file_type, cookie, each).is_break() {
                        break;
                    }
                }
            }
            None => {
                let children = self.lower.children(dir);
                let skip = children.start.saturating_add(after.0).min(children.end);
                for number in skip..children.end {
                    let Some(node) = self.lower.node(Ino(number)) else { break };
                    let cookie = number - children.start + 1;
                    if emit(node.name, Ino(number), node.file_type, cookie, each).is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The directory that holds a directory.
    pub(crate) fn parent(&self, dir: Ino) -> Result<Ino> {
        match self.nodes.get(&dir).map(|node| &node.body) {
            Some(Body::Directory(directory)) => Ok(directory.parent),
            Some(_) => Err(Error::NotDirectory),
            None => match self.lower.node(dir).ok_or(Error::Stale)?.file_type {
                FileType::Directory => self.lower.parent(dir).ok_or(Error::Stale),
                _ => Err(Error::NotDirectory),
            },
        }
    }

    /// One place where an inode stands now: the directory and its name there.
    pub(crate) fn place(&self, ino: Ino) -> Option<(Ino, Vec<u8>)> {
        match self.nodes.get(&ino).map(|node| &node.body) {
            Some(Body::Directory(directory)) => {
                (!directory.removed).then(|| (directory.parent, directory.name.to_vec()))
            }
            Some(_) => {
                let (dir, name) = self.nodes.get(&ino)?.names()?.first()?;
                Some((*dir, name.as_bytes().to_vec()))
            }
            None => Some((self.lower.parent(ino)?, self.lower.node(ino)?.name.to_vec())),
        }
    }

    /// All directories that hold a name of the inode.
    pub(crate) fn parents(&self, ino: Ino) -> Vec<Ino> {
        match self.nodes.get(&ino) {
            Some(node) => match node.names() {
                Some(names) => names.iter().map(|(dir, _)| *dir).collect(),
                None => self.place(ino).into_iter().map(|(dir, _)| dir).collect(),
            },
            None => self.lower.parent(ino).into_iter().collect(),
        }
    }

    /// A path of the inode, relative to the root; `None` when no name leads to it.
    pub(crate) fn path(&self, ino: Ino) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let (dir, name) = self.place(at)?;
            names.push(name);
            at = dir;
            if names.len() > PATH_DEPTH_MAX {
                break;
            }
        }
        names.reverse();
        Some(names.join(&b'/'))
    }
}

fn emit(
    name: &[u8],
    ino: Ino,
    file_type: FileType,
    cookie: u64,
    each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match Name::new(name) {
        Ok(name) => each(DirEntry { name, ino, file_type, cookie: Cookie(cookie) }),
        Err(_) => ControlFlow::Continue(()),
    }
}
