//! Reading a journal back.

use super::record::unframe;
use super::{FRAME_HEAD, MAGIC, Record};

/// What a journal holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The records in order.
    pub(crate) records: Vec<Record>,
    /// The bytes they take; what follows is a torn tail.
    pub(crate) end: u64,
}

/// Why a journal cannot be used as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// It does not begin as a journal does.
    #[error("it is no journal, or one of another version")]
    Magic,
    /// Records after this place are whole: something in the middle was overwritten or lost.
    #[error(
        "the record at byte {at} is damaged, although whole records follow at byte {next}; \
         {readable} records before it are whole"
    )]
    Middle {
        /// Where the damage begins.
        at: u64,
        /// Where the next whole record is.
        next: u64,
        /// The number of records before the damage.
        readable: usize,
    },
}

/// Reads all records. A tail that the end of the machine tore off is left out; damage with whole
/// records behind it is reported, because leaving those out would lose what was acknowledged.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, (Damage, Contents)> {
    let empty = Contents { records: Vec::new(), end: 0 };
    let Some(magic) = bytes.get(..MAGIC.len()) else {
        // Torn while it was made: the magic is the first thing written.
        return if MAGIC.starts_with(bytes) { Ok(empty) } else { Err((Damage::Magic, empty)) };
    };
    if magic != MAGIC {
        return Err((Damage::Magic, empty));
    }
    let mut records = Vec::new();
    let mut at = MAGIC.len();
    while let Some((number, record, len)) = unframe(&bytes[at..]) {
        if number != records.len() as u64 {
            break;
        }
        records.push(record);
        at += len;
    }
    let next = next_whole(bytes, at, records.len() as u64);
    let contents = Contents { records, end: at as u64 };
    match next {
        Some(next) => {
            let readable = contents.records.len();
            Err((Damage::Middle { at: at as u64, next: next as u64, readable }, contents))
        }
        None => Ok(contents),
    }
}

/// Finds a whole record with a later number behind a damaged place.
fn next_whole(bytes: &[u8], damaged: usize, number: u64) -> Option<usize> {
    let last = bytes.len().checked_sub(FRAME_HEAD)?;
    (damaged + 1..=last).find(|at| {
        let head = &bytes[*at..*at + FRAME_HEAD];
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        // A cheap look first: the checksum of each of many candidates would take long.
        let fits = len > 0 && at + FRAME_HEAD + len <= bytes.len();
        fits && unframe(&bytes[*at..]).is_some_and(|(found, ..)| found >= number)
    })
}
