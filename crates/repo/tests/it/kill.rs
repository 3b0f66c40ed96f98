//! Whoever is killed in the middle of a commit or a push leaves no tag to something missing, and
//! nothing that the next one would stumble over.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use spfs_model::Digest;
use spfs_repo::check::{CheckOptions, check};
use spfs_repo::sync::{SyncOptions, sync};
use spfs_repo::{AnyRepository, CommitOptions, Repository, commit_path};

use crate::support::{
    assert_complete, child, child_argument, files_below, repository, time, wait_until, write_tree,
};

const FILES: usize = 600;

#[test]
fn a_killed_commit_leaves_nothing_that_is_incomplete() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    for number in 0..FILES {
        let path = format!("{}/{number}", number % 11);
        write_tree(&source, &[(&path, &format!("content {number}"))]);
    }
    let told = format!("{}\n{}", repository.root().display(), source.display());
    let payloads = repository.root().join("payloads");
    // killed when so many files are there: among them being written, being renamed, and done
    for threshold in [1, FILES / 3, FILES - 1, FILES + 1, 2 * FILES] {
        let mut child =
            child("kill::a_child_commits_and_tags", &told).stdout(Stdio::null()).spawn().unwrap();
        wait_until("the child writes files", || {
            count(&payloads) >= threshold || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_sound(&repository);
    }
    // what the killed ones left does not hinder the next
    let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
    assert_complete(&repository, &committed.layer);
}

/// Work files and published files.
fn count(payloads: &Path) -> usize {
    // folders come and go while this looks at them
    std::panic::catch_unwind(|| files_below(payloads).len()).unwrap_or(0)
}

fn assert_sound(repository: &Repository) {
    for tag in repository.tags().names().unwrap() {
        for record in repository.tags().stream(&tag).unwrap() {
            assert_complete(repository, &record.target);
        }
    }
    for digest in repository.objects().iterate(None).unwrap() {
        assert_complete(repository, &digest.unwrap());
    }
    for digest in repository.payloads().iterate().unwrap() {
        let digest = digest.unwrap();
        assert_eq!(Digest::of(&repository.payloads().read(&digest).unwrap()), digest);
    }
}

#[test]
fn a_child_commits_and_tags() {
    let Some(told) = child_argument() else { return };
    let (repository, source) = told.split_once('\n').unwrap();
    let repository = Repository::open(repository).unwrap();
    for round in 0.. {
        // always something new, and a tag to it
        fs::write(Path::new(source).join("round"), format!("{round} {}", std::process::id()))
            .unwrap();
        let committed =
            commit_path(&repository, Path::new(source), &CommitOptions::default()).unwrap();
        let tag = "killed".parse().unwrap();
        repository.tags().push(&tag, committed.layer, "u", time(round)).unwrap();
    }
}

/// Files of a tree that is pushed, each with a content of its own.
const PUSHED: usize = 3000;

/// So many become visible together.
const VISIBLE_TOGETHER: usize = 500;

fn push(from: &Repository, to: &Repository) -> spfs_repo::sync::SyncReport {
    let options = SyncOptions { blobs_per_batch: VISIBLE_TOGETHER, ..SyncOptions::default() };
    sync(from, to, &"pushed".parse().unwrap(), &options).unwrap()
}

#[test]
fn a_killed_push_is_taken_up_where_it_ended() {
    let (dir, from) = repository();
    let source = dir.path().join("source");
    for number in 0..PUSHED {
        let path = format!("{}/{number}", number % 37);
        write_tree(&source, &[(&path, &format!("content {number}"))]);
    }
    let layer = commit_path(&from, &source, &CommitOptions::default()).unwrap().layer;
    from.tags().push(&"pushed".parse().unwrap(), layer, "u", time(0)).unwrap();
    let (_to_dir, to) = repository();
    let told = format!("{}\n{}", from.root().display(), to.root().display());
    let visible = || to.payloads().iterate().unwrap().count();
    let mut before = 0;
    for threshold in [1, PUSHED / 2] {
        let mut child = child("kill::a_child_pushes_a_layer", &told)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the child has brought a part", || {
            visible() >= threshold || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it was done before it was killed");
        assert!(visible() >= before, "what was there is still there");
        before = visible();
        assert!((threshold..PUSHED).contains(&before), "{before}");
        assert!(to.tags().names().unwrap().is_empty(), "a tag to what is not complete");
        assert_sound(&to);
    }
    let objects = to.objects().iterate(None).unwrap().count();
    let report = push(&from, &to);
    // A payload comes before its object; one that has none yet is brought again.
    assert_eq!(report.payloads_skipped as usize, objects.min(before));
    assert!(report.payloads_skipped as usize >= PUSHED / 2, "{report:?}");
    assert_eq!((report.payloads + report.payloads_skipped) as usize, PUSHED);
    assert_eq!(report.tags, 1);
    assert_complete(&to, &layer);
    let options = CheckOptions { payloads: true, ..CheckOptions::default() };
    let checked = check(&to, &options).unwrap();
    assert!(checked.problems.is_empty(), "{checked:?}");
    assert_eq!(push(&from, &to).payloads, 0);
}

#[test]
fn a_child_pushes_a_layer() {
    let Some(told) = child_argument() else { return };
    let (from, to) = told.split_once('\n').unwrap();
    push(&Repository::open(from).unwrap(), &Repository::open(to).unwrap());
}
