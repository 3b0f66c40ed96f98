//! Repositories in tar files: saved whole or not at all, and never outside of their folder.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use spfs_model::Digest;
use spfs_repo::sync::{SyncOptions, sync};
use spfs_repo::{AnyRepository, RepoError, TarRepository, commit_path};

use crate::support::{assert_complete, child, child_argument, repository, text, time, write_tree};

fn blob(repository: &dyn AnyRepository, data: &[u8]) -> Digest {
    let batch = repository.batch().unwrap();
    let digest = batch.blob(data).unwrap();
    batch.finish().unwrap();
    digest
}

fn refused(path: &Path) -> String {
    text(&TarRepository::open(path).unwrap_err())
}

#[test]
fn what_was_saved_is_there_again_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repository.tar");
    assert_eq!(refused(&path), format!("the archive {} does not exist", path.display()));
    let archive = TarRepository::create(&path).unwrap();
    assert!(!path.exists(), "opening writes nothing");
    let first = blob(&archive, b"first");
    archive.save().unwrap();
    let second = blob(&archive, b"second");
    drop(archive);
    let archive = TarRepository::open(&path).unwrap();
    assert_eq!(archive.payloads().read(&first).unwrap(), b"first");
    assert!(!archive.payloads().has(&second).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no work file is left");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    archive.save().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before, "nothing to save");
}

#[test]
fn layers_travel_through_an_archive() {
    let (dir, from) = repository();
    let source = dir.path().join("source");
    write_tree(&source, &[("a", "one"), ("dir/b", "two"), ("empty/", "")]);
    let layer = commit_path(&from, &source, &Default::default()).unwrap().layer;
    from.tags().push(&"my/tag".parse().unwrap(), layer, "user", time(0)).unwrap();
    let path = dir.path().join("travel.tar");
    let archive = TarRepository::create(&path).unwrap();
    let spec = "my/tag".parse().unwrap();
    sync(&from, &archive, &spec, &SyncOptions::default()).unwrap();
    archive.save().unwrap();
    let (_dir, to) = repository();
    let archive = TarRepository::open(&path).unwrap();
    sync(&archive, &to, &spec, &SyncOptions::default()).unwrap();
    assert_complete(&to, &layer);
    assert_eq!(to.tags().resolve(&"my/tag".parse().unwrap()).unwrap().target, layer);
}

#[test]
fn two_who_save_do_not_overwrite_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repository.tar");
    let [one, other] = [(), ()].map(|()| TarRepository::create(&path).unwrap());
    let first = blob(&one, b"first");
    blob(&other, b"second");
    one.save().unwrap();
    let error = other.save().unwrap_err();
    assert!(matches!(error, RepoError::ArchiveChanged { .. }), "{error}");
    assert!(TarRepository::open(&path).unwrap().payloads().has(&first).unwrap());
}

#[test]
fn hostile_archives_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repository.tar");
    let victim = dir.path().join("victim");
    let write = |fill: &dyn Fn(&mut tar::Builder<fs::File>)| {
        let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
        fill(&mut builder);
        builder.finish().unwrap();
    };
    let named =
        |builder: &mut tar::Builder<fs::File>, name: &[u8], kind: tar::EntryType, to: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o644);
            if !to.is_empty() {
                header.set_link_name(to).unwrap();
            }
            // set_path would refuse what a hostile archive holds
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
            header.set_cksum();
            builder.append(&header, std::io::empty()).unwrap();
        };
    let up = format!("../{}/victim", dir.path().file_name().unwrap().to_str().unwrap());
    for name in [up.as_bytes(), victim.to_str().unwrap().as_bytes(), b"objects/../../victim"] {
        write(&|builder| named(builder, name, tar::EntryType::Regular, ""));
        assert!(refused(&path).contains("leads out of it"), "{}", refused(&path));
    }
    let outside = dir.path().display().to_string();
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Char] {
        write(&|builder| {
            named(builder, b"objects", kind, &outside);
            named(builder, b"objects/victim", tar::EntryType::Regular, "");
        });
        assert!(refused(&path).contains("neither a file nor a folder"), "{}", refused(&path));
    }
    assert!(!victim.exists());
    fs::write(&path, "this is no archive, and longer than nothing").unwrap();
    assert!(refused(&path).contains("repository.tar"), "{}", refused(&path));
}

/// A process that has the archive open, with what it unpacks below `temp`; it ends with its stdin.
fn one_that_has_it_open(path: &Path, temp: &Path) -> (Child, impl Sized) {
    let mut command = child("archive::a_child_opens_an_archive", path.to_str().unwrap());
    let command = command.env("TMPDIR", temp).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "open"), "it did not open");
    (child, lines)
}

#[test]
fn a_child_opens_an_archive() {
    let Some(path) = child_argument() else { return };
    let archive = TarRepository::open(Path::new(&path)).unwrap();
    blob(&archive, b"not saved");
    let mut out = std::io::stdout();
    out.write_all(b"\nopen\n").and_then(|()| out.flush()).unwrap();
    std::io::stdin().lines().for_each(drop);
    assert_eq!(archive.payloads().iterate().unwrap().count(), 2, "it is still all there");
}

#[test]
fn what_killed_processes_unpacked_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let temp = dir.path().join("temp");
    fs::create_dir(&temp).unwrap();
    let unpacked = || fs::read_dir(&temp).unwrap().count();
    let path = dir.path().join("repository.tar");
    let archive = TarRepository::create(&path).unwrap();
    blob(&archive, b"saved");
    archive.save().unwrap();
    let mut killed = [(), (), ()].map(|()| one_that_has_it_open(&path, &temp));
    assert_eq!(unpacked(), 3, "nobody removes what another one uses");
    for (child, _) in &mut killed {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(unpacked(), 3);
    let mut living = [(), ()].map(|()| one_that_has_it_open(&path, &temp));
    assert_eq!(unpacked(), 2);
    for (child, _stdout) in &mut living {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(unpacked(), 0);
}
