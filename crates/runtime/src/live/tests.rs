use std::path::PathBuf;

use spfs_model::{ChangeKind, EntryKind, EntryRef, Manifest, Name, Object};
use spfs_repo::{AnyRepository, Repository};
use spfs_vfs::api::{Access, File, FileType, New, NewKind, Remove, Replace};

use super::*;
use crate::control::{CommitKind, CommitOptions, Committed, MacosFiles, ResetOptions};
use crate::mount_points::LiveShown;
use crate::runtimes::{NewRuntime, Rerun};

/// A kernel that remembers what it was told, and can refuse to become read-only.
#[derive(Default)]
struct FakeKernel {
    busy: bool,
    told: Mutex<Vec<Invalidation>>,
    read_only: Mutex<Option<bool>>,
}

impl Kernel for FakeKernel {
    fn write_back(&self, _inodes: &[Ino]) -> io::Result<()> {
        Ok(())
    }

    fn invalidate(&self, what: Vec<Invalidation>) -> io::Result<()> {
        self.told.lock().extend(what);
        Ok(())
    }

    fn set_read_only(&self, read_only: bool) -> Result<(), ModeError> {
        if self.busy {
            return Err(ModeError::Busy);
        }
        *self.read_only.lock() = Some(read_only);
        Ok(())
    }
}

struct Fixture {
    runtimes: Runtimes,
    live: LiveRuntime,
    lock: Option<FolderLock>,
    kernel: FakeKernel,
    _root: tempfile::TempDir,
}

fn fixture() -> Fixture {
    fixture_with(|new| new)
}

fn fixture_with(change: impl FnOnce(NewRuntime) -> NewRuntime) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let repository = Arc::new(Repository::create(root.path()).unwrap());
    let runtimes = Runtimes::new(repository, "alice".to_owned(), "host1".to_owned());
    let new = change(NewRuntime {
        name: Some(name()),
        stack: Vec::new(),
        live: Vec::new(),
        live_shown: LiveShown::default(),
        backend: MountBackend::FuseWithScratch,
        editable: true,
        durable: false,
        command: Vec::new(),
        secondary_repositories: Vec::new(),
        include_secondary_tags: true,
    });
    runtimes.create(new).unwrap();
    let lock = runtimes.folder(&name()).lock().unwrap();
    let live = LiveRuntime::open(runtimes.clone(), name()).unwrap();
    Fixture { runtimes, live, lock, kernel: FakeKernel::default(), _root: root }
}

fn name() -> RuntimeName {
    "one".parse().unwrap()
}

impl Fixture {
    /// Ends without a word, and begins again on what is on the disk.
    fn crash(self) -> Self {
        let Self { runtimes, live, lock, kernel, _root } = self;
        drop((live, lock));
        let lock = runtimes.folder(&name()).lock().unwrap();
        let live = LiveRuntime::open(runtimes.clone(), name()).unwrap();
        Self { runtimes, live, lock, kernel, _root }
    }

    fn write(&self, name: &str, content: &str) {
        let view = self.live.view();
        let name = Name::new(name.as_bytes()).unwrap();
        let ino = match view.lookup(Ino::ROOT, name) {
            Ok(attr) => attr.ino,
            Err(_) => {
                let owner = Owner { uid: 0, gid: 0 };
                let new = New { kind: NewKind::Regular, perm: 0o644, owner };
                view.create(Ino::ROOT, name, new).unwrap().ino
            }
        };
        let set = spfs_vfs::api::SetAttr { size: Some(0), ..Default::default() };
        view.setattr(ino, &set).unwrap();
        let file = view.open(ino, Access::Write).unwrap();
        file.write_at(0, content.as_bytes(), false).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        let view = self.live.view();
        let attr = view.lookup(Ino::ROOT, Name::new(name.as_bytes()).unwrap()).ok()?;
        assert_eq!(attr.file_type, FileType::Regular);
        let mut content = vec![0; attr.size as usize];
        view.open(attr.ino, Access::Read).unwrap().read_at(0, &mut content).unwrap();
        Some(String::from_utf8(content).unwrap())
    }

