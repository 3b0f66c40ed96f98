//! Reading, writing and truncating.

use std::ops::Range;

use crate::api::{Error, Ino, Result, Timestamp};
use crate::extents::Extents;
use crate::journal::Record;
use crate::scratch::{ScratchFile, read_full};
use crate::store::Store;

use super::{BLOCK, Content, FILE_SIZE_MAX, FileCell, Source};

impl FileCell {
    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    pub(crate) fn read(&self, store: &Store, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.content.read().read(store, offset, buf)
    }

    /// As [`FileCell::read`], but only what memory holds; `None` when it might have to wait.
    pub(crate) fn read_now(
        &self,
        store: &Store,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>> {
        // A writer that holds the lock may itself wait for a disk.
        let Some(content) = self.content.try_read() else { return Ok(None) };
        content.read_now(store, offset, buf)
    }

    /// Writes at an offset. `Ok(true)`: the namespace may not know yet that the content is no layer's any more.
    pub(crate) fn write(
        &self,
        store: &Store,
        offset: u64,
        data: &[u8],
        now: Timestamp,
    ) -> Result<bool> {
        let end = checked_end(offset, data.len() as u64)?;
        let mut content = self.content.write();
        content.write(self.ino, store, offset..end, data)?;
        content.written_at = Some(now);
        Ok(content.is_unmarked())
    }

    /// Writes at an offset and leaves the modification time alone; `mtime` is what it is while
    /// there is no scratch file. `Ok(true)`: the namespace may not know yet that the content is no layer's any more.
    pub(crate) fn write_back(
        &self,
        store: &Store,
        offset: u64,
        data: &[u8],
        mtime: Timestamp,
    ) -> Result<bool> {
        let end = checked_end(offset, data.len() as u64)?;
        let mut content = self.content.write();
        // The time of a write is stamped when somebody looks or says a later one. One that was set must
        // be there whenever this process ends.
        let kept = match (content.written_at, content.source.scratch_id()) {
            (Some(_), _) => None,
            // It carries a time of the repository's.
            (None, Some(_)) if content.is_shared() => Some(mtime),
            (None, Some(id)) => {
                let stat = store.upper()?.file(id)?.stat();
                let (secs, nanos) = stat.map_err(|e| Error::scratch("stat a file", e))?.mtime;
                Some(Timestamp { secs, nanos })
            }
            (None, None) => Some(content.dated.unwrap_or(mtime)),
        };
        content.write(self.ino, store, offset..end, data)?;
        if let Some(kept) = kept {
            content.stamp(store, kept)?;
        }
        Ok(content.is_unmarked())
    }

    /// Sets the size. `Ok(true)`: the namespace may not know yet that the content is no layer's any more.
    pub(crate) fn truncate(&self, store: &Store, size: u64, now: Timestamp) -> Result<bool> {
        if size > FILE_SIZE_MAX {
            return Err(Error::FileTooLarge);
        }
        let mut content = self.content.write();
        content.truncate(self.ino, store, size)?;
        content.written_at = Some(now);
        Ok(content.is_unmarked())
    }
}

/// The end of a range that must lie within the largest file.
pub(crate) fn checked_end(offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX).ok_or(Error::FileTooLarge)
}

