//! What the tests share.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use spfs_model::{Digest, EntryKind, Object};
use spfs_repo::{AnyRepository, RepoError, Repository};
use tempfile::TempDir;

/// A folder that goes with the test, and a new repository in it.
pub(crate) fn repository() -> (TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::create(dir.path().join("repository")).unwrap();
    (dir, repository)
}

/// A time that means nothing.
pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// An error with all its causes, as people see it.
pub(crate) fn text(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Writes files given as path and content; a path that ends in a slash is an empty folder.
pub(crate) fn write_tree(root: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(root).unwrap();
    for (path, content) in files {
        let path = root.join(path);
        if path.to_str().unwrap().ends_with('/') {
            fs::create_dir_all(&path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Waits for something that must happen soon.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Asserts that everything below an object is there and is what its digest says.
pub(crate) fn assert_complete(repository: &dyn AnyRepository, root: &Digest) {
    let mut pending = vec![*root];
    while let Some(digest) = pending.pop() {
        let (header, object) = repository.objects().read(&digest).unwrap();
        assert_eq!(spfs_model::digest(&object, header.strategy).unwrap(), digest);
        match object {
            Object::Blob { payload, size } => {
                let bytes = repository.payloads().read(&payload).unwrap();
                assert_eq!((bytes.len() as u64, Digest::of(&bytes)), (size, payload));
            }
            Object::Manifest(manifest) => {
                for tree in manifest.trees() {
                    let entries = manifest.entries(tree);
                    let blobs = entries.filter(|entry| entry.kind == EntryKind::Blob);
                    pending.extend(blobs.map(|entry| entry.object));
                }
            }
            Object::Layer(layer) => pending.extend(layer.manifest),
            Object::Platform(platform) => pending.extend(platform.stack),
        }
    }
}

/// Everything below a folder that is not a folder, sorted.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Where a child process of a test is told what to do.
pub(crate) const CHILD: &str = "SPFS_REPO_TEST_CHILD";

/// This program again, to run one test of it that does something else as a child.
pub(crate) fn child(test: &str, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, argument);
    command
}

/// What the child was told; `None` where the test runs as a test.
pub(crate) fn child_argument() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Says loudly that something could not be tested, or fails where everything has to be.
#[expect(clippy::print_stderr, reason = "a test that is skipped has to be seen")]
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("SPFS_TEST_REQUIRE_MOUNTS").is_none(),
        "{test} was not tested: {reason}"
    );
    eprintln!("SKIPPED {test}: {reason}");
}
