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

#[cfg(test)]
mod tests {
    use super::builder::{Builder, Place};
    use super::*;

    fn file(kind: ObjectKind, build: impl FnOnce(&mut Builder) -> Place) -> Vec<u8> {
        let mut builder = Builder::with_capacity(0);
        let object = build(&mut builder);
        let mut any = builder.table();
        builder.put_offset(&mut any, slot::ANY_OBJECT, object);
        builder.put_u8(&mut any, slot::ANY_OBJECT_TYPE, tag::object(kind));
        let root = builder.end(&any);
        builder.finish(root, &[]).unwrap()
    }

    fn holder(builder: &mut Builder, slot: usize, target: Place) -> Place {
        let mut table = builder.table();
        builder.put_offset(&mut table, slot, target);
        builder.end(&table)
    }

    fn entry(builder: &mut Builder) -> Place {
        let name = builder.string(b"name");
        let mut entry = builder.table();
        builder.put_offset(&mut entry, slot::ENTRY_NAME, name);
        builder.put_digest(&mut entry, slot::ENTRY_OBJECT, &Digest::EMPTY);
        builder.end(&entry)
    }

    #[test]
    fn one_tree_used_as_ten_thousand_is_refused() {
        let bytes = file(ObjectKind::Manifest, |builder| {
            let entry = entry(builder);
            let entries = builder.vector(&[entry]);
            let tree = holder(builder, slot::TREE_ENTRIES, entries);
            let trees = builder.vector(&vec![tree; 10_000]);
            holder(builder, slot::MANIFEST_TREES, trees)
        });
        let size = bytes.len();
        assert_eq!(decode(ObjectKind::Manifest, &bytes), Err(DecodeError::Overfull { size }));
    }

    #[test]
    fn one_annotation_used_as_ten_thousand_is_refused() {
        let bytes = file(ObjectKind::Layer, |builder| {
            let text = builder.string(&[b'x'; 10_000]);
            let value = holder(builder, slot::VALUE, text);
            let mut note = builder.table();
            builder.put_offset(&mut note, slot::ANNOTATION_VALUE, value);
            builder.put_offset(&mut note, slot::ANNOTATION_KEY, text);
            builder.put_u8(&mut note, slot::ANNOTATION_TYPE, tag::VALUE_STRING);
            let note = builder.end(&note);
            let notes = builder.vector(&vec![note; 10_000]);
            holder(builder, slot::LAYER_ANNOTATIONS, notes)
        });
        let size = bytes.len();
        assert_eq!(decode(ObjectKind::Layer, &bytes), Err(DecodeError::Overfull { size }));
    }

    #[test]
    fn a_string_that_another_writer_shares_is_read() {
        let bytes = file(ObjectKind::Layer, |builder| {
            let text = builder.string(b"both");
            let value = holder(builder, slot::VALUE, text);
            let mut note = builder.table();
            builder.put_offset(&mut note, slot::ANNOTATION_VALUE, value);
            builder.put_offset(&mut note, slot::ANNOTATION_KEY, text);
            builder.put_u8(&mut note, slot::ANNOTATION_TYPE, tag::VALUE_STRING);
            let note = builder.end(&note);
            let notes = builder.vector(&[note]);
            holder(builder, slot::LAYER_ANNOTATIONS, notes)
        });
        let note =
            Annotation { key: "both".to_owned(), value: AnnotationValue::Inline("both".into()) };
        let layer = Layer { manifest: None, annotations: vec![note] };
        assert_eq!(decode(ObjectKind::Layer, &bytes), Ok(Object::Layer(layer)));
    }

    #[test]
    fn a_body_of_another_kind_and_missing_fields_are_refused() {
        let blob = |payload: bool| {
            file(ObjectKind::Blob, |builder| {
                let mut blob = builder.table();
                builder.put_u64(&mut blob, slot::BLOB_SIZE, 1);
                if payload {
                    builder.put_digest(&mut blob, slot::BLOB_PAYLOAD, &Digest::EMPTY);
                }
                builder.end(&blob)
            })
        };
        assert!(decode(ObjectKind::Blob, &blob(true)).is_ok());
        let missing = DecodeError::Missing { what: "payload" };
        assert_eq!(decode(ObjectKind::Blob, &blob(false)), Err(missing));
        let header = ObjectKind::Layer;
        assert_eq!(decode(header, &blob(true)), Err(DecodeError::OtherKind { header }));
        let no_root = file(ObjectKind::Manifest, |builder| {
            let trees = builder.vector(&[]);
            holder(builder, slot::MANIFEST_TREES, trees)
        });
        let no_root = decode(ObjectKind::Manifest, &no_root);
        let source = crate::ManifestError::NoRoot;
        assert_eq!(no_root, Err(DecodeError::Manifest { source }));
    }

    #[test]
    fn a_vector_longer_than_the_bytes_is_refused() {
        let bytes = file(ObjectKind::Platform, |builder| {
            let layers = builder.digests(&[Digest::EMPTY]);
            holder(builder, slot::PLATFORM_LAYERS, layers)
        });
        assert!(decode(ObjectKind::Platform, &bytes).is_ok());
        let count = bytes.len() - 32 - 4;
        for length in [2u32, 1 << 27, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[count..count + 4].copy_from_slice(&length.to_le_bytes());
            let error = decode(ObjectKind::Platform, &bytes).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated { what: "layers", .. }), "{error:?}");
        }
    }
}
