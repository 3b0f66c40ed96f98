//! The legacy encoding: the concatenation of what is hashed.

use super::{DecodeError, EncodeError, platform_body};
use crate::manifest::{Assembler, RawEntry};
use crate::{Digest, EntryKind, Header, Layer, Manifest, Object, ObjectKind, Platform};

/// The least bytes that an entry takes: digest, kind, mode, size, and a name of one letter.
const ENTRY_LEN_MIN: usize = 32 + 5 + 8 + 8 + 2;

/// The bytes that a tree takes without its entries.
const TREE_LEN_MIN: usize = 8;

pub(super) fn encode(header: Header, object: &Object) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = header.encode().to_vec();
    match object {
        Object::Blob { payload, size } => {
            bytes.extend_from_slice(payload.as_bytes());
            bytes.extend_from_slice(&size.to_be_bytes());
        }
        Object::Manifest(manifest) => manifest.write_body(|part| bytes.extend_from_slice(part)),
        Object::Layer(layer) => match layer.manifest {
            Some(manifest) if layer.annotations.is_empty() => {
                bytes.extend_from_slice(manifest.as_bytes());
            }
            _ => return Err(EncodeError::LegacyLayer),
        },
        Object::Platform(platform) => bytes.extend_from_slice(&platform_body(platform)),
    }
    Ok(bytes)
}

pub(super) fn decode(kind: ObjectKind, body: &[u8]) -> Result<Object, DecodeError> {
    let mut reader = Reader { body, at: 0 };
    let object = match kind {
        ObjectKind::Blob => {
            Object::Blob { payload: reader.digest("payload")?, size: reader.number("size")? }
        }
        ObjectKind::Manifest => Object::Manifest(decode_manifest(&mut reader)?),
        ObjectKind::Layer => {
            Object::Layer(Layer { manifest: Some(reader.digest("manifest")?), annotations: vec![] })
        }
        ObjectKind::Platform => {
            let count = reader.count("number of layers", size_of::<Digest>())?;
            let layers = (0..count).map(|_| reader.digest("layer"));
            let mut stack = layers.collect::<Result<Vec<_>, _>>()?;
            stack.reverse();
            Object::Platform(Platform { stack })
        }
    };
    match body.len() - reader.at {
        0 => Ok(object),
        count => Err(DecodeError::Trailing { count }),
    }
}

fn decode_manifest(reader: &mut Reader<'_>) -> Result<Manifest, DecodeError> {
    let mut assembler = Assembler::new(1, reader.body.len() / (2 * ENTRY_LEN_MIN));
    decode_tree(reader, &mut assembler)?;
    for _ in 0..reader.count("number of trees", TREE_LEN_MIN)? {
        decode_tree(reader, &mut assembler)?;
    }
    Ok(assembler.finish()?)
}

fn decode_tree(reader: &mut Reader<'_>, assembler: &mut Assembler) -> Result<(), DecodeError> {
    for _ in 0..reader.count("number of entries", ENTRY_LEN_MIN)? {
        let object = reader.digest("object")?;
        let at = reader.at;
        let kind = match reader.string("kind of entry")? {
            b"file" => EntryKind::Blob,
            b"tree" => EntryKind::Tree,
            b"mask" => EntryKind::Mask,
            _ => return Err(DecodeError::Bad { what: "kind of entry", at }),
        };
        let at = reader.at;
        let mode = u32::try_from(reader.number("mode")?)
            .map_err(|_| DecodeError::Bad { what: "mode", at })?;
        let size = reader.number("size")?;
        let name = reader.string("name")?;
        assembler.entry(&RawEntry { name, kind, mode, size, object })?;
    }
    assembler.end_tree()?;
    Ok(())
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take<const LEN: usize>(&mut self, what: &'static str) -> Result<[u8; LEN], DecodeError> {
        let bytes = self.body[self.at..].first_chunk::<LEN>();
        let bytes = bytes.ok_or(DecodeError::Truncated { what, at: self.at })?;
        self.at += LEN;
        Ok(*bytes)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.take(what).map(u64::from_be_bytes)
    }

    fn digest(&mut self, what: &'static str) -> Result<Digest, DecodeError> {
        self.take(what).map(Digest::from_bytes)
    }

    /// A number of things of which each takes at least `each` bytes.
    fn count(&mut self, what: &'static str, each: usize) -> Result<u64, DecodeError> {
        let at = self.at;
        let count = self.number(what)?;
        if count > ((self.body.len() - self.at) / each) as u64 {
            return Err(DecodeError::Truncated { what, at });
        }
        Ok(count)
    }

    fn string(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = &self.body[self.at..];
        let len = rest.iter().position(|&byte| byte == 0);
        let len = len.ok_or(DecodeError::Truncated { what, at: self.at })?;
        self.at += len + 1;
        Ok(&rest[..len])
    }
}
