//! Repositories are copied completely, or not at all, and only what is missing.

use std::fs;

use spfs_model::{Digest, EnvSpec};
use spfs_repo::sync::{SyncOptions, SyncReport, sync};
use spfs_repo::{
    AnyRepository, CommitOptions, MemoryRepository, RepoError, commit_path, resolve, write_layer,
    write_platform,
};
use tempfile::TempDir;

use crate::support::{assert_complete, repository, text, time, write_tree};

/// A repository with a tagged platform of a platform, a layer and a layer of annotations.
fn filled(dir: &TempDir, repository: &dyn AnyRepository) -> Digest {
    let source = dir.path().join("source");
    let _ = fs::remove_dir_all(&source);
    write_tree(&source, &[("a", "1"), ("b/c", "2"), ("b/d", "1"), ("empty", "")]);
    let layer = commit_path(repository, &source, &CommitOptions::default()).unwrap().layer;
    let notes = [("long".to_owned(), "value".repeat(10))];
    let notes = write_layer(repository, None, &notes, 5).unwrap().layer;
    let inner = write_platform(repository, &[layer], false).unwrap();
    let outer = write_platform(repository, &[inner, notes], false).unwrap();
    repository.tags().push(&"my/env".parse().unwrap(), outer, "u", time(0)).unwrap();
    outer
}

fn spec(text: &str) -> EnvSpec {
    text.parse().unwrap()
}

fn copy(from: &dyn AnyRepository, to: &dyn AnyRepository) -> SyncReport {
    sync(from, to, &spec("my/env"), &SyncOptions::default()).unwrap()
}

#[test]
fn everything_travels_between_all_kinds_and_nothing_twice() {
    let (dir, folder) = repository();
    let (_other_dir, other) = repository();
    let memory = MemoryRepository::new();
    let outer = filled(&dir, &folder);
    let pairs: [(&dyn AnyRepository, &dyn AnyRepository); 2] =
        [(&folder, &memory), (&memory, &other)];
    for (from, to) in pairs {
        let dry = SyncOptions { dry_run: true, ..SyncOptions::default() };
        let dry = sync(from, to, &spec("my/env"), &dry).unwrap();
        assert_eq!(to.objects().iterate(None).unwrap().count(), 0);
        assert!(to.tags().names().unwrap().is_empty());
        let first = copy(from, to);
        assert_eq!(dry, first);
        assert_eq!((first.tags, first.tags_skipped), (1, 0));
        // two platforms, two layers, a manifest, and blobs of three files and of the annotation
        assert_eq!((first.objects, first.payloads, first.bytes), (9, 4, 52));
        assert_complete(to, &outer);
        assert_eq!(
            to.tags().stream(&"my/env".parse().unwrap()).unwrap(),
            from.tags().stream(&"my/env".parse().unwrap()).unwrap()
        );
        let again = copy(from, to);
        assert_eq!((again.tags, again.objects, again.payloads), (0, 0, 0));
        assert_eq!(again.tags_skipped, 1);
        let stack = resolve(&[to], &spec("my/env")).unwrap();
        assert_eq!(stack.len(), 2);
    }
}

#[test]
fn what_a_killed_transfer_left_is_completed() {
    let (dir, from) = repository();
    let outer = filled(&dir, &from);
    let to = MemoryRepository::new();
    // a part of the blobs arrived
    let batch = to.batch().unwrap();
    batch.blob(b"1").unwrap();
    batch.finish().unwrap();
    let report = copy(&from, &to);
    assert_eq!((report.payloads, report.payloads_skipped), (3, 1));
    assert_complete(&to, &outer);
}

