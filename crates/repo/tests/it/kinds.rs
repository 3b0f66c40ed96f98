//! One body of tests for every kind of repository.

use std::io::Read;
use std::sync::Arc;

use spfs_model::{Digest, DigestStrategy, EncodingFormat, Layer, Object, Platform, Tag, TagName};
use spfs_repo::{
    AnyRepository, Encoding, LayeredRepository, Layering, MESSAGE, MemoryRepository, RepoError,
    Repository, TagListing, TagNamespace, TarRepository, annotations, find_annotation, write_layer,
    write_platform,
};

use crate::support::{repository, text, time};

/// Runs each of these with a repository of each kind.
macro_rules! for_each_kind {
    ($($test:ident),* $(,)?) => {
        mod folder {
            $(#[test]
            fn $test() {
                let (_dir, repository) = super::repository();
                super::$test(&repository);
            })*
        }

        mod archive {
            $(#[test]
            fn $test() {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("repository.tar");
                super::$test(&super::TarRepository::create(&path).unwrap());
            })*
        }

        mod proxy {
            $(#[test]
            fn $test() {
                let (_dir, repository) = super::repository();
                super::$test(&super::layered(repository, false));
            })*
        }

        mod fallback {
            $(#[test]
            fn $test() {
                let (_dir, repository) = super::repository();
                super::$test(&super::layered(repository, true));
            })*
        }

        mod memory {
            $(#[test]
            fn $test() {
                super::$test(&super::MemoryRepository::new());
            })*
        }
    };
}

for_each_kind! {
    a_blob_is_read_back,
    a_batch_shows_nothing_before_it_is_finished,
    a_dropped_batch_leaves_nothing,
    objects_are_listed_by_prefix,
    objects_and_payloads_are_removed,
    unknown_things_are_named_in_errors,
    payloads_are_written_opened_and_listed,
    adopted_files_become_payloads,
    every_encoding_is_read,
    a_legacy_layer_cannot_hold_annotations,
    pushing_a_tag_makes_versions,
    pushing_the_same_target_again_changes_nothing,
    a_push_is_the_newest_even_when_the_clock_went_back,
    inserted_records_stand_in_order_of_time,
    versions_are_removed_one_by_one,
    a_stream_is_removed_as_a_whole,
    tags_are_listed_by_folder,
    namespaces_keep_tags_apart,
    tags_are_found_by_target,
    spellings_of_one_tag_are_one_tag,
    short_annotations_are_inline_and_long_ones_in_blobs,
    the_topmost_annotation_counts,
    platforms_hold_layers_only,
}

/// In front of another repository that is empty.
fn layered(primary: Repository, repair: bool) -> LayeredRepository {
    let layering = Layering { repair, ..Layering::default() };
    let secondary = Arc::new(MemoryRepository::new());
    LayeredRepository::new(Arc::new(primary), vec![secondary], layering)
}

fn name(text: &str) -> TagName {
    text.parse().unwrap()
}

fn blob(repository: &dyn AnyRepository, data: &[u8]) -> Digest {
    let batch = repository.batch().unwrap();
    let digest = batch.blob(data).unwrap();
    batch.finish().unwrap();
    digest
}

fn a_blob_is_read_back(repository: &dyn AnyRepository) {
    for data in [&b""[..], b"x", &vec![7; 3 << 20]] {
        let digest = blob(repository, data);
        assert_eq!(digest, Digest::of(data));
        assert_eq!(repository.payloads().read(&digest).unwrap(), data);
        let (_, object) = repository.objects().read(&digest).unwrap();
        assert_eq!(object, Object::Blob { payload: digest, size: data.len() as u64 });
        assert_eq!(repository.payloads().find(&digest).unwrap().unwrap().size, data.len() as u64);
    }
}

fn a_batch_shows_nothing_before_it_is_finished(repository: &dyn AnyRepository) {
    let batch = repository.batch().unwrap();
    let digest = batch.blob(b"data").unwrap();
    assert_eq!(batch.blob(b"data").unwrap(), digest);
    let layer = batch
        .object(&Object::Layer(Layer { manifest: Some(digest), annotations: Vec::new() }))
        .unwrap();
    assert!(!repository.payloads().has(&digest).unwrap());
    assert!(!repository.objects().has(&digest).unwrap());
    assert!(!repository.objects().has(&layer).unwrap());
    let stored = batch.finish().unwrap();
    assert!(repository.payloads().has(&digest).unwrap());
    assert!(repository.objects().has(&digest).unwrap());
    assert!(repository.objects().has(&layer).unwrap());
    assert_eq!((stored.objects, stored.payloads, stored.bytes), (2, 1, 4));
}

