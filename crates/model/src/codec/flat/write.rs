//! Objects to FlatBuffers, everything in the order in which upstream builds it.

use super::builder::{Builder, Place};
use super::{slot, tag};
use crate::codec::{EncodeError, layer_body};
use crate::manifest::Entries;
use crate::{
    Annotation, AnnotationValue, EntryKind, EntryRef, Header, Layer, Manifest, Object, TreeIndex,
};

pub(in crate::codec) fn encode(header: Header, object: &Object) -> Result<Vec<u8>, EncodeError> {
    let capacity = match object {
        Object::Manifest(manifest) => capacity_for(manifest),
        Object::Platform(platform) => 256 + platform.stack.len() * 32,
        Object::Blob { .. } | Object::Layer(_) => 256,
    };
    let mut builder = Builder::with_capacity(capacity);
    let place = match object {
        Object::Blob { payload, size } => {
            let mut blob = builder.table();
            builder.put_u64(&mut blob, slot::BLOB_SIZE, *size);
            builder.put_digest(&mut blob, slot::BLOB_PAYLOAD, payload);
            builder.end(&blob)
        }
        Object::Manifest(manifest) => write_manifest(&mut builder, manifest),
        Object::Layer(layer) => write_layer(&mut builder, layer)?,
        Object::Platform(platform) => {
            let layers = builder.digests(&platform.stack);
            write_holder(&mut builder, slot::PLATFORM_LAYERS, layers)
        }
    };
    let mut any = builder.table();
    builder.put_offset(&mut any, slot::ANY_OBJECT, place);
    builder.put_u8(&mut any, slot::ANY_OBJECT_TYPE, tag::object(header.kind));
    let root = builder.end(&any);
    builder.finish(root, &header.encode())
}

/// A little more than a manifest takes: growing would hold it twice.
fn capacity_for(manifest: &Manifest) -> usize {
    let (entries, trees) = (manifest.len(), manifest.trees().len());
    256 + 72 * entries + 48 * trees + manifest.names_len()
}

/// A table with one offset.
fn write_holder(builder: &mut Builder, slot: usize, target: Place) -> Place {
    let mut table = builder.table();
    builder.put_offset(&mut table, slot, target);
    builder.end(&table)
}

fn write_layer(builder: &mut Builder, layer: &Layer) -> Result<Place, EncodeError> {
    // what has no digest must not be stored, nor what would read back as something else
    layer_body(layer)?;
    let annotations: Vec<Place> =
        layer.annotations.iter().map(|note| write_annotation(builder, note)).collect();
    let annotations = builder.vector(&annotations);
    let mut table = builder.table();
    builder.put_offset(&mut table, slot::LAYER_ANNOTATIONS, annotations);
    if let Some(manifest) = &layer.manifest {
        builder.put_digest(&mut table, slot::LAYER_MANIFEST, manifest);
    }
    Ok(builder.end(&table))
}

fn write_annotation(builder: &mut Builder, annotation: &Annotation) -> Place {
    let key = builder.string(annotation.key.as_bytes());
    let (kind, value) = match &annotation.value {
        AnnotationValue::Inline(text) => {
            let text = builder.string(text.as_bytes());
            (tag::VALUE_STRING, write_holder(builder, slot::VALUE, text))
        }
        AnnotationValue::Blob(digest) => {
            let mut table = builder.table();
            builder.put_digest(&mut table, slot::VALUE, digest);
            (tag::VALUE_DIGEST, builder.end(&table))
        }
    };
    let mut table = builder.table();
    builder.put_offset(&mut table, slot::ANNOTATION_VALUE, value);
    builder.put_offset(&mut table, slot::ANNOTATION_KEY, key);
    builder.put_u8(&mut table, slot::ANNOTATION_TYPE, kind);
    builder.end(&table)
}

fn write_manifest(builder: &mut Builder, manifest: &Manifest) -> Place {
    let trees = if is_in_order(manifest) {
        write_nested(builder, manifest)
    } else {
        write_listed(builder, manifest)
    };
    let trees = builder.vector(&trees);
    write_holder(builder, slot::MANIFEST_TREES, trees)
}

