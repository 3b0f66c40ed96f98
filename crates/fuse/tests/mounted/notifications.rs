//! Changes behind the kernel's back, and telling it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use spfs_fuse::{Invalidation, Op, Options};
use spfs_testkit::ModelFs;
use spfs_vfs::api::{
    Access, File as _, Ino, Name, NameBuf, New, NewKind, Owner, Remove, SetAttr, Vfs,
};

use crate::support::{self, Model, VIEW, Watched};

fn name(name: &str) -> NameBuf {
    NameBuf::new(name.as_bytes()).unwrap()
}

/// Makes a file with this content, past the kernel.
fn create(mount: &Model, file: &str, content: &[u8]) -> Ino {
    let new = New { kind: NewKind::Regular, perm: 0o644, owner: Owner { uid: 0, gid: 0 } };
    let ino = mount.fs().create(Ino::ROOT, name(file).as_name(), new).unwrap().ino;
    write(mount, ino, content);
    ino
}

fn write(mount: &Model, ino: Ino, content: &[u8]) {
    let set = SetAttr { size: Some(content.len() as u64), ..SetAttr::default() };
    mount.fs().setattr(ino, &set).unwrap();
    mount.fs().open(ino, Access::Write).unwrap().write_at(0, content, false).unwrap();
}

fn remove(mount: &Model, file: &str) {
    mount.fs().remove(Ino::ROOT, Name::new(file.as_bytes()).unwrap(), Remove::File).unwrap();
}

#[test]
fn a_name_that_came_to_exist_is_found_once_told() {
    let Some(mount) = support::model() else { return };
    assert!(!mount.path("file").exists());
    create(&mount, "file", b"content");
    assert!(!mount.path("file").exists(), "the kernel remembers that it is missing");
    mount.session().notifier().inval_entry(VIEW, Ino::ROOT, name("file")).wait().unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
}

#[test]
fn a_name_that_is_gone_is_not_found_once_told() {
    let Some(mount) = support::model() else { return };
    let ino = create(&mount, "file", b"content");
    let open = File::open(mount.path("file")).unwrap();
    assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 1);
    remove(&mount, "file");
    assert!(mount.path("file").exists(), "the kernel remembers the file");
    mount.session().notifier().deleted(VIEW, Ino::ROOT, ino, name("file")).wait().unwrap();
    assert!(!mount.path("file").exists());
    assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 0, "the listing was forgotten, too");
    let mut content = [0; 7];
    open.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"content");
}

#[test]
fn a_name_that_stands_for_something_else_is_found_anew() {
    let Some(mount) = support::model() else { return };
    let old = create(&mount, "file", b"old");
    let open = File::open(mount.path("file")).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"old");
    remove(&mount, "file");
    let new = create(&mount, "file", b"longer than before");
    mount.session().notifier().inval_entry(VIEW, Ino::ROOT, name("file")).wait().unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"longer than before");
    assert_eq!(fs::metadata(mount.path("file")).unwrap().ino(), new.0);
    assert_eq!(open.metadata().unwrap().ino(), old.0);
    let mut content = [0; 3];
    open.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"old");
}

#[test]
fn attributes_and_content_are_asked_for_anew_once_told() {
    let Some(mount) = support::model() else { return };
    let ino = create(&mount, "file", b"before");
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"before");
    assert_eq!(fs::metadata(mount.path("file")).unwrap().mode() & 0o777, 0o644);
    write(&mount, ino, b"AFTER!");
    mount.fs().setattr(ino, &SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"before", "the kernel remembers the pages");
    mount.session().notifier().inval_inode(VIEW, ino).wait().unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"AFTER!");
    assert_eq!(fs::metadata(mount.path("file")).unwrap().mode() & 0o777, 0o600);
}

