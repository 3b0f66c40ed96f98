//! Open files of the model: every one reads and writes the one content of its inode.

use std::fmt;

use spfs_vfs::api::{Allocate, Error, File, Ino, Result, Seek, Timestamp};

use super::state::{Body, Node, State};
use super::{FILE_SIZE_MAX, ModelFs};

/// An open file of a [`ModelFs`].
pub struct ModelFile {
    fs: ModelFs,
    ino: Ino,
}

impl fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelFile({})", self.ino)
    }
}

impl ModelFile {
    pub(super) fn new(fs: ModelFs, ino: Ino) -> Self {
        Self { fs, ino }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Node, Timestamp) -> Result<T>) -> Result<T> {
        let mut state = self.fs.shared.state.lock();
        let now = (self.fs.shared.clock)();
        let node = state.node_mut(self.ino)?;
        change(node, now)
    }
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        let mut state = self.fs.shared.state.lock();
        if let Ok(node) = state.node_mut(self.ino) {
            node.open_files -= 1;
        }
        state.reap(self.ino);
    }
}

fn content(state: &State, ino: Ino) -> Result<&Vec<u8>> {
    match &state.node(ino)?.body {
        Body::Regular(content) => Ok(content),
        _ => Err(Error::Invalid),
    }
}

fn content_mut(node: &mut Node) -> Result<&mut Vec<u8>> {
    match &mut node.body {
        Body::Regular(content) => Ok(content),
        _ => Err(Error::Invalid),
    }
}

/// Returns the end of a range that this file system can hold.
fn end_of(offset: u64, len: u64) -> Result<usize> {
    let end = offset.checked_add(len).filter(|&end| end <= FILE_SIZE_MAX);
    end.and_then(|end| usize::try_from(end).ok()).ok_or(Error::FileTooLarge)
}

impl File for ModelFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let state = self.fs.shared.state.lock();
        let content = content(&state, self.ino)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let len = buf.len().min(content.len() - start);
        buf[..len].copy_from_slice(&content[start..start + len]);
        Ok(len)
    }

    /// Goes on after editing was ended: these are pages that a program wrote before.
    fn write_at(&self, offset: u64, data: &[u8], kill_privileges: bool) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = end_of(offset, data.len() as u64)?;
        self.change(|node, now| {
            put(content_mut(node)?, end, data);
            node.times.mtime = now;
            node.times.ctime = now;
            if kill_privileges {
                node.kill_privileges();
            }
            Ok(())
        })
    }

    fn write_back(&self, offset: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = end_of(offset, data.len() as u64)?;
        self.change(|node, _| {
            put(content_mut(node)?, end, data);
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, len: u64, how: Allocate, kill_privileges: bool) -> Result<()> {
        // vfs_fallocate (fs/open.c)
        if !self.fs.editable() {
            return Err(Error::ReadOnly);
        }
        if len == 0 {
            return Err(Error::Invalid);
        }
        let end = end_of(offset, len)?;
        let start = end - usize::try_from(len).map_err(|_| Error::FileTooLarge)?;
        let grows = matches!(how, Allocate::Extend | Allocate::ZeroRange);
        let zeroes = !matches!(how, Allocate::Extend | Allocate::KeepSize);
        self.change(|node, now| {
            let content = content_mut(node)?;
            if grows && content.len() < end {
                content.resize(end, 0);
            }
            let size = content.len();
            if zeroes {
                content[start.min(size)..end.min(size)].fill(0);
            }
            node.times.mtime = now;
            node.times.ctime = now;
            if kill_privileges {
                node.kill_privileges();
            }
            Ok(())
        })
    }

    /// Knows no holes: everything is data, and the only hole is the end.
    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        let state = self.fs.shared.state.lock();
        let size = content(&state, self.ino)?.len() as u64;
        match what {
            _ if offset >= size => Err(Error::NoSuchAddress),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// Puts bytes before `end`.
fn put(content: &mut Vec<u8>, end: usize, data: &[u8]) {
    if content.len() < end {
        content.resize(end, 0);
    }
    content[end - data.len()..end].copy_from_slice(data);
}
