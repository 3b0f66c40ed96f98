//! Single files that are described field by field, and digests known from elsewhere.

use spfs_model::{
    Annotation, AnnotationValue, Digest, DigestStrategy, EncodingFormat, Header, Layer, Manifest,
    Object, ObjectKind, Platform, TagStream, decode, digest, encode,
};

use crate::support::archive;

#[test]
fn described_files_decode_and_encode_to_their_bytes() {
    let files = archive("walks.tar");
    assert_eq!(files.len(), 12);
    for (path, bytes) in files {
        if path.contains("tag-file") {
            assert_eq!(TagStream::decode(&bytes).unwrap().encode().unwrap(), bytes, "{path}");
        } else {
            let (header, object) = decode(&bytes).unwrap();
            assert_eq!(encode(&object, header.strategy, header.format), Ok(bytes), "{path}");
        }
    }
}

#[test]
fn a_layer_keeps_its_annotations_in_order_with_repeated_and_empty_keys() {
    let files = archive("walks.tar");
    let layer = |number: &str| {
        let (_, bytes) = files.iter().find(|(path, _)| path.starts_with(number)).unwrap();
        match decode(bytes).unwrap().1 {
            Object::Layer(layer) => layer,
            other => panic!("{other:?}"),
        }
    };
    let note = |key: &str, value| Annotation { key: key.to_owned(), value };
    let text = |text: &str| AnnotationValue::Inline(text.to_owned());
    let value = "LQ67NOIDIKTJBHD34UGOX3YBA5O335KRKXRC444I5VJUZ2MWHYXQ====".parse().unwrap();
    assert_eq!(
        layer("04").annotations,
        [
            note("string", text("inline value")),
            note("blob", AnnotationValue::Blob(value)),
            note("string", text("repeated key")),
        ]
    );
    assert_eq!(layer("05").manifest, None);
    assert_eq!(
        layer("05").annotations,
        [note("only", AnnotationValue::Blob(value)), note("", text(""))]
    );
}

#[test]
fn empty_objects_have_known_digests() {
    use DigestStrategy::{Legacy, WithKindAndSalt};
    let of = |object: &Object, strategy| digest(object, strategy).unwrap().to_string();
    let platform = Object::Platform(Platform::default());
    let manifest = Object::Manifest(Manifest::empty());
    assert_eq!(
        of(&platform, WithKindAndSalt),
        "YBC67LH2QKP6E3UGXZ3GEVYMDUAHH3QJGLKVNKOERBHYD5QHRX4A===="
    );
    assert_eq!(
        of(&manifest, WithKindAndSalt),
        "UAFQ5RS7RPWKETARRNCOQMDZH5Y3DJ6XP42KS6GQMK3S2A5C5ULA===="
    );
    assert_eq!(of(&manifest, Legacy), "G5DQR77XOGO5LF46ZB25K3GSFBXW2PHX5QYXUOZFMMVKWKHMG65Q====");
    let layer = Layer {
        manifest: Some(of(&manifest, WithKindAndSalt).parse().unwrap()),
        annotations: Vec::new(),
    };
    assert_eq!(
        of(&Object::Layer(layer), WithKindAndSalt),
        "NBDZ2PLVZ6ZBYW6TDOC4LELMFJAWCIYL64AZE4LR4EG2YRSMRIMA===="
    );
    let empty = Object::Blob { payload: Digest::EMPTY, size: 0 };
    for strategy in [Legacy, WithKindAndSalt] {
        assert_eq!(digest(&empty, strategy), Ok(Digest::EMPTY));
    }
}

#[test]
fn only_the_salt_tells_an_empty_platform_from_eight_zero_bytes() {
    let zeros = Digest::of(&[0; 8]);
    let platform = Object::Platform(Platform::default());
    assert_eq!(digest(&platform, DigestStrategy::Legacy), Ok(zeros));
    assert_ne!(digest(&platform, DigestStrategy::WithKindAndSalt), Ok(zeros));
    let empty = Manifest::empty();
    assert_eq!(empty.tree_digest(empty.root()), zeros);
    assert_eq!(zeros.to_string(), "V5KXB5NBQEFXV54MV5F4OCTGB4G7KHSCXL4R2TPFWIZI3YHIHX6A====");
}

#[test]
fn the_header_of_old_files_is_a_number_of_eight_bytes() {
    let manifest = Digest::of(b"m");
    let mut bytes = b"--SPFS--\n".to_vec();
    bytes.extend(2u64.to_be_bytes());
    bytes.extend(manifest.as_bytes());
    let layer = Object::Layer(Layer { manifest: Some(manifest), annotations: Vec::new() });
    let header = Header {
        strategy: DigestStrategy::Legacy,
        format: EncodingFormat::Legacy,
        kind: ObjectKind::Layer,
    };
    assert_eq!(decode(&bytes), Ok((header, layer.clone())));
    assert_eq!(encode(&layer, header.strategy, header.format), Ok(bytes));
    assert_eq!(digest(&layer, header.strategy), Ok(Digest::of(manifest.as_bytes())));
}

#[test]
fn a_legacy_platform_is_stored_top_first() {
    let stack: Vec<Digest> = [b"bottom", b"middle", b"topmos"].map(|name| Digest::of(name)).into();
    let platform = Object::Platform(Platform { stack: stack.clone() });
    let bytes = encode(&platform, DigestStrategy::Legacy, EncodingFormat::Legacy).unwrap();
    assert_eq!(bytes[Header::LEN..][..8], 3u64.to_be_bytes());
    assert_eq!(bytes[Header::LEN + 8..][..32], *stack[2].as_bytes());
    assert_eq!(decode(&bytes).unwrap().1, platform);
}

#[test]
fn reserved_bytes_of_the_header_are_ignored_and_unknown_numbers_are_refused() {
    let blob = Object::Blob { payload: Digest::EMPTY, size: 7 };
    let good = encode(&blob, DigestStrategy::default(), EncodingFormat::Legacy).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode(&bytes)
    };
    assert_eq!(with(12, 9).unwrap().1, blob);
    for (at, byte) in [(0, b'+'), (8, b'\r'), (9, 2), (10, 2), (16, 4), (16, 5), (16, 255)] {
        assert!(with(at, byte).is_err(), "byte {at} is {byte}");
    }
}

#[test]
fn what_has_no_digest_is_not_stored() {
    let empty = Object::Layer(Layer::default());
    assert!(digest(&empty, DigestStrategy::default()).is_err());
    let nul = AnnotationValue::Inline("a\0b".to_owned());
    let nul = Layer {
        manifest: None,
        annotations: vec![Annotation { key: "key".to_owned(), value: nul }],
    };
    for layer in [empty, Object::Layer(nul)] {
        for format in [EncodingFormat::Legacy, EncodingFormat::FlatBuffers] {
            assert!(encode(&layer, DigestStrategy::default(), format).is_err());
        }
    }
}
