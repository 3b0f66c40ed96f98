//! Attributes: permissions, owners, times, and the bits that a change of content takes away.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::support::{self, NOBODY};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a shell command as a user that owns nothing.
fn as_nobody(script: &str, argument: &Path) {
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(argument)
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn permissions_and_owners_are_kept() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    for bits in [0o000, 0o7777, 0o640] {
        chmod(&path, bits);
        assert_eq!(mode(&path), bits);
    }
    chown(&path, Some(1000), None).unwrap();
    chown(&path, None, Some(u32::MAX - 1)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1000, u32::MAX - 1));
    std::os::unix::fs::symlink("file", mount.path("link")).unwrap();
    std::os::unix::fs::lchown(mount.path("link"), Some(5), Some(6)).unwrap();
    let link = fs::symlink_metadata(mount.path("link")).unwrap();
    assert_eq!((link.uid(), link.gid()), (5, 6));
    assert_eq!(fs::metadata(&path).unwrap().uid(), 1000);
}

#[test]
fn new_files_have_the_callers_mask_and_owner() {
    let Some(mount) = support::model() else { return };
    chmod(mount.root(), 0o777);
    as_nobody("umask 027 && cd \"$1\" && : > file && mkdir dir && mkfifo fifo", mount.root());
    for (name, bits) in [("file", 0o640), ("dir", 0o750), ("fifo", 0o640)] {
        let metadata = fs::metadata(mount.path(name)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, bits, "{name}");
        assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{name}");
    }
}

#[test]
fn times_are_set_to_the_nanosecond_also_before_the_epoch() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    let set = |atime: (i64, i64), mtime: (i64, i64)| {
        let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        ((metadata.atime(), metadata.atime_nsec()), (metadata.mtime(), metadata.mtime_nsec()))
    };
    for (atime, mtime) in [
        ((1_000_000_000, 1), (2_000_000_000, 999_999_999)),
        ((0, 0), (5_000_000_000, 0)),
        // fuser 0.18 garbles these on the way in; what comes out must not show it.
        ((-1, 500_000_000), (-2, 800_000_000)),
        ((-1_000_000, 0), (-1, 0)),
    ] {
        assert_eq!(set(atime, mtime), (atime, mtime));
        mount.settle();
        let attr = spfs_vfs::api::Vfs::getattr(&**mount.fs(), mount.ino("file")).unwrap();
        assert_eq!((attr.mtime.secs, i64::from(attr.mtime.nanos)), mtime);
        assert_eq!((attr.atime.secs, i64::from(attr.atime.nanos)), atime);
    }
    set((7, 7), (8, 8));
    let (atime, mtime) = set((0, UTIME_OMIT), (9, 9));
    assert_eq!((atime, mtime), ((7, 7), (9, 9)));
    let (_, now) = set((1, 1), (0, UTIME_NOW));
    let wall = spfs_sys::clock::now();
    assert!((wall.secs - now.0).abs() < 5, "{now:?} is not now ({})", wall.secs);
}

#[test]
fn what_changes_content_or_names_moves_the_times() {
    let Some(mount) = support::model() else { return };
    let old = Timespec { tv_sec: 1_000, tv_nsec: 0 };
    let age = |path: &str| {
        let times = Timestamps { last_access: old, last_modification: old };
        utimensat(CWD, mount.path(path), &times, AtFlags::empty()).unwrap();
    };
    let mtime = |path: &str| fs::metadata(mount.path(path)).unwrap().mtime();
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("dir/file"), b"12345").unwrap();

    age("dir/file");
    OpenOptions::new().append(true).open(mount.path("dir/file")).unwrap().write_all(b"6").unwrap();
    assert_ne!(mtime("dir/file"), 1_000, "a write");
    age("dir/file");
    File::create(mount.path("dir/file")).unwrap();
    assert_ne!(mtime("dir/file"), 1_000, "truncation on open");
    age("dir/file");
    File::create(mount.path("dir/file")).unwrap();
    assert_ne!(mtime("dir/file"), 1_000, "truncation of an empty file on open");
    age("dir/file");
    chmod(&mount.path("dir/file"), 0o600);
    assert_eq!(mtime("dir/file"), 1_000, "a change of mode");
    for (what, work) in [
        ("create", &(|| fs::write(mount.path("dir/new"), b"").unwrap()) as &dyn Fn()),
        ("rename", &|| fs::rename(mount.path("dir/new"), mount.path("dir/newer")).unwrap()),
        ("link", &|| fs::hard_link(mount.path("dir/newer"), mount.path("dir/link")).unwrap()),
        ("unlink", &|| fs::remove_file(mount.path("dir/link")).unwrap()),
        ("mkdir", &|| fs::create_dir(mount.path("dir/sub")).unwrap()),
        ("rmdir", &|| fs::remove_dir(mount.path("dir/sub")).unwrap()),
    ] {
        age("dir");
        work();
        assert_ne!(mtime("dir"), 1_000, "{what}");
    }
}