#[test]
fn a_dry_run_counts_what_is_missing_in_part() {
    let (dir, from) = repository();
    filled(&dir, &from);
    let (_to_dir, to) = repository();
    let batch = to.batch().unwrap();
    batch.blob(b"1").unwrap();
    batch.blob(b"2").unwrap();
    batch.finish().unwrap();
    // There, but torn.
    fs::write(to.payloads().path(&Digest::of(b"2")).unwrap(), "").unwrap();
    for check in [false, true] {
        let dry = SyncOptions { dry_run: true, check, ..SyncOptions::default() };
        let dry = sync(&from, &to, &spec("my/env"), &dry).unwrap();
        let real = SyncOptions { check, ..SyncOptions::default() };
        assert_eq!(dry, sync(&from, &to, &spec("my/env"), &real).unwrap(), "check: {check}");
        assert_eq!((dry.payloads, dry.payloads_skipped), if check { (0, 4) } else { (3, 1) });
    }
}

#[test]
fn gaps_in_the_destination_are_filled_when_asked_for() {
    let (dir, from) = repository();
    let outer = filled(&dir, &from);
    let (_to_dir, to) = repository();
    copy(&from, &to);
    to.payloads().remove(&Digest::of(b"1")).unwrap();
    to.objects().remove(&Digest::of(b"2")).unwrap();
    assert_eq!(copy(&from, &to).payloads, 0);
    let options = SyncOptions { check: true, ..SyncOptions::default() };
    let report = sync(&from, &to, &spec("my/env"), &options).unwrap();
    assert_eq!(report.payloads, 2);
    assert_complete(&to, &outer);
}

#[test]
fn damage_is_noticed_on_arrival_and_no_tag_written() {
    let (dir, from) = repository();
    filled(&dir, &from);
    let digest = Digest::of(b"2");
    let path = from.payloads().path(&digest).unwrap();
    fs::write(&path, "X").unwrap();
    let to = MemoryRepository::new();
    let error = sync(&from, &to, &spec("my/env"), &SyncOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the payload {digest} is damaged: its content has the digest {}", Digest::of(b"X"))
    );
    fs::remove_file(&path).unwrap();
    let error = sync(&from, &to, &spec("my/env"), &SyncOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("the payload {digest} is missing"));
    assert!(to.tags().names().unwrap().is_empty());
    assert_eq!(to.payloads().iterate().unwrap().count(), 0);
}

#[test]
fn another_object_under_a_name_is_noticed() {
    let (dir, from) = repository();
    let outer = filled(&dir, &from);
    let encoding = from.encoding();
    let other = spfs_model::Object::Platform(spfs_model::Platform::default());
    let bytes = spfs_model::encode(&other, encoding.strategy, encoding.format).unwrap();
    from.objects().remove(&outer).unwrap();
    from.objects().write_raw(&outer, &bytes).unwrap();
    let to = MemoryRepository::new();
    let error = sync(&from, &to, &spec("my/env"), &SyncOptions::default()).unwrap_err();
    assert!(matches!(error, RepoError::WrongObject { digest, .. } if digest == outer), "{error}");
}

#[test]
fn newer_versions_of_tags_arrive_unless_tags_are_left_alone() {
    let (dir, from) = repository();
    let outer = filled(&dir, &from);
    let to = MemoryRepository::new();
    copy(&from, &to);
    let other = write_platform(&from, &[outer], false).unwrap();
    from.tags().push(&"my/env".parse().unwrap(), other, "u", time(5)).unwrap();
    let options = SyncOptions { update_tags: false, ..SyncOptions::default() };
    let report = sync(&from, &to, &spec("my/env"), &options).unwrap();
    assert_eq!((report.tags, report.tags_skipped, report.objects), (0, 1, 1));
    assert_eq!(to.tags().resolve(&"my/env".parse().unwrap()).unwrap().target, outer);
    assert_eq!(copy(&from, &to).tags, 1);
    assert_eq!(to.tags().resolve(&"my/env".parse().unwrap()).unwrap().target, other);
}

#[test]
fn unknown_references_are_named() {
    let (from, to) = (MemoryRepository::new(), MemoryRepository::new());
    let error = sync(&from, &to, &spec("no/such"), &SyncOptions::default()).unwrap_err();
    assert_eq!(text(&error), "unknown reference no/such");
}