fn a_dropped_batch_leaves_nothing(repository: &dyn AnyRepository) {
    let batch = repository.batch().unwrap();
    let digest = batch.blob(b"data").unwrap();
    drop(batch);
    assert!(!repository.payloads().has(&digest).unwrap());
    assert_eq!(repository.objects().iterate(None).unwrap().count(), 0);
    assert_eq!(repository.payloads().iterate().unwrap().count(), 0);
}

fn objects_are_listed_by_prefix(repository: &dyn AnyRepository) {
    let mut digests: Vec<Digest> =
        (0..200_u32).map(|number| blob(repository, &number.to_le_bytes())).collect();
    digests.sort_unstable();
    let listed = |prefix: Option<&str>| -> Vec<Digest> {
        let prefix = prefix.map(|prefix| prefix.parse().unwrap());
        repository.objects().iterate(prefix.as_ref()).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(listed(None), digests);
    let text = digests[77].to_string();
    for len in 1..=52 {
        let prefix = &text[..len];
        let expected: Vec<Digest> =
            digests.iter().copied().filter(|d| d.to_string().starts_with(prefix)).collect();
        assert_eq!(listed(Some(prefix)), expected, "{prefix}");
    }
    let resolve = |prefix: &str| repository.objects().resolve(&prefix.parse().unwrap());
    assert_eq!(resolve(&text[..20]).unwrap(), digests[77]);
    let crowded = (b'A'..=b'Z').map(char::from).map(String::from);
    let crowded = crowded.max_by_key(|letter| listed(Some(letter)).len()).unwrap();
    match resolve(&crowded).unwrap_err() {
        RepoError::AmbiguousReference { reference, candidates } => {
            assert_eq!(reference, crowded);
            assert_eq!(candidates, listed(Some(&crowded)));
        }
        error => panic!("{error}"),
    }
}

fn objects_and_payloads_are_removed(repository: &dyn AnyRepository) {
    let digest = blob(repository, b"data");
    assert!(repository.objects().remove(&digest).unwrap());
    assert!(!repository.objects().remove(&digest).unwrap());
    assert!(repository.payloads().remove(&digest).unwrap());
    assert!(!repository.payloads().remove(&digest).unwrap());
    // and come back with the next batch
    assert_eq!(blob(repository, b"data"), digest);
    assert!(repository.payloads().has(&digest).unwrap());
}

fn unknown_things_are_named_in_errors(repository: &dyn AnyRepository) {
    let digest = Digest::of(b"nothing");
    let error = repository.objects().read(&digest).unwrap_err();
    assert_eq!(error.to_string(), format!("unknown object {digest}"));
    let error = repository.payloads().open(&digest).unwrap_err();
    assert_eq!(error.to_string(), format!("the payload {digest} is missing"));
    let error = repository.tags().resolve(&"no/such~3".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "unknown reference no/such~3");
    repository.tags().push(&name("one"), digest, "u", time(0)).unwrap();
    let error = repository.tags().resolve(&"one~3".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the tag one has 1 version, so there is no one~3");
    let error = repository.objects().resolve(&"ABCDEFGH".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "unknown reference ABCDEFGH");
}

fn payloads_are_written_opened_and_listed(repository: &dyn AnyRepository) {
    let payloads = repository.payloads();
    let (digest, size) = payloads.write(&mut &b"some payload"[..], None).unwrap();
    assert_eq!((digest, size), (Digest::of(b"some payload"), 12));
    let mut text = String::new();
    payloads.open(&digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "some payload");
    let listed: Vec<Digest> = payloads.iterate().unwrap().map(Result::unwrap).collect();
    assert_eq!(listed, [digest]);
    // a payload is no object by itself
    assert!(!repository.objects().has(&digest).unwrap());
}

fn adopted_files_become_payloads(repository: &dyn AnyRepository) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "adopted").unwrap();
    let batch = repository.batch().unwrap();
    let (digest, size) = batch.adopt(&path).unwrap();
    assert_eq!((digest, size), (Digest::of(b"adopted"), 7));
    batch.finish().unwrap();
    assert_eq!(repository.payloads().read(&digest).unwrap(), b"adopted");
    assert!(repository.objects().has(&digest).unwrap());
    std::fs::write(dir.path().join("other"), "other").unwrap();
    let (other, _) = repository.payloads().adopt(&dir.path().join("other"), Some(0o755)).unwrap();
    assert_eq!(repository.payloads().read(&other).unwrap(), b"other");
}

