//! Several views in one mount whose root shows links.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use spfs_fuse::{Op, Options, RootMode};

use crate::support::{self, VIEW};
use crate::views::{Two, two_with};

fn two() -> Option<Two> {
    two_with(Options { root: RootMode::Link, ..Options::default() })
}

#[test]
fn a_name_in_the_root_leads_each_caller_to_his_own_view() {
    let Some(two) = two() else { return };
    fs::create_dir(two.mount.path("dir")).unwrap();
    fs::write(two.mount.path("dir/file"), b"first").unwrap();
    fs::write(two.mount.path("only-first"), b"1").unwrap();
    two.other_says("mkdir dir && printf other > dir/file && : > only-other");
    for _ in 0..3 {
        assert_eq!(fs::read(two.mount.path("dir/file")).unwrap(), b"first");
        assert_eq!(two.other_says("cat dir/file"), "other");
        assert_eq!(two.other_says("ls"), "dir\nonly-other\n");
        assert_eq!(two.other_says("readlink dir only-other"), ".rt/1/dir\n.rt/1/only-other\n");
        let link = fs::read_link(two.mount.path("dir")).unwrap();
        assert_eq!(link, PathBuf::from(".rt/0/dir"));
        assert!(!two.mount.path("only-other").exists());
        assert!(!two.other("cat only-first").status.success());
    }
    let link = fs::symlink_metadata(two.mount.path("dir")).unwrap();
    assert!(link.is_symlink() && fs::metadata(two.mount.path("dir")).unwrap().is_dir());
    assert_eq!(link.len(), ".rt/0/dir".len() as u64);
    // Whoever is given the whole path sees what is meant, whoever he is.
    assert_eq!(two.other_says("cat .rt/0/dir/file"), "first");
    assert_eq!(fs::read(two.mount.path(".rt/1/dir/file")).unwrap(), b"other");
}

#[test]
fn a_working_directory_keeps_its_path_whatever_others_look_up() {
    let Some(two) = two() else { return };
    fs::create_dir_all(two.mount.path("dir/sub")).unwrap();
    two.other_says("mkdir dir");
    let mut shell = Command::new("sh")
        .args(["-c", "cd dir; /bin/pwd -P; read line; /bin/pwd -P; ls"])
        .current_dir(two.mount.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..5 {
        two.other_says("stat dir");
    }
    drop(shell.stdin.take());
    let said = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
    let here = two.mount.path(".rt/0/dir");
    assert_eq!(said, format!("{0}\n{0}\nsub\n", here.display()));
}

#[test]
fn what_is_below_a_link_is_asked_for_once() {
    let Some(two) = two() else { return };
    fs::create_dir_all(two.mount.path("dir/sub")).unwrap();
    fs::write(two.mount.path("dir/sub/file"), b"content").unwrap();
    let stat = || support::stat(two.mount.path("dir/sub/file"));
    stat();
    // The way leads through the root twice, whose permissions are asked for each time.
    let most = [(Op::Lookup, 10), (Op::Readlink, 10), (Op::Getattr, 20)];
    two.mount.needs_at_most(&most, || (0..10).for_each(|_| stat()));
}

#[test]
fn files_in_the_root_are_made_changed_renamed_linked_and_removed() {
    let Some(two) = two() else { return };
    let path = |name: &str| two.mount.path(name);
    fs::write(path("file"), b"one").unwrap();
    let inode = fs::metadata(path("file")).unwrap().ino();
    fs::write(path("file"), b"two").unwrap();
    assert_eq!(fs::metadata(path("file")).unwrap().ino(), inode);
    fs::set_permissions(path("file"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(path("file")).unwrap().mode() & 0o7777, 0o640);
    fs::rename(path("file"), path("renamed")).unwrap();
    assert!(!path("file").exists());
    assert_eq!(fs::read(path("renamed")).unwrap(), b"two");
    // link(2) of the link itself, and through it.
    fs::hard_link(path("renamed"), path("again")).unwrap();
    fs::create_dir(path("dir")).unwrap();
    fs::hard_link(path("renamed"), path("dir/again")).unwrap();
    for other in ["again", "dir/again"] {
        assert_eq!(fs::metadata(path(other)).unwrap().ino(), inode, "{other}");
    }
    assert_eq!(fs::metadata(path("again")).unwrap().nlink(), 3);
    fs::remove_file(path("renamed")).unwrap();
    fs::rename(path("again"), path("dir/moved")).unwrap();
    fs::rename(path("dir/moved"), path("back")).unwrap();
    assert_eq!(fs::read(path("back")).unwrap(), b"two");
    symlink("back", path("link")).unwrap();
    assert_eq!(fs::read(path("link")).unwrap(), b"two");
    assert_eq!(two.mount.session().lookup_underflows(), 0);
    assert_eq!(two.mount.session().write_handles(VIEW), []);
}

#[test]
fn an_empty_directory_in_the_root_goes_as_a_link_does() {
    let Some(two) = two() else { return };
    let path = |name: &str| two.mount.path(name);
    fs::create_dir_all(path("dir/sub")).unwrap();
    support::stat(path("dir/sub"));
    // The kernel knows a link, which rmdir(2) refuses.
    let error = fs::remove_dir(path("dir")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    let error = fs::remove_file(path("dir")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    fs::remove_dir(path("dir/sub")).unwrap();
    fs::remove_file(path("dir")).unwrap();
    assert!(fs::symlink_metadata(path("dir")).is_err());
    fs::create_dir(path("dir")).unwrap();
    fs::remove_dir(fs::canonicalize(path("dir")).unwrap()).unwrap();
    assert!(fs::symlink_metadata(path("dir")).is_err());
}

#[test]
fn the_folder_of_the_views_is_not_listed_and_cannot_be_changed() {
    let Some(two) = two() else { return };
    let folder = two.mount.path(".rt");
    assert!(fs::symlink_metadata(&folder).unwrap().is_dir());
    assert_eq!(fs::read_dir(two.mount.root()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    for name in ["2", "00", "+0", "x", "99999999999"] {
        assert!(!folder.join(name).exists(), "{name}");
    }
    assert!(folder.join("0").is_dir() && folder.join("1").is_dir());
    let error = fs::create_dir(folder.join("7")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    assert!(fs::remove_dir(folder.join("0")).is_err());
    assert!(fs::rename(&folder, two.mount.path("other")).is_err());
    let fifo = two.mount.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
}

#[test]
fn what_the_kernel_knows_of_links_is_given_back() {
    let Some(two) = two() else { return };
    for number in 0..20 {
        fs::write(two.mount.path(format!("file{number}")), b"x").unwrap();
    }
    two.other_says("mkdir dir; for i in 1 2 3 4 5; do : > dir/$i; done; ls -l . dir; stat *");
    assert_eq!(fs::read_dir(two.mount.root()).unwrap().count(), 20);
    assert!(two.mount.session().nodes() > 20);
    let session = two.mount.unmount();
    assert_eq!((session.nodes(), session.handles(), session.lookup_underflows()), (0, 0, 0));
}