/// Whether the trees stand as a walk meets them first, which is how upstream stores them.
fn is_in_order(manifest: &Manifest) -> bool {
    let mut met = 0;
    let mut seen = vec![false; manifest.trees().len()];
    let mut pending = vec![TreeIndex::ROOT];
    while let Some(tree) = pending.pop() {
        if std::mem::replace(&mut seen[tree.at()], true) {
            continue;
        }
        if tree.at() != met {
            return false;
        }
        met += 1;
        let entries = manifest.entries(tree);
        let start = pending.len();
        pending.extend(entries.filter_map(|entry| entry.tree));
        pending[start..].reverse();
    }
    met == seen.len()
}

/// Writes the hierarchy from its leaves to its root, as upstream does: a directory that occurs
/// again is written again, although only the first is listed. Gives the listed ones in order.
fn write_nested(builder: &mut Builder, manifest: &Manifest) -> Vec<Place> {
    struct Level<'a> {
        tree: TreeIndex,
        left: Entries<'a>,
        /// The entry that the level below belongs to.
        entered: Option<EntryRef<'a>>,
        /// Where the level's entries start among all that are written but not yet in a vector.
        start: usize,
    }
    let level = |tree, start| Level { tree, left: manifest.entries(tree), entered: None, start };
    let mut trees = vec![Place::default(); manifest.trees().len()];
    let mut entries = Vec::new();
    let mut path = vec![level(TreeIndex::ROOT, 0)];
    while let Some(current) = path.last_mut() {
        if let Some(entry) = current.entered.take() {
            entries.push(write_entry(builder, &entry));
        }
        match current.left.next() {
            Some(entry) => match entry.tree {
                None => entries.push(write_entry(builder, &entry)),
                Some(tree) => {
                    current.entered = Some(entry);
                    path.push(level(tree, entries.len()));
                }
            },
            None => {
                let vector = builder.vector(&entries[current.start..]);
                entries.truncate(current.start);
                let place = write_holder(builder, slot::TREE_ENTRIES, vector);
                let first = &mut trees[current.tree.at()];
                if *first == Place::default() {
                    *first = place;
                }
                path.pop();
            }
        }
    }
    trees
}

/// Writes every tree once, in stored order: for manifests that no walk puts into that order.
fn write_listed(builder: &mut Builder, manifest: &Manifest) -> Vec<Place> {
    let mut write_tree = |tree| {
        let entries: Vec<Place> =
            manifest.entries(tree).map(|entry| write_entry(builder, &entry)).collect();
        let vector = builder.vector(&entries);
        write_holder(builder, slot::TREE_ENTRIES, vector)
    };
    manifest.trees().map(&mut write_tree).collect()
}

fn write_entry(builder: &mut Builder, entry: &EntryRef<'_>) -> Place {
    let name = builder.string(entry.name.as_bytes());
    let mut table = builder.table();
    builder.put_u64(&mut table, slot::ENTRY_SIZE, entry.size);
    builder.put_offset(&mut table, slot::ENTRY_NAME, name);
    builder.put_u32(&mut table, slot::ENTRY_MODE, entry.mode);
    builder.put_digest(&mut table, slot::ENTRY_OBJECT, &entry.object);
    let kind = match entry.kind {
        EntryKind::Blob => tag::BLOB,
        EntryKind::Tree => tag::TREE,
        EntryKind::Mask => tag::MASK,
    };
    builder.put_u8(&mut table, slot::ENTRY_KIND, kind);
    builder.end(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobEntry, Content, Digest, ManifestBuilder, NameBuf, NewEntry, encode};

    #[test]
    fn the_room_made_for_a_manifest_suffices_and_is_not_much_too_large() {
        for len in [1, 7, 20, 200] {
            let mut builder = ManifestBuilder::new();
            let entry = |number: usize| {
                let blob = BlobEntry { mode: 0o100_644, size: 1 << 40, object: Digest::EMPTY };
                let name = NameBuf::new(format!("{number:0len$}").into_bytes()).unwrap();
                NewEntry { name, content: Content::Blob(blob) }
            };
            let numbers = if len == 1 { 0..10 } else { 0..2000 };
            let root = builder.directory(numbers.map(entry).collect()).unwrap();
            let manifest = builder.finish(root).unwrap();
            let room = capacity_for(&manifest);
            let object = Object::Manifest(manifest);
            let bytes = encode(&object, Default::default(), Default::default()).unwrap();
            assert!(bytes.len() <= room, "{} > {room} with names of {len}", bytes.len());
            assert!(room <= bytes.len() * 5 / 4 + 512, "{} << {room}", bytes.len());
        }
    }
}
