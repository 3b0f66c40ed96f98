//! Many who tag at once, and locks that somebody left.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use spfs_model::{Digest, TagName};
use spfs_repo::{AnyRepository, RepoError, Repository};

use crate::support::{child, child_argument, repository, time, wait_until};

const THREADS: u8 = 4;
const PROCESSES: u8 = 3;
const PUSHES: u8 = 25;

fn tag() -> TagName {
    "shared/tag".parse().unwrap()
}

fn target(process: u8, thread: u8, push: u8) -> Digest {
    Digest::of(&[process, thread, push])
}

/// Several threads push to one tag.
fn push_all(repository: &Repository, process: u8) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for push in 0..PUSHES {
                    let target = target(process, thread, push);
                    let user = format!("{process}-{thread}");
                    let (_, is_new) =
                        repository.tags().push(&tag(), target, &user, time(0)).unwrap();
                    assert!(is_new);
                }
            });
        }
    });
}

fn assert_all_there(repository: &Repository, processes: u8) {
    let stream = repository.tags().stream(&tag()).unwrap();
    assert_eq!(
        stream.tags().len(),
        usize::from(processes) * usize::from(THREADS) * usize::from(PUSHES)
    );
    for process in 0..processes {
        for thread in 0..THREADS {
            for push in 0..PUSHES {
                let target = target(process, thread, push);
                assert!(stream.tags().iter().any(|tag| tag.target == target));
            }
        }
    }
    assert!(stream.tags().is_sorted());
    for (older, newer) in stream.tags().iter().zip(&stream.tags()[1..]) {
        assert_eq!(newer.parent, older.digest().unwrap());
    }
    let left: Vec<_> = fs::read_dir(repository.root().join("tags/shared")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn concurrent_threads_lose_no_version() {
    let (_dir, repository) = repository();
    push_all(&repository, 0);
    assert_all_there(&repository, 1);
}

#[test]
fn concurrent_processes_lose_no_version() {
    let (_dir, repository) = repository();
    let root = repository.root().to_str().unwrap();
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|process| {
            child("tagging::a_child_pushes", &format!("{process} {root}")).spawn().unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_all_there(&repository, PROCESSES);
}

#[test]
fn a_child_pushes() {
    let Some(told) = child_argument() else { return };
    let (process, root) = told.split_once(' ').unwrap();
    push_all(&Repository::open(root).unwrap(), process.parse().unwrap());
}

fn lock_path(repository: &Repository) -> std::path::PathBuf {
    repository.root().join("tags/shared/tag.tag.lock")
}

/// A lock file as upstream leaves it when it dies, of this age.
fn leave_lock(repository: &Repository, age: Duration) {
    let path = lock_path(repository);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = File::create(path).unwrap();
    let now = fs::metadata(repository.root().join("VERSION")).unwrap().modified().unwrap();
    lock.set_modified(now - age).unwrap();
}

/// Many tag, and do not wait for the lock that is there.
fn push_all_within(repository: &Repository, limit: Duration) {
    let start = Instant::now();
    push_all(repository, 0);
    assert!(start.elapsed() < limit, "the stale lock was waited for");
    assert_all_there(repository, 1);
}

#[test]
fn a_stale_lock_is_taken_over_by_one_and_then_the_next() {
    let (_dir, repository) = repository();
    leave_lock(&repository, Duration::from_secs(60));
    push_all_within(&repository, Duration::from_secs(10));
}

#[test]
fn the_lock_of_a_program_killed_on_this_machine_is_taken_over_at_once() {
    let (_dir, repository) = repository();
    leave_lock(&repository, Duration::ZERO);
    fs::write(lock_path(&repository), spfs_sys::clock::boot_id().unwrap()).unwrap();
    push_all_within(&repository, Duration::from_secs(5));
}

/// Somebody who tags waits for the lock that is there until it is let go.
fn push_waits_until(repository: &Repository, let_go: impl FnOnce()) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            repository.tags().push(&tag(), Digest::EMPTY, "u", time(0)).unwrap();
            sender.send(()).unwrap();
        });
        let waiting = receiver.recv_timeout(Duration::from_millis(300));
        assert!(waiting.is_err(), "the lock was taken");
        let_go();
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
    });
}

#[test]
fn a_fresh_lock_of_another_machine_is_waited_for() {
    let (_dir, repository) = repository();
    leave_lock(&repository, Duration::ZERO);
    fs::write(lock_path(&repository), "cdc1ab5c-0000-4000-8000-000000000000").unwrap();
    push_waits_until(&repository, || fs::remove_file(lock_path(&repository)).unwrap());
}

