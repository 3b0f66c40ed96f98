//! A root of links: each name in the root of the mount is a link to the same name in the root of
//! the caller's view, `.rt/<view>/<name>`. Who asks where it leads is told his own view; everything
//! below is one and the same path for all.
//!
//! What is made in the root is told to the kernel as what it is, not as a link: it asks for nothing
//! else. The name is not kept, so that the next lookup finds the link.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, INodeNo};
use spfs_vfs::api::{self, Attr, Ino, Name, Remove, Vfs};

use super::{At, Edge, Entry, Failure, Found, Result};
use crate::convert;
use crate::links::{FOLDER, LinkId};
use crate::node::Node;
use crate::session::RootMode;
use crate::views::{Caller, ViewId, Views};

impl<W: Views> Edge<W> {
    pub(crate) fn has_links(&self) -> bool {
        W::ROUTED && self.root == RootMode::Link
    }

    /// Answers a lookup in the root, or in the folder of the views; `None` leaves it to others.
    pub(super) fn lookup_link(
        &self,
        caller: Caller,
        parent: INodeNo,
        name: &[u8],
    ) -> Result<Option<Found>> {
        match Node::from_id(parent) {
            Node::Root if name == FOLDER => Ok(Some(Found::Entry(folder_entry()))),
            Node::Root => {
                let root = self.at(caller, parent)?;
                match root.vfs().lookup(root.ino, Name::new(name)?) {
                    Ok(attr) => self.link_entry(&root, name, &attr).map(|e| Some(Found::Entry(e))),
                    Err(api::Error::NotFound) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            Node::Folder => self.root_of(name).map(|entry| Some(Found::Entry(entry))),
            Node::Of(..) | Node::Link(_) => Ok(None),
        }
    }

    /// The entry of the root of a view in the folder of the views.
    fn root_of(&self, name: &[u8]) -> Result<Entry> {
        let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        let view = number.and_then(ViewId::new).ok_or(Errno::ENOENT)?;
        // Another text of the same number would be another path.
        if view.to_string().as_bytes() != name {
            return Err(Errno::ENOENT.into());
        }
        let vfs = self.views.view(view).ok_or(Errno::ENOENT)?;
        let vfs: &Arc<W::Vfs> = vfs.borrow();
        let attr = vfs.getattr(Ino::ROOT)?;
        let id = Node::root_id(view);
        self.nodes.remember(vfs, Ino::ROOT, id);
        Ok(Entry { attr: convert::attr(id, &attr), attr_ttl: self.ttl, entry_ttl: self.ttl })
    }

    /// The link to an entry of the root, counted as known to the kernel.
    pub(super) fn link_entry(&self, root: &At<'_, W>, name: &[u8], attr: &Attr) -> Result<Entry> {
        let Some(link) = self.links.remember(name) else { return Err(Errno::ENFILE.into()) };
        Ok(Entry {
            attr: link_attr(link, root.view, name, attr),
            attr_ttl: Duration::ZERO,
            entry_ttl: Duration::ZERO,
        })
    }

    /// The node id and type under which an entry of the root is listed.
    pub(super) fn listed_link(&self, name: &[u8], id: INodeNo) -> (INodeNo, FileType) {
        (self.links.number(name).map_or(id, Node::link_id), FileType::Symlink)
    }

    /// What a link leads to for this caller.
    pub(super) fn at_link(&self, caller: Caller, link: LinkId) -> Result<At<'_, W>> {
        let name = self.links.name(link).ok_or(Errno::ESTALE)?;
        let root = self.at(caller, INodeNo::ROOT)?;
        let attr = root.vfs().lookup(root.ino, Name::new(&name)?)?;
        Ok(At { ino: attr.ino, root: false, link: Some(link), ..root })
    }

    /// The attributes of a node that is one of ours; `None` leaves it to others.
    pub(super) fn folder_attr(id: INodeNo) -> Option<FileAttr> {
        (Node::from_id(id) == Node::Folder).then(|| folder_entry().attr)
    }

    /// What is told of a node: of a link, not of what it leads to.
    pub(super) fn shown(&self, at: &At<'_, W>, id: INodeNo, attr: &Attr) -> FileAttr {
        let named = at.link.and_then(|link| Some((link, self.links.name(link)?)));
        match named {
            Some((link, name)) => link_attr(link, at.view, &name, attr),
            None => convert::attr(id, attr),
        }
    }

    /// The answer to a new hard link to a node that the kernel takes for a link: it has to be the
    /// same node.
    pub(super) fn same_link(&self, at: &At<'_, W>, link: LinkId, attr: &Attr) -> Result<Entry> {
        let name = self.links.name(link).ok_or(Failure::Protocol(Errno::ESTALE))?;
        self.link_entry(at, &name, attr)
    }

    /// Where a link leads.
    pub(super) fn link_target(&self, at: &At<'_, W>, link: LinkId) -> Result<Box<[u8]>> {
        let name = self.links.name(link).ok_or(Errno::ESTALE)?;
        Ok(target(at.view, &name).into())
    }

    /// What unlink(2) of a name in the root removes: rmdir(2) fails on a link before we hear of it,
    /// so an empty directory is removed by either.
    pub(super) fn what_to_remove(&self, dir: &At<'_, W>, name: Name<'_>, what: Remove) -> Remove {
        let is_directory = || {
            let found = dir.vfs().lookup(dir.ino, name);
            found.is_ok_and(|attr| attr.file_type == api::FileType::Directory)
        };
        if self.has_links() && dir.root && what == Remove::File && is_directory() {
            Remove::Directory
        } else {
            what
        }
    }

    /// Drops what is held for the nodes of a view that is gone. The kernel forgets them when it
    /// likes.
    pub(crate) fn forget_view(&self, view: ViewId) {
        self.nodes.forget_view(view);
    }
}

fn target(view: ViewId, name: &[u8]) -> Vec<u8> {
    [FOLDER, b"/", view.to_string().as_bytes(), b"/", name].concat()
}

fn link_attr(link: LinkId, view: ViewId, name: &[u8], of: &Attr) -> FileAttr {
    FileAttr {
        kind: FileType::Symlink,
        perm: 0o777,
        nlink: 1,
        size: target(view, name).len() as u64,
        blocks: 0,
        rdev: 0,
        ..convert::attr(Node::link_id(link), of)
    }
}

fn folder_entry() -> Entry {
    let attr = FileAttr {
        perm: 0o555,
        nlink: 2,
        ..convert::bare_attr(Node::FOLDER_ID, FileType::Directory)
    };
    // It is the same for all and never changes; it is not counted, for it is never forgotten.
    Entry { attr, attr_ttl: super::ALWAYS, entry_ttl: super::ALWAYS }
}
