//! Directories become layers, or are refused with nothing stored.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spfs_model::{
    BlobEntry, Content, Digest, EntryKind, Manifest, ManifestBuilder, NameBuf, NewEntry, Object,
};
use spfs_repo::{
    AnyRepository, CommitOptions, Committed, Progress, RepoError, Repository, commit_path,
};

use crate::support::{
    assert_complete, child, child_argument, files_below, repository, text, write_tree,
};

fn commit(repository: &Repository, source: &Path) -> Result<Committed, RepoError> {
    commit_path(repository, source, &CommitOptions::default())
}

fn manifest(repository: &Repository, committed: &Committed) -> Manifest {
    match repository.objects().read(&committed.manifest).unwrap().1 {
        Object::Manifest(manifest) => manifest,
        object => panic!("{object:?}"),
    }
}

/// A commit that must fail, with this in its message, and leave nothing in the repository.
fn assert_refused(source: &Path, message: &str) {
    let (_dir, repository) = repository();
    let error = commit(&repository, source).unwrap_err();
    assert!(text(&error).contains(message), "{:?} does not say {message:?}", text(&error));
    let left = files_below(repository.root());
    assert_eq!(left, [repository.root().join("VERSION")], "something was stored");
}

#[test]
fn what_the_format_cannot_hold_is_refused_by_name_before_anything_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let case = |name: &str| {
        let source = dir.path().join(name);
        write_tree(&source, &[("a/first", "1"), ("sub/dir/file", "2"), ("z/last", "3")]);
        (source.clone(), source.join("sub/dir/bad"))
    };
    let (source, bad) = case("fifo");
    assert!(Command::new("mkfifo").arg(&bad).status().unwrap().success());
    assert_refused(&source, &format!("cannot commit {}: a named pipe cannot", bad.display()));

    let (source, bad) = case("socket");
    let _listener = UnixListener::bind(&bad).unwrap();
    assert_refused(&source, &format!("cannot commit {}: a socket cannot", bad.display()));

    let (source, bad) = case("name");
    let bad = bad.with_file_name(OsStr::from_bytes(b"caf\xe9"));
    File::create(&bad).unwrap();
    assert_refused(&source, &format!("cannot commit {}: its name is not UTF-8", bad.display()));

    let (source, bad) = case("target");
    symlink(OsStr::from_bytes(b"caf\xe9"), &bad).unwrap();
    assert_refused(&source, &format!("symbolic link {}: its target is not UTF-8", bad.display()));

    let (source, bad) = case("line break");
    symlink("a\nb", &bad).unwrap();
    assert_refused(&source, &format!("link {}: its target contains a line break", bad.display()));

    let (source, bad) = case("device");
    if mknod(&bad, "c", "1", "3") {
        assert_refused(&source, &format!("cannot commit {}: a device cannot", bad.display()));
        fs::remove_file(&bad).unwrap();
        assert!(mknod(&bad, "b", "0", "0"));
        assert_refused(&source, &format!("cannot commit {}: a device cannot", bad.display()));
    }
}

/// `false` where only the administrator may make devices, and this is somebody else.
fn mknod(path: &Path, kind: &str, major: &str, minor: &str) -> bool {
    let made =
        Command::new("mknod").arg(path).args([kind, major, minor]).status().unwrap().success();
    assert!(made || spfs_sys::ids::euid() != 0);
    made
}

#[test]
fn whiteouts_become_masks() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a/keep", "1")]);
    if !mknod(&source.join("a/gone"), "c", "0", "0") {
        return;
    }
    let committed = commit(&repository, &source).unwrap();
    let manifest = manifest(&repository, &committed);
    let a = manifest.entries(manifest.root()).next().unwrap().tree.unwrap();
    let mask = manifest.entries(a).find(|entry| entry.kind == EntryKind::Mask).unwrap();
    assert_eq!(mask.name.as_bytes(), b"gone");
    assert_eq!(mask.mode & 0o170_000, 0o020_000);
    assert_eq!((mask.size, mask.object), (0, spfs_model::Digest::NULL));
    assert_eq!(committed.files, 1);
}

#[test]
fn bad_paths_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert_refused(&missing, &format!("cannot commit {}: No such file", missing.display()));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_refused(&file, &format!("cannot commit {}: it is not a directory", file.display()));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_refused(&empty, &format!("nothing to commit: {} is empty", empty.display()));
}