    fn remove(&self, name: &str) {
        let name = Name::new(name.as_bytes()).unwrap();
        self.live.view().remove(Ino::ROOT, name, Remove::File).unwrap();
    }

    fn commit(&self, options: &CommitOptions) -> Result<Committed, LiveError> {
        self.live.commit(options, &self.kernel, &mut |_| {})
    }

    fn diff(&self) -> Vec<String> {
        let changes = self.live.diff(&self.kernel).unwrap();
        let line = |change: &Change| {
            let sign = match change.kind {
                ChangeKind::Added(_) => '+',
                ChangeKind::Removed(_) => '-',
                ChangeKind::Changed { .. } => '~',
            };
            format!("{sign}{}", String::from_utf8_lossy(&change.path))
        };
        changes.iter().map(line).collect()
    }

    fn reset(&self, patterns: &[&str]) -> Result<u64, LiveError> {
        let patterns = patterns.iter().map(ToString::to_string).collect();
        self.live.reset(&ResetOptions { patterns, stack: None }, &self.kernel)
    }

    fn object(&self, digest: &Digest) -> Object {
        self.runtimes.repository().objects().read(digest).unwrap().1
    }

    fn manifest_of(&self, layer: &Digest) -> Manifest {
        let Object::Layer(layer) = self.object(layer) else { panic!("no layer") };
        let Object::Manifest(manifest) = self.object(&layer.manifest.unwrap()) else {
            panic!("no manifest")
        };
        manifest
    }
}

const LAYER: CommitOptions = CommitOptions {
    kind: CommitKind::Layer,
    annotations: Vec::new(),
    keep_editing: true,
    allow_empty: false,
    macos_files: MacosFiles::Keep,
};

const PLATFORM: CommitOptions = CommitOptions {
    kind: CommitKind::Platform,
    annotations: Vec::new(),
    keep_editing: true,
    allow_empty: false,
    macos_files: MacosFiles::Keep,
};

#[test]
fn a_commit_makes_a_layer_of_what_changed_and_puts_it_on_the_stack() {
    let fixture = fixture();
    fixture.write("a", "one");
    assert_eq!(fixture.diff(), ["+a"]);
    let mut heard = Vec::new();
    let options = CommitOptions { annotations: vec![("message".into(), "why".into())], ..LAYER };
    let done = fixture
        .live
        .commit(&options, &fixture.kernel, &mut |progress| heard.push(progress))
        .unwrap();
    assert_eq!(done.layer, Some(done.digest));
    assert_eq!((done.stored.files, done.stored.bytes), (1, 3));
    assert_eq!(heard, [done.stored]);
    assert!(done.editable && done.busy.is_empty());
    let Object::Layer(layer) = fixture.object(&done.digest) else { panic!("no layer") };
    assert_eq!(layer.annotations[0].key, "message");
    let names: Vec<Vec<u8>> = {
        let manifest = fixture.manifest_of(&done.digest);
        manifest.entries(manifest.root()).map(|entry| entry.name.as_bytes().to_vec()).collect()
    };
    assert_eq!(names, [b"a"]);
    assert_eq!(fixture.live.status().stack, [done.digest]);
    assert_eq!(fixture.runtimes.read(&name()).unwrap().stack(), [done.digest]);
    assert_eq!(fixture.diff(), [] as [&str; 0]);
    assert_eq!(fixture.read("a").as_deref(), Some("one"));
}

#[test]
fn a_second_commit_holds_only_what_changed_since_the_first() {
    let fixture = fixture();
    fixture.write("a", "one");
    fixture.write("b", "one");
    let first = fixture.commit(&LAYER).unwrap();
    fixture.write("b", "two");
    fixture.remove("a");
    assert_eq!(fixture.diff(), ["-a", "~b"]);
    let second = fixture.commit(&LAYER).unwrap();
    let manifest = fixture.manifest_of(&second.digest);
    assert_eq!(manifest.entries(manifest.root()).count(), 2);
    assert_eq!(fixture.live.status().stack, [first.digest, second.digest]);
    let error = fixture.commit(&LAYER).unwrap_err();
    assert!(matches!(error, LiveError::NothingToCommit { .. }));
}