#[test]
fn a_lock_that_grows_old_while_it_is_waited_for_is_taken_over() {
    let (_dir, repository) = repository();
    // nobody holds it, and it is nearly old enough
    leave_lock(&repository, Duration::from_secs(9));
    repository.tags().push(&tag(), Digest::EMPTY, "u", time(0)).unwrap();
    assert_eq!(repository.tags().stream(&tag()).unwrap().tags().len(), 1);
    assert!(!lock_path(&repository).exists());
}

#[test]
fn a_holder_that_lives_is_not_taken_for_dead() {
    let (_dir, repository) = repository();
    leave_lock(&repository, Duration::from_secs(60));
    let held = File::open(lock_path(&repository)).unwrap();
    let held = spfs_sys::lock::Lock::try_exclusive(held).unwrap().unwrap();
    push_waits_until(&repository, || drop(held));
}

#[test]
fn a_holder_that_never_lets_go_is_reported() {
    let (_dir, repository) = repository();
    leave_lock(&repository, Duration::ZERO);
    let held = File::open(lock_path(&repository)).unwrap();
    let _held = spfs_sys::lock::Lock::try_exclusive(held).unwrap().unwrap();
    let error = repository.tags().push(&tag(), Digest::EMPTY, "u", time(0)).unwrap_err();
    match error {
        RepoError::TagLocked { tag, lock, .. } => {
            assert_eq!((tag.as_str(), lock), ("shared/tag", lock_path(&repository)));
        }
        error => panic!("{error}"),
    }
    assert_eq!(repository.tags().stream(&tag()).unwrap().tags().len(), 0);
}

#[test]
fn what_a_crash_left_in_a_work_file_does_not_get_into_the_stream() {
    let (_dir, repository) = repository();
    repository.tags().push(&tag(), Digest::of(b"1"), "u", time(0)).unwrap();
    let path = repository.root().join("tags/shared/tag.tag");
    fs::copy(&path, path.with_extension("tag.work")).unwrap();
    repository.tags().push(&tag(), Digest::of(b"2"), "u", time(1)).unwrap();
    assert_eq!(repository.tags().stream(&tag()).unwrap().tags().len(), 2);
    assert!(!path.with_extension("tag.work").exists());
}

#[test]
fn everybody_may_read_and_write_tags() {
    let (_dir, repository) = repository();
    repository.tags().push(&tag(), Digest::EMPTY, "u", time(0)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&repository.root().join("tags/shared/tag.tag")), 0o666);
    assert_eq!(mode(&repository.root().join("tags/shared")), 0o777);
}

#[test]
fn folders_that_vanish_meanwhile_do_not_lose_tags() {
    let (_dir, repository) = repository();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let repository = &repository;
            scope.spawn(move || {
                let tag: TagName = format!("deep/er/{thread}").parse().unwrap();
                for push in 0..30 {
                    let target = Digest::of(&[thread, push]);
                    repository.tags().push(&tag, target, "u", time(0)).unwrap();
                    let spec = tag.clone().into();
                    assert_eq!(repository.tags().resolve(&spec).unwrap().target, target);
                    assert!(repository.tags().remove_stream(&tag).unwrap());
                }
            });
        }
    });
    assert_eq!(repository.tags().names().unwrap(), []);
    assert!(!repository.root().join("tags/deep").exists());
}

#[test]
fn a_push_right_after_another_is_newer() {
    let (_dir, repository) = repository();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let now = jiff::Timestamp::try_from(now).unwrap();
    for number in 0..10_u8 {
        repository.tags().push(&tag(), Digest::of(&[number]), "u", now).unwrap();
    }
    let head = repository.tags().resolve(&tag().into()).unwrap();
    assert_eq!(head.target, Digest::of(&[9]));
}

/// A process that was killed while it held the lock, and several others that push meanwhile.
#[test]
fn a_killed_tagger_does_not_stop_the_others() {
    let (_dir, repository) = repository();
    let root = repository.root().display().to_string();
    let lock = lock_path(&repository);
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let mut victim = child("tagging::a_child_holds_the_lock", &lock.display().to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the child to hold the lock", || lock.exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(lock.exists(), "a killed process cleans nothing up");
    // As if it had happened a while ago.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
    let children: Vec<_> = (0..3)
        .map(|process| {
            child("tagging::a_child_pushes", &format!("{process} {root}")).spawn().unwrap()
        })
        .collect();
    for mut pushing in children {
        assert!(pushing.wait().unwrap().success());
    }
    assert_all_there(&repository, 3);
    assert!(!lock.exists());
}

#[test]
fn a_child_holds_the_lock() {
    let Some(lock) = child_argument() else { return };
    let file = fs::File::options().write(true).create_new(true).open(lock).unwrap();
    file.try_lock().unwrap();
    loop {
        std::thread::park();
    }
}
