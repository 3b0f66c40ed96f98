use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use spfs_model::{Manifest, Object};
use spfs_repo::{AnyRepository, write_layer};

use super::*;
use crate::error::OutOfReach;
use crate::status::ForeignStatus;

struct Storage {
    runtimes: Runtimes,
    _root: tempfile::TempDir,
}

fn storage() -> Storage {
    let root = tempfile::tempdir().unwrap();
    let repository = Arc::new(Repository::create(root.path()).unwrap());
    let runtimes = Runtimes::new(repository, "alice".to_owned(), "host1".to_owned());
    Storage { runtimes, _root: root }
}

impl Storage {
    /// The same storage as another user or from another host sees it.
    fn seen_by(&self, user: &str, host: &str) -> Runtimes {
        let repository = Arc::clone(self.runtimes.repository());
        Runtimes::new(repository, user.to_owned(), host.to_owned())
    }

    fn layer(&self) -> Digest {
        let repository = &**self.runtimes.repository();
        write_layer(repository, Some(Manifest::empty()), &[], 0).unwrap().layer
    }

    fn create(&self, name: &str) -> RuntimeRecord {
        self.runtimes.create(new(name)).unwrap()
    }

    /// What the daemon does once the command runs.
    fn saved(&self, name: &str) {
        let record = self.runtimes.read(&named(name)).unwrap();
        self.runtimes.save(&record).unwrap();
    }

    fn tags(&self) -> Vec<String> {
        let tags = self.runtimes.repository().tags_in(None);
        tags.names().unwrap().iter().map(ToString::to_string).collect()
    }
}

fn new(name: &str) -> NewRuntime {
    NewRuntime {
        name: Some(named(name)),
        stack: Vec::new(),
        live: Vec::new(),
        live_shown: LiveShown::default(),
        backend: MountBackend::FuseWithScratch,
        editable: true,
        durable: false,
        command: vec!["ls".to_owned()],
        secondary_repositories: Vec::new(),
        include_secondary_tags: true,
    }
}

fn named(name: &str) -> RuntimeName {
    name.parse().unwrap()
}

/// Saves a record as the daemon of the runtime would.
fn change(runtimes: &Runtimes, name: &str, change: impl FnOnce(&mut RuntimeRecord)) {
    let mut record = runtimes.read(&named(name)).unwrap();
    change(&mut record);
    runtimes.save(&record).unwrap();
}

/// What the daemon notes when it serves a runtime.
fn served(record: &mut RuntimeRecord) {
    record.status.running = true;
    record.status.monitor = Some(std::process::id());
}

fn status(runtimes: &Runtimes, name: &str) -> RuntimeStatus {
    runtimes.status(&runtimes.read(&named(name)).unwrap()).unwrap()
}

#[test]
fn a_new_runtime_can_be_read_again_and_its_stack_is_kept_from_cleaning() {
    let storage = storage();
    let layer = storage.layer();
    let record = storage
        .runtimes
        .create(NewRuntime { stack: vec![layer], durable: true, ..new("one") })
        .unwrap();
    assert_eq!(storage.runtimes.read(&named("one")).unwrap(), record);
    assert_eq!(record.stack(), [layer]);
    assert_eq!(record.status.owner, Some(std::process::id()));
    assert_eq!(record.author.user_name, "alice");
    assert!(record.config.durable && record.status.editable && !record.status.running);
    assert!(record.created().is_some() && record.created() == record.started());
    assert_eq!(storage.tags(), [] as [&str; 0], "a start does not wait for the disk");
    storage.saved("one");
    assert_eq!(storage.runtimes.read(&named("one")).unwrap(), record);
    assert_eq!(storage.tags(), ["spfs/runtimes/data/one", "spfs/runtimes/meta/one"]);
    let repository = storage.runtimes.repository();
    let data = repository.tags_in(None).resolve(&"spfs/runtimes/data/one".parse().unwrap());
    let (_, platform) = repository.objects().read(&data.unwrap().target).unwrap();
    assert!(matches!(platform, Object::Platform(platform) if platform.stack == [layer]));
}

#[test]
fn a_runtime_without_a_name_gets_one_of_its_own() {
    let storage = storage();
    let record = storage.runtimes.create(NewRuntime { name: None, ..new("x") }).unwrap();
    let other = storage.runtimes.create(NewRuntime { name: None, ..new("x") }).unwrap();
    assert_ne!(record.name, other.name);
    assert_eq!(record.name.len(), 36);
}

