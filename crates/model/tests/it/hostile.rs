//! Bytes that nobody should have written.

use proptest::prelude::*;
use spfs_model::{
    DecodeError, Digest, DigestStrategy, EncodingFormat, Header, ManifestError, Object, ObjectKind,
    TagStream, decode, digest, encode, merge,
};

use crate::laws::any_object;
use crate::support::{FORMATS, STRATEGIES, archive};

/// Does with what decodes whatever the layers above would do.
fn use_all(bytes: &[u8]) {
    let Ok((header, object)) = decode(bytes) else { return };
    for format in FORMATS {
        if let Ok(again) = encode(&object, header.strategy, format) {
            let read = decode(&again).unwrap().1;
            assert_eq!(digest(&read, header.strategy), digest(&object, header.strategy));
        }
    }
    if let Object::Manifest(manifest) = object {
        merge(&[&manifest, &manifest]);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    for (path, bytes) in archive("walks.tar") {
        for len in 0..bytes.len() {
            if path.contains("tag-file") {
                let read = TagStream::decode(&bytes[..len]);
                // a stream that ends with a record is a shorter stream
                assert!(
                    read.is_err() || read.unwrap().encode().unwrap() == bytes[..len],
                    "{path} at {len}"
                );
            } else {
                use_all(&bytes[..len]);
            }
        }
    }
    for (_, bytes) in archive("b-platform.tar").into_iter().filter(|(p, _)| p.contains("objects")) {
        let (header, object) = decode(&bytes).unwrap();
        for format in FORMATS {
            let bytes = encode(&object, header.strategy, format).unwrap();
            for len in 0..bytes.len() {
                // a FlatBuffer may end with padding, or with the zeros that stand for a length
                let cut = decode(&bytes[..len]);
                let harmless = format == EncodingFormat::FlatBuffers && cut == decode(&bytes);
                assert!(cut.is_err() || harmless && bytes.len() - len < 8);
            }
        }
    }
}

#[test]
fn bytes_after_the_end_of_a_legacy_object_are_an_error() {
    let blob = Object::Blob { payload: Digest::EMPTY, size: 0 };
    let mut bytes = encode(&blob, DigestStrategy::Legacy, EncodingFormat::Legacy).unwrap();
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(DecodeError::Trailing { count: 1 }));
}

fn legacy(kind: u8, body: &[&[u8]]) -> Result<(Header, Object), DecodeError> {
    let mut bytes = b"--SPFS--\n\0\0\0\0\0\0\0".to_vec();
    bytes.push(kind);
    bytes.extend(body.concat());
    decode(&bytes)
}

#[test]
fn counts_beyond_the_end_are_an_error() {
    for count in [1, 2, u64::from(u32::MAX), u64::MAX / 32, u64::MAX] {
        for kind in [1, 3] {
            let error = legacy(kind, &[&count.to_be_bytes()]).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated { .. }), "{error:?}");
        }
        let error = legacy(1, &[&[0; 8], &count.to_be_bytes()]).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated { .. }), "{error:?}");
    }
}

fn entry(object: Digest, kind: &str, mode: u64, name: &[u8]) -> Vec<u8> {
    [
        object.as_bytes(),
        kind.as_bytes(),
        b"\0",
        &mode.to_be_bytes()[..],
        &0u64.to_be_bytes()[..],
        name,
        b"\0",
    ]
    .concat()
}

fn tree(entries: &[Vec<u8>]) -> Vec<u8> {
    [&(entries.len() as u64).to_be_bytes()[..], &entries.concat()].concat()
}

#[test]
fn entries_that_could_do_harm_are_an_error() {
    let root = |entries: &[Vec<u8>]| legacy(1, &[&tree(entries), &[0; 8]]);
    let file = |name: &[u8]| entry(Digest::EMPTY, "file", 0o100_644, name);
    assert!(root(&[file(b"a"), file(b"b")]).is_ok());
    for bad in [&b""[..], b".", b"..", b"../x", b"/etc/passwd", b"\xff", &[b'x'; 256]] {
        let error = root(&[file(bad)]).unwrap_err();
        let source = match error {
            DecodeError::Manifest { source } => source,
            other => panic!("{other:?}"),
        };
        assert!(matches!(source, ManifestError::Name(_)), "{source:?}");
    }
    let twice = root(&[file(b"b"), file(b"a"), file(b"b")]).unwrap_err();
    let source = ManifestError::DuplicateName { name: "b".to_owned() };
    assert_eq!(twice, DecodeError::Manifest { source });
    let twice = root(&[file(b"b"), file(b"b")]).unwrap_err();
    let source = ManifestError::DuplicateName { name: "b".to_owned() };
    assert_eq!(twice, DecodeError::Manifest { source });

    let bad = entry(Digest::EMPTY, "fifo", 0, b"a");
    assert!(matches!(root(&[bad]), Err(DecodeError::Bad { what: "kind of entry", .. })));
    let bad = entry(Digest::EMPTY, "file", 1 << 32, b"a");
    assert!(matches!(root(&[bad]), Err(DecodeError::Bad { what: "mode", .. })));
}

