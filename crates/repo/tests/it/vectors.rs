//! Repositories that upstream wrote.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use spfs_model::{AnnotationValue, Digest, Object};
use spfs_repo::{
    AnyRepository, Repository, TagListing, TagNamespace, annotations, load_stack, resolve,
};
use tempfile::TempDir;

use crate::support::files_below;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/vectors");

/// Unpacks the objects and tags of a vector.
pub(crate) fn unpack(vector: &str, to: &Path) {
    let tar = File::open(format!("{VECTORS}/{vector}.tar")).unwrap();
    tar::Archive::new(tar).unpack(to).unwrap();
}

/// The files below a folder with their content, by their path in it.
pub(crate) fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let relative = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_owned();
    files_below(folder).iter().map(|path| (relative(path), fs::read(path).unwrap())).collect()
}

fn open(vector: &str) -> (TempDir, Repository, Value) {
    let dir = tempfile::tempdir().unwrap();
    unpack(vector, dir.path());
    fs::create_dir(dir.path().join("payloads")).unwrap();
    let repository = Repository::open(dir.path()).unwrap();
    let json = fs::read(format!("{VECTORS}/{vector}.json")).unwrap();
    (dir, repository, serde_json::from_slice(&json).unwrap())
}

const ALL: [&str; 4] = ["a-layer", "b-platform", "c-tags", "d-annotations"];

#[test]
fn every_object_is_listed_and_read() {
    for vector in ALL {
        let (_dir, repository, json) = open(vector);
        let expected = json["objects"].as_object().unwrap();
        let listed: Vec<Digest> =
            repository.objects().iterate(None).unwrap().map(Result::unwrap).collect();
        assert!(listed.is_sorted(), "{vector}");
        assert_eq!(listed.len(), expected.len(), "{vector}");
        for digest in listed {
            let expected = &expected[&digest.to_string()];
            let (header, object) = repository.objects().read(&digest).unwrap();
            assert_eq!(header.kind.as_str(), expected["kind"], "{vector} {digest}");
            assert_eq!(spfs_model::digest(&object, header.strategy).unwrap(), digest, "{vector}");
            if let Object::Blob { size, .. } = object {
                assert_eq!(size, expected["size"], "{vector} {digest}");
            }
        }
    }
}

#[test]
fn every_tag_is_listed_and_read() {
    for vector in ALL {
        let (_dir, repository, json) = open(vector);
        let expected = json["tags"].as_object().unwrap();
        let mut streams = BTreeMap::new();
        let mut collect = |namespace: Option<&TagNamespace>| {
            let tags = repository.tags_in(namespace);
            for name in tags.names().unwrap() {
                let stream = tags.stream(&name).unwrap();
                let prefix = namespace.map(|namespace| format!("{namespace}#ns/"));
                streams.insert(format!("{}{name}", prefix.unwrap_or_default()), stream);
            }
        };
        collect(None);
        for namespace in repository.namespaces().unwrap() {
            collect(Some(&namespace));
        }
        assert_eq!(
            streams.keys().collect::<Vec<_>>(),
            expected
                .keys()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
            "{vector}"
        );
        for (name, stream) in streams {
            let expected = expected[&name].as_array().unwrap();
            // newest first in the list
            let targets: Vec<String> =
                stream.tags().iter().rev().map(|tag| tag.target.to_string()).collect();
            let wanted: Vec<&str> =
                expected.iter().map(|tag| tag["target"].as_str().unwrap()).collect();
            assert_eq!(targets, wanted, "{vector} {name}");
            for (tag, expected) in stream.tags().iter().rev().zip(expected) {
                assert_eq!(tag.digest().unwrap().to_string(), expected["digest"], "{name}");
                assert_eq!(tag.user, expected["user"], "{name}");
            }
        }
    }
}

#[test]
fn folders_of_tags_are_listed_without_namespaces() {
    let (_dir, repository, _) = open("c-tags");
    let listing = repository.tags().list("").unwrap();
    assert!(listing.contains(&TagListing::Folder("deep".into())), "{listing:?}");
    assert!(listing.contains(&TagListing::Tag("trimmed".into())), "{listing:?}");
    assert!(!listing.iter().any(|entry| entry.name().contains("#ns")), "{listing:?}");
    assert_eq!(repository.tags().list("many").unwrap(), [TagListing::Tag("versions".into())]);
    assert_eq!(repository.tags().list("/many/").unwrap(), [TagListing::Tag("versions".into())]);
    assert_eq!(repository.tags().list("nowhere").unwrap(), []);
    let space = repository.namespaces().unwrap();
    assert!(!space.is_empty());
}

#[test]
fn the_platform_becomes_upstreams_view() {
    let (_dir, repository, json) = open("b-platform");
    let tags = json["tags"].as_object().unwrap();
    let platform = tags.keys().find(|tag| tag.contains("platform")).unwrap();
    let stack = resolve(&[&repository], &platform.parse().unwrap()).unwrap();
    assert_eq!(stack.len(), 3);
    let manifests = load_stack(&[&repository], &stack).unwrap();
    let merged = spfs_model::merge(&manifests.iter().collect::<Vec<_>>());
    let view = fs::read_to_string(format!("{VECTORS}/b-platform.view.txt")).unwrap();
    assert_eq!(merged.len() - 1, view.lines().count());
}

#[test]
fn annotations_are_read_wherever_their_values_are() {
    let (_dir, repository, json) = open("d-annotations");
    let mut inline = 0;
    for (digest, expected) in json["objects"].as_object().unwrap() {
        let (_, object) = repository.objects().read(&digest.parse().unwrap()).unwrap();
        let Object::Layer(layer) = object else { continue };
        let expected = expected["annotations"].as_array().unwrap();
        let keys: Vec<&str> = layer.annotations.iter().map(|note| note.key.as_str()).collect();
        let wanted: Vec<&str> = expected.iter().map(|note| note["key"].as_str().unwrap()).collect();
        assert_eq!(keys, wanted);
        let in_blobs =
            layer.annotations.iter().any(|note| matches!(note.value, AnnotationValue::Blob(_)));
        if in_blobs {
            // payloads are no part of the vector
            assert!(annotations(&[&repository], &layer).is_err());
            continue;
        }
        for ((_, value), expected) in
            annotations(&[&repository], &layer).unwrap().iter().zip(expected)
        {
            assert_eq!(*value, expected["string"]);
            inline += 1;
        }
    }
    assert!(inline > 0);
}