#[test]
fn a_name_is_given_once() {
    let storage = storage();
    storage.create("one");
    let error = storage.runtimes.create(new("one")).unwrap_err();
    assert!(matches!(error, RuntimeError::Exists { name } if name.as_str() == "one"));
    let held = storage.runtimes.folder(&named("two"));
    held.create().unwrap();
    let _lock = held.lock().unwrap().unwrap();
    let error = storage.runtimes.create(new("two")).unwrap_err();
    assert!(matches!(error, RuntimeError::Exists { .. }));
}

#[test]
fn what_the_backend_cannot_do_is_refused_before_anything_is_made() {
    let storage = storage();
    let error = storage
        .runtimes
        .create(NewRuntime { backend: MountBackend::FuseOnly, ..new("one") })
        .unwrap_err();
    assert!(error.to_string().contains("use FuseWithScratch"), "{error}");
    assert_eq!(storage.tags(), [] as [&str; 0]);
    assert!(!storage.runtimes.root().join(crate::folder::RUNTIMES).exists());
}

#[test]
fn what_waits_in_the_folder_counts_for_more_than_what_was_saved() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("one");
    storage.saved("one");
    let rerun = Rerun { editable: Some(false), command: &[] };
    runtimes.rerun(&named("one"), rerun).unwrap();
    assert!(!runtimes.read(&named("one")).unwrap().status.editable);
    // A machine that goes down may leave the file, but not its content.
    std::fs::write(runtimes.folder(&named("one")).pending_record(), "").unwrap();
    assert!(runtimes.read(&named("one")).unwrap().status.editable);
    assert_eq!(runtimes.list().unwrap().len(), 1);
}

#[test]
fn a_discarded_runtime_leaves_nothing() {
    let storage = storage();
    storage.create("one");
    storage.runtimes.discard(&named("one")).unwrap();
    assert_eq!(storage.tags(), [] as [&str; 0]);
    assert!(!storage.runtimes.folder(&named("one")).exists());
    assert!(matches!(
        storage.runtimes.read(&named("one")).unwrap_err(),
        RuntimeError::Unknown { .. }
    ));
}

#[test]
fn the_state_of_a_runtime_follows_its_life() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("one");
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Starting);
    let lock = runtimes.folder(&named("one")).lock().unwrap().unwrap();
    change(runtimes, "one", served);
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Running);
    drop(lock);
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Crashed { changes: Some(0) });
    change(runtimes, "one", |record| {
        record.status.running = false;
        record.status.owner = None;
        record.status.monitor = None;
    });
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Stopped);
    change(runtimes, "one", |record| record.config.durable = true);
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Saved);
    let away = storage.seen_by("alice", "host2");
    assert_eq!(status(&away, "one"), RuntimeStatus::Elsewhere { running: false });
}

/// Names the storage for a run of this program that holds the lock of a runtime.
const HOLD: &str = "SPFS_TEST_HOLD_RUNTIME_OF";

/// The process that is killed: not a test of its own.
/// Nobody is in this namespace.
const EMPTY: &str = "mnt:[1]";

#[test]
fn who_cannot_be_joined_is_told_why() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    let refused = |runtimes: &Runtimes| runtimes.member(&named("one")).unwrap_err();
    assert!(matches!(refused(runtimes), RuntimeError::Unknown { .. }));
    storage.create("one");
    let lock = runtimes.folder(&named("one")).lock().unwrap().unwrap();
    change(runtimes, "one", |record| {
        served(record);
        record.config.mount_namespace = Some(EMPTY.to_owned());
    });
    let reason = |runtimes: &Runtimes| match refused(runtimes) {
        RuntimeError::OutOfReach { source, .. } => source,
        other => panic!("{other}"),
    };
    assert_eq!(reason(runtimes), OutOfReach::Hidden);
    let bob = storage.seen_by("bob", "host1");
    assert_eq!(reason(&bob), OutOfReach::OtherUser { user: "alice".to_owned() });
    let far = storage.seen_by("alice", "host2");
    assert_eq!(reason(&far), OutOfReach::OtherHost { host: "host1".to_owned() });
    // What can be seen can be tried, whoever it belongs to.
    let pid = std::process::id();
    if let Ok(own) = spfs_sys::mount::namespace_id(pid) {
        change(runtimes, "one", |record| record.config.mount_namespace = Some(own.clone()));
        assert_eq!(bob.member(&named("one")).unwrap().namespace, own);
    }
    drop(lock);
    assert!(matches!(refused(runtimes), RuntimeError::NotRunning { .. }));
}

