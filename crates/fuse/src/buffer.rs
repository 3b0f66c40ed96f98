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
        let mut content = Self { buffer: BUFFER.take(), len: 0 };
        if content.buffer.len() < size {
            content.buffer.resize(size, 0);
        }
        content.len = file.read_at(offset, &mut content.buffer[..size])?;
        Ok(content)
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