fn every_encoding_is_read(repository: &dyn AnyRepository) {
    let mut digests = Vec::new();
    for strategy in [DigestStrategy::Legacy, DigestStrategy::WithKindAndSalt] {
        for format in [EncodingFormat::Legacy, EncodingFormat::FlatBuffers] {
            let object = Object::Layer(Layer { manifest: Some(Digest::EMPTY), ..Layer::default() });
            let digest =
                repository.objects().write(&object, Encoding { strategy, format }).unwrap();
            let (header, read) = repository.objects().read(&digest).unwrap();
            assert_eq!((header.strategy, read), (strategy, object));
            digests.push(digest);
        }
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[2], digests[3]);
    assert_ne!(digests[0], digests[2]);
}

fn a_legacy_layer_cannot_hold_annotations(repository: &dyn AnyRepository) {
    let (layer, key) = (Layer { manifest: None, annotations: Vec::new() }, "k".to_owned());
    let note =
        spfs_model::Annotation { key, value: spfs_model::AnnotationValue::Inline("v".into()) };
    let object = Object::Layer(Layer { annotations: vec![note], ..layer });
    let legacy = Encoding { strategy: DigestStrategy::Legacy, format: EncodingFormat::Legacy };
    let error = repository.objects().write(&object, legacy).unwrap_err();
    assert!(text(&error).starts_with("cannot store a layer: "), "{}", text(&error));
    assert_eq!(repository.objects().iterate(None).unwrap().count(), 0);
}

fn pushing_a_tag_makes_versions(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    let tag = name("a/b");
    for number in 0..5_u8 {
        let (pushed, is_new) =
            tags.push(&tag, Digest::of(&[number]), "me@here", time(number.into())).unwrap();
        assert!(is_new);
        assert_eq!(pushed.target, Digest::of(&[number]));
    }
    for version in 0..5_u8 {
        let found = tags.resolve(&format!("a/b~{version}").parse().unwrap()).unwrap();
        assert_eq!(found.target, Digest::of(&[4 - version]));
        assert_eq!((found.org.as_deref(), found.name.as_str()), (Some("a"), "b"));
        assert_eq!(found.user, "me@here");
    }
    let stream = tags.stream(&tag).unwrap();
    for (older, newer) in stream.tags().iter().zip(&stream.tags()[1..]) {
        assert_eq!(newer.parent, older.digest().unwrap());
    }
    assert_eq!(stream.tags()[0].parent, Digest::NULL);
}

fn pushing_the_same_target_again_changes_nothing(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    let (first, _) = tags.push(&name("t"), Digest::EMPTY, "a", time(0)).unwrap();
    let (again, is_new) = tags.push(&name("t"), Digest::EMPTY, "b", time(1)).unwrap();
    assert!(!is_new);
    assert_eq!(again, first);
    assert_eq!(tags.stream(&name("t")).unwrap().tags().len(), 1);
}

fn a_push_is_the_newest_even_when_the_clock_went_back(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    tags.push(&name("t"), Digest::of(b"1"), "fast", time(1000)).unwrap();
    tags.push(&name("t"), Digest::of(b"2"), "slow", time(0)).unwrap();
    assert_eq!(tags.resolve(&"t".parse().unwrap()).unwrap().target, Digest::of(b"2"));
    let stream = tags.stream(&name("t")).unwrap();
    assert!(stream.tags().is_sorted());
}

fn inserted_records_stand_in_order_of_time(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    let record = |seconds| Tag::new(&name("t"), Digest::of(b"x"), "u".into(), time(seconds));
    for seconds in [5, 1, 3, 1] {
        let is_new = tags.insert(record(seconds)).unwrap();
        let first = !(seconds == 1 && tags.stream(&name("t")).unwrap().tags().len() == 3);
        assert_eq!(is_new, first);
    }
    let times: Vec<_> =
        tags.stream(&name("t")).unwrap().tags().iter().map(|tag| tag.time).collect();
    assert_eq!(times, [time(1), time(3), time(5)]);
}

