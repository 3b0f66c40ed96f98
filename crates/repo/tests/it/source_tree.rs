//! The directory from which upstream made the layer of the vectors, and what becomes of it here.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use spfs_model::{Digest, DigestStrategy, EncodingFormat};
use spfs_repo::{CommitOptions, Encoding, MemoryRepository, commit_path};

use crate::support::{assert_complete, repository};
use crate::vectors::{files_of, unpack};

/// The layer that upstream 0.44.0 made of the directory.
pub(crate) const LAYER: &str = "AMWV2BMUBR5Q4YL3J7PS6XAOZYR3Z6KGC3N4ALHYWHC7777X6NBQ====";

/// Its manifest.
pub(crate) const MANIFEST: &str = "7DJYVYXR3LZXT7JLMYZNCS6CH4F7JEDLARCM2GKVL5MTMJ43TT5Q====";

struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn dir(&self, path: &str, mode: u32) {
        fs::create_dir_all(self.0.join(path)).unwrap();
        fs::set_permissions(self.0.join(path), Permissions::from_mode(mode)).unwrap();
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.join(path);
        let folder = path.parent().unwrap();
        if !folder.exists() {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
}

/// Bytes that look random and are always the same.
fn noise(len: usize, seed: &[u8]) -> Vec<u8> {
    let block = |number: u64| {
        let mut input = seed.to_vec();
        input.extend_from_slice(&number.to_be_bytes());
        *Digest::of(&input).as_bytes()
    };
    let mut bytes: Vec<u8> = (0..).flat_map(block).take(len).collect();
    bytes.truncate(len);
    bytes
}

/// Writes the directory; every mode is set, so that the umask has no say.
pub(crate) fn write(root: &Path) {
    fs::create_dir(root).unwrap();
    let tree = Tree(root);
    let plain: [(&str, &[u8], u32); 13] = [
        ("readme.txt", b"hello world\n", 0o644),
        ("empty", b"", 0o644),
        ("exec.sh", b"#!/bin/sh\necho hi\n", 0o755),
        ("private", b"secret\n", 0o600),
        ("readonly", b"ro\n", 0o444),
        ("none", b"nobody\n", 0o000),
        ("setuid", b"suid\n", 0o4755),
        ("setgid", b"sgid\n", 0o2755),
        ("open", b"all\n", 0o777),
        ("same-content-1", b"dup\n", 0o644),
        ("same-content-2", b"dup\n", 0o755),
        ("nul-bytes", &[0; 17], 0o644),
        ("no-newline", b"x", 0o644),
    ];
    for (name, content, mode) in plain {
        tree.file(&format!("plain/{name}"), content, mode);
    }
    tree.file("big/1m5.bin", noise(1_572_864 + 123, b"spfs-vector"), 0o644);
    tree.file("big/chunk64k.bin", noise(65536, b"64k"), 0o644);
    tree.file("big/zeros.bin", vec![0; 1_048_577], 0o644);
    tree.dir("empty-dir", 0o755);
    for twin in ["twin-a", "twin-b", "nested/twin-c"] {
        tree.file(&format!("twins/{twin}/x"), "x\n", 0o644);
        tree.file(&format!("twins/{twin}/sub/y"), "y\n", 0o644);
    }
    tree.file("deep/1/2/3/4/5/6/7/8/leaf", "leaf\n", 0o644);
    links(&tree);
    odd_names(&tree);
    modes_of_folders(root);
    for (name, mode) in [("d0700", 0o700), ("d1777", 0o1777), ("d2775", 0o2775), ("d0555", 0o555)] {
        tree.dir(&format!("modes/{name}"), mode);
    }
    tree.dir("modes", 0o755);
}

fn links(tree: &Tree<'_>) {
    tree.link("links/rel-file", "../plain/readme.txt");
    tree.link("links/abs", "/spfs/plain/readme.txt");
    tree.link("links/dangling", "does/not/exist");
    tree.link("links/to-dir", "../empty-dir");
    tree.link("links/unicode-target", "../unicode/\u{e9}");
    tree.link("links/long-target", &format!("{}end", "x/".repeat(500)));
}

fn odd_names(tree: &Tree<'_>) {
    let names = [
        "a.b", "a-b", "a b", "a0", "aa", "A", "a_", "a~", "a+", "B", "b", "10", "9", "_", "-", "~",
        ".hidden", "..dots", "z", "Z",
    ];
    for name in names {
        tree.file(&format!("sort-dir/{name}"), format!("{name}\n"), 0o644);
    }
    tree.file("sort-dir/a/inner", "a is a directory here\n", 0o644);
    tree.file("sort-dir/c/inner", "c\n", 0o644);
    for name in ["a", "a.b", "a-b", "a b", "a0", "A"] {
        tree.file(&format!("sort-file/{name}"), format!("{name}\n"), 0o644);
    }
    let longest = "x".repeat(255);
    let names = [
        "\u{e9}",
        "e\u{301}",
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{1f600}",
        "\u{ff5e}",
        "\u{3c0}",
        "z\u{200b}",
        "new\nline",
        "tab\tname",
        "back\\slash",
        "quote'\"",
        "star*?[x]",
        &longest,
        "sp ace ",
        "%41",
        "a=b",
        "#ns",
    ];
    for name in names {
        let content = &name.as_bytes()[..name.len().min(8)];
        tree.file(&format!("unicode/{name}"), content, 0o644);
    }
}

/// Every folder gets 0755.
fn modes_of_folders(root: &Path) {
    fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            modes_of_folders(&entry.path());
        }
    }
}

#[test]
fn committing_the_directory_of_the_vectors_gives_upstreams_layer_and_files() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write(&source);
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_eq!(committed.layer.to_string(), LAYER);
    assert_eq!(committed.manifest.to_string(), MANIFEST);
    assert_complete(&repository, &committed.layer);

    let upstream = dir.path().join("upstream");
    unpack("a-layer", &upstream);
    assert_eq!(
        files_of(&repository.root().join("objects")),
        files_of(&upstream.join("objects")),
        "objects are written byte for byte as upstream does"
    );
    assert_eq!(committed.stored.objects, files_of(&upstream.join("objects")).len() as u64);
}

#[test]
fn committing_again_stores_nothing_and_gives_the_same_layer() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write(&source);
    let first = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    let before = files_of(repository.root());
    let again = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_eq!(again.layer, first.layer);
    assert_eq!((again.stored.objects, again.stored.payloads), (0, 0));
    assert!(files_of(repository.root()) == before, "files were written again");
}

#[test]
fn every_kind_and_encoding_of_repository_gives_the_same_tree() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write(&source);
    let memory = MemoryRepository::new();
    let committed = commit_path(&memory, &source, &CommitOptions::default()).unwrap();
    assert_eq!(committed.layer.to_string(), LAYER);
    assert_complete(&memory, &committed.layer);

    let legacy = Encoding { strategy: DigestStrategy::Legacy, format: EncodingFormat::Legacy };
    let repository = repository.with_encoding(legacy);
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_ne!(committed.layer.to_string(), LAYER);
    assert_complete(&repository, &committed.layer);
    // blobs have one digest whatever the encoding: they are there already for today's encoding
    let repository = repository.with_encoding(Encoding::default());
    let today = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_eq!(today.layer.to_string(), LAYER);
    assert_eq!(today.stored.payloads, 0);
}
