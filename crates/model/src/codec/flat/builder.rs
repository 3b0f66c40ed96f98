//! Builds a FlatBuffer from its end to its start, byte for byte as the reference library does.

use crate::Digest;
use crate::codec::EncodeError;

/// The most slots that a table of the schema has.
const SLOTS_MAX: usize = 5;

/// A place in the buffer, counted from its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place(u32);

/// A buffer being built.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The bytes in reverse: what is pushed comes before everything pushed earlier.
    reversed: Vec<u8>,
    /// The largest alignment asked for.
    align: usize,
    /// Every vtable written so far: there are no more than a schema's few.
    vtables: Vec<(VTable, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct VTable {
    table_size: u16,
    offsets: [u16; SLOTS_MAX],
}

/// A table being built.
#[derive(Debug)]
pub(super) struct Table {
    start: usize,
    /// Where the fields are; 0 for those that have their default.
    fields: [usize; SLOTS_MAX],
}

impl Builder {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { reversed: Vec::with_capacity(bytes), align: 1, vtables: Vec::new() }
    }

    /// Pads so that the next `len` bytes are aligned.
    fn pad(&mut self, len: usize, align: usize) {
        self.align = self.align.max(align);
        let end = (self.reversed.len() + len).next_multiple_of(align);
        self.reversed.resize(end - len, 0);
    }

    /// Pushes a number given in big endian, which makes it little endian.
    fn number<const LEN: usize>(&mut self, big_endian: [u8; LEN]) {
        self.pad(LEN, LEN);
        self.reversed.extend_from_slice(&big_endian);
    }

    /// Where the last thing pushed is. More than a u32 counts is refused at the end.
    fn place(&self) -> Place {
        Place(self.reversed.len() as u32)
    }

    fn offset(&mut self, target: Place) {
        self.pad(4, 4);
        let here = self.reversed.len() as u32;
        self.number(here.wrapping_add(4).wrapping_sub(target.0).to_be_bytes());
    }

    pub(super) fn string(&mut self, text: &[u8]) -> Place {
        self.pad(text.len() + 1, 4);
        self.reversed.push(0);
        self.reversed.extend(text.iter().rev());
        self.number((text.len() as u32).to_be_bytes());
        self.place()
    }

    pub(super) fn vector(&mut self, elements: &[Place]) -> Place {
        self.pad(4 * elements.len(), 4);
        for &element in elements.iter().rev() {
            self.offset(element);
        }
        self.number((elements.len() as u32).to_be_bytes());
        self.place()
    }

    pub(super) fn digests(&mut self, digests: &[Digest]) -> Place {
        self.pad(32 * digests.len(), 4);
        for digest in digests.iter().rev() {
            self.digest(digest);
        }
        self.number((digests.len() as u32).to_be_bytes());
        self.place()
    }

    fn digest(&mut self, digest: &Digest) {
        self.reversed.extend(digest.as_bytes().iter().rev());
    }

    pub(super) fn table(&self) -> Table {
        Table { start: self.reversed.len(), fields: [0; SLOTS_MAX] }
    }

    pub(super) fn put_u8(&mut self, table: &mut Table, slot: usize, value: u8) {
        if value != 0 {
            self.number(value.to_be_bytes());
            table.fields[slot] = self.reversed.len();
        }
    }

    pub(super) fn put_u32(&mut self, table: &mut Table, slot: usize, value: u32) {
        if value != 0 {
            self.number(value.to_be_bytes());
            table.fields[slot] = self.reversed.len();
        }
    }

    pub(super) fn put_u64(&mut self, table: &mut Table, slot: usize, value: u64) {
        if value != 0 {
            self.number(value.to_be_bytes());
            table.fields[slot] = self.reversed.len();
        }
    }

    pub(super) fn put_digest(&mut self, table: &mut Table, slot: usize, value: &Digest) {
        self.digest(value);
        table.fields[slot] = self.reversed.len();
    }

    pub(super) fn put_offset(&mut self, table: &mut Table, slot: usize, target: Place) {
        self.offset(target);
        table.fields[slot] = self.reversed.len();
    }

    /// Ends a table, and writes its vtable if there is none like it.
    pub(super) fn end(&mut self, table: &Table) -> Place {
        self.number([0; 4]);
        let end = self.reversed.len();
        // tables of the schema have fewer than a hundred bytes
        let offset = |field| if field == 0 { 0 } else { (end - field) as u16 };
        let vtable =
            VTable { table_size: (end - table.start) as u16, offsets: table.fields.map(offset) };
        let place = self.place();
        let known = self.vtables.iter().find(|(known, _)| *known == vtable);
        let vtable_end = match known {
            Some(&(_, known_end)) => known_end,
            None => {
                let used = vtable.offsets.iter().rposition(|&at| at != 0).map_or(0, |at| at + 1);
                let size = 4 + 2 * used;
                self.pad(size, 2);
                for offset in vtable.offsets[..used].iter().rev() {
                    self.number(offset.to_be_bytes());
                }
                self.number(vtable.table_size.to_be_bytes());
                self.number((size as u16).to_be_bytes());
                let vtable_end = self.reversed.len();
                self.vtables.push((vtable, vtable_end));
                vtable_end
            }
        };
        let difference = (vtable_end as i32).wrapping_sub(end as i32);
        self.reversed[end - 4..end].copy_from_slice(&difference.to_be_bytes());
        place
    }

    /// The bytes of `header` followed by those of the buffer.
    pub(super) fn finish(mut self, root: Place, header: &[u8]) -> Result<Vec<u8>, EncodeError> {
        self.pad(4, self.align);
        self.offset(root);
        let size = self.reversed.len();
        if i32::try_from(size).is_err() {
            return Err(EncodeError::TooLarge { size });
        }
        self.reversed.extend(header.iter().rev());
        self.reversed.reverse();
        Ok(self.reversed)
    }
}
