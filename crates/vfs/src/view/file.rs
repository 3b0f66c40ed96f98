//! Open files.

use std::sync::Arc;

use crate::api::{Access, Allocate, Error, File, FileType, Ino, Pin, Result, Seek};
use crate::cell::FileCell;

use super::View;

/// An open regular file of a view.
#[derive(Debug)]
pub struct OpenFile {
    view: Arc<View>,
    cell: Arc<FileCell>,
    access: Access,
    /// Keeps the inode while only this handle leads to it.
    _pin: Pin<View>,
}

impl OpenFile {
    pub(super) fn new(view: &Arc<View>, ino: Ino, access: Access) -> Result<Self> {
        let cell = {
            let namespace = view.namespace.read();
            match namespace.type_of(ino)? {
                FileType::Regular => namespace.cell(ino)?,
                FileType::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::Invalid),
            }
        };
        if access == Access::Write {
            if !view.is_editable() {
                return Err(Error::ReadOnly);
            }
            *view.writers.lock().entry(ino).or_insert(0) += 1;
        }
        Ok(Self { _pin: Pin::new(view, ino), view: Arc::clone(view), cell, access })
    }

    fn require_write(&self) -> Result<()> {
        self.view.store.upper()?.journal.reserve()?;
        Ok(())
    }

    /// Finishes a change of content.
    fn changed(&self, came_from_layer: bool) -> Result<()> {
        if came_from_layer {
            self.view.content_changed(self.cell.ino)?;
        }
        self.view.needs_sync(&self.cell);
        self.view.store.upper()?.journal.flush()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.access == Access::Write {
            let mut writers = self.view.writers.lock();
            if let Some(count) = writers.get_mut(&self.cell.ino) {
                *count -= 1;
                if *count == 0 {
                    writers.remove(&self.cell.ino);
                }
            }
        }
    }
}

impl File for OpenFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.view.read_ahead_of(self.cell.ino);
        self.cell.read(&self.view.store, offset, buf)
    }

    fn read_now(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>> {
        self.cell.read_now(&self.view.store, offset, buf)
    }

    /// Writing goes on after edit mode went off: these are pages that were written before.
    fn write_at(&self, offset: u64, data: &[u8], kill_privileges: bool) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.require_write()?;
        if kill_privileges {
            self.view.kill_privileges(self.cell.ino)?;
        }
        let _recording = self.view.recording.read();
        let fresh = self.cell.write(&self.view.store, offset, data, self.view.clock.now())?;
        if fresh {
            self.view.read_ahead_of(self.cell.ino);
        }
        self.changed(fresh)
    }

    fn allocate(&self, offset: u64, len: u64, how: Allocate) -> Result<()> {
        self.require_write()?;
        if !self.view.is_editable() {
            return Err(Error::ReadOnly);
        }
        let _recording = self.view.recording.read();
        let now = self.view.clock.now();
        let fresh = self.cell.allocate(&self.view.store, offset, len, how, now)?;
        self.changed(fresh)
    }

    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        self.cell.seek(&self.view.store, offset, what)
    }

    fn sync(&self) -> Result<()> {
        self.view.sync_file(&self.cell)
    }
}
