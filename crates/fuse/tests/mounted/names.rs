//! Names: making, moving, linking and removing them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::io::Errno;

use crate::support;

#[test]
fn rename_replaces_a_file_and_keeps_what_is_open() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("new"), b"new").unwrap();
    fs::write(mount.path("old"), b"old").unwrap();
    let old = File::open(mount.path("old")).unwrap();
    fs::rename(mount.path("new"), mount.path("old")).unwrap();
    assert_eq!(fs::read(mount.path("old")).unwrap(), b"new");
    assert_eq!(std::io::read_to_string(&old).unwrap(), "old");
    assert_eq!(old.metadata().unwrap().nlink(), 0);
    assert!(!mount.path("new").exists());
}

#[test]
fn rename_moves_a_directory_with_all_that_is_in_it() {
    let Some(mount) = support::model() else { return };
    fs::create_dir_all(mount.path("a/b/c")).unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("a/b/c/file"), b"here").unwrap();
    let ino = fs::metadata(mount.path("a/b")).unwrap().ino();
    let inside = File::open(mount.path("a/b/c")).unwrap();
    fs::rename(mount.path("a/b"), mount.path("d/b")).unwrap();
    assert_eq!(fs::metadata(mount.path("d/b")).unwrap().ino(), ino);
    assert_eq!(fs::read(mount.path("d/b/c/file")).unwrap(), b"here");
    // Who was inside still is.
    rustix::fs::statat(&inside, "../../b/c/file", rustix::fs::AtFlags::empty()).unwrap();
    let links = |path: &str| fs::metadata(mount.path(path)).unwrap().nlink();
    assert_eq!((links("a"), links("d")), (2, 3));
}

#[test]
fn rename_refuses_what_rename_2_forbids() {
    let Some(mount) = support::model() else { return };
    fs::create_dir_all(mount.path("full/inner")).unwrap();
    fs::create_dir(mount.path("empty")).unwrap();
    fs::write(mount.path("file"), b"").unwrap();
    let rename = |from: &str, to: &str| {
        fs::rename(mount.path(from), mount.path(to)).map_err(|error| error.raw_os_error().unwrap())
    };
    assert_eq!(rename("empty", "full"), Err(Errno::NOTEMPTY.raw_os_error()));
    assert_eq!(rename("file", "empty"), Err(Errno::ISDIR.raw_os_error()));
    assert_eq!(rename("empty", "file"), Err(Errno::NOTDIR.raw_os_error()));
    assert_eq!(rename("full", "full/inner/deep"), Err(Errno::INVAL.raw_os_error()));
    assert_eq!(rename("missing", "x"), Err(Errno::NOENT.raw_os_error()));
    assert_eq!(rename("full", "empty"), Ok(()));
    assert!(mount.path("empty/inner").is_dir());
}

#[test]
fn rename_without_replacing_leaves_an_existing_target() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("a"), b"a").unwrap();
    fs::write(mount.path("b"), b"b").unwrap();
    let rename = |from: &str, to: &str| {
        renameat_with(CWD, mount.path(from), CWD, mount.path(to), RenameFlags::NOREPLACE)
    };
    assert_eq!(rename("a", "b"), Err(Errno::EXIST));
    assert_eq!(fs::read(mount.path("b")).unwrap(), b"b");
    assert_eq!(rename("a", "c"), Ok(()));
    assert_eq!(fs::read(mount.path("c")).unwrap(), b"a");
}

#[test]
fn exchange_swaps_two_names_of_any_type() {
    let Some(mount) = support::model() else { return };
    fs::create_dir_all(mount.path("dir/sub")).unwrap();
    fs::create_dir(mount.path("other")).unwrap();
    fs::write(mount.path("other/file"), b"content").unwrap();
    let exchange = |from: &str, to: &str| {
        renameat_with(CWD, mount.path(from), CWD, mount.path(to), RenameFlags::EXCHANGE)
    };
    assert_eq!(exchange("dir/sub", "other/file"), Ok(()));
    assert_eq!(fs::read(mount.path("dir/sub")).unwrap(), b"content");
    assert!(mount.path("other/file").is_dir());
    let links = |path: &str| fs::metadata(mount.path(path)).unwrap().nlink();
    assert_eq!((links("dir"), links("other")), (2, 3));
    assert_eq!(exchange("dir/sub", "missing"), Err(Errno::NOENT));
}

#[test]
fn a_whiteout_is_not_left_behind() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("a"), b"a").unwrap();
    let flags = RenameFlags::WHITEOUT;
    let renamed = renameat_with(CWD, mount.path("a"), CWD, mount.path("b"), flags);
    assert_eq!(renamed, Err(Errno::INVAL));
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
}

