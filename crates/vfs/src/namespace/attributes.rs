//! Attributes and extended attributes.

use serde::{Deserialize, Serialize};

use crate::api::{Attr, Error, FileType, Ino, Owner, Result, Timestamp, XattrMode};

use super::node::Xattrs;
use super::{Body, Namespace, Node};

/// The longest value of an extended attribute, in bytes (XATTR_SIZE_MAX, xattr(7)).
const XATTR_SIZE_MAX: usize = 65_536;

/// The longest name of an extended attribute, in bytes (XATTR_NAME_MAX, xattr(7)).
const XATTR_NAME_MAX: usize = 255;

/// The most bytes that all names of one inode's attributes may take with their NULs: what
/// listxattr(2) can return (XATTR_LIST_MAX, xattr(7)).
const XATTR_LIST_MAX: usize = 65_536;

/// File capabilities: gone when the file is written or changes hands (setattr_prepare in the
/// kernel).
pub(crate) const SECURITY_CAPABILITY: &[u8] = b"security.capability";

/// A change of attributes with every decision already made; what the journal holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttrChange {
    pub(crate) perm: Option<u16>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) atime: Option<Timestamp>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    pub(crate) crtime: Option<Timestamp>,
    pub(crate) drop_capability: bool,
}

impl AttrChange {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Namespace {
    pub(super) fn touched_attr(&self, ino: Ino, node: &Node) -> Attr {
        let (nlink, size) = match &node.body {
            Body::Directory(directory) if directory.removed => (0, 0),
            Body::Directory(_) => (2 + self.subdirectories(ino), self.entry_count(ino)),
            Body::File { names, .. } | Body::Special { names, .. } => (names.len() as u32, 0),
            Body::Symlink { target, names } => (names.len() as u32, target.size()),
        };
        let meta = &node.meta;
        Attr {
            ino,
            file_type: node.file_type(),
            perm: meta.perm,
            nlink,
            owner: meta.owner,
            rdev: meta.rdev,
            size,
            blocks: size.div_ceil(512),
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            crtime: meta.crtime,
        }
    }

    pub(super) fn lower_attr(&self, ino: Ino) -> Result<Attr> {
        let lower = self.untouched(ino)?;
        let (nlink, size) = match lower.file_type {
            FileType::Directory => (2 + self.subdirectories(ino), self.entry_count(ino)),
            _ => (1, lower.size),
        };
        let time = self.defaults.time;
        Ok(Attr {
            ino,
            file_type: lower.file_type,
            perm: lower.perm,
            nlink,
            owner: self.defaults.owner,
            rdev: 0,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
        })
    }

    /// Changes attributes.
    pub(crate) fn change_attributes(&mut self, ino: Ino, change: &AttrChange) -> Result<()> {
        let node = self.touch(ino)?;
        let meta = &mut node.meta;
        let perm_changes = change.perm.is_some_and(|perm| perm != meta.perm);
        meta.perm = change.perm.unwrap_or(meta.perm);
        meta.owner = Owner {
            uid: change.uid.unwrap_or(meta.owner.uid),
            gid: change.gid.unwrap_or(meta.owner.gid),
        };
        meta.atime = change.atime.unwrap_or(meta.atime);
        meta.mtime = change.mtime.unwrap_or(meta.mtime);
        meta.ctime = change.ctime.unwrap_or(meta.ctime);
        meta.crtime = change.crtime.unwrap_or(meta.crtime);
        if change.drop_capability
            && let Some(xattrs) = &mut meta.xattrs
        {
            xattrs.remove(SECURITY_CAPABILITY);
        }
        if perm_changes { self.mark(ino) } else { Ok(()) }
    }

    fn xattrs(&self, ino: Ino) -> Result<Option<&Xattrs>> {
        match self.nodes.get(&ino) {
            Some(node) => Ok(node.meta.xattrs.as_deref()),
            None => self.untouched(ino).map(|_| None),
        }
    }

    /// The value of an extended attribute.
    pub(crate) fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<&[u8]>> {
        Ok(self.xattrs(ino)?.and_then(|xattrs| xattrs.get(name)).map(|value| &**value))
    }

    /// The names of all extended attributes.
    pub(crate) fn xattr_names(&self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        Ok(self.xattrs(ino)?.map(|xattrs| xattrs.keys().cloned().collect()).unwrap_or_default())
    }

    /// Checks whether an extended attribute can be set so.
    pub(crate) fn check_set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        if name.is_empty() || name.contains(&0) {
            return Err(Error::Invalid);
        }
        if name.len() > XATTR_NAME_MAX {
            return Err(Error::NameTooLong);
        }
        if value.len() > XATTR_SIZE_MAX {
            return Err(Error::AttributeTooLarge);
        }
        let xattrs = self.xattrs(ino)?;
        let exists = xattrs.is_some_and(|xattrs| xattrs.contains_key(name));
        match mode {
            XattrMode::Create if exists => return Err(Error::Exists),
            XattrMode::Replace if !exists => return Err(Error::NoAttribute),
            _ => {}
        }
        let listed: usize =
            xattrs.map_or(0, |xattrs| xattrs.keys().map(|name| name.len() + 1).sum());
        if !exists && listed + name.len() + 1 > XATTR_LIST_MAX {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Sets an extended attribute.
    pub(crate) fn set_xattr(
        &mut self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<()> {
        let meta = &mut self.touch(ino)?.meta;
        meta.xattrs.get_or_insert_default().insert(name.into(), value.into());
        meta.ctime = now;
        Ok(())
    }

    /// Removes an extended attribute.
    pub(crate) fn remove_xattr(&mut self, ino: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        if self.xattr(ino, name)?.is_none() {
            return Err(Error::NoAttribute);
        }
        let meta = &mut self.touch(ino)?.meta;
        if let Some(xattrs) = &mut meta.xattrs {
            xattrs.remove(name);
        }
        meta.ctime = now;
        Ok(())
    }
}
