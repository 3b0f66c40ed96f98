//! Buffers for READ: each thread keeps one and uses it again, so reading allocates nothing.

use std::cell::Cell;
use std::ops::Deref;

use spfs_vfs::api::{File, Result};

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What was read. Its memory goes back to the thread that drops it.
pub(crate) struct Content {
    buffer: Vec<u8>,
    len: usize,
}

impl Content {
    /// Reads up to `size` bytes.
    pub(crate) fn read(file: &impl File, offset: u64, size: usize) -> Result<Self> {
        let mut content = Self::with_room(size);
        content.len = file.read_at(offset, &mut content.buffer[..size])?;
        Ok(content)
    }

    /// As [`Content::read`]; `None` when that might have to wait.
    pub(crate) fn read_now(file: &impl File, offset: u64, size: usize) -> Result<Option<Self>> {
        let mut content = Self::with_room(size);
        let len = file.read_now(offset, &mut content.buffer[..size])?;
        Ok(len.map(|len| {
            content.len = len;
            content
        }))
    }

    fn with_room(size: usize) -> Self {
        let mut buffer = BUFFER.take();
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        Self { buffer, len: 0 }
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.buffer));
    }
}