impl Content {
    /// No layer lacks this content, as far as the cell knows.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self.source, Source::Payload(_))
    }

    /// The content has left a layer since the namespace was told so last.
    pub(super) fn is_unmarked(&self) -> bool {
        self.departures != self.departures_marked
    }

    pub(super) fn read(&self, store: &Store, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let wanted = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..wanted];
        match &self.source {
            Source::Payload(digest) => {
                let file = store.payload(digest)?;
                let failed = |source| Error::Payload { digest: *digest, source };
                if read_full(&file, buf, offset).map_err(failed)? < wanted {
                    return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
            Source::Zeros => buf.fill(0),
            Source::Whole { id, .. } => {
                read_scratch(&*store.upper()?.file(*id)?, buf, offset)?;
            }
            Source::Partial { .. } => self.read_partial(store, offset, buf)?,
        }
        Ok(wanted)
    }

    fn read_now(&self, store: &Store, offset: u64, buf: &mut [u8]) -> Result<Option<usize>> {
        let wanted = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..wanted];
        let read = match &self.source {
            Source::Zeros => {
                buf.fill(0);
                Some(wanted)
            }
            Source::Payload(digest) => match store.open_payload(digest) {
                Some(file) => spfs_sys::files::read_now(&file, buf, offset)
                    .map_err(|source| Error::Payload { digest: *digest, source })?,
                None => None,
            },
            Source::Whole { id } => match store.upper()?.open_file(*id) {
                Some(file) => file.read_now(buf, offset).map_err(|e| Error::scratch("read", e))?,
                None => None,
            },
            Source::Partial { .. } => None,
        };
        // A part of it, or the end where it should not be: for who waits to find out.
        Ok(read.filter(|read| *read == wanted))
    }

    fn read_partial(&self, store: &Store, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Source::Partial { id, base, base_end, extents, .. } = &self.source else {
            return Ok(());
        };
        for segment in extents.segments(offset..offset + buf.len() as u64) {
            let Range { start, end } = segment.range;
            let part = &mut buf[(start - offset) as usize..(end - offset) as usize];
            if segment.covered {
                read_scratch(&*store.upper()?.file(*id)?, part, start)?;
                continue;
            }
            let from_base = base_end.saturating_sub(start).min(end - start) as usize;
            let (below, above) = part.split_at_mut(from_base);
            above.fill(0);
            if !below.is_empty() {
                let file = store.payload(base)?;
                let failed = |source| Error::Payload { digest: *base, source };
                if read_full(&file, below, start).map_err(failed)? < from_base {
                    return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, ino: Ino, store: &Store, range: Range<u64>, data: &[u8]) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let file = self.make_writable(ino, store, Some((range.start, data)))?;
        self.unsynced.data = true;
        let written = self.cover(ino, store, &*file, &range, |file| {
            file.write_all_at(data, range.start).map_err(|e| Error::scratch("write", e))
        });
        if let Err(error) = written {
            self.torn = true;
            // When this fails as well, it is done before the file is used again.
            drop(self.mend(store.upper()?));
            return Err(error);
        }
        self.size = self.size.max(range.end);
        Ok(())
    }

    /// Runs `change`, which makes `range` of the scratch file count, and notes that it does. Bytes
    /// beside the range in its first and last block come from the payload.
    pub(super) fn cover(
        &mut self,
        ino: Ino,
        store: &Store,
        file: &dyn ScratchFile,
        range: &Range<u64>,
        change: impl FnOnce(&dyn ScratchFile) -> Result<()>,
    ) -> Result<()> {
        let Source::Partial { extents, .. } = &self.source else {
            return change(file);
        };
        if extents.covers(range) {
            return change(file);
        }
        let end = self.size.max(range.end);
        let blocks = range.start / BLOCK * BLOCK..(range.end.div_ceil(BLOCK) * BLOCK).min(end);
        self.fill_edge(store, file, blocks.start..range.start)?;
        self.fill_edge(store, file, range.end..blocks.end)?;
        change(file)?;
        if let Source::Partial { extents, .. } = &mut self.source {
            extents.insert(blocks.clone());
        }
        self.unsynced.source = true;
        store.upper()?.record(&Record::Extent { ino: ino.0, start: blocks.start, end: blocks.end });
        Ok(())
    }

    /// Copies what is not in scratch yet of a stretch shorter than a block.
    fn fill_edge(&self, store: &Store, file: &dyn ScratchFile, edge: Range<u64>) -> Result<()> {
        let Source::Partial { extents, .. } = &self.source else {
            return Ok(());
        };
        for segment in extents.segments(edge) {
            let end = segment.range.end.min(self.size);
            if segment.covered || segment.range.start >= end {
                continue;
            }
            let mut bytes = vec![0; (end - segment.range.start) as usize];
            self.read_partial(store, segment.range.start, &mut bytes)?;
            file.write_all_at(&bytes, segment.range.start)
                .map_err(|e| Error::scratch("copy a block up", e))?;
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, ino: Ino, store: &Store, size: u64) -> Result<()> {
        if size == self.size && !(size == 0 && self.lost) {
            return Ok(());
        }
        let upper = store.upper()?;
        if size == 0 {
            return self.truncate_to_nothing(ino, store);
        }
        if matches!(self.source, Source::Zeros) {
            self.stored = None;
            self.size = size;
            self.unsynced.source = true;
            upper.record(&Record::Content { ino: ino.0, content: self.record() });
            return Ok(());
        }
        if size < self.size && matches!(self.source, Source::Payload(_)) {
            return self.shrink_payload(ino, store, size);
        }
        let file = self.make_writable(ino, store, None)?;
        file.set_len(size).map_err(|e| Error::scratch("set a length", e))?;
        if let Source::Partial { base_end, extents, .. } = &mut self.source {
            *base_end = (*base_end).min(size);
            extents.truncate(size);
            upper.record(&Record::Truncate { ino: ino.0, size });
            self.unsynced.source = true;
        }
        self.unsynced.data = true;
        self.size = size;
        Ok(())
    }

    fn truncate_to_nothing(&mut self, ino: Ino, store: &Store) -> Result<()> {
        let upper = store.upper()?;
        let lost = std::mem::take(&mut self.lost);
        let shared = self.stored.take().is_some_and(|stored| stored.shared);
        // What a power loss falls back to stays on the disk; that bytes are lost no more is recorded.
        if let Source::Whole { id } = &self.source
            && self.fallback != Some(*id)
            && !self.in_sync.source
            && !shared
            && !lost
        {
            let file = upper.file(*id)?;
            file.set_len(0).map_err(|e| Error::scratch("set a length", e))?;
            self.unsynced.data = true;
        } else {
            self.size = 0;
            self.replace_source(ino, Source::Zeros, upper);
        }
        self.size = 0;
        Ok(())
    }

    /// Shortens a file of a layer: only what stays is copied, and of a large file nothing.
    fn shrink_payload(&mut self, ino: Ino, store: &Store, size: u64) -> Result<()> {
        let before = std::mem::replace(&mut self.size, size);
        if let Err(error) = self.make_writable(ino, store, None) {
            self.size = before;
            return Err(error);
        }
        if let Source::Partial { extents, .. } = &mut self.source {
            *extents = Extents::default();
        }
        self.unsynced.data = true;
        // Only what stays has been copied, but a clone is as long as the payload.
        self.torn = true;
        self.mend(store.upper()?)
    }
}

fn read_scratch(file: &dyn ScratchFile, buf: &mut [u8], offset: u64) -> Result<()> {
    let read = file.read_at(buf, offset).map_err(|e| Error::scratch("read", e))?;
    // The scratch file is as long as the file; were it shorter, the rest would be a hole.
    buf[read..].fill(0);
    Ok(())
}