#[test]
fn an_empty_directory_makes_a_layer_when_asked_for() {
    let (dir, repository) = repository();
    let source = dir.path().join("empty");
    fs::create_dir(&source).unwrap();
    let options = CommitOptions { allow_empty: true, ..CommitOptions::default() };
    let committed = commit_path(&repository, &source, &options).unwrap();
    let layer = "NBDZ2PLVZ6ZBYW6TDOC4LELMFJAWCIYL64AZE4LR4EG2YRSMRIMA====";
    assert_eq!(committed.layer.to_string(), layer);
    assert_eq!((committed.files, committed.bytes), (0, 0));
}

#[test]
fn an_unreadable_file_is_named() {
    let (dir, repository) = repository();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let source = dir.path().join("source");
    write_tree(&source, &[("a/one", "1"), ("b/secret", "2")]);
    fs::set_permissions(source.join("b/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let told = format!("{}\n{}", repository.root().display(), source.display());
    let output = as_nobody(&mut child("commit::a_child_commits", &told)).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = format!("cannot read {}: Permission denied", source.join("b/secret").display());
    assert!(output.contains(&wanted), "{output}");
    assert_eq!(repository.objects().iterate(None).unwrap().count(), 0);
}

#[test]
fn storage_that_cannot_be_written_is_named() {
    let (dir, repository) = repository();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let source = dir.path().join("source");
    write_tree(&source, &[("a/one", "1")]);
    for part in ["objects", "payloads", "tags"] {
        let path = repository.root().join(part);
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let told = format!("{}\n{}", repository.root().display(), source.display());
    let output = as_nobody(&mut child("commit::a_child_commits", &told)).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = format!("cannot create {}/payloads/work", repository.root().display());
    assert!(output.contains(&wanted) && output.contains("Permission denied"), "{output}");
    for part in ["objects", "payloads", "tags"] {
        let path = repository.root().join(part);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// As somebody whom permissions bind.
fn as_nobody(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    if spfs_sys::ids::euid() == 0 { command.uid(65534).gid(65534) } else { command }
}

#[test]
fn a_child_commits() {
    let Some(told) = child_argument() else { return };
    let (repository, source) = told.split_once('\n').unwrap();
    match commit(&Repository::open(repository).unwrap(), Path::new(source)) {
        Ok(committed) => println!("committed {}", committed.layer),
        Err(error) => println!("{}", text(&error)),
    }
}

#[test]
fn files_of_every_size_are_stored_whole() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut bytes = 0;
    for size in [0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let content: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        fs::write(source.join(format!("{size}")), content).unwrap();
        bytes += size;
    }
    // the same large content again, and once more when it is there already
    fs::copy(source.join("5000000"), source.join("copy")).unwrap();
    let committed = commit(&repository, &source).unwrap();
    assert_eq!((committed.files, committed.bytes), (10, bytes + 5_000_000));
    assert_eq!((committed.stored.payloads, committed.stored.bytes), (9, bytes));
    assert_complete(&repository, &committed.layer);
    let again = commit(&repository, &source).unwrap();
    assert_eq!((again.layer, again.stored.payloads), (committed.layer, 0));
    // sizes and modes are those of the files
    let manifest = manifest(&repository, &committed);
    for entry in manifest.entries(manifest.root()) {
        let there = fs::metadata(source.join(entry.name.as_str().unwrap())).unwrap();
        assert_eq!((entry.size, entry.mode), (there.len(), there.permissions().mode()));
    }
}

#[test]
fn nothing_is_left_in_the_work_folders() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    for number in 0..100 {
        write_tree(&source, &[(&format!("{}/{number}", number % 7), &format!("{number}"))]);
    }
    commit(&repository, &source).unwrap();
    for part in ["objects", "payloads"] {
        let work = fs::read_dir(repository.root().join(part).join("work")).unwrap();
        assert_eq!(work.count(), 0, "{part}");
    }
}

#[test]
fn everybody_may_read_and_write_what_is_stored() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "1"), ("b/c", "2")]);
    commit(&repository, &source).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for part in ["objects", "payloads"] {
        for file in files_below(&repository.root().join(part)) {
            assert_eq!(mode(&file), 0o666, "{}", file.display());
            assert_eq!(mode(file.parent().unwrap()), 0o777, "{}", file.display());
        }
    }
    assert_eq!(mode(&repository.root().join("VERSION")), 0o666);
}

#[test]
fn links_to_the_directory_itself_are_followed_and_others_stored() {
    let (dir, repository) = repository();
    write_tree(&dir.path().join("source"), &[("dir/file", "1")]);
    symlink("source", dir.path().join("link")).unwrap();
    symlink("dir", dir.path().join("source/link")).unwrap();
    let committed = commit(&repository, &dir.path().join("link")).unwrap();
    let manifest = manifest(&repository, &committed);
    let link = manifest.entries(manifest.root()).find(|entry| entry.name.as_bytes() == b"link");
    let link = link.unwrap();
    assert_eq!((link.kind, link.mode, link.size), (EntryKind::Blob, 0o120_777, 3));
    assert_eq!(repository.payloads().read(&link.object).unwrap(), b"dir");
}

