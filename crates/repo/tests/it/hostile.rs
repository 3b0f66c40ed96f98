//! What somebody with access to a shared folder may put there does no harm outside of it, and
//! nothing waits for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use spfs_model::{Digest, TagName};
use spfs_repo::check::{CheckOptions, check};
use spfs_repo::{AnyRepository, RepoError, Repository, commit_path};

use crate::support::{repository, text, time, write_tree};

fn tag() -> TagName {
    "shared/tag".parse().unwrap()
}

fn pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn tag_file(repository: &Repository, ending: &str) -> PathBuf {
    repository.root().join(format!("tags/shared/tag.{ending}"))
}

fn push(repository: &Repository) -> Result<(), RepoError> {
    repository.tags().push(&tag(), Digest::EMPTY, "u", time(0)).map(drop)
}

#[test]
fn nobody_waits_for_a_pipe() {
    let (dir, repository) = repository();
    pipe(&tag_file(&repository, "tag"));
    let error = repository.tags().stream(&tag()).unwrap_err();
    assert!(text(&error).contains("no regular file"), "{}", text(&error));
    assert!(push(&repository).is_err());
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "one")]);
    let committed = commit_path(&repository, &source, &Default::default()).unwrap();
    let payload = Digest::of(b"one");
    let object = repository.root().join("objects").join(place(&committed.manifest));
    for path in [repository.payloads().path(&payload).unwrap(), object] {
        fs::remove_file(&path).unwrap();
        pipe(&path);
    }
    assert!(matches!(
        repository.payloads().open(&payload),
        Err(RepoError::MissingPayload { digest }) if digest == payload
    ));
    assert!(!repository.payloads().has(&payload).unwrap());
    assert!(matches!(
        repository.objects().read(&committed.manifest),
        Err(RepoError::UnknownObject { .. })
    ));
    let report = check(&repository, &CheckOptions::default()).unwrap();
    assert!(!report.is_sound());
    // They are replaced, as anything that is damaged.
    commit_path(&repository, &source, &Default::default()).unwrap();
    assert_eq!(repository.payloads().read(&payload).unwrap(), b"one");
    assert!(repository.objects().has(&committed.manifest).unwrap());
}

/// Where a digest lies in its store.
fn place(digest: &Digest) -> PathBuf {
    let digest = digest.to_string();
    Path::new(&digest[..2]).join(&digest[2..])
}

#[test]
fn tags_are_written_through_no_link() {
    let (_dir, repository) = repository();
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let before = fs::metadata(&victim).unwrap().modified().unwrap();
    push(&repository).unwrap();
    // In place of the file that a new version is written to: replaced.
    symlink(&victim, tag_file(&repository, "tag.work")).unwrap();
    repository.tags().push(&tag(), Digest::of(b"2"), "u", time(1)).unwrap();
    assert_eq!(repository.tags().stream(&tag()).unwrap().tags().len(), 2);
    // In place of the lock: refused.
    symlink(&victim, tag_file(&repository, "tag.lock")).unwrap();
    let error = repository.tags().push(&tag(), Digest::of(b"3"), "u", time(2)).unwrap_err();
    assert!(text(&error).contains("tag.tag.lock"), "{}", text(&error));
    fs::remove_file(tag_file(&repository, "tag.lock")).unwrap();
    // In place of a folder: refused.
    symlink(elsewhere.path(), repository.root().join("tags/away")).unwrap();
    for name in ["away/tag", "away/deep/er"] {
        let tag = name.parse().unwrap();
        let error = repository.tags().push(&tag, Digest::EMPTY, "u", time(0)).unwrap_err();
        assert!(matches!(&error, RepoError::Link { path, .. } if path.ends_with("tags/away")));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(fs::metadata(&victim).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn files_that_are_far_too_long_are_not_read() {
    let (_dir, repository) = repository();
    push(&repository).unwrap();
    let long = |path: &Path, len: u64| {
        fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
    };
    long(&tag_file(&repository, "tag"), 1 << 40);
    let error = repository.tags().stream(&tag()).unwrap_err();
    assert!(text(&error).contains("longer than"), "{}", text(&error));
    let batch = repository.batch().unwrap();
    let blob = batch.blob(b"blob").unwrap();
    batch.finish().unwrap();
    long(&repository.root().join("objects").join(place(&blob)), 1 << 40);
    let error = repository.objects().read(&blob).unwrap_err();
    assert!(matches!(error, RepoError::DamagedObject { .. }), "{}", text(&error));
}
