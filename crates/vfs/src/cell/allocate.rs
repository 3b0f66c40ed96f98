//! Space: reserving, punching and zeroing ranges, and finding data and holes.

use std::ops::Range;

use crate::api::{Allocate, Error, Result, Seek, Timestamp};
use crate::scratch::ScratchFile;
use crate::store::Store;

use super::io::checked_end;
use super::{Content, FileCell, Source};

impl FileCell {
    /// fallocate(2). `Ok(true)`: the namespace may not know yet that the content is no
    /// layer's any more.
    pub(crate) fn allocate(
        &self,
        store: &Store,
        offset: u64,
        len: u64,
        how: Allocate,
        now: Timestamp,
    ) -> Result<bool> {
        let end = checked_end(offset, len)?;
        if len == 0 {
            return Err(Error::Invalid);
        }
        let mut content = self.content.write();
        let file = content.make_writable(self.ino, store, None)?;
        match how {
            Allocate::Extend | Allocate::KeepSize => reserve(&*file, offset, len)?,
            Allocate::PunchHole | Allocate::ZeroRange | Allocate::ZeroRangeKeepSize => {
                let inside = offset.min(content.size)..end.min(content.size);
                content.cover(self.ino, store, &*file, &inside, |file| zero(file, &inside))?;
            }
        }
        if how == Allocate::ZeroRange || how == Allocate::ZeroRangeKeepSize {
            reserve(&*file, offset, len)?;
        }
        if matches!(how, Allocate::Extend | Allocate::ZeroRange) && end > content.size {
            file.set_len(end).map_err(|e| Error::scratch("set a length", e))?;
            content.size = end;
        }
        content.unsynced.data = true;
        content.written_at = Some(now);
        Ok(content.is_unmarked())
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    pub(crate) fn seek(&self, store: &Store, offset: u64, what: Seek) -> Result<u64> {
        let content = self.content.read();
        if offset >= content.size {
            return Err(Error::NoSuchAddress);
        }
        for part in content.parts(offset) {
            let found = match what {
                Seek::Data => part.data(store)?,
                Seek::Hole => part.hole(store)?,
            };
            if let Some(at) = found.filter(|at| *at < part.range.end) {
                return Ok(at);
            }
        }
        match what {
            Seek::Data => Err(Error::NoSuchAddress),
            Seek::Hole => Ok(content.size),
        }
    }
}

/// Reserves space. Where the volume cannot, a file system call must not fail for that: it promises
/// space, which nobody can check.
fn reserve(file: &dyn ScratchFile, offset: u64, len: u64) -> Result<()> {
    match file.allocate(offset, len) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        other => other.map_err(|e| Error::scratch("allocate", e)),
    }
}

fn zero(file: &dyn ScratchFile, range: &Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    file.punch_hole(range.start, range.end - range.start)
        .map_err(|e| Error::scratch("punch a hole", e))
}

/// A stretch of a file with one origin.
struct Part<'a> {
    range: Range<u64>,
    origin: Origin<'a>,
}

enum Origin<'a> {
    Zeros,
    Payload(&'a spfs_model::Digest),
    Scratch(crate::scratch::ScratchId),
}

impl Content {
    /// The stretches of the file from `offset` on.
    fn parts(&self, offset: u64) -> Vec<Part<'_>> {
        let range = offset..self.size;
        match &self.source {
            Source::Zeros => vec![Part { range, origin: Origin::Zeros }],
            Source::Payload(digest) => vec![Part { range, origin: Origin::Payload(digest) }],
            Source::Whole { id, .. } => vec![Part { range, origin: Origin::Scratch(*id) }],
            Source::Partial { id, base, base_end, extents, .. } => extents
                .segments(range)
                .into_iter()
                .flat_map(|segment| {
                    let Range { start, end } = segment.range;
                    if segment.covered {
                        return [
                            Some(Part { range: start..end, origin: Origin::Scratch(*id) }),
                            None,
                        ];
                    }
                    let middle = (*base_end).clamp(start, end);
                    [
                        Some(Part { range: start..middle, origin: Origin::Payload(base) }),
                        Some(Part { range: middle..end, origin: Origin::Zeros }),
                    ]
                })
                .flatten()
                .filter(|part| !part.range.is_empty())
                .collect(),
        }
    }
}

impl Part<'_> {
    fn data(&self, store: &Store) -> Result<Option<u64>> {
        let start = self.range.start;
        match &self.origin {
            Origin::Zeros => Ok(None),
            Origin::Payload(digest) => {
                let file = store.payload(digest)?;
                spfs_sys::files::seek_data(&file, start)
                    .map_err(|source| Error::Payload { digest: **digest, source })
            }
            Origin::Scratch(id) => store
                .upper()?
                .file(*id)?
                .seek_data(start)
                .map_err(|e| Error::scratch("find data", e)),
        }
    }

    fn hole(&self, store: &Store) -> Result<Option<u64>> {
        let start = self.range.start;
        match &self.origin {
            Origin::Zeros => Ok(Some(start)),
            Origin::Payload(digest) => {
                let file = store.payload(digest)?;
                spfs_sys::files::seek_hole(&file, start)
                    .map_err(|source| Error::Payload { digest: **digest, source })
            }
            Origin::Scratch(id) => store
                .upper()?
                .file(*id)?
                .seek_hole(start)
                .map_err(|e| Error::scratch("find a hole", e)),
        }
    }
}