#[test]
fn a_daemon_holds_its_lock() {
    let Some(root) = std::env::var_os(HOLD) else { return };
    let folder = RuntimeFolder::new(Path::new(&root), &named("one"));
    let lock = folder.lock().unwrap().unwrap();
    lock.note_holder(std::process::id()).unwrap();
    println!("\nholding");
    // Until it is killed.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn hold(runtimes: &Runtimes) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runtimes::tests::a_daemon_holds_its_lock", "--nocapture"])
        .env(HOLD, runtimes.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "holding"));
    child
}

#[test]
fn a_killed_process_leaves_a_crashed_runtime() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("one");
    let mut daemon = hold(runtimes);
    change(runtimes, "one", served);
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Running);
    assert_eq!(runtimes.folder(&named("one")).holder(), Some(daemon.id()));
    let error = runtimes.remove(&named("one"), RemoveOptions::default()).unwrap_err();
    assert!(matches!(error, RuntimeError::InUse { .. }));
    let rerun = Rerun { editable: None, command: &[] };
    let error = runtimes.rerun(&named("one"), rerun).unwrap_err();
    assert!(matches!(error, RuntimeError::InUse { .. }));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Crashed { changes: Some(0) });
    runtimes.clean_leftovers().unwrap();
    let record = runtimes.rerun(&named("one"), rerun).unwrap();
    assert_eq!(record.status.command, [""]);
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Starting);
    // It came to nothing: the runtime is as it was.
    change(runtimes, "one", |record| record.status.owner = Some(daemon.id()));
    assert_eq!(status(runtimes, "one"), RuntimeStatus::Crashed { changes: Some(0) });
}

#[test]
fn a_runtime_that_is_just_ending_can_be_removed() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("one");
    let mut daemon = hold(runtimes);
    change(runtimes, "one", served);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        });
        runtimes.remove(&named("one"), RemoveOptions::default()).unwrap();
    });
    assert!(matches!(runtimes.read(&named("one")), Err(RuntimeError::Unknown { .. })));
}

#[test]
fn a_runtime_of_another_program_is_listed_and_can_be_removed_but_not_rerun() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("theirs");
    change(runtimes, "theirs", |record| {
        record.config.backend = None;
        record.config.mount_backend = "OverlayFsWithRenders".to_owned();
        record.status.running = true;
        record.status.monitor = None;
    });
    assert_eq!(
        status(runtimes, "theirs"),
        RuntimeStatus::Foreign(ForeignStatus::Unmonitored),
        "its owner is this process"
    );
    let rerun = Rerun { editable: None, command: &[] };
    let error = runtimes.rerun(&named("theirs"), rerun).unwrap_err();
    assert!(matches!(error, RuntimeError::NotOurs { .. }));
    let error = runtimes.remove(&named("theirs"), RemoveOptions::default()).unwrap_err();
    assert!(matches!(error, RuntimeError::InUse { .. }));
    let force = RemoveOptions { running: true, ..RemoveOptions::default() };
    runtimes.remove(&named("theirs"), force).unwrap();
    assert_eq!(storage.tags(), [] as [&str; 0]);
}

#[test]
fn one_damaged_record_hides_no_other_and_can_be_removed() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("a-good-one");
    storage.create("broken");
    storage.saved("broken");
    let repository = runtimes.repository();
    let batch = repository.batch().unwrap();
    let nonsense = batch.blob(b"{ no record }").unwrap();
    batch.finish().unwrap();
    let tag = "spfs/runtimes/meta/broken".parse().unwrap();
    repository.tags_in(None).push(&tag, nonsense, "eve", now()).unwrap();
    let listed = runtimes.list().unwrap();
    assert_eq!(listed[0].as_ref().unwrap().name, "a-good-one");
    let error = listed[1].as_ref().unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    runtimes.remove(&named("broken"), RemoveOptions::default()).unwrap();
    assert_eq!(runtimes.list().unwrap().len(), 1);
}

#[test]
fn removal_respects_users_hosts_and_durable_runtimes() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    storage.create("one");
    change(runtimes, "one", |record| {
        record.config.durable = true;
        record.status.owner = None;
    });
    let one = named("one");
    let none = RemoveOptions::default();
    let bob = storage.seen_by("bob", "host1");
    assert!(matches!(bob.remove(&one, none).unwrap_err(), RuntimeError::OtherUser { .. }));
    let away = storage.seen_by("alice", "host2");
    assert!(matches!(away.remove(&one, none).unwrap_err(), RuntimeError::OtherHost { .. }));
    assert!(matches!(runtimes.remove(&one, none).unwrap_err(), RuntimeError::Durable { .. }));
    let all = RemoveOptions {
        other_user: true,
        other_host: true,
        durable: true,
        ..RemoveOptions::default()
    };
    storage.seen_by("bob", "host2").remove(&one, all).unwrap();
    assert!(matches!(runtimes.remove(&one, none).unwrap_err(), RuntimeError::Unknown { .. }));
}