#[test]
fn a_platform_is_the_stack_with_the_changes_on_top() {
    let fixture = fixture();
    let error = fixture.commit(&PLATFORM).unwrap_err();
    assert!(error.to_string().contains("one"), "{error}");
    fixture.write("a", "one");
    let first = fixture.commit(&PLATFORM).unwrap();
    let layer = first.layer.unwrap();
    let Object::Platform(platform) = fixture.object(&first.digest) else { panic!("no platform") };
    assert_eq!(platform.stack, [layer]);
    let again = fixture.commit(&PLATFORM).unwrap();
    assert_eq!((again.digest, again.layer), (first.digest, None));
    let empty = CommitOptions { allow_empty: true, ..LAYER };
    let empty = fixture.commit(&empty).unwrap();
    assert_eq!(fixture.live.status().stack, [layer, empty.digest]);
}

#[test]
fn edit_mode_ends_with_a_commit_unless_files_are_open_for_writing() {
    let mut fixture = fixture();
    fixture.write("a", "one");
    let done = fixture.commit(&CommitOptions { keep_editing: false, ..LAYER }).unwrap();
    assert!(!done.editable);
    assert_eq!(*fixture.kernel.read_only.lock(), Some(true));
    assert!(!fixture.runtimes.read(&name()).unwrap().status.editable);
    let error = fixture.commit(&LAYER).unwrap_err();
    assert!(matches!(error, LiveError::NotEditable { .. }));

    let mode = fixture.live.set_editable(true, false, &fixture.kernel).unwrap();
    assert!(mode.changed && !mode.durable);
    assert_eq!(*fixture.kernel.read_only.lock(), Some(false));
    assert!(!fixture.live.set_editable(true, false, &fixture.kernel).unwrap().changed);

    fixture.kernel.busy = true;
    fixture.write("b", "one");
    let view = Arc::clone(fixture.live.view());
    let open =
        view.open(view.lookup(Ino::ROOT, Name::new(b"b").unwrap()).unwrap().ino, Access::Write);
    let done = fixture.commit(&CommitOptions { keep_editing: false, ..LAYER }).unwrap();
    assert!(done.editable);
    assert_eq!(done.busy, [b"b"]);
    let error = fixture.live.set_editable(false, false, &fixture.kernel).unwrap_err();
    assert!(matches!(&error, LiveError::Busy { paths, .. } if *paths == [b"b"]));
    assert!(error.to_string().contains("/spfs/b"), "{error}");
    assert!(fixture.live.status().editable);
    drop(open);
}

#[test]
fn a_runtime_can_become_durable_at_any_time() {
    let fixture = fixture();
    let mode = fixture.live.set_editable(true, true, &fixture.kernel).unwrap();
    assert!(!mode.changed && mode.durable);
    assert!(fixture.runtimes.read(&name()).unwrap().config.durable);
}

#[test]
fn a_read_only_backend_refuses_edits_and_names_another() {
    let fixture =
        fixture_with(|new| NewRuntime { backend: MountBackend::FuseOnly, editable: false, ..new });
    for error in [
        fixture.live.set_editable(true, false, &fixture.kernel).unwrap_err(),
        fixture.commit(&LAYER).unwrap_err(),
        fixture.reset(&[]).unwrap_err(),
    ] {
        assert!(error.to_string().contains("use FuseWithScratch"), "{error}");
    }
    assert_eq!(fixture.diff(), [] as [&str; 0]);
    assert!(!fixture.live.folder().path().join("journal").exists());
}

