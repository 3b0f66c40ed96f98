//! Repositories that upstream wrote: everything decodes, and encodes to the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;
use spfs_model::{
    AnnotationValue, BlobEntry, Digest, DigestStrategy, EncodingFormat, EntryKind, Header,
    Manifest, Node, NodeKind, Object, Tag, TagStream, TreeIndex, decode, digest, encode, merge,
};

use crate::support::{FORMATS, STRATEGIES, archive, json, name, positions, vector};

const REPOSITORIES: [&str; 4] = ["a-layer", "b-platform", "c-tags", "d-annotations"];

/// Every object of a repository: its digest and its file.
fn objects(repository: &str) -> Vec<(Digest, Vec<u8>)> {
    let files = archive(&format!("{repository}.tar"));
    let objects = files.into_iter().filter_map(|(path, bytes)| {
        let text = path.strip_prefix("objects/")?.replace('/', "");
        Some((text.parse().unwrap(), bytes))
    });
    objects.collect()
}

fn manifest(repository: &str, wanted: &str) -> Manifest {
    let wanted: Digest = wanted.parse().unwrap();
    let objects = objects(repository);
    let (_, bytes) = objects.iter().find(|(digest, _)| *digest == wanted).unwrap();
    match decode(bytes).unwrap().1 {
        Object::Manifest(manifest) => manifest,
        other => panic!("{wanted} is a {}", other.kind()),
    }
}

#[test]
fn every_object_decodes_to_its_digest_and_encodes_to_its_bytes() {
    for repository in REPOSITORIES {
        let listed = json(&format!("{repository}.json"));
        let objects = objects(repository);
        assert_eq!(objects.len(), listed["objects"].as_object().unwrap().len());
        for (name, bytes) in objects {
            let facts = &listed["objects"][name.to_string()];
            assert_eq!(facts["file_size"], bytes.len());
            assert_eq!(facts["file_sha256"], hex(Digest::of(&bytes)));
            let (header, object) = decode(&bytes).unwrap();
            assert_eq!(
                header,
                Header {
                    strategy: DigestStrategy::WithKindAndSalt,
                    format: EncodingFormat::FlatBuffers,
                    kind: object.kind(),
                }
            );
            assert_eq!(digest(&object, header.strategy), Ok(name));
            assert_eq!(encode(&object, header.strategy, header.format), Ok(bytes));
            compare(&object, facts);
        }
    }
}

