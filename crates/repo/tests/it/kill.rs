//! Whoever is killed in the middle of a commit leaves no tag to something missing.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use spfs_model::Digest;
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