#[test]
fn changes_and_commits_survive_a_crash() {
    let fixture = fixture();
    fixture.write("a", "one");
    let first = fixture.commit(&LAYER).unwrap();
    fixture.write("b", "two");
    let changes = fixture.live.status().changes;
    let fixture = fixture.crash();
    assert_eq!(fixture.live.status().changes, changes);
    assert_eq!(fixture.read("a").as_deref(), Some("one"));
    assert_eq!(fixture.read("b").as_deref(), Some("two"));
    assert_eq!(fixture.diff(), ["+b"]);
    assert_eq!(fixture.live.status().stack, [first.digest]);
    let second = fixture.commit(&LAYER).unwrap();
    assert_eq!(fixture.crash().live.status().stack, [first.digest, second.digest]);
}

#[test]
fn the_changes_of_a_crashed_runtime_are_counted() {
    let fixture = fixture();
    fixture.write("a", "one");
    fixture.write("b", "two");
    fixture.live.started(1, Some("mnt:[1]")).unwrap();
    let Fixture { runtimes, live, lock, .. } = &fixture;
    let expected = live.status().changes;
    assert!(expected >= 2);
    assert_eq!(changes_in(runtimes, &runtimes.read(&name()).unwrap()), Some(expected));
    assert!(lock.is_some());
}

#[test]
fn a_layer_that_was_committed_but_not_noted_in_the_journal_stays_on_the_stack() {
    let fixture = fixture();
    fixture.write("a", "one");
    // What a crash between the record and the journal leaves.
    let layer = {
        let repository = &**fixture.runtimes.repository();
        spfs_repo::write_layer(repository, Some(Manifest::empty()), &[], 0).unwrap().layer
    };
    let mut record = fixture.runtimes.read(&name()).unwrap();
    record.push_layer(layer);
    fixture.runtimes.save(&record).unwrap();
    let fixture = fixture.crash();
    assert_eq!(fixture.live.status().stack, [layer]);
    assert_eq!(fixture.read("a").as_deref(), Some("one"));
    assert_eq!(fixture.diff(), ["+a"]);
}

impl Fixture {
    /// Puts something in the way of a payload's folder, so that a commit fails when everything is taken.
    fn block(&self, content: &str) -> PathBuf {
        let text = Digest::of(content.as_bytes()).to_string();
        let blocked = self.runtimes.root().join("payloads").join(&text[..2]);
        std::fs::write(&blocked, "").unwrap();
        blocked
    }
}

#[test]
fn a_commit_that_fails_leaves_the_times_of_files_over_a_restart() {
    let fixture = fixture();
    fixture.write("a", "precious");
    let mtime = |fixture: &Fixture| {
        fixture.live.view().lookup(Ino::ROOT, Name::new(b"a").unwrap()).unwrap().mtime
    };
    let before = mtime(&fixture);
    fixture.block("precious");
    // So that the times of a commit differ.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fixture.commit(&LAYER).unwrap_err();
    assert_eq!(mtime(&fixture), before);
    assert_eq!(mtime(&fixture.crash()), before);
}

#[test]
fn what_a_failed_commit_took_is_stored_by_the_next() {
    let fixture = fixture();
    fixture.write("a", "precious");
    let blocked = fixture.block("precious");
    let error = fixture.commit(&LAYER).unwrap_err();
    assert!(matches!(error, LiveError::Store { .. }), "{error}");
    assert_eq!(fixture.live.status().stack, []);
    assert_eq!(fixture.diff(), ["+a"]);
    std::fs::remove_file(&blocked).unwrap();
    fixture.commit(&LAYER).unwrap();
    let payloads = fixture.runtimes.repository().payloads();
    assert_eq!(payloads.read(&Digest::of(b"precious")).unwrap(), b"precious");
    assert_eq!(fixture.crash().read("a").as_deref(), Some("precious"));
}

