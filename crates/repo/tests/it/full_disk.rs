//! A volume without room.

use std::fs;
use std::path::Path;
use std::process::Command;

use spfs_repo::{AnyRepository, CommitOptions, RepoError, Repository, commit_path};

use crate::support::{assert_complete, skip, write_tree};

/// A small volume of its own.
struct Volume<'a>(&'a Path);

impl<'a> Volume<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_the_commit_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("volume");
    fs::create_dir(&at).unwrap();
    let Some(_volume) = Volume::mount(&at) else {
        return skip("a full disk", "mounting a tmpfs takes privileges");
    };
    let repository = Repository::create(at.join("repository")).unwrap();
    let source = dir.path().join("source");
    write_tree(&source, &[("a/small", "small")]);
    for number in 0..20_u8 {
        fs::write(source.join(format!("a/{number}")), vec![number; 100_000 + usize::from(number)])
            .unwrap();
    }
    fs::write(source.join("large"), vec![255; 1_500_000]).unwrap();
    let error = commit_path(&repository, &source, &CommitOptions::default()).unwrap_err();
    assert!(matches!(error, RepoError::NoSpace { .. }), "{error}");
    assert!(error.to_string().starts_with("no space is left for "), "{error}");
    assert!(error.to_string().contains("volume/repository"), "{error}");
    assert_eq!(repository.objects().iterate(None).unwrap().count(), 0);
    assert_eq!(repository.payloads().iterate().unwrap().count(), 0);

    // nothing of the failed commit takes room: a smaller one fits
    fs::remove_file(source.join("large")).unwrap();
    for number in 8..20 {
        fs::remove_file(source.join(format!("a/{number}"))).unwrap();
    }
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_complete(&repository, &committed.layer);
}

#[test]
fn a_tag_on_a_full_disk_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("volume");
    fs::create_dir(&at).unwrap();
    let Some(_volume) = Volume::mount(&at) else {
        return skip("a tag on a full disk", "mounting a tmpfs takes privileges");
    };
    let repository = Repository::create(at.join("repository")).unwrap();
    let tag = "some/tag".parse().unwrap();
    let push = |number: u8| {
        let target = spfs_model::Digest::of(&[number]);
        repository.tags().push(&tag, target, "u", crate::support::time(number.into()))
    };
    push(1).unwrap();
    let filler = at.join("filler");
    let filled = fs::write(&filler, vec![0; 4 << 20]);
    assert!(filled.is_err(), "the volume is larger than it should be");
    let error = push(2).unwrap_err();
    assert!(matches!(error, RepoError::NoSpace { .. }), "{error}");
    let stream = repository.tags().stream(&tag).unwrap();
    assert_eq!(stream.tags().len(), 1);
    fs::remove_file(filler).unwrap();
    push(2).unwrap();
    assert_eq!(repository.tags().stream(&tag).unwrap().tags().len(), 2);
}

#[test]
fn a_batch_that_could_not_store_something_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("volume");
    fs::create_dir(&at).unwrap();
    let Some(_volume) = Volume::mount(&at) else {
        return skip("a batch on a full disk", "mounting a tmpfs takes privileges");
    };
    let repository = Repository::create(at.join("repository")).unwrap();
    let large = vec![1; 4 << 20];
    let batch = repository.batch().unwrap();
    let small = batch.blob(b"small").unwrap();
    assert!(matches!(batch.blob(&large), Err(RepoError::NoSpace { .. })));
    // the same again is not taken for stored
    drop(batch.blob(&large));
    let error = batch.finish().unwrap_err();
    assert!(matches!(error, RepoError::IncompleteBatch { .. }), "{error}");
    assert!(!repository.objects().has(&small).unwrap());
}
