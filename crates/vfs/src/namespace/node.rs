//! The state of a touched inode.

use std::collections::BTreeMap;
use std::sync::Arc;

use spfs_model::{Digest, NameBuf};

use crate::api::{FileType, Ino, Owner, Timestamp};
use crate::cell::FileCell;

use super::entries::Entries;

/// A touched inode: one with state of its own above the lower tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) body: Body,
    /// The generation in which something that a layer holds changed last; 0 = never.
    pub(crate) changed: u64,
    /// The generation in which the inode got its present place; 0 = where the lower tree has it.
    pub(crate) placed: u64,
}

/// Attributes of a touched inode.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) perm: u16,
    pub(crate) owner: Owner,
    pub(crate) rdev: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) crtime: Timestamp,
    pub(crate) xattrs: Option<Box<Xattrs>>,
}

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The names of an inode that is no directory: each with the directory it stands in.
pub(crate) type Names = Vec<(Ino, NameBuf)>;

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Body {
    /// A regular file.
    File { cell: Arc<FileCell>, names: Names },
    /// A directory.
    Directory(Directory),
    /// A symbolic link.
    Symlink { target: Target, names: Names },
    /// A fifo, socket or device node.
    Special { file_type: FileType, names: Names },
}

/// A touched directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Where it is; meaningless once removed.
    pub(crate) parent: Ino,
    /// Its own name in the parent; empty for the root.
    pub(crate) name: Box<[u8]>,
    /// The listing, once it differs from the lower tree's.
    pub(crate) entries: Option<Entries>,
    /// rmdir took it away; it has no entries any more and takes none.
    pub(crate) removed: bool,
}

/// Where a link's target comes from.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A payload of the layers, of this many bytes.
    Payload { digest: Digest, size: u64 },
    /// Given at creation.
    Text(Box<[u8]>),
}

impl Target {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Payload { size, .. } => *size,
            Self::Text(text) => text.len() as u64,
        }
    }
}

impl Node {
    pub(crate) fn file_type(&self) -> FileType {
        match &self.body {
            Body::File { .. } => FileType::Regular,
            Body::Directory(_) => FileType::Directory,
            Body::Symlink { .. } => FileType::Symlink,
            Body::Special { file_type, .. } => *file_type,
        }
    }

    /// The names of anything but a directory.
    pub(crate) fn names(&self) -> Option<&Names> {
        match &self.body {
            Body::File { names, .. }
            | Body::Symlink { names, .. }
            | Body::Special { names, .. } => Some(names),
            Body::Directory(_) => None,
        }
    }

    pub(crate) fn names_mut(&mut self) -> Option<&mut Names> {
        match &mut self.body {
            Body::File { names, .. }
            | Body::Symlink { names, .. }
            | Body::Special { names, .. } => Some(names),
            Body::Directory(_) => None,
        }
    }

    /// No name leads to it any more.
    pub(crate) fn is_orphan(&self) -> bool {
        match &self.body {
            Body::Directory(dir) => dir.removed,
            _ => self.names().is_some_and(Vec::is_empty),
        }
    }
}
