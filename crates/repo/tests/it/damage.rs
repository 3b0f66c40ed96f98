//! What is found damaged or missing, and that it heals.

use std::fs;
use std::path::Path;

use spfs_model::Object;
use spfs_repo::{AnyRepository, CommitOptions, RepoError, Repository, commit_path, load_stack};

use crate::support::{assert_complete, repository, text, write_tree};

#[test]
fn a_truncated_object_is_an_error_that_names_it_and_its_file() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "1"), ("b/c", "2")]);
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    let path = object_path(&repository, &committed.manifest.to_string());
    let whole = fs::read(&path).unwrap();
    for len in [0, 1, 16, 17, whole.len() / 3, whole.len() / 2] {
        fs::write(&path, &whole[..len]).unwrap();
        let error = repository.objects().read(&committed.manifest).unwrap_err();
        let wanted = format!("the object {} is damaged ({})", committed.manifest, path.display());
        assert_eq!(error.to_string(), wanted, "{len}");
        assert!(load_stack(&[&repository], &[committed.layer]).is_err());
    }
    // committing it again writes it again
    commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_complete(&repository, &committed.layer);
}

#[test]
fn what_a_power_loss_may_leave_counts_as_absent() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "first"), ("b/c", "second"), ("empty", "")]);
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    let paths = [
        repository.payloads().path(&spfs_model::Digest::of(b"first")).unwrap(),
        object_path(&repository, &spfs_model::Digest::of(b"first").to_string()),
        repository.payloads().path(&spfs_model::Digest::of(b"second")).unwrap(),
    ];
    for path in &paths {
        for len in [0, 2] {
            let whole = fs::read(path).unwrap();
            fs::write(path, &whole[..len]).unwrap();
            let again = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
            assert_eq!(again.layer, committed.layer);
            assert_eq!(fs::read(path).unwrap(), whole, "{} cut to {len}", path.display());
        }
    }
    let short = spfs_model::Digest::of(b"first");
    fs::write(&paths[0], "").unwrap();
    assert!(!repository.payloads().has(&short).unwrap());
    fs::write(&paths[1], "").unwrap();
    assert!(!repository.objects().has(&short).unwrap());
    assert!(repository.payloads().has(&spfs_model::Digest::EMPTY).unwrap());
}

#[test]
fn a_missing_payload_is_named_and_comes_back_with_the_next_commit() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "content")]);
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    let digest = spfs_model::Digest::of(b"content");
    assert!(repository.payloads().remove(&digest).unwrap());
    let error = repository.payloads().open(&digest).unwrap_err();
    assert_eq!(error.to_string(), format!("the payload {digest} is missing"));
    commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_complete(&repository, &committed.layer);
}

#[test]
fn names_that_are_no_digests_are_passed_over() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "content")]);
    commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    let count = || repository.objects().iterate(None).unwrap().count();
    let before = count();
    let objects = repository.root().join("objects");
    for (folder, file) in [
        ("work", "x"),
        ("proxy", "x"),
        ("aa", "lower"),
        ("A1", "digit"),
        ("AAA", "long"),
        ("QQ", "short"),
        ("ZZ", "tooooooooooooooooooooooooooooooooooooooooooooooooo===="),
    ] {
        fs::create_dir_all(objects.join(folder)).unwrap();
        fs::write(objects.join(folder).join(file), "x").unwrap();
    }
    fs::write(objects.join("XX"), "a file").unwrap();
    fs::write(objects.join("README"), "a file").unwrap();
    assert_eq!(count(), before);
}

#[test]
fn a_damaged_tag_is_named_and_can_be_removed() {
    let (_dir, repository) = repository();
    let tag = "a/b".parse().unwrap();
    let time = crate::support::time(0);
    repository.tags().push(&tag, spfs_model::Digest::EMPTY, "u", time).unwrap();
    let path = repository.root().join("tags/a/b.tag");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = repository.tags().resolve(&"a/b".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), format!("the tag file {} is damaged", path.display()));
    let error = repository.tags().push(&tag, spfs_model::Digest::NULL, "u", time).unwrap_err();
    assert!(matches!(error, RepoError::DamagedTag { .. }), "{error}");
    assert!(repository.tags().remove_stream(&tag).unwrap());
    assert!(!repository.root().join("tags/a").exists());
}

#[test]
fn folders_that_are_no_repositories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path, message: &str| {
        let error = Repository::open(path).unwrap_err();
        assert!(text(&error).contains(message), "{}", text(&error));
    };
    let missing = dir.path().join("missing");
    refused(&missing, &format!("{} is not a repository: it has no folder", missing.display()));
    refused(dir.path(), "it has no folder \"objects\"");
    fs::create_dir(dir.path().join("objects")).unwrap();
    refused(dir.path(), "it has no folder \"payloads\"");
    refused(
        Path::new("relative"),
        "the path of a repository must be absolute, and relative is not",
    );
    let error = Repository::create("relative").unwrap_err();
    assert!(matches!(error, RepoError::RelativeRoot { .. }));
    fs::write(dir.path().join("payloads"), "a file").unwrap();
    refused(dir.path(), "it has no folder \"payloads\"");
    fs::remove_file(dir.path().join("payloads")).unwrap();
    fs::create_dir(dir.path().join("payloads")).unwrap();
    Repository::open(dir.path()).unwrap();
}

#[test]
fn versions_decide_whether_a_repository_is_opened() {
    let (_dir, repository) = repository();
    let path = repository.root().join("VERSION");
    assert_eq!(fs::read_to_string(&path).unwrap(), "0.44.0");
    for good in ["", "0.1.0", "0.99.12", "0.44.0-pre.1", "0.44.0\n"] {
        fs::write(&path, good).unwrap();
        Repository::open(repository.root()).unwrap();
    }
    fs::write(&path, "1.0.0").unwrap();
    let error = Repository::open(repository.root()).unwrap_err().to_string();
    assert!(error.contains("has version 1.0.0, which is too new for this program"), "{error}");
    // and making it anew does not get around that
    assert!(Repository::create(repository.root()).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "1.0.0");
    for bad in ["latest", "1", "0.x.1", "0.44."] {
        fs::write(&path, bad).unwrap();
        let error = Repository::open(repository.root()).unwrap_err().to_string();
        let wanted = format!("{} holds {bad:?}, which is not a version", path.display());
        assert_eq!(error, wanted);
    }
    fs::remove_file(&path).unwrap();
    Repository::open(repository.root()).unwrap();
}

#[test]
fn making_a_repository_twice_keeps_what_is_in_it() {
    let (_dir, repository) = repository();
    let object = Object::Platform(spfs_model::Platform::default());
    let digest = repository.objects().write(&object, repository.encoding()).unwrap();
    let again = Repository::create(repository.root()).unwrap();
    assert!(again.objects().has(&digest).unwrap());
    for folder in ["objects", "payloads", "tags", "durable_edits", "renders"] {
        assert!(repository.root().join(folder).is_dir(), "{folder}");
    }
}

fn object_path(repository: &Repository, digest: &str) -> std::path::PathBuf {
    repository.root().join("objects").join(&digest[..2]).join(&digest[2..])
}
