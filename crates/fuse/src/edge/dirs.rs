//! Listing directories.
//!
//! Listing is stateless: a position is 0 before `.`, 1 before `..`, and from 2 on the core's cookie
//! plus 2, which stays valid while entries come and go.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use spfs_vfs::api::{self, Cookie, Ino, Vfs};

use super::{At, Edge, Failure, Result};
use crate::convert;
use crate::node::Node;
use crate::views::{Caller, Views};

/// The position of the core's first entry: `.` and `..` stand before it.
const DOTS: u64 = 2;

/// How many entries are taken from the core at a time while their attributes are asked for. A reply
/// of one page holds about 25, a usual one 200.
const CHUNK: usize = 64;

/// Where the entries of READDIRPLUS go.
pub(crate) trait Plus {
    /// Adds an entry; `false` when it does not fit any more.
    fn add(&mut self, at: u64, name: &OsStr, ttl: Duration, attr: &FileAttr) -> bool;
}

impl Plus for ReplyDirectoryPlus {
    fn add(&mut self, at: u64, name: &OsStr, ttl: Duration, attr: &FileAttr) -> bool {
        !Self::add(self, attr.ino, at, name, &ttl, attr, fuser::Generation(0))
    }
}

/// Entries that wait for their attributes; kept by each thread to be used again.
#[derive(Default)]
struct Chunk {
    names: Vec<u8>,
    entries: Vec<Listed>,
}

struct Listed {
    ino: Ino,
    position: u64,
    name_end: usize,
}

thread_local! {
    static CHUNK_OF_THREAD: RefCell<Chunk> = RefCell::default();
}

impl<W: Views> Edge<W> {
    /// Answers READDIR.
    pub(crate) fn readdir(
        &self,
        caller: Caller,
        id: INodeNo,
        position: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<()> {
        if Node::from_id(id) == Node::Folder {
            return Ok(());
        }
        let dir = self.at(caller, id)?;
        for (next, name, id) in self.dots(&dir, id, position)? {
            if reply.add(id, next, FileType::Directory, OsStr::from_bytes(name)) {
                return Ok(());
            }
        }
        let mut failure = None;
        dir.vfs().readdir(dir.ino, cookie(position), &mut |entry| {
            let found = Self::id(dir.view, entry.ino).and_then(|id| Ok((id, next(entry.cookie)?)));
            match found {
                Ok((id, next)) => {
                    let (id, kind) = if self.has_links() && dir.root {
                        self.listed_link(entry.name.as_bytes(), id)
                    } else {
                        (id, convert::file_type(entry.file_type))
                    };
                    let name = OsStr::from_bytes(entry.name.as_bytes());
                    let full = reply.add(id, next, kind, name);
                    if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Answers READDIRPLUS: each entry that fits counts as one lookup, `.` and `..` do not
    /// (fuse_direntplus_link in the kernel).
    pub(crate) fn readdirplus(
        &self,
        caller: Caller,
        id: INodeNo,
        mut position: u64,
        reply: &mut impl Plus,
    ) -> Result<()> {
        if Node::from_id(id) == Node::Folder {
            return Ok(());
        }
        let dir = self.at(caller, id)?;
        for (next, name, id) in self.dots(&dir, id, position)? {
            let attr = convert::bare_attr(id, FileType::Directory);
            if !reply.add(next, OsStr::from_bytes(name), self.ttl, &attr) {
                return Ok(());
            }
            position = next;
        }
        let start = position;
        let filled = CHUNK_OF_THREAD
            .with_borrow_mut(|chunk| self.fill_plus(&dir, chunk, &mut position, reply));
        match filled {
            // Entries that were counted have to be sent; the next request meets the error again.
            Err(_) if position != start => Ok(()),
            filled => filled,
        }
    }

    /// Adds entries after `position`, which moves with them, until the reply is full or the
    /// directory ends.
    fn fill_plus(
        &self,
        dir: &At<'_, W>,
        chunk: &mut Chunk,
        position: &mut u64,
        reply: &mut impl Plus,
    ) -> Result<()> {
        loop {
            let complete = chunk.fill(&**dir.vfs(), dir.ino, cookie(*position))?;
            let mut name_start = 0;
            for entry in &chunk.entries {
                let name = OsStr::from_bytes(&chunk.names[name_start..entry.name_end]);
                name_start = entry.name_end;
                match dir.vfs().getattr(entry.ino) {
                    Ok(attr) if dir.root && self.has_links() => {
                        let link = self.link_entry(dir, name.as_bytes(), &attr)?;
                        let (id, ttl) = (link.attr.ino, link.entry_ttl);
                        if !reply.add(entry.position, name, ttl, &link.attr) {
                            self.forget(id, 1);
                            return Ok(());
                        }
                    }
                    Ok(attr) => {
                        let id = Self::id(dir.view, attr.ino)?;
                        let ttl = self.attr_ttl(dir.root);
                        if !reply.add(entry.position, name, ttl, &convert::attr(id, &attr)) {
                            return Ok(());
                        }
                        self.nodes.remember(dir.vfs(), attr.ino, id);
                    }
                    // It went since it was listed.
                    Err(api::Error::Stale) => {}
                    Err(error) => return Err(error.into()),
                }
                *position = entry.position;
            }
            if complete {
                return Ok(());
            }
        }
    }

    /// `.` and `..` as far as they come after `position`: (position after it, name, node id).
    fn dots(
        &self,
        dir: &At<'_, W>,
        id: INodeNo,
        position: u64,
    ) -> Result<impl Iterator<Item = (u64, &'static [u8], INodeNo)>> {
        let parent = if position < DOTS && !dir.root {
            Self::id(dir.view, dir.vfs().parent(dir.ino)?)?
        } else {
            INodeNo::ROOT
        };
        let dots: [(u64, &'static [u8], INodeNo); 2] = [(1, b".", id), (2, b"..", parent)];
        Ok(dots.into_iter().skip(usize::try_from(position).unwrap_or(dots.len())))
    }
}

impl Chunk {
    /// Takes the next entries of a directory; returns whether there are no more after them.
    fn fill<V: Vfs>(&mut self, vfs: &V, dir: Ino, after: Cookie) -> Result<bool> {
        self.names.clear();
        self.entries.clear();
        let mut failure = None;
        let mut complete = true;
        vfs.readdir(dir, after, &mut |entry| {
            if self.entries.len() == CHUNK {
                complete = false;
                return ControlFlow::Break(());
            }
            match next(entry.cookie) {
                Ok(position) => {
                    self.names.extend_from_slice(entry.name.as_bytes());
                    let name_end = self.names.len();
                    self.entries.push(Listed { ino: entry.ino, position, name_end });
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(complete), Err)
    }
}

fn cookie(position: u64) -> Cookie {
    Cookie(position.saturating_sub(DOTS))
}

/// The position after an entry, which the kernel keeps as a signed number.
fn next(cookie: Cookie) -> Result<u64> {
    let position = cookie.0.checked_add(DOTS).filter(|&position| i64::try_from(position).is_ok());
    position.ok_or(Failure::Protocol(Errno::EOVERFLOW))
}
