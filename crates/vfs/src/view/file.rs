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
        let (cell, pin) = {
            let namespace = view.namespace.read();
            let cell = match namespace.type_of(ino)? {
                FileType::Regular => namespace.cell(ino)?,
                FileType::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::Invalid),
            };
            // Before anybody can take its last name away and free it.
            view.pins.pin(ino);
            (cell, Pin::of_pinned(view, ino))
        };
        if access == Access::Write {
            if !view.is_editable() {
                return Err(Error::ReadOnly);
            }
            *view.writers.lock().entry(ino).or_insert(0) += 1;
        }
        Ok(Self { _pin: pin, view: Arc::clone(view), cell, access })
    }

    fn require_write(&self) -> Result<()> {
        self.view.store.upper()?.journal.reserve()?;
        Ok(())
    }

    /// Returns whether the content has changed: a file that is given back is that of the layers.
    fn try_allocate(&self, offset: u64, len: u64, how: Allocate) -> Result<bool> {
        self.require_write()?;
        if !self.view.is_editable() {
            return Err(Error::ReadOnly);
        }
        let _recording = self.view.begin_change_of(self.cell.ino)?;
        let upper = self.view.store.upper()?;
        if self.view.gives_back(&self.cell, (offset, len), how, upper) {
            return upper.journal.flush().map(|()| false);
        }
        let now = self.view.clock.now();
        self.finish(self.cell.allocate(&self.view.store, offset, len, how, now)).map(|()| true)
    }

    /// Finishes a write: the first one of a file of a layer, which has read that, may be one of many
    /// in a row.
    fn finish_write(&self, written: Result<bool>) -> Result<()> {
        if let Ok(true) = written {
            self.view.read_ahead_of(self.cell.ino);
        }
        self.finish(written)
    }

    /// Finishes a change of content, which tells what [`View::content_done`] wants to know.
    fn finish(&self, change: Result<bool>) -> Result<()> {
        let done = self.view.content_done(&self.cell, change);
        let written = self.view.store.upper()?.journal.flush();
        done.and(written)
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
        self.view.with_room(|| {
            self.require_write()?;
            if kill_privileges {
                self.view.kill_privileges(self.cell.ino)?;
            }
            let _recording = self.view.begin_change_of(self.cell.ino)?;
            let now = self.view.clock.now();
            self.finish_write(self.cell.write(&self.view.store, offset, data, now))
        })
    }

    fn write_back(&self, offset: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let written = self.view.with_room(|| {
            self.require_write()?;
            let mtime = self.view.namespace.read().attr_of_names(self.cell.ino)?.mtime;
            let _recording = self.view.begin_change_of(self.cell.ino)?;
            self.finish_write(self.cell.write_back(&self.view.store, offset, data, mtime))
        });
        written.inspect_err(|_| self.view.note_lost(&self.cell))
    }

    fn allocate(&self, offset: u64, len: u64, how: Allocate, kill_privileges: bool) -> Result<()> {
        let changed = self.view.with_room(|| self.try_allocate(offset, len, how))?;
        if changed && kill_privileges {
            self.view.kill_privileges(self.cell.ino)?;
        }
        Ok(())
    }

    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        self.cell.seek(&self.view.store, offset, what)
    }

    fn sync(&self) -> Result<()> {
        self.view.sync_file(&self.cell)
    }
}
