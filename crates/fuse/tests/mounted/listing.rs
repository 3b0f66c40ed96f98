//! Listing directories.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Dir, FileType};

use crate::support;

/// Names, inode numbers and types of a directory, `.` and `..` included.
fn list(dir: &File) -> Vec<(String, u64, FileType)> {
    let entries = Dir::read_from(dir).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_str().unwrap().to_owned(), entry.ino(), entry.file_type())
        })
        .collect()
}

#[test]
fn a_listing_has_each_entry_once_with_number_and_type() {
    let Some(mount) = support::model() else { return };
    fs::create_dir_all(mount.path("dir/sub")).unwrap();
    fs::write(mount.path("dir/file"), b"").unwrap();
    std::os::unix::fs::symlink("x", mount.path("dir/link")).unwrap();
    let ino = |path: &str| fs::symlink_metadata(mount.path(path)).unwrap().ino();
    let mut listed = list(&File::open(mount.path("dir")).unwrap());
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        (".", ino("dir"), FileType::Directory),
        ("..", ino(""), FileType::Directory),
        ("file", ino("dir/file"), FileType::RegularFile),
        ("link", ino("dir/link"), FileType::Symlink),
        ("sub", ino("dir/sub"), FileType::Directory),
    ];
    assert_eq!(listed, expected.map(|(name, ino, kind)| (name.to_owned(), ino, kind)));
    // The root is its own parent here; the kernel looks over the edge by itself.
    let root = list(&File::open(mount.root()).unwrap());
    assert_eq!(root.iter().filter(|entry| entry.1 == ino("")).count(), 2);
    let sub = list(&File::open(mount.path("dir/sub")).unwrap());
    assert!(sub.contains(&("..".to_owned(), ino("dir"), FileType::Directory)));
}

#[test]
fn a_directory_that_was_moved_lists_its_new_parent() {
    let Some(mount) = support::model() else { return };
    for name in ["one", "two", "one/moved", "one/exchanged", "two/other"] {
        fs::create_dir(mount.path(name)).unwrap();
    }
    let parent_in = |dir: &str| {
        let listed = list(&File::open(mount.path(dir)).unwrap());
        listed.into_iter().find(|entry| entry.0 == "..").map(|entry| entry.1)
    };
    let is_in = |dir: &str, parent: &str| {
        let ino = fs::metadata(mount.path(parent)).unwrap().ino();
        support::wait_until("the kernel has been told", || parent_in(dir) == Some(ino));
    };
    is_in("one/moved", "one");
    fs::rename(mount.path("one/moved"), mount.path("two/moved")).unwrap();
    is_in("two/moved", "two");
    for (name, parent) in [("one/exchanged", "one"), ("two/other", "two")] {
        is_in(name, parent);
    }
    let (one, two) = (mount.path("one/exchanged"), mount.path("two/other"));
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, two, exchange).unwrap();
    for (name, parent) in [("one/exchanged", "one"), ("two/other", "two")] {
        is_in(name, parent);
    }
}

#[test]
fn a_listing_of_many_requests_is_complete() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    let names: BTreeSet<String> = (0..3_000).map(|index| format!("entry-{index:05}")).collect();
    for name in &names {
        File::create(mount.path("dir").join(name)).unwrap();
    }
    let read = || -> Vec<String> {
        let entries = fs::read_dir(mount.path("dir")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for _ in 0..2 {
        let listed = read();
        assert_eq!(listed.len(), names.len());
        assert_eq!(BTreeSet::from_iter(listed), names);
    }
}

#[test]
fn a_listing_knows_what_changed_since_the_last() {
    let Some(mount) = support::model() else { return };
    let names = || -> BTreeSet<String> {
        let entries = fs::read_dir(mount.root()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for step in 0..20 {
        fs::write(mount.path(format!("new-{step}")), b"").unwrap();
        assert_eq!(names().len(), step + 1);
    }
    for step in 0..10 {
        fs::remove_file(mount.path(format!("new-{step}"))).unwrap();
        fs::rename(mount.path(format!("new-{}", step + 10)), mount.path(format!("old-{step}")))
            .unwrap();
        assert_eq!(names().len(), 19 - step);
    }
    assert_eq!(names(), (0..10).map(|step| format!("old-{step}")).collect());
}

#[test]
fn what_stays_is_listed_once_while_the_rest_vanishes() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    for index in 0..2_000 {
        File::create(mount.path(format!("dir/{index:04}"))).unwrap();
    }
    // A reader of its own position; every second entry goes as soon as it was seen, new ones come.
    let mut stayed = Vec::new();
    for (seen, entry) in fs::read_dir(mount.path("dir")).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("new") {
            continue;
        }
        if seen % 2 == 0 {
            fs::remove_file(mount.path("dir").join(&name)).unwrap();
            if seen % 10 == 0 {
                File::create(mount.path(format!("dir/new-{seen}"))).unwrap();
            }
        } else {
            stayed.push(name);
        }
    }
    let unique: BTreeSet<_> = stayed.iter().collect();
    assert_eq!(unique.len(), stayed.len(), "an entry was listed twice");
    let left: BTreeSet<String> = fs::read_dir(mount.path("dir"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("new"))
        .collect();
    assert_eq!(left, stayed.into_iter().collect());
}

#[test]
fn listing_again_from_the_start_sees_the_present() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("first"), b"").unwrap();
    let mut dir = Dir::read_from(File::open(mount.root()).unwrap()).unwrap();
    let count = |dir: &mut Dir| {
        let mut count = 0;
        while let Some(entry) = dir.read() {
            entry.unwrap();
            count += 1;
        }
        count
    };
    assert_eq!(count(&mut dir), 3);
    fs::write(mount.path("second"), b"").unwrap();
    dir.rewind();
    assert_eq!(count(&mut dir), 4);
}

#[test]
fn a_removed_directory_lists_nothing() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    let dir = File::open(mount.path("dir")).unwrap();
    fs::remove_dir(mount.path("dir")).unwrap();
    let entries: Vec<_> = Dir::read_from(&dir).unwrap().collect();
    assert!(entries.is_empty() || entries[0].is_err(), "{entries:?}");
}
