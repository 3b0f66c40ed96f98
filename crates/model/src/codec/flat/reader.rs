//! Reads a FlatBuffer of which nothing is known: every place is checked, none need be aligned.

use crate::Digest;
use crate::codec::DecodeError;

/// The most slots that a table of the schema has.
const SLOTS_MAX: usize = 5;

/// The bytes of a FlatBuffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer<'a>(&'a [u8]);

impl<'a> Buffer<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn len(self) -> usize {
        self.0.len()
    }

    /// The table that everything else hangs from.
    pub(super) fn root(self) -> Result<Table<'a>, DecodeError> {
        self.table(self.offset(0)?)
    }

    fn chunk<const LEN: usize>(
        self,
        at: usize,
        what: &'static str,
    ) -> Result<&'a [u8; LEN], DecodeError> {
        let bytes = self.0.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.ok_or(DecodeError::Truncated { what, at })
    }

    fn u16(self, at: usize) -> Result<u16, DecodeError> {
        self.chunk(at, "number").map(|&bytes| u16::from_le_bytes(bytes))
    }

    fn u32(self, at: usize) -> Result<u32, DecodeError> {
        self.chunk(at, "number").map(|&bytes| u32::from_le_bytes(bytes))
    }

    pub(super) fn digest(self, at: usize) -> Result<Digest, DecodeError> {
        self.chunk(at, "digest").map(|&bytes| Digest::from_bytes(bytes))
    }

    /// Where the offset at a place leads.
    pub(super) fn offset(self, at: usize) -> Result<usize, DecodeError> {
        let offset: &[u8; 4] = self.chunk(at, "offset")?;
        usize::try_from(u32::from_le_bytes(*offset))
            .ok()
            .and_then(|offset| at.checked_add(offset))
            .filter(|&target| target < self.len())
            .ok_or(DecodeError::Bad { what: "offset", at })
    }

    pub(super) fn table(self, at: usize) -> Result<Table<'a>, DecodeError> {
        self.table_like(at, &mut VTable::default())
    }

    /// A table that probably has its fields where the one before had them.
    pub(super) fn table_like(
        self,
        at: usize,
        vtable: &mut VTable,
    ) -> Result<Table<'a>, DecodeError> {
        // The difference has a sign: a vtable that is used again lies behind its table.
        let difference: &[u8; 4] = self.chunk(at, "table")?;
        let vtable_at = i64::from(i32::from_le_bytes(*difference))
            .checked_neg()
            .and_then(|back| i64::try_from(at).ok()?.checked_add(back))
            .and_then(|vtable_at| usize::try_from(vtable_at).ok())
            .ok_or(DecodeError::Bad { what: "table", at })?;
        if vtable.at != Some(vtable_at) {
            *vtable = self.vtable(vtable_at)?;
        }
        Ok(Table { buffer: self, at, slots: vtable.slots })
    }

    fn vtable(self, at: usize) -> Result<VTable, DecodeError> {
        let size = usize::from(self.u16(at)?);
        if size < 4 || size % 2 != 0 {
            return Err(DecodeError::Bad { what: "vtable", at });
        }
        let mut slots = [0; SLOTS_MAX];
        for (slot, offset) in slots.iter_mut().enumerate().take((size - 4) / 2) {
            *offset = self.u16(at + 4 + 2 * slot)?;
        }
        Ok(VTable { at: Some(at), slots })
    }
}

/// Where tables have their fields.
#[derive(Debug, Default)]
pub(super) struct VTable {
    at: Option<usize>,
    slots: [u16; SLOTS_MAX],
}

/// A table of the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    buffer: Buffer<'a>,
    at: usize,
    slots: [u16; SLOTS_MAX],
}

impl<'a> Table<'a> {
    fn field(&self, slot: usize) -> Option<usize> {
        match self.slots[slot] {
            0 => None,
            // both are far below the largest usize
            offset => Some(self.at + usize::from(offset)),
        }
    }

    fn required(&self, slot: usize, what: &'static str) -> Result<usize, DecodeError> {
        self.field(slot).ok_or(DecodeError::Missing { what })
    }

    pub(super) fn u8(&self, slot: usize) -> Result<u8, DecodeError> {
        let field = self.field(slot);
        field.map_or(Ok(0), |at| self.buffer.chunk(at, "number").map(|&[byte]| byte))
    }

    pub(super) fn u32(&self, slot: usize) -> Result<u32, DecodeError> {
        self.field(slot).map_or(Ok(0), |at| self.buffer.u32(at))
    }

    pub(super) fn u64(&self, slot: usize) -> Result<u64, DecodeError> {
        let field = self.field(slot);
        field.map_or(Ok(0), |at| {
            self.buffer.chunk(at, "number").map(|&bytes| u64::from_le_bytes(bytes))
        })
    }

    pub(super) fn optional_digest(&self, slot: usize) -> Result<Option<Digest>, DecodeError> {
        self.field(slot).map(|at| self.buffer.digest(at)).transpose()
    }

    pub(super) fn digest(&self, slot: usize, what: &'static str) -> Result<Digest, DecodeError> {
        self.buffer.digest(self.required(slot, what)?)
    }

    pub(super) fn table(&self, slot: usize, what: &'static str) -> Result<Self, DecodeError> {
        self.buffer.table(self.buffer.offset(self.required(slot, what)?)?)
    }

    /// The bytes of a string, which may not be UTF-8.
    pub(super) fn text(&self, slot: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let at = self.buffer.offset(self.required(slot, what)?)?;
        let len = self.buffer.u32(at)? as usize;
        let rest = &self.buffer.0[at + 4..];
        match rest.get(len) {
            Some(0) => Ok(&rest[..len]),
            Some(_) => Err(DecodeError::Bad { what, at }),
            None => Err(DecodeError::Truncated { what, at }),
        }
    }

    pub(super) fn string(&self, slot: usize, what: &'static str) -> Result<&'a str, DecodeError> {
        let text = std::str::from_utf8(self.text(slot, what)?).ok();
        // what is hashed ends with NUL, so that a text with one in it has no digest
        let text = text.filter(|text| !text.contains('\0'));
        text.ok_or(DecodeError::Bad { what, at: self.at })
    }

    /// The places of a vector's elements of `size` bytes each, which all lie in the buffer.
    pub(super) fn vector(
        &self,
        slot: usize,
        what: &'static str,
        size: usize,
    ) -> Result<impl ExactSizeIterator<Item = usize> + use<>, DecodeError> {
        let at = self.buffer.offset(self.required(slot, what)?)?;
        let count = self.buffer.u32(at)? as usize;
        let start = at + 4;
        if count > (self.buffer.len() - start) / size {
            return Err(DecodeError::Truncated { what, at });
        }
        Ok((0..count).map(move |index| start + index * size))
    }
}