#[test]
fn what_the_format_cannot_hold_is_refused_by_name_and_nothing_is_committed() {
    let fixture = fixture();
    let view = fixture.live.view();
    let owner = Owner { uid: 0, gid: 0 };
    let fifo = New { kind: NewKind::Fifo, perm: 0o644, owner };
    view.create(Ino::ROOT, Name::new(b"pipe").unwrap(), fifo).unwrap();
    let error = fixture.commit(&LAYER).unwrap_err();
    let LiveError::Commit { source: CommitError::FileType { path, .. }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(path, b"pipe");
    fixture.remove("pipe");
    let file = New { kind: NewKind::Regular, ..fifo };
    view.create(Ino::ROOT, Name::new(b"\xff").unwrap(), file).unwrap();
    let error = fixture.commit(&LAYER).unwrap_err();
    assert!(matches!(error, LiveError::Commit { source: CommitError::NotUtf8 { .. }, .. }));
    assert_eq!(fixture.live.status().stack, []);
}

#[test]
fn a_reset_drops_everything_or_what_is_meant() {
    let fixture = fixture();
    for name in ["keep.txt", "a.o", "b.o"] {
        fixture.write(name, "one");
    }
    fixture.commit(&LAYER).unwrap();
    for name in ["keep.txt", "a.o", "new.o"] {
        fixture.write(name, "two!");
    }
    fixture.remove("b.o");
    // Each path counts once, however it differs: these are another file, a missing and a new one.
    assert_eq!(fixture.reset(&["*.o"]).unwrap(), 3);
    assert_eq!(fixture.diff(), ["~keep.txt"]);
    assert_eq!(fixture.read("a.o").as_deref(), Some("one"));
    assert_eq!(fixture.read("b.o").as_deref(), Some("one"));
    assert_eq!(fixture.read("new.o"), None);
    assert!(!fixture.kernel.told.lock().is_empty());
    assert_eq!(fixture.reset(&["nothing-like-this"]).unwrap(), 0);
    fixture.reset(&[]).unwrap();
    assert_eq!(fixture.diff(), [] as [&str; 0]);
    assert_eq!(fixture.read("keep.txt").as_deref(), Some("one"));
    let error = fixture.reset(&["a//b"]).unwrap_err();
    assert!(matches!(error, LiveError::Pattern(_)));
}

#[test]
fn a_reset_works_in_a_runtime_that_is_read_only_again() {
    let fixture = fixture();
    fixture.write("a", "one");
    fixture.live.set_editable(false, false, &fixture.kernel).unwrap();
    fixture.reset(&[]).unwrap();
    assert_eq!(fixture.read("a"), None);
    assert!(!fixture.live.status().editable);
}

#[test]
fn the_whole_stack_can_be_replaced() {
    let fixture = fixture();
    fixture.write("a", "one");
    let first = fixture.commit(&LAYER).unwrap().digest;
    fixture.write("b", "two");
    let second = fixture.commit(&LAYER).unwrap().digest;
    fixture.write("c", "three");
    let options = ResetOptions { patterns: Vec::new(), stack: Some(vec![second]) };
    fixture.live.reset(&options, &fixture.kernel).unwrap();
    assert_eq!(fixture.live.status().stack, [second]);
    assert_eq!(fixture.runtimes.read(&name()).unwrap().stack(), [second]);
    assert_eq!((fixture.read("a"), fixture.read("c")), (None, None));
    assert_eq!(fixture.read("b").as_deref(), Some("two"));
    assert_eq!(fixture.diff(), [] as [&str; 0]);
    let fixture = fixture.crash();
    assert_eq!(fixture.live.status().stack, [second]);
    fixture.write("a", "again");
    let third = fixture.commit(&LAYER).unwrap().digest;
    assert_eq!(fixture.live.status().stack, [second, third]);
    assert_ne!(first, third);
}

#[test]
fn the_end_of_a_transient_runtime_leaves_nothing() {
    let mut fixture = fixture();
    fixture.write("a", "one");
    fixture.live.started(4711, Some("mnt:[1]")).unwrap();
    let record = fixture.runtimes.read(&name()).unwrap();
    assert_eq!(record, fixture.live.record());
    fixture.live.save().unwrap();
    assert_eq!(fixture.runtimes.read(&name()).unwrap(), record);
    assert!(record.status.running && record.status.owner == Some(4711));
    assert_eq!(record.status.monitor, Some(std::process::id()));
    fixture.live.end(fixture.lock.take().unwrap()).unwrap();
    assert!(!fixture.live.folder().exists());
    assert!(fixture.runtimes.list().unwrap().is_empty());
    fixture.live.save().unwrap();
    assert!(fixture.runtimes.list().unwrap().is_empty(), "a late note revived it");
    assert!(matches!(fixture.commit(&LAYER).unwrap_err(), LiveError::Ended { .. }));
}

#[test]
fn a_durable_runtime_can_be_run_again_as_it_was() {
    let mut fixture = fixture_with(|new| NewRuntime { durable: true, ..new });
    fixture.write("a", "one");
    fixture.live.started(4711, Some("mnt:[1]")).unwrap();
    fixture.live.end(fixture.lock.take().unwrap()).unwrap();
    let record = fixture.runtimes.read(&name()).unwrap();
    assert_eq!((record.status.running, record.status.owner), (false, None));
    let status = fixture.runtimes.status(&record).unwrap();
    assert_eq!(status, crate::status::RuntimeStatus::Saved);
    let Fixture { runtimes, live, kernel, _root, .. } = fixture;
    drop(live);
    let again = Rerun { editable: None, command: &[] };
    runtimes.rerun(&name(), again).unwrap();
    let lock = runtimes.folder(&name()).lock().unwrap();
    let live = LiveRuntime::open(runtimes.clone(), name()).unwrap();
    let fixture = Fixture { runtimes, live, lock, kernel, _root };
    assert_eq!(fixture.read("a").as_deref(), Some("one"));
    assert!(fixture.live.status().editable);
}

#[test]
fn payloads_and_layers_may_be_in_a_secondary_repository() {
    let elsewhere = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("far"), "away").unwrap();
    let repository = Repository::create(elsewhere.path()).unwrap();
    let options = spfs_repo::CommitOptions::default();
    let committed = spfs_repo::commit_path(&repository, source.path(), &options).unwrap();
    let address = format!("file://{}", elsewhere.path().display());
    let fixture = fixture_with(|new| NewRuntime {
        stack: vec![committed.layer],
        secondary_repositories: vec!["grpc://nowhere".to_owned(), address],
        ..new
    });
    assert_eq!(fixture.read("far").as_deref(), Some("away"));
    fixture.write("near", "by");
    fixture.commit(&LAYER).unwrap();
    assert!(!fixture.runtimes.repository().objects().has(&committed.layer).unwrap());
    // A platform leads to all of them.
    fixture.commit(&PLATFORM).unwrap();
    assert_eq!(fixture.live.status().stack.len(), 2);
    let local = fixture.runtimes.repository();
    assert!(local.objects().has(&committed.layer).unwrap());
    assert!(local.payloads().has(&Digest::of(b"away")).unwrap());
}