/// The kernel's law, which whoever changes content behind its back has to know: with a writeback
/// cache it believes its own size of a regular file (fuse_get_cache_mask), so a file that gets
/// another size needs another inode number.
#[test]
fn another_size_of_a_known_inode_is_believed_only_without_writeback() {
    for writeback in [true, false] {
        let fs = Arc::new(Watched::new(ModelFs::with_system_clock()));
        let options = Options { writeback, ..Options::default() };
        let Some(mount) = support::mount_with(fs, options) else { return };
        let ino = create(&mount, "file", b"short");
        assert_eq!(fs::metadata(mount.path("file")).unwrap().len(), 5);
        write(&mount, ino, b"much longer");
        let notifier = mount.session().notifier();
        notifier.inval_inode(VIEW, ino).wait().unwrap();
        notifier.inval_entry(VIEW, Ino::ROOT, name("file")).wait().unwrap();
        let len = fs::metadata(mount.path("file")).unwrap().len();
        // Where nobody has the inode in use the kernel may have dropped it and learned the size.
        assert!(if writeback { len == 5 || len == 11 } else { len == 11 }, "{writeback}: {len}");
        let open = File::open(mount.path("file")).unwrap();
        let before = open.metadata().unwrap().len();
        write(&mount, ino, b"the longest of all");
        notifier.inval_inode(VIEW, ino).wait().unwrap();
        let after = open.metadata().unwrap().len();
        assert_eq!(after, if writeback { before } else { 18 });
    }
}

#[test]
fn written_pages_come_to_us_before_an_inode_is_forgotten() {
    let Some(mount) = support::model() else { return };
    let file = File::create(mount.path("file")).unwrap();
    file.write_all_at(&[b'x'; 50_000], 0).unwrap();
    let ino = mount.ino("file");
    assert_eq!(mount.session().write_handles(VIEW), [ino]);
    assert_eq!(mount.fs().getattr(ino).unwrap().size, 0, "nothing was closed or synced yet");
    mount.session().notifier().inval_inode(VIEW, ino).wait().unwrap();
    assert_eq!(mount.fs().getattr(ino).unwrap().size, 50_000);
    let mut content = vec![0; 50_001];
    let len = mount.fs().open(ino, Access::Read).unwrap().read_at(0, &mut content).unwrap();
    assert!(content[..len] == [b'x'; 50_000]);
    // And the file goes on as it was.
    file.write_all_at(b"more", 50_000).unwrap();
    drop(file);
    assert_eq!(fs::metadata(mount.path("file")).unwrap().len(), 50_004);
}

#[test]
fn a_large_batch_goes_out_in_order_while_the_mount_is_busy() {
    let Some(mount) = support::model() else { return };
    let inos: Vec<Ino> =
        (0..500).map(|index| create(&mount, &format!("{index}"), b"content")).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (mount, stop) = (&mount, &stop);
            scope.spawn(move || {
                let path = mount.path(format!("own-{worker}"));
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::write(&path, vec![1; 10_000]).unwrap();
                    fs::read_dir(mount.root()).unwrap().for_each(|entry| drop(entry.unwrap()));
                    fs::remove_file(&path).unwrap();
                }
            });
        }
        for _ in 0..5 {
            let batch = inos.iter().enumerate().flat_map(|(index, &ino)| {
                let entry =
                    Invalidation::Entry { parent: Ino::ROOT, name: name(&format!("{index}")) };
                [Invalidation::Inode(ino), entry]
            });
            mount.session().notifier().send(VIEW, batch.collect()).wait().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 500);
}

#[test]
fn telling_of_what_the_kernel_does_not_know_is_no_error() {
    let Some(mount) = support::model() else { return };
    let notifier = mount.session().notifier();
    let unknown = vec![
        Invalidation::Inode(Ino(123_456)),
        Invalidation::Entry { parent: Ino(123_456), name: name("x") },
        Invalidation::Entry { parent: Ino::ROOT, name: name("never asked for") },
        Invalidation::Deleted { parent: Ino::ROOT, child: Ino(5), name: name("x") },
    ];
    notifier.send(VIEW, unknown.clone()).wait().unwrap();
    mount.unmount();
    notifier.send(VIEW, unknown).wait().unwrap();
}

#[test]
fn nothing_is_lost_when_names_are_forgotten_under_a_process() {
    let Some(mount) = support::model() else { return };
    fs::create_dir_all(mount.path("dir/sub")).unwrap();
    let file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(mount.path("dir/sub/file"))
        .unwrap();
    file.write_all_at(b"content", 0).unwrap();
    let notifier = mount.session().notifier();
    notifier.inval_entry(VIEW, mount.ino("dir/sub"), name("file")).wait().unwrap();
    file.write_all_at(b"CON", 0).unwrap();
    assert_eq!(fs::read(mount.path("dir/sub/file")).unwrap(), b"CONtent");
    // The names above were not forgotten.
    mount.needs_at_most(&[(Op::Getattr, 2)], || support::stat(mount.path("dir/sub")));
}