fn versions_are_removed_one_by_one(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    for number in 0..3_u8 {
        tags.push(&name("a/t"), Digest::of(&[number]), "u", time(number.into())).unwrap();
    }
    let middle = tags.resolve(&"a/t~1".parse().unwrap()).unwrap();
    assert!(tags.remove_version(&name("a/t"), &middle).unwrap());
    assert!(!tags.remove_version(&name("a/t"), &middle).unwrap());
    let left: Vec<Digest> =
        tags.stream(&name("a/t")).unwrap().tags().iter().map(|tag| tag.target).collect();
    assert_eq!(left, [Digest::of(&[0]), Digest::of(&[2])]);
    for record in tags.stream(&name("a/t")).unwrap() {
        assert!(tags.remove_version(&name("a/t"), &record).unwrap());
    }
    assert_eq!(tags.names().unwrap(), []);
    assert!(!tags.remove_version(&name("never"), &middle).unwrap());
    assert!(tags.resolve(&"a/t".parse().unwrap()).is_err());
}

fn a_stream_is_removed_as_a_whole(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    for tag in ["a/b/c", "a/b/d", "a/b/c/e"] {
        tags.push(&name(tag), Digest::EMPTY, "u", time(0)).unwrap();
    }
    assert!(tags.remove_stream(&name("a/b/c")).unwrap());
    assert!(!tags.remove_stream(&name("a/b/c")).unwrap());
    assert_eq!(tags.names().unwrap(), [name("a/b/c/e"), name("a/b/d")]);
    assert!(tags.remove_stream(&name("a/b/c/e")).unwrap());
    assert_eq!(tags.list("a/b").unwrap(), [TagListing::Tag("d".into())]);
    assert!(tags.remove_stream(&name("a/b/d")).unwrap());
    assert_eq!(tags.list("").unwrap(), []);
}

fn tags_are_listed_by_folder(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    for tag in ["z", "a", "a/x", "a/b/y", "b/c"] {
        tags.push(&name(tag), Digest::EMPTY, "u", time(0)).unwrap();
    }
    let folder = |name: &str| TagListing::Folder(name.into());
    let tag = |name: &str| TagListing::Tag(name.into());
    assert_eq!(tags.list("").unwrap(), [folder("a"), folder("b"), tag("a"), tag("z")]);
    assert_eq!(tags.list("/").unwrap(), tags.list("").unwrap());
    assert_eq!(tags.list("a").unwrap(), [folder("b"), tag("x")]);
    assert_eq!(tags.list("a/b").unwrap(), [tag("y")]);
    assert_eq!(tags.list("a/x").unwrap(), []);
    for folder in ["..", "a/../b", "a b", "x#ns"] {
        let error = tags.list(folder).unwrap_err();
        assert_eq!(error.to_string(), format!("{folder:?} is not a folder of tags"));
    }
    assert_eq!(tags.names().unwrap(), ["a", "a/b/y", "a/x", "b/c", "z"].map(name));
}

fn namespaces_keep_tags_apart(repository: &dyn AnyRepository) {
    let show: TagNamespace = "show".parse().unwrap();
    let inside = repository.tags_in(Some(&show));
    repository.tags().push(&name("t"), Digest::of(b"1"), "u", time(0)).unwrap();
    inside.push(&name("t"), Digest::of(b"2"), "u", time(0)).unwrap();
    inside.push(&name("only/here"), Digest::of(b"3"), "u", time(0)).unwrap();
    let resolve = |tags: &dyn spfs_repo::Tags| tags.resolve(&"t".parse().unwrap()).unwrap().target;
    assert_eq!(resolve(repository.tags()), Digest::of(b"1"));
    assert_eq!(resolve(&*repository.tags_in(None)), Digest::of(b"1"));
    assert_eq!(resolve(&*inside), Digest::of(b"2"));
    assert_eq!(inside.namespace(), Some(&show));
    assert_eq!(repository.namespaces().unwrap(), std::slice::from_ref(&show));
    assert_eq!(repository.tags().names().unwrap(), [name("t")]);
    assert_eq!(repository.tags().list("").unwrap(), [TagListing::Tag("t".into())]);
    // a version of one is not removed from the other
    let record = inside.resolve(&"t".parse().unwrap()).unwrap();
    assert!(!repository.tags().remove_version(&name("t"), &record).unwrap());
    assert!(inside.remove_version(&name("t"), &record).unwrap());
    assert_eq!(resolve(repository.tags()), Digest::of(b"1"));
    for bad in ["", ".", "..", "a/b", "illegal#ns.0", "ä", "a b"] {
        let error = bad.parse::<TagNamespace>().unwrap_err();
        assert!(error.to_string().starts_with(&format!("{bad:?} is not a tag namespace")));
    }
}

