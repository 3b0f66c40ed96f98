use super::*;
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::thread;

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_written_file_is_complete_and_leaves_no_draft() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    for (durability, bits) in [(Durability::Now, 0o666), (Durability::Later, 0o440)] {
        write(&target, bits, b"content", durability).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"content");
        assert_eq!(mode(&target), bits, "whatever the umask is");
    }
    assert_eq!(names(dir.path()), BTreeSet::from(["file".to_owned()]));
}

#[test]
fn a_dropped_draft_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::create_in(dir.path()).unwrap();
    draft.write_all(b"half").unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    assert!(names(dir.path()).iter().all(|name| name.starts_with(DRAFT_PREFIX)));
    drop(draft);
    assert_eq!(names(dir.path()), BTreeSet::new());
}

#[test]
fn a_draft_cannot_be_read_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let draft = Draft::create_in(dir.path()).unwrap();
    assert_eq!(mode(draft.path()), 0o600);
}

#[test]
fn create_never_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    let draft = |text: &str| {
        let mut draft = Draft::create_in(dir.path()).unwrap();
        draft.write_all(text.as_bytes()).unwrap();
        draft
    };
    assert!(draft("first").create(&target, Durability::Now).unwrap());
    assert!(!draft("second").create(&target, Durability::Now).unwrap());
    assert_eq!(fs::read_to_string(&target).unwrap(), "first");
    assert_eq!(names(dir.path()), BTreeSet::from(["file".to_owned()]));
}

#[test]
fn a_failed_publish_keeps_the_old_file_and_removes_the_draft() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("folder");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("inside"), "").unwrap();
    write(&target, 0o644, b"new", Durability::Later).unwrap_err();
    assert!(target.join("inside").exists());
    assert_eq!(names(dir.path()), BTreeSet::from(["folder".to_owned()]));
}

/// Readers and writers of one name, all at once: everybody who opens it finds a whole file.
#[test]
fn readers_never_see_half_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    write(&target, 0o644, &[0; 10_000], Durability::Later).unwrap();
    let done = AtomicBool::new(false);
    let mut seen = 0;
    thread::scope(|scope| {
        let writers = [1_u8, 2].map(|value| {
            let target = &target;
            scope.spawn(move || {
                for _ in 0..200 {
                    write(target, 0o644, &[value; 10_000], Durability::Later).unwrap();
                }
            })
        });
        let reader = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let mut content = Vec::new();
                File::open(&target).unwrap().read_to_end(&mut content).unwrap();
                assert_eq!(content.len(), 10_000);
                assert!(content.iter().all(|byte| *byte == content[0]), "two writers in one file");
                count += 1;
            }
            count
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        seen = reader.join().unwrap();
    });
    assert!(seen > 0);
    assert_eq!(names(dir.path()).len(), 1);
}

#[test]
fn only_one_of_many_creators_wins() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    let wins: Vec<bool> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u8)
            .map(|value| {
                let (dir, target) = (dir.path(), &target);
                scope.spawn(move || {
                    let mut draft = Draft::create_in(dir).unwrap();
                    draft.write_all(&[value; 100]).unwrap();
                    draft.create(target, Durability::Later).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(wins.iter().filter(|won| **won).count(), 1);
    let winner = wins.iter().position(|won| *won).unwrap();
    assert_eq!(fs::read(&target).unwrap(), [winner as u8; 100]);
}

#[test]
fn a_name_that_is_taken_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "a").unwrap();
    fs::create_dir(&b).unwrap();
    let error = rename_noreplace(&a, &b).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    rename_noreplace(&a, &dir.path().join("c")).unwrap();
    assert_eq!(names(dir.path()), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
}

#[test]
fn a_folder_gets_its_mode_whatever_the_umask_is() {
    let dir = tempfile::tempdir().unwrap();
    for bits in [0o777, 0o1777, 0o700, 0o2775, 0o000] {
        let path = dir.path().join(format!("{bits:o}"));
        mkdir_mode(&path, bits).unwrap();
        assert_eq!(mode(&path), bits);
        assert_eq!(mkdir_mode(&path, 0o755).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(mode(&path), bits);
    }
}

#[test]
fn missing_folders_are_made_and_others_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    mkdir_mode(&dir.path().join("a"), 0o711).unwrap();
    let path = dir.path().join("a/b/c");
    mkdir_all_mode(&path, 0o777).unwrap();
    mkdir_all_mode(&path, 0o700).unwrap();
    assert_eq!((mode(&dir.path().join("a")), mode(&path)), (0o711, 0o777));
    assert_eq!(mode(&dir.path().join("a/b")), 0o777);
    fs::write(dir.path().join("file"), "").unwrap();
    let error = mkdir_all_mode(&dir.path().join("file/x"), 0o777).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    let error = mkdir_all_mode(&dir.path().join("file"), 0o777).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn many_makers_of_the_same_folders_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| mkdir_all_mode(&dir.path().join("a/b/c/d/e/f"), 0o755).unwrap());
        }
    });
    assert!(dir.path().join("a/b/c/d/e/f").is_dir());
}