#[test]
fn the_later_write_has_the_later_time() {
    let Some(mount) = support::model() else { return };
    // make(1) compares the time we give a new file with the time the kernel gives a written one.
    let mut before = (0, 0);
    for index in 0..50 {
        let path = mount.path(format!("{index}"));
        if index % 2 == 0 {
            File::create(&path).unwrap();
        } else {
            fs::write(&path, b"content").unwrap();
        }
        let metadata = fs::metadata(&path).unwrap();
        let time = (metadata.mtime(), metadata.mtime_nsec());
        assert!(time >= before, "file {index}: {time:?} is before {before:?}");
        before = time;
    }
}

#[test]
fn the_kernel_and_the_core_agree_on_times_after_close() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"some").unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    support::wait_until("the clock has moved on", || {
        let now = spfs_sys::clock::now();
        let metadata = file.metadata().unwrap();
        (now.secs, i64::from(now.nanos)) > (metadata.mtime(), metadata.mtime_nsec())
    });
    file.write_all(b"more").unwrap();
    drop(file);
    let seen = fs::metadata(&path).unwrap();
    let attr = spfs_vfs::api::Vfs::getattr(&**mount.fs(), mount.ino("file")).unwrap();
    assert_eq!((seen.mtime(), seen.mtime_nsec()), (attr.mtime.secs, attr.mtime.nanos.into()));
    assert_eq!((seen.ctime(), seen.ctime_nsec()), (attr.ctime.secs, attr.ctime.nanos.into()));
    assert_eq!(seen.size(), attr.size);
}

#[test]
fn another_user_who_changes_content_takes_set_user_id_away() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("tool");
    fs::write(&path, b"#!/bin/sh\n").unwrap();
    for script in [
        "echo more >> \"$1\"",
        "truncate -s 3 \"$1\"",
        ": > \"$1\"",
        "echo whole | dd of=\"$1\" conv=notrunc status=none",
        "fallocate -l 4096 \"$1\"",
        "fallocate -n -l 4096 \"$1\"",
        "fallocate -p -l 3 \"$1\"",
        // Seen at once, while the file is open; also by ls(1), which asks for the mode alone.
        "exec 3<> \"$1\"; stat \"$1\" > /dev/null; echo more >&3; ! ls --color=always \"$1\" | grep '37;41m'",
        "exec 3<> \"$1\"; echo more >&3; test ! -u \"$1\"",
        "exec 3<> \"$1\"; fallocate -p -l 3 \"$1\"; test ! -u \"$1\"",
    ] {
        chmod(&path, 0o6777);
        as_nobody(script, &path);
        assert_eq!(mode(&path), 0o777, "{script}");
        // Set-group-id without group execution is mandatory locking's mark, not a privilege.
        chmod(&path, 0o6767);
        as_nobody(script, &path);
        assert_eq!(mode(&path), 0o2767, "{script}");
    }
}

#[test]
fn root_changes_content_without_taking_set_user_id_away() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("tool");
    fs::write(&path, b"content").unwrap();
    chmod(&path, 0o6755);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"other", 0).unwrap();
    file.set_len(2).unwrap();
    drop(file);
    fs::write(&path, b"again").unwrap();
    assert_eq!(mode(&path), 0o6755);
}

#[test]
fn a_change_of_owner_takes_set_user_id_away_from_files_alone() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"").unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    for name in ["file", "dir"] {
        chmod(&mount.path(name), 0o6755);
        chown(mount.path(name), Some(7), None).unwrap();
    }
    assert_eq!(mode(&mount.path("file")), 0o755);
    assert_eq!(mode(&mount.path("dir")), 0o6755);
}

#[test]
fn the_figures_of_the_volume_come_through() {
    let Some(mount) = support::model() else { return };
    let figures = rustix::fs::statvfs(mount.root()).unwrap();
    assert_eq!((figures.f_bsize, figures.f_frsize, figures.f_namemax), (4096, 4096, 255));
    assert_eq!((figures.f_blocks, figures.f_bfree, figures.f_bavail), (1 << 20, 1 << 19, 1 << 19));
    assert_eq!(figures.f_ffree, 1 << 20);
}

#[test]
fn a_file_with_content_occupies_blocks() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), [1; 100]).unwrap();
    assert_ne!(fs::metadata(mount.path("file")).unwrap().blocks(), 0);
}

#[test]
fn the_kernel_and_the_core_agree_on_times_when_the_kernel_tells_none() {
    let Some(mount) = support::model() else { return };
    let mut silent = 0;
    for turn in 0..20 {
        let name = format!("{turn}");
        let path = mount.path(&name);
        // Made and written at one tick of the kernel's clock, which then has no time to tell;
        // written back to us at a later one.
        let ((), requests) = mount.requests_of(|| {
            let mut file = File::create(&path).unwrap();
            file.write_all(b"content").unwrap();
            let written = spfs_sys::clock::now();
            support::wait_until("the clock has moved on", || spfs_sys::clock::now() > written);
        });
        silent += u32::from(requests.of(spfs_fuse::Op::Setattr) == 0);
        let seen = fs::metadata(&path).unwrap();
        let attr = spfs_vfs::api::Vfs::getattr(&**mount.fs(), mount.ino(&name)).unwrap();
        assert_eq!((seen.mtime(), seen.mtime_nsec()), (attr.mtime.secs, attr.mtime.nanos.into()));
        assert_eq!((seen.ctime(), seen.ctime_nsec()), (attr.ctime.secs, attr.ctime.nanos.into()));
    }
    println!("{silent} of 20 files needed no SETATTR");
}