fn tags_are_found_by_target(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    for (tag, number) in [("a", 1), ("a", 2), ("b/c", 1)] {
        tags.push(&name(tag), Digest::of(&[number]), "u", time(number.into())).unwrap();
    }
    let found: Vec<String> =
        tags.find(&Digest::of(&[1])).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(found, ["a~1", "b/c"]);
    assert_eq!(tags.find(&Digest::of(&[9])).unwrap(), []);
}

fn spellings_of_one_tag_are_one_tag(repository: &dyn AnyRepository) {
    let tags = repository.tags();
    tags.push(&name("a//b"), Digest::EMPTY, "u", time(0)).unwrap();
    for spelling in ["a/b", "./a/b", "/a/b", "a/./b"] {
        assert!(tags.resolve(&spelling.parse().unwrap()).is_ok(), "{spelling}");
    }
    assert_eq!(tags.names().unwrap(), [name("a/b")]);
}

fn short_annotations_are_inline_and_long_ones_in_blobs(repository: &dyn AnyRepository) {
    let notes = [
        (MESSAGE.to_owned(), "Added newfile".to_owned()),
        ("long".to_owned(), "x".repeat(21)),
        ("limit".to_owned(), "y".repeat(20)),
    ];
    let layer = write_layer(repository, None, &notes, 20).unwrap().layer;
    let (_, object) = repository.objects().read(&layer).unwrap();
    let Object::Layer(layer) = object else { panic!("{object:?}") };
    let in_blob: Vec<bool> = layer
        .annotations
        .iter()
        .map(|note| matches!(note.value, spfs_model::AnnotationValue::Blob(_)))
        .collect();
    assert_eq!(in_blob, [false, true, false]);
    assert_eq!(annotations(&[repository], &layer).unwrap(), notes);
}

fn the_topmost_annotation_counts(repository: &dyn AnyRepository) {
    let layer = |value: &str| {
        let notes = [("k".to_owned(), value.to_owned()), ("k".to_owned(), format!("{value}-last"))];
        write_layer(repository, None, &notes, 100).unwrap().layer
    };
    let bare = repository.objects().write(
        &Object::Layer(Layer { manifest: Some(Digest::EMPTY), ..Layer::default() }),
        repository.encoding(),
    );
    let stack = [layer("low"), layer("high"), bare.unwrap()];
    let find = |key: &str| find_annotation(&[repository], &stack, key).unwrap();
    assert_eq!(find("k").as_deref(), Some("high-last"));
    assert_eq!(find("other"), None);
}

fn platforms_hold_layers_only(repository: &dyn AnyRepository) {
    let error = write_platform(repository, &[], false).unwrap_err();
    assert_eq!(error.to_string(), "nothing to commit: the platform would be empty");
    let empty = write_platform(repository, &[], true).unwrap();
    assert_eq!(empty.to_string(), "YBC67LH2QKP6E3UGXZ3GEVYMDUAHH3QJGLKVNKOERBHYD5QHRX4A====");
    let data = blob(repository, &[0; 8]);
    assert_ne!(data, empty);
    let error = write_platform(repository, &[data], false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{data} is a blob: only layers and platforms can be stacked")
    );
    let missing = Digest::of(b"missing");
    let error = write_platform(repository, &[missing], false).unwrap_err();
    assert_eq!(error.to_string(), format!("unknown object {missing}"));
    let nested = write_platform(repository, &[empty], false).unwrap();
    let (_, object) = repository.objects().read(&nested).unwrap();
    assert_eq!(object, Object::Platform(Platform { stack: vec![empty] }));
}