#[test]
fn a_runtime_without_its_folder_cannot_be_rerun() {
    let storage = storage();
    storage.create("one");
    storage.saved("one");
    std::fs::remove_dir_all(storage.runtimes.folder(&named("one")).path()).unwrap();
    let rerun = Rerun { editable: None, command: &[] };
    let error = storage.runtimes.rerun(&named("one"), rerun).unwrap_err();
    assert!(matches!(error, RuntimeError::Gone { .. }), "{error}");
    change(&storage.runtimes, "one", |record| record.status.owner = None);
    storage.runtimes.remove(&named("one"), RemoveOptions::default()).unwrap();
    assert_eq!(storage.tags(), [] as [&str; 0]);
}

#[test]
fn pruning_takes_what_has_ended_and_is_not_kept() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    let ended = |record: &mut RuntimeRecord| record.status.owner = None;
    for name in ["ended", "crashed", "kept", "running", "starting"] {
        storage.create(name);
    }
    change(runtimes, "ended", ended);
    change(runtimes, "crashed", served);
    change(runtimes, "kept", |record| {
        record.status.owner = None;
        record.config.durable = true;
    });
    let _running = runtimes.folder(&named("running")).lock().unwrap().unwrap();
    let long_ago = PruneStrategy::CreatedBefore(Timestamp::UNIX_EPOCH);
    assert_eq!(runtimes.prune(long_ago, RemoveOptions::default()).unwrap().len(), 0);
    let pruned = runtimes.prune(PruneStrategy::Dead, RemoveOptions::default()).unwrap();
    let names: Vec<&str> = pruned
        .iter()
        .map(|(name, done)| {
            done.as_ref().unwrap();
            name.as_str()
        })
        .collect();
    assert_eq!(names, ["crashed", "ended"]);
    assert_eq!(runtimes.list().unwrap().len(), 3);
}

#[test]
fn a_start_cleans_what_cut_off_starts_and_ends_left() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    for name in ["left", "crashed", "kept", "starting", "bobs"] {
        storage.create(name);
    }
    change(runtimes, "left", |record| record.status.owner = None);
    change(runtimes, "crashed", served);
    change(runtimes, "kept", |record| {
        record.status.owner = None;
        record.config.durable = true;
    });
    change(runtimes, "bobs", |record| {
        record.status.owner = None;
        record.author.user_name = "bob".to_owned();
    });
    let orphan = runtimes.folder(&named("orphan"));
    orphan.create().unwrap();
    // Somebody's work, though its record is lost.
    let lost = runtimes.folder(&named("lost"));
    lost.create().unwrap();
    std::fs::write(lost.path().join("journal"), "").unwrap();
    assert!(matches!(runtimes.create(new("lost")), Err(RuntimeError::Exists { .. })));
    let busy = runtimes.folder(&named("busy"));
    busy.create().unwrap();
    let _lock = busy.lock().unwrap().unwrap();
    runtimes.clean_leftovers().unwrap();
    let left: Vec<bool> =
        ["left", "orphan"].map(|name| runtimes.folder(&named(name)).exists()).into();
    assert_eq!(left, [false, false]);
    for name in ["crashed", "kept", "starting", "bobs", "busy", "lost"] {
        assert!(runtimes.folder(&named(name)).exists(), "{name}");
    }
    let names: Vec<String> =
        runtimes.list().unwrap().into_iter().map(|listed| listed.unwrap().name).collect();
    assert_eq!(names, ["bobs", "crashed", "kept", "starting"]);
    runtimes.remove(&named("lost"), RemoveOptions::default()).unwrap();
    assert!(!lost.exists());
}

#[test]
fn starts_succeed_while_others_clean_up() {
    let storage = storage();
    let runtimes = &storage.runtimes;
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // Two that clean up may get into each other's way, which harms nobody.
                    drop(runtimes.clean_leftovers());
                }
            });
        }
        let starts = scope.spawn(|| {
            for number in 0..100 {
                storage.create(&format!("runtime-{number}"));
            }
        });
        let started = starts.join();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        started.unwrap();
    });
    assert_eq!(runtimes.list().unwrap().len(), 100);
}