const WITHOUT: CommitOptions = CommitOptions {
    kind: CommitKind::Layer,
    annotations: Vec::new(),
    keep_editing: true,
    allow_empty: false,
    macos_files: MacosFiles::LeaveOut,
};

impl Fixture {
    fn directory(&self, parent: Ino, name: &str) -> Ino {
        let new = New { kind: NewKind::Directory, perm: 0o755, owner: Owner { uid: 0, gid: 0 } };
        self.live.view().create(parent, Name::new(name.as_bytes()).unwrap(), new).unwrap().ino
    }

    fn rename(&self, from: &str, to: (Ino, &str)) {
        let (from, name) = (Name::new(from.as_bytes()).unwrap(), to.1.as_bytes());
        let to = (to.0, Name::new(name).unwrap());
        self.live.view().rename((Ino::ROOT, from), to, Replace::Allow).unwrap();
    }

    /// The names in the root of a layer; a mask begins with `-`.
    fn names_in(&self, layer: &Digest) -> Vec<String> {
        let manifest = self.manifest_of(layer);
        let shown = |entry: EntryRef<'_>| {
            let sign = if entry.kind == EntryKind::Mask { "-" } else { "" };
            format!("{sign}{}", String::from_utf8_lossy(entry.name.as_bytes()))
        };
        // The format has an order of its own.
        let mut names: Vec<String> = manifest.entries(manifest.root()).map(shown).collect();
        names.sort();
        names
    }
}

