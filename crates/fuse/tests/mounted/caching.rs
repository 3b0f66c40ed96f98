//! What the kernel remembers, and so does not ask again.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, symlink};
use std::sync::Arc;

use spfs_fuse::{Op, Options};
use spfs_testkit::ModelFs;

use crate::support::{self, Watched};

#[test]
fn a_name_that_is_known_to_be_missing_is_not_asked_for_again() {
    let Some(mount) = support::model() else { return };
    let missing = || {
        let error = fs::metadata(mount.path("missing")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    };
    let ((), first) = mount.requests_of(missing);
    assert_eq!(first.of(Op::Lookup), 1);
    mount.needs_at_most(&[], || (0..10).for_each(|_| missing()));
    // It comes to exist the ordinary way.
    fs::write(mount.path("missing"), b"here").unwrap();
    assert_eq!(fs::read(mount.path("missing")).unwrap(), b"here");
    fs::remove_file(mount.path("missing")).unwrap();
    missing();
}

#[test]
fn a_known_file_is_not_asked_for_again() {
    let Some(mount) = support::model() else { return };
    fs::create_dir_all(mount.path("a/b/c")).unwrap();
    fs::write(mount.path("a/b/c/file"), b"content").unwrap();
    let stat = || support::stat(mount.path("a/b/c/file"));
    stat();
    mount.needs_at_most(&[], || (0..10).for_each(|_| stat()));
}

#[test]
fn content_stays_known_from_one_open_to_the_next() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), vec![1; 500_000]).unwrap();
    let read = || assert_eq!(fs::read(mount.path("file")).unwrap().len(), 500_000);
    read();
    // With a writeback cache the kernel asks for the attributes after every close.
    mount.needs_at_most(&[(Op::Open, 1), (Op::Getattr, 1)], read);
}

#[test]
fn a_listing_stays_known() {
    let Some(mount) = support::model() else { return };
    for index in 0..100 {
        File::create(mount.path(format!("{index}"))).unwrap();
    }
    let list = || assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 100);
    list();
    list();
    mount.needs_at_most(&[], list);
}

#[test]
fn a_listing_brings_the_attributes_along() {
    let Some(mount) = support::model() else { return };
    use spfs_vfs::api::{Ino, Name, New, NewKind, Owner, Vfs};
    for index in 0..1_000 {
        let new = New { kind: NewKind::Regular, perm: 0o644, owner: Owner { uid: 0, gid: 0 } };
        let name = format!("{index}");
        mount.fs().create(Ino::ROOT, Name::new(name.as_bytes()).unwrap(), new).unwrap();
    }
    let ((), requests) = mount.requests_of(|| {
        // First all names, then all attributes: as du(1), tar(1) and git(1) do.
        let paths: Vec<_> =
            fs::read_dir(mount.root()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(paths.len(), 1_000);
        paths.iter().for_each(support::stat);
    });
    assert_eq!(requests.of(Op::Lookup), 0, "{requests:?}");
    assert_eq!(mount.session().nodes(), 1_000);
}

#[test]
fn a_symbolic_link_is_read_once() {
    let Some(mount) = support::model() else { return };
    symlink("target", mount.path("link")).unwrap();
    fs::read_link(mount.path("link")).unwrap();
    mount.needs_at_most(&[], || assert!(fs::read_link(mount.path("link")).is_ok()));
}

#[test]
fn what_the_kernel_can_do_alone_is_refused_once() {
    let Some(mount) = support::model() else { return };
    let ((), requests) = mount.requests_of(|| {
        for index in 0..10 {
            fs::write(mount.path(format!("{index}")), b"x").unwrap();
            assert_eq!(fs::read_dir(mount.root()).unwrap().count(), index + 1);
            fs::copy(mount.path(format!("{index}")), mount.path("copy")).unwrap();
            fs::remove_file(mount.path("copy")).unwrap();
        }
    });
    assert_eq!(requests.of(Op::Flush), 1);
    assert_eq!(requests.of(Op::Opendir), 1);
    assert_eq!(requests.of(Op::Releasedir), 0);
    assert_eq!(requests.of(Op::CopyFileRange), 1);
    assert_eq!(requests.of(Op::Access) + requests.of(Op::Getlk) + requests.of(Op::Setlk), 0);
}

#[test]
fn locks_are_the_kernels() {
    let Some(mount) = support::model() else { return };
    let first = File::create(mount.path("lock")).unwrap();
    let second = File::open(mount.path("lock")).unwrap();
    let ((), requests) = mount.requests_of(|| {
        first.lock().unwrap();
        second.try_lock().unwrap_err();
        first.unlock().unwrap();
        second.try_lock().unwrap();
    });
    assert_eq!(requests.total(), requests.of(Op::Statfs), "{requests:?}");
}

#[test]
fn small_writes_go_out_together() {
    let Some(mount) = support::model() else { return };
    let ((), requests) = mount.requests_of(|| {
        use std::io::Write;
        let mut file = File::create(mount.path("file")).unwrap();
        for _ in 0..1_000 {
            file.write_all(&[7; 100]).unwrap();
        }
    });
    assert_eq!(requests.of(Op::Write), 1, "{requests:?}");
    assert_eq!(requests.of(Op::Getxattr), 1, "{requests:?}");
}

#[test]
fn without_writeback_closing_after_reading_leaves_attributes_known() {
    let fs = Arc::new(Watched::new(ModelFs::with_system_clock()));
    let options = Options { writeback: false, ..Options::default() };
    let Some(mount) = support::mount_with(fs, options) else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    let mut content = String::new();
    File::open(mount.path("file")).unwrap().read_to_string(&mut content).unwrap();
    fs::metadata(mount.path("file")).unwrap();
    mount.needs_at_most(&[(Op::Open, 1)], || {
        support::stat(mount.path("file"));
        assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
        support::stat(mount.path("file"));
    });
    // Writing works as ever, only each write comes by itself.
    let file = File::options().write(true).open(mount.path("file")).unwrap();
    let ((), requests) = mount.requests_of(|| {
        for at in 0..10 {
            file.write_all_at(b"x", at * 10_000).unwrap();
        }
    });
    assert_eq!(requests.of(Op::Write), 10);
}