#[test]
fn hard_links_are_one_inode() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("file"), b"one").unwrap();
    fs::hard_link(mount.path("file"), mount.path("dir/link")).unwrap();
    let stat = |path: &str| {
        let metadata = fs::metadata(mount.path(path)).unwrap();
        (metadata.ino(), metadata.nlink(), metadata.len())
    };
    assert_eq!(stat("file"), stat("dir/link"));
    assert_eq!(stat("file").1, 2);
    fs::write(mount.path("dir/link"), b"through the other").unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"through the other");
    fs::remove_file(mount.path("file")).unwrap();
    assert_eq!(stat("dir/link").1, 1);
    let linked = fs::hard_link(mount.path("dir"), mount.path("dir2")).unwrap_err();
    assert_eq!(linked.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn symbolic_links_are_kept_byte_for_byte_and_followed() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("dir/file"), b"target").unwrap();
    symlink("dir/file", mount.path("link")).unwrap();
    symlink("..", mount.path("dir/up")).unwrap();
    assert_eq!(fs::read(mount.path("link")).unwrap(), b"target");
    assert_eq!(fs::read(mount.path("dir/up/dir/up/link")).unwrap(), b"target");
    assert_eq!(fs::symlink_metadata(mount.path("link")).unwrap().len(), 8);
    let long = "x/".repeat(2_000);
    symlink(&long, mount.path("long")).unwrap();
    assert_eq!(fs::read_link(mount.path("long")).unwrap().as_os_str(), &*long);
    let odd = OsStr::from_bytes(b"\xff\n no text");
    symlink(odd, mount.path("odd")).unwrap();
    assert_eq!(fs::read_link(mount.path("odd")).unwrap(), odd);
    symlink("loop", mount.path("loop")).unwrap();
    let followed = fs::metadata(mount.path("loop")).unwrap_err();
    assert_eq!(followed.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
}

#[test]
fn directories_are_made_counted_and_removed_when_empty() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    let made = fs::create_dir(mount.path("dir")).unwrap_err();
    assert_eq!(made.kind(), ErrorKind::AlreadyExists);
    for sub in ["a", "b"] {
        fs::create_dir(mount.path("dir").join(sub)).unwrap();
    }
    assert_eq!(fs::metadata(mount.path("dir")).unwrap().nlink(), 4);
    let removed = fs::remove_dir(mount.path("dir")).unwrap_err();
    assert_eq!(removed.kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_dir(mount.path("dir/a")).unwrap();
    assert_eq!(fs::metadata(mount.path("dir")).unwrap().nlink(), 3);
    fs::remove_dir_all(mount.path("dir")).unwrap();
    assert!(!mount.path("dir").exists());
    fs::write(mount.path("file"), b"").unwrap();
    assert_eq!(fs::remove_dir(mount.path("file")).unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn a_directory_that_was_removed_stays_usable_to_who_is_inside() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    let inside = File::open(mount.path("dir")).unwrap();
    fs::remove_dir(mount.path("dir")).unwrap();
    assert_eq!(inside.metadata().unwrap().nlink(), 0);
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let made = rustix::fs::openat(&inside, "file", flags, Mode::RUSR);
    assert_eq!(made.unwrap_err(), Errno::NOENT);
}

#[test]
fn every_kind_of_node_can_be_made() {
    let Some(mount) = support::model() else { return };
    let make = |name: &str, kind, device| {
        mknodat(CWD, mount.path(name), kind, Mode::from(0o640), device).unwrap();
        fs::symlink_metadata(mount.path(name)).unwrap()
    };
    let regular = make("regular", FileType::RegularFile, 0);
    assert!(regular.is_file());
    assert_eq!(regular.permissions().mode() & 0o7777, 0o640);
    assert!(make("fifo", FileType::Fifo, 0).file_type().is_fifo());
    assert!(make("socket", FileType::Socket, 0).file_type().is_socket());
    let device = rustix::fs::makedev(8, 300);
    let block = make("block", FileType::BlockDevice, device);
    assert!(block.file_type().is_block_device());
    assert_eq!(block.rdev(), device);
    let null = make("null", FileType::CharacterDevice, 0);
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), 0);
}

#[test]
fn pipes_and_sockets_connect_processes() {
    let Some(mount) = support::model() else { return };
    let listener = UnixListener::bind(mount.path("socket")).unwrap();
    let client = UnixStream::connect(mount.path("socket")).unwrap();
    let (server, _) = listener.accept().unwrap();
    use std::io::Write;
    (&client).write_all(b"through the socket").unwrap();
    drop(client);
    assert_eq!(std::io::read_to_string(&server).unwrap(), "through the socket");

    mknodat(CWD, mount.path("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let fifo = mount.path("fifo");
    let writer = std::thread::spawn(move || fs::write(fifo, b"through the pipe").unwrap());
    assert_eq!(fs::read(mount.path("fifo")).unwrap(), b"through the pipe");
    writer.join().unwrap();
}

#[test]
fn names_are_bytes_up_to_255() {
    let Some(mount) = support::model() else { return };
    let longest = "n".repeat(255);
    for name in [longest.as_bytes(), b"\xff\xfe", b"new\nline", b".wh.mask", b"..."] {
        let name = OsStr::from_bytes(name);
        fs::write(mount.path(name), name.as_bytes()).unwrap();
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
    }
    let mut names: Vec<_> =
        fs::read_dir(mount.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 5);
    assert_eq!(names[4], OsStr::from_bytes(b"\xff\xfe"));
    let too_long = "n".repeat(256);
    for error in [
        fs::write(mount.path(&too_long), b"").unwrap_err(),
        fs::metadata(mount.path(&too_long)).unwrap_err(),
        fs::create_dir(mount.path(&too_long)).unwrap_err(),
        fs::rename(mount.path(&longest), mount.path(&too_long)).unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    }
}

#[test]
fn a_set_group_id_directory_passes_its_group_on() {
    let Some(mount) = support::model() else { return };
    let dir = mount.path("shared");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, None, Some(1234)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o2775)).unwrap();
    fs::write(dir.join("file"), b"").unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    let file = fs::metadata(dir.join("file")).unwrap();
    let sub = fs::metadata(dir.join("sub")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o2000), (1234, 0));
    assert_eq!((sub.gid(), sub.mode() & 0o2000), (1234, 0o2000));
}
