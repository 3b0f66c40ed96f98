//! Directories in directories ten thousand times: nothing may recurse on the stack.

use std::collections::BTreeMap;

use spfs_model::{
    Content, Digest, DigestStrategy, Live, Manifest, ManifestBuilder, NewEntry, Node, NodeKind,
    Object, Position, Stack, changes, decode, diff, encode, merge,
};

use crate::support::{FORMATS, blob, name};

const DEPTH: usize = 10_000;

/// Runs on a stack that would not take many levels of anything.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 * 1024).spawn(test).unwrap().join().unwrap();
}

fn chain() -> Manifest {
    let mut node = Node::Blob(blob("leaf"));
    for level in 0..DEPTH {
        // every directory differs from the one in it
        let entries = BTreeMap::from([
            (name("d"), node),
            (name(&format!("f{level}")), Node::Blob(blob("x"))),
        ]);
        node = Node::Directory { mode: 0o040_755, entries };
    }
    Manifest::build(&BTreeMap::from([(name("top"), node)])).unwrap()
}

#[test]
fn a_deep_manifest_is_built_encoded_decoded_and_merged() {
    on_a_small_stack(|| {
        let manifest = chain();
        assert_eq!(manifest.expanded_len(), 1 + 2 * DEPTH as u64);
        let object = Object::Manifest(manifest.clone());
        for format in FORMATS {
            let bytes = encode(&object, DigestStrategy::default(), format).unwrap();
            let (_, read) = decode(&bytes).unwrap();
            assert_eq!(encode(&read, DigestStrategy::default(), format), Ok(bytes));
        }
        let tree = merge(&[&manifest, &manifest]);
        assert_eq!(tree.len(), 2 + 2 * DEPTH);
        let deepest = Position(u32::try_from(tree.len()).unwrap() - 2);
        assert_eq!(tree.kind(deepest), NodeKind::File);
        assert_eq!(tree.path(deepest).len(), "top".len() + 2 * DEPTH);
    });
}

#[test]
fn a_deep_view_is_compared_and_dropped() {
    on_a_small_stack(|| {
        let manifest = chain();
        let bottom = merge(&[&manifest]);
        let stack = Stack::on(&bottom, vec![]);
        let mut live = Live::Blob(blob("changed"));
        for _ in 0..DEPTH {
            let entries = BTreeMap::from([(name("d"), live)]);
            live = Live::Directory { mode: 0o040_755, entries };
        }
        let live = Live::Directory {
            mode: 0o040_755,
            entries: BTreeMap::from([
                (name("copy"), Live::Lower(Position(1))),
                (name("top"), live),
            ]),
        };
        let top = diff(&stack, &live).unwrap().unwrap();
        let tree = Stack::on(&bottom, vec![&top]).merge();
        assert_eq!(tree.len(), 1 + (1 + 2 * DEPTH) + (1 + DEPTH));
    });
}

#[test]
fn a_deep_view_is_listed() {
    on_a_small_stack(|| {
        let mut live = Live::Blob(blob("leaf"));
        for _ in 0..1_000 {
            live =
                Live::Directory { mode: 0o040_755, entries: BTreeMap::from([(name("d"), live)]) };
        }
        assert_eq!(changes(&Stack::new(vec![]), &live).unwrap().len(), 1_000);
    });
}

#[test]
fn a_chain_that_describes_more_than_a_million_millions_is_refused() {
    let mut builder = ManifestBuilder::new();
    let mut tree = builder.directory(Vec::new()).unwrap();
    for _ in 0..40 {
        let twice = ["a", "b"].map(|text| NewEntry {
            name: name(text),
            content: Content::Directory { mode: 0o040_755, tree },
        });
        tree = builder.directory(twice.into()).unwrap();
    }
    assert!(builder.finish(tree).is_err());

    // the same as a file: forty trees in two kilobytes each
    let mut body = 0u64.to_be_bytes().to_vec();
    let mut trees = Vec::new();
    for _ in 0..40 {
        let inner = Digest::of(&body);
        trees.push(std::mem::take(&mut body));
        body.extend(2u64.to_be_bytes());
        for letter in ["a", "b"] {
            body.extend(inner.as_bytes());
            body.extend(b"tree\0");
            body.extend(0o040_755u64.to_be_bytes());
            body.extend(0u64.to_be_bytes());
            body.extend(letter.as_bytes());
            body.push(0);
        }
    }
    let mut file = b"--SPFS--\n\0\0\0\0\0\0\0\x01".to_vec();
    file.extend(body);
    file.extend((trees.len() as u64).to_be_bytes());
    file.extend(trees.into_iter().rev().flatten());
    let error = decode(&file).unwrap_err();
    assert!(format!("{error:?}").contains("TooLarge"), "{error:?}");
}