#[test]
fn very_deep_hierarchies_are_stored() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    let deep = source.join("d/".repeat(1500));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "leaf").unwrap();
    let committed = commit(&repository, &source).unwrap();
    assert_complete(&repository, &committed.layer);
    assert_eq!(committed.files, 1);
}

#[test]
fn a_filter_leaves_out_what_it_refuses() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a/keep", "1"), ("a/drop", "2"), ("b/x", "3")]);
    let only = dir.path().join("only");
    write_tree(&only, &[("a/keep", "1")]);
    let filter = |path: &Path| path != Path::new("b") && !path.ends_with("drop");
    let options = CommitOptions { filter: Some(&filter), ..CommitOptions::default() };
    let filtered = commit_path(&repository, &source, &options).unwrap();
    assert_eq!(filtered.layer, commit(&repository, &only).unwrap().layer);
}

#[test]
fn annotations_make_another_layer_of_the_same_manifest() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "1")]);
    let plain = commit(&repository, &source).unwrap();
    let notes = [("message".to_owned(), "first".to_owned())];
    let options = CommitOptions { annotations: &notes, ..CommitOptions::default() };
    let noted = commit_path(&repository, &source, &options).unwrap();
    assert_eq!(noted.manifest, plain.manifest);
    assert_ne!(noted.layer, plain.layer);
}

#[derive(Default)]
struct Count {
    found: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
}

impl Progress for Count {
    fn found(&self, files: u64, _bytes: u64) {
        self.found.fetch_add(files, Ordering::Relaxed);
    }

    fn done(&self, files: u64, bytes: u64) {
        self.done.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[test]
fn progress_ends_at_what_was_found() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "1"), ("b/c", "22"), ("b/d/e", "333"), ("empty/", "")]);
    symlink("a", source.join("link")).unwrap();
    let count = Count::default();
    let options = CommitOptions { progress: &count, ..CommitOptions::default() };
    commit_path(&repository, &source, &options).unwrap();
    assert_eq!(count.found.into_inner(), 4);
    assert_eq!((count.done.into_inner(), count.bytes.into_inner()), (4, 7));
}

#[test]
fn a_file_that_is_written_to_meanwhile_never_gives_a_wrong_digest() {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("quiet", "quiet")]);
    fs::write(source.join("busy"), vec![0; 200_000]).unwrap();
    let stop = AtomicBool::new(false);
    let outcomes = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(source.join("busy")).unwrap();
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) || number > 2_000_000 {
                    break;
                }
                file.write_all(&number.to_le_bytes()).unwrap();
            }
        });
        let outcomes: Vec<_> = (0..20).map(|_| commit(&repository, &source)).collect();
        stop.store(true, Ordering::Relaxed);
        outcomes
    });
    for outcome in outcomes {
        match outcome {
            Ok(committed) => assert_complete(&repository, &committed.layer),
            Err(error) => assert_eq!(
                error.to_string(),
                format!("cannot commit {}: it is being changed", source.join("busy").display())
            ),
        }
    }
    // and when it is quiet again it can be committed
    assert_complete(&repository, &commit(&repository, &source).unwrap().layer);
}

#[test]
fn a_manifest_that_upstream_could_not_read_is_stored_read_and_known_as_such() {
    let (_dir, repository) = repository();
    let directory = |builder: &mut ManifestBuilder, count: usize| {
        let blob = BlobEntry { mode: 0o100_644, size: 0, object: Digest::EMPTY };
        let entry = |number| NewEntry {
            name: NameBuf::new(format!("{number:07}").into_bytes()).unwrap(),
            content: Content::Blob(blob),
        };
        builder.directory((0..count).map(entry).collect()).unwrap()
    };
    let manifest = |count| {
        let mut builder = ManifestBuilder::new();
        let root = directory(&mut builder, count);
        builder.finish(root).unwrap()
    };
    assert!(spfs_repo::upstream_can_read(&manifest(1000)));
    // a table for each entry, the tree, the manifest and the object
    let large = manifest(999_998);
    assert!(!spfs_repo::upstream_can_read(&large));
    let written = spfs_repo::write_layer(&repository, Some(large), &[], 0).unwrap();
    let read = spfs_repo::load_stack(&[&repository], &[written.layer]).unwrap();
    assert_eq!(read[0].len(), 999_998);
}