#[test]
fn files_of_macos_are_left_out_of_a_commit_and_stay_in_the_runtime() {
    let fixture = fixture();
    fixture.write("a", "one");
    fixture.write(".DS_Store", "icons");
    let folder = fixture.directory(Ino::ROOT, ".Trashes");
    fixture.directory(folder, "501");
    let done = fixture.commit(&WITHOUT).unwrap();
    assert_eq!((done.left_out, done.stored.files), (2, 1));
    assert_eq!(fixture.names_in(&done.digest), ["a"]);
    assert_eq!(fixture.read(".DS_Store").as_deref(), Some("icons"));
    assert_eq!(fixture.diff(), ["+.DS_Store", "+.Trashes", "+.Trashes/501"]);
    let error = fixture.commit(&WITHOUT).unwrap_err();
    assert!(matches!(error, LiveError::OnlyLeftOut { count: 2, .. }), "{error}");
    // Also after a crash they are there, and a later commit may take them.
    let fixture = fixture.crash();
    assert_eq!(fixture.read(".DS_Store").as_deref(), Some("icons"));
    let done = fixture.commit(&LAYER).unwrap();
    assert_eq!(done.left_out, 0);
    assert_eq!(fixture.names_in(&done.digest), [".DS_Store", ".Trashes"]);
    assert_eq!(fixture.diff(), [] as [&str; 0]);
    assert_eq!(fixture.crash().read(".DS_Store").as_deref(), Some("icons"));
}

#[test]
fn files_of_macos_that_layers_hold_stay_as_the_layers_have_them() {
    let fixture = fixture();
    fixture.write(".DS_Store", "old");
    fixture.write("._x", "old");
    fixture.write("a", "one");
    fixture.commit(&LAYER).unwrap();
    // After a restart the layer is below, and not what was just written.
    let fixture = fixture.crash();
    fixture.write(".DS_Store", "new");
    fixture.remove("._x");
    fixture.write("b", "two");
    let done = fixture.commit(&WITHOUT).unwrap();
    assert_eq!(done.left_out, 1);
    // What was removed was removed by somebody.
    assert_eq!(fixture.names_in(&done.digest), ["-._x", "b"]);
    assert_eq!(fixture.diff(), ["~.DS_Store"]);
    let done = fixture.commit(&LAYER).unwrap();
    assert_eq!(fixture.names_in(&done.digest), [".DS_Store"]);
}

#[test]
fn what_was_moved_into_a_folder_that_is_left_out_is_not_lost() {
    let fixture = fixture();
    fixture.write("a", "one");
    fixture.commit(&LAYER).unwrap();
    let folder = fixture.directory(Ino::ROOT, ".Trashes");
    fixture.rename("a", (folder, "a"));
    let done = fixture.commit(&WITHOUT).unwrap();
    assert_eq!((done.left_out, fixture.names_in(&done.digest)), (1, vec!["-a".to_owned()]));
    let fixture = fixture.crash();
    assert_eq!(fixture.diff(), ["+.Trashes", "+.Trashes/a"]);
    fixture.commit(&LAYER).unwrap();
    assert_eq!(fixture.diff(), [] as [&str; 0]);
    let folder = fixture.live.view().lookup(Ino::ROOT, Name::new(b".Trashes").unwrap()).unwrap();
    let file = fixture.live.view().lookup(folder.ino, Name::new(b"a").unwrap()).unwrap();
    assert_eq!(file.size, 3);
}