#[test]
fn a_tree_that_is_not_there_or_holds_itself_is_an_error() {
    let missing = Digest::of(b"nothing like a tree");
    let root = tree(&[entry(missing, "tree", 0o040_755, b"d")]);
    let source = ManifestError::MissingTree { name: "d".to_owned(), digest: missing };
    assert_eq!(legacy(1, &[&root, &[0; 8]]), Err(DecodeError::Manifest { source }));

    // A tree cannot name its own digest, only claim one: of two trees that claim to hold each
    // other, neither has the digest that the other one claims.
    let [a, b] = [b"a", b"b"].map(|claim| Digest::of(claim));
    let root = tree(&[entry(a, "tree", 0o040_755, b"d")]);
    let first = tree(&[entry(b, "tree", 0o040_755, b"d")]);
    let second = tree(&[entry(a, "tree", 0o040_755, b"d")]);
    let cycle = legacy(1, &[&root, &2u64.to_be_bytes(), &first, &second]);
    assert!(
        matches!(cycle, Err(DecodeError::Manifest { source: ManifestError::MissingTree { .. } })),
        "{cycle:?}"
    );
}

#[test]
fn trees_in_any_order_are_found_and_keep_their_order() {
    // root → a → c, root → b, stored breadth first, with a tree that nothing leads to
    let file = |name: &[u8]| entry(Digest::EMPTY, "file", 0o100_644, name);
    let c = tree(&[file(b"in-c")]);
    let b = tree(&[file(b"in-b")]);
    let a = tree(&[entry(Digest::of(&c), "tree", 0o040_755, b"c")]);
    let alone = tree(&[file(b"alone")]);
    let root = tree(&[
        entry(Digest::of(&a), "tree", 0o040_755, b"a"),
        entry(Digest::of(&b), "tree", 0o040_755, b"b"),
    ]);
    let body = [&root[..], &4u64.to_be_bytes(), &a, &b, &c, &alone].concat();
    let (header, object) = legacy(1, &[&body]).unwrap();
    assert_eq!(header.kind, ObjectKind::Manifest);
    assert_eq!(digest(&object, DigestStrategy::Legacy), Ok(Digest::of(&body)));
    for (strategy, format) in STRATEGIES.iter().flat_map(|s| FORMATS.map(|f| (*s, f))) {
        let again = decode(&encode(&object, strategy, format).unwrap()).unwrap().1;
        assert_eq!(again, object);
    }
    let Object::Manifest(manifest) = object else { panic!() };
    assert_eq!(
        crate::support::merged_paths(&[&manifest]),
        ["a/", "a/c/", "a/c/in-c", "b/", "b/in-b"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_objects_never_panic(
        object in any_object(),
        strategy in proptest::sample::select(&STRATEGIES[..]),
        format in proptest::sample::select(&FORMATS[..]),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        if let Ok(mut bytes) = encode(&object, strategy, format) {
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            use_all(&bytes);
        }
    }

    #[test]
    fn damaged_offsets_never_panic(
        object in any_object(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..64u32), 1..4),
    ) {
        if let Ok(mut bytes) = encode(&object, DigestStrategy::Legacy, EncodingFormat::FlatBuffers) {
            let body = &mut bytes[Header::LEN..];
            for (at, offset) in edits {
                let at = at.index(body.len() / 4) * 4;
                body[at..at + 4].copy_from_slice(&offset.wrapping_mul(4).to_le_bytes());
            }
            use_all(&bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        kind in 0..4u8,
        strategy in 0..2u8,
        format in 0..2u8,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = b"--SPFS--\n".to_vec();
        bytes.extend([strategy, format, 0, 0, 0, 0, 0, kind]);
        bytes.extend(&body);
        use_all(&bytes);
        let _ = TagStream::decode(&body);
    }

    #[test]
    fn damaged_tag_streams_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let files = archive("walks.tar");
        for (_, bytes) in files.iter().filter(|(path, _)| path.contains("tag-file")) {
            let mut bytes = bytes.clone();
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(stream) = TagStream::decode(&bytes) {
                prop_assert!(stream.encode().is_ok());
            }
        }
    }
}