fn hex(digest: Digest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares an object with what the listing says of it.
fn compare(object: &Object, facts: &Value) {
    assert_eq!(facts["kind"], object.kind().as_str());
    match object {
        Object::Blob { size, .. } => assert_eq!(facts["size"], *size),
        Object::Platform(platform) => {
            let stack: Vec<String> = platform.stack.iter().map(Digest::to_string).collect();
            assert_eq!(facts["layers_bottom_up"], Value::from(stack));
        }
        Object::Layer(layer) => {
            let manifest = layer.manifest.map(|digest| digest.to_string());
            assert_eq!(facts["manifest"], Value::from(manifest));
            let annotations = layer.annotations.iter().map(|note| match &note.value {
                AnnotationValue::Inline(text) => {
                    serde_json::json!({ "key": note.key, "string": text })
                }
                AnnotationValue::Blob(digest) => {
                    serde_json::json!({ "key": note.key, "digest": digest.to_string() })
                }
            });
            assert_eq!(facts["annotations"], annotations.collect::<Value>());
        }
        Object::Manifest(manifest) => {
            let trees: Value =
                manifest.trees().map(|tree| manifest.tree_digest(tree).to_string()).collect();
            assert_eq!(facts["tree_count"], manifest.trees().len());
            assert_eq!(facts["tree_digests"], trees);
            let order: Value =
                manifest.entries(manifest.root()).map(|entry| entry.name.to_string()).collect();
            assert_eq!(facts["stored_root_order"], order);
            let mut entries = Vec::new();
            list(manifest, manifest.root(), "", &mut entries);
            let mut listed = facts["entries"].as_array().unwrap().clone();
            listed.sort_by_key(|entry| entry["path"].as_str().unwrap().to_owned());
            entries.sort_by_key(|entry| entry["path"].as_str().unwrap().to_owned());
            assert_eq!(entries, listed);
        }
    }
}

fn list(manifest: &Manifest, tree: TreeIndex, path: &str, entries: &mut Vec<Value>) {
    for entry in manifest.entries(tree) {
        let path = format!("{path}{}", entry.name);
        entries.push(serde_json::json!({
            "path": path,
            "kind": match entry.kind {
                EntryKind::Blob => "file",
                EntryKind::Tree => "tree",
                EntryKind::Mask => "mask",
            },
            "mode": format!("{:06o}", entry.mode),
            "size": entry.size,
            "digest": entry.object.to_string(),
        }));
        if let Some(tree) = entry.tree {
            list(manifest, tree, &format!("{path}/"), entries);
        }
    }
}

#[test]
fn all_strategies_and_formats_hold_every_object() {
    for (_, bytes) in REPOSITORIES.iter().flat_map(|repository| objects(repository)) {
        let object = decode(&bytes).unwrap().1;
        for (strategy, format) in STRATEGIES.iter().flat_map(|s| FORMATS.map(|f| (*s, f))) {
            if let (Object::Layer(layer), EncodingFormat::Legacy) = (&object, format)
                && !layer.annotations.is_empty()
            {
                assert!(encode(&object, strategy, format).is_err());
                continue;
            }
            let (header, read) = decode(&encode(&object, strategy, format).unwrap()).unwrap();
            assert_eq!((header.strategy, header.format), (strategy, format));
            assert_eq!(digest(&read, strategy), digest(&object, strategy));
        }
    }
}

/// The hierarchy that a listing describes.
fn nested(facts: &Value) -> BTreeMap<spfs_model::NameBuf, Node> {
    let mut root = Node::directory(0o040_755);
    let mut listed = facts["entries"].as_array().unwrap().clone();
    listed.sort_by_key(|entry| entry["path"].as_str().unwrap().to_owned());
    for entry in listed {
        let mode = u32::from_str_radix(entry["mode"].as_str().unwrap(), 8).unwrap();
        let node = match entry["kind"].as_str().unwrap() {
            "tree" => Node::directory(mode),
            "mask" => Node::Mask,
            _ => Node::Blob(BlobEntry {
                mode,
                size: entry["size"].as_u64().unwrap(),
                object: entry["digest"].as_str().unwrap().parse().unwrap(),
            }),
        };
        let mut parts: Vec<&str> = entry["path"].as_str().unwrap().split('/').collect();
        let last = parts.pop().unwrap();
        let mut at = &mut root;
        for part in parts {
            let Node::Directory { entries, .. } = at else { panic!("{part} is a directory") };
            at = entries.get_mut(part.as_bytes()).unwrap();
        }
        let Node::Directory { entries, .. } = at else { panic!("{last} is in a directory") };
        entries.insert(name(last), node);
    }
    match &mut root {
        Node::Directory { entries, .. } => std::mem::take(entries),
        Node::Blob(_) | Node::Mask => unreachable!(),
    }
}

#[test]
fn the_same_hierarchy_builds_the_same_file() {
    let mut built = 0;
    for repository in REPOSITORIES {
        let listed = json(&format!("{repository}.json"));
        for (name, bytes) in objects(repository) {
            let facts = &listed["objects"][name.to_string()];
            if facts["kind"] != "manifest" {
                continue;
            }
            let manifest = Manifest::build(&nested(facts)).unwrap();
            assert_eq!(manifest.digest(DigestStrategy::WithKindAndSalt), name);
            let object = Object::Manifest(manifest);
            let header = Header::decode(&bytes).unwrap();
            assert_eq!(encode(&object, header.strategy, header.format), Ok(bytes));
            built += 1;
        }
    }
    assert_eq!(built, 7);
}

#[test]
fn a_directory_commits_to_upstreams_digests() {
    let listed = json("a-layer.json");
    let manifest = "7DJYVYXR3LZXT7JLMYZNCS6CH4F7JEDLARCM2GKVL5MTMJ43TT5Q====";
    let layer = "AMWV2BMUBR5Q4YL3J7PS6XAOZYR3Z6KGC3N4ALHYWHC7777X6NBQ====";
    let built = Manifest::build(&nested(&listed["objects"][manifest])).unwrap();
    let built = built.digest(DigestStrategy::WithKindAndSalt);
    assert_eq!(built.to_string(), manifest);
    let object =
        Object::Layer(spfs_model::Layer { manifest: Some(built), annotations: Vec::new() });
    assert_eq!(digest(&object, DigestStrategy::WithKindAndSalt).unwrap().to_string(), layer);
}

#[test]
fn every_tag_stream_decodes_and_encodes_to_its_bytes() {
    let mut streams = 0;
    for repository in REPOSITORIES {
        let listed = json(&format!("{repository}.json"));
        for (path, bytes) in archive(&format!("{repository}.tar")) {
            let Some(path) = path.strip_prefix("tags/") else { continue };
            let stream = TagStream::decode(&bytes).unwrap();
            assert_eq!(stream.encode().unwrap(), bytes, "{path}");
            streams += 1;
            let facts = &listed["tags"][path.strip_suffix(".tag").unwrap()];
            if path.contains("#ns/") && facts.is_null() {
                continue;
            }
            let newest_first: Vec<Value> = stream.tags().iter().rev().map(tag_facts).collect();
            assert_eq!(*facts, Value::from(newest_first), "{path}");
        }
    }
    assert!(streams >= 15, "{streams}");
}

fn tag_facts(tag: &Tag) -> Value {
    let record = tag.encode().unwrap();
    let time = record[..record.len() - 33].rsplit(|&byte| byte == 0).next().unwrap();
    serde_json::json!({
        "org": tag.org,
        "name": tag.name,
        "target": tag.target.to_string(),
        "user": tag.user,
        "time": std::str::from_utf8(time).unwrap(),
        "parent": tag.parent.to_string(),
        "digest": tag.digest().unwrap().to_string(),
    })
}

#[test]
fn the_platform_merges_to_what_upstreams_file_system_shows() {
    let layers = [
        "Y3UKX3D2EB2TJITA3DUDANX4NTNCPBO7JUIVP347DDKFMRWEYYHQ====",
        "HLLGQKBQS34YPORIBQE5S6VFAP3FTWI6A2LFWBCZQ4E6XAG62ULA====",
        "HYNFC4NA4ASEP7JYXLSGXVX7NAKL4TNQMU735MQA7PPGWLICYR2A====",
    ];
    let layers = layers.map(|layer| manifest("b-platform", layer));
    let tree = merge(&layers.iter().collect::<Vec<_>>());
    let mut shown: Vec<String> = positions(&tree)
        .skip(1)
        .map(|position| {
            let node = tree.node(position);
            let path = String::from_utf8(tree.path(position)).unwrap();
            let perm = node.mode & 0o7777;
            match node.kind {
                NodeKind::Directory => format!("{perm:04o} d - {path}"),
                NodeKind::File => format!("{perm:04o} f {} {path}", node.size),
                // the listing has the target, of ten bytes, instead of the size
                NodeKind::Symlink => {
                    assert_eq!((node.size, node.object), (10, Digest::of(b"change.txt")));
                    format!("{perm:04o} l -> change.txt {path}")
                }
            }
        })
        .collect();
    let expected = std::fs::read_to_string(vector("b-platform.view.txt")).unwrap();
    let mut expected: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
    shown.sort();
    expected.sort_unstable();
    assert_eq!(shown, expected);
}
