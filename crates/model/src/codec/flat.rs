//! The FlatBuffers encoding: its tables, and objects from and to them.

mod builder;
mod reader;
mod write;

pub(super) use write::encode;

use reader::{Buffer, Table, VTable};

use super::DecodeError;
use crate::manifest::{Assembler, RawEntry};
use crate::{
    Annotation, AnnotationValue, Digest, EntryKind, Layer, Manifest, Object, ObjectKind, Platform,
};

/// Slots of the tables of the schema.
mod slot {
    pub(super) const ANY_OBJECT_TYPE: usize = 0;
    pub(super) const ANY_OBJECT: usize = 1;
    pub(super) const PLATFORM_LAYERS: usize = 0;
    pub(super) const LAYER_MANIFEST: usize = 0;
    pub(super) const LAYER_ANNOTATIONS: usize = 1;
    pub(super) const MANIFEST_TREES: usize = 0;
    pub(super) const BLOB_SIZE: usize = 0;
    pub(super) const BLOB_PAYLOAD: usize = 1;
    /// The one slot of both kinds of value.
    pub(super) const VALUE: usize = 0;
    pub(super) const ANNOTATION_KEY: usize = 0;
    pub(super) const ANNOTATION_TYPE: usize = 1;
    pub(super) const ANNOTATION_VALUE: usize = 2;
    pub(super) const TREE_ENTRIES: usize = 0;
    pub(super) const ENTRY_KIND: usize = 0;
    pub(super) const ENTRY_OBJECT: usize = 1;
    pub(super) const ENTRY_MODE: usize = 2;
    pub(super) const ENTRY_SIZE: usize = 3;
    pub(super) const ENTRY_NAME: usize = 4;
}

/// Numbers that tell the members of a union or enum.
mod tag {
    use crate::ObjectKind;

    pub(super) const VALUE_STRING: u8 = 1;
    pub(super) const VALUE_DIGEST: u8 = 2;
    pub(super) const BLOB: u8 = 0;
    pub(super) const TREE: u8 = 4;
    pub(super) const MASK: u8 = 5;

    /// Not the numbers of the header.
    pub(super) const fn object(kind: ObjectKind) -> u8 {
        match kind {
            ObjectKind::Platform => 1,
            ObjectKind::Layer => 2,
            ObjectKind::Manifest => 3,
            ObjectKind::Blob => 4,
        }
    }
}

/// The least bytes that a tree takes: its offset, its table and the length of its entries.
const TREE_LEN_MIN: usize = 4 + 8 + 4;

/// The least bytes that an entry takes: its offset and its table with a digest and a name.
const ENTRY_LEN_MIN: usize = 4 + 4 + 32 + 4;

/// The least bytes that an annotation takes besides its strings.
const ANNOTATION_LEN_MIN: usize = 4 + 12;

pub(super) fn decode(kind: ObjectKind, body: &[u8]) -> Result<Object, DecodeError> {
    let buffer = Buffer::new(body);
    let any = buffer.root()?;
    if any.u8(slot::ANY_OBJECT_TYPE)? != tag::object(kind) {
        return Err(DecodeError::OtherKind { header: kind });
    }
    let object = any.table(slot::ANY_OBJECT, "object")?;
    Ok(match kind {
        ObjectKind::Blob => Object::Blob {
            payload: object.digest(slot::BLOB_PAYLOAD, "payload")?,
            size: object.u64(slot::BLOB_SIZE)?,
        },
        ObjectKind::Manifest => Object::Manifest(decode_manifest(buffer, &object)?),
        ObjectKind::Layer => Object::Layer(decode_layer(buffer, &object)?),
        ObjectKind::Platform => {
            let stack = object.vector(slot::PLATFORM_LAYERS, "layers", size_of::<Digest>())?;
            let stack = stack.map(|at| buffer.digest(at)).collect::<Result<_, _>>()?;
            Object::Platform(Platform { stack })
        }
    })
}

fn decode_layer(buffer: Buffer<'_>, layer: &Table<'_>) -> Result<Layer, DecodeError> {
    let manifest = layer.optional_digest(slot::LAYER_MANIFEST)?;
    // other writers may store equal strings once
    let mut budget = Budget::new(buffer, 4);
    let mut annotations = Vec::new();
    for at in layer.vector(slot::LAYER_ANNOTATIONS, "annotations", 4)? {
        let annotation = buffer.table(buffer.offset(at)?)?;
        let key = annotation.string(slot::ANNOTATION_KEY, "key of an annotation")?;
        let value = annotation.table(slot::ANNOTATION_VALUE, "value of an annotation")?;
        budget.spend(ANNOTATION_LEN_MIN + key.len())?;
        let value = match annotation.u8(slot::ANNOTATION_TYPE)? {
            tag::VALUE_STRING => {
                let text = value.string(slot::VALUE, "text of an annotation")?;
                budget.spend(text.len())?;
                AnnotationValue::Inline(text.to_owned())
            }
            tag::VALUE_DIGEST => {
                AnnotationValue::Blob(value.digest(slot::VALUE, "digest of an annotation")?)
            }
            number => return Err(DecodeError::Unknown { what: "kind of value", number }),
        };
        annotations.push(Annotation { key: key.to_owned(), value });
    }
    Ok(Layer { manifest, annotations })
}

fn decode_manifest(buffer: Buffer<'_>, manifest: &Table<'_>) -> Result<Manifest, DecodeError> {
    let trees = manifest.vector(slot::MANIFEST_TREES, "trees", 4)?;
    // entries of upstream take about 90 bytes each
    let mut assembler = Assembler::new(trees.len(), buffer.len() / 80);
    let mut budget = Budget::new(buffer, 1);
    let mut vtable = VTable::default();
    for at in trees {
        budget.spend(TREE_LEN_MIN)?;
        let tree = buffer.table(buffer.offset(at)?)?;
        let entries = tree.vector(slot::TREE_ENTRIES, "entries", 4)?;
        budget.spend(entries.len() * ENTRY_LEN_MIN)?;
        for at in entries {
            // nearly all entries share one of three tables of offsets
            let entry = buffer.table_like(buffer.offset(at)?, &mut vtable)?;
            assembler.entry(&decode_entry(&entry)?)?;
        }
        assembler.end_tree()?;
    }
    Ok(assembler.finish()?)
}

fn decode_entry<'a>(entry: &Table<'a>) -> Result<RawEntry<'a>, DecodeError> {
    let kind = match entry.u8(slot::ENTRY_KIND)? {
        tag::BLOB => EntryKind::Blob,
        tag::TREE => EntryKind::Tree,
        tag::MASK => EntryKind::Mask,
        number => return Err(DecodeError::Unknown { what: "kind of entry", number }),
    };
    Ok(RawEntry {
        name: entry.text(slot::ENTRY_NAME, "name")?,
        kind,
        mode: entry.u32(slot::ENTRY_MODE)?,
        size: entry.u64(slot::ENTRY_SIZE)?,
        object: entry.digest(slot::ENTRY_OBJECT, "object")?,
    })
}

/// What may be read yet of a buffer whose offsets may lead to the same bytes again and again.
struct Budget {
    left: usize,
    size: usize,
}

impl Budget {
    fn new(buffer: Buffer<'_>, times: usize) -> Self {
        Self { left: buffer.len().saturating_mul(times), size: buffer.len() }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(DecodeError::Overfull { size: self.size }),
        }
    }
}
