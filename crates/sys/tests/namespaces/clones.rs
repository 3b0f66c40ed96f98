//! Clones on volumes that have them: XFS and btrfs, loop-mounted in a namespace of their own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use spfs_sys::{files, mount, reflink};
use spfs_testkit::environment::skip;
use spfs_testkit::program::{As, Helper, Test, can_mount_as_both, run};

use crate::spaces::path;

pub(crate) const TESTS: &[Test] = &[
    ("files_are_cloned_on_xfs", || on_volume("xfs", &["-q", "-m", "reflink=1"])),
    ("files_are_cloned_on_btrfs", || on_volume("btrfs", &["-q"])),
    ("files_on_two_volumes_cannot_be_cloned", two_volumes),
];

pub(crate) const HELPERS: &[Helper] =
    &[("clones", clones_helper), ("two_volumes", two_volumes_helper)];

const MIB: u64 = 1 << 20;

/// The smallest volume that mkfs.xfs makes is 300 MiB; nearly all of it stays a hole.
const VOLUME_BYTES: u64 = 512 * MIB;

fn on_volume(kind: &str, options: &[&str]) {
    if !can_mount_as_both() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    File::create(&image).unwrap().set_len(VOLUME_BYTES).unwrap();
    let made = Command::new(format!("mkfs.{kind}")).args(options).arg(&image).output();
    match made {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Not one of the tests that must run: it needs a package, not a permission.
            let why = format!("mkfs.{kind} is not installed");
            io::Write::write_all(&mut io::stderr(), format!("SKIPPED: {why}\n").as_bytes())
                .unwrap();
            return;
        }
        Err(error) => panic!("mkfs.{kind}: {error}"),
    }
    let target = dir.path().join("volume");
    fs::create_dir(&target).unwrap();
    run("clones", As::Caller, &[target.to_str().unwrap(), image.to_str().unwrap(), kind]);
}

fn clones_helper(arguments: &[String]) {
    let dir = path(arguments);
    mount::enter_private_namespace().unwrap();
    // Freed with the namespace: mount(8) marks the loop device so.
    let mounted = Command::new("mount")
        .args(["-t", &arguments[2], "-o", "loop", &arguments[1], &arguments[0]])
        .output()
        .unwrap();
    if !mounted.status.success() {
        let why = String::from_utf8_lossy(&mounted.stderr);
        skip(&format!("cannot mount: {}", why.trim()), "SPFS_TEST_REQUIRE_MOUNTS");
        return;
    }
    whole_files(&dir);
}

fn whole_files(dir: &Path) {
    let data: Vec<u8> = (0..8 * MIB).map(|i| (i % 251) as u8).collect();
    let source = dir.join("source");
    fs::write(&source, &data).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o444)).unwrap();
    let source = File::open(&source).unwrap();
    files::sync_all(&source).unwrap();
    let free = || {
        files::syncfs(&source).unwrap();
        let figures = files::fstatvfs(&source).unwrap();
        figures.blocks_free * figures.block_size
    };
    let before = free();
    let clone = reflink::clone_new(&source, &dir.join("clone")).unwrap();
    let used = before.saturating_sub(free());
    assert!(used < 2 * MIB, "a clone of 8 MiB took {used} bytes");
    assert_eq!(fs::read(dir.join("clone")).unwrap(), data);
    assert_eq!(clone.metadata().unwrap().mode() & 0o7777, 0o600);
    // Each goes its own way from here.
    clone.write_all_at(b"changed", 4096).unwrap();
    assert_eq!(fs::read(dir.join("source")).unwrap(), data);
    let error = reflink::clone_new(&source, &dir.join("clone")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    let other = File::create_new(dir.join("other")).unwrap();
    reflink::clone_file(&source, &other).unwrap();
    assert_eq!(fs::read(dir.join("other")).unwrap(), data);
}

fn two_volumes() {
    if can_mount_as_both() {
        let dir = crate::spaces::folder();
        run("two_volumes", As::User, &[dir.path().to_str().unwrap()]);
    }
}

fn two_volumes_helper(arguments: &[String]) {
    let dir = path(arguments);
    mount::enter_private_namespace().unwrap();
    let source = tempfile::tempfile_in(&dir).unwrap();
    source.write_all_at(b"data", 0).unwrap();
    crate::spaces::mount_tmpfs(&dir);
    let error = reflink::clone_new(&source, &dir.join("clone")).unwrap_err();
    assert!(reflink::is_unsupported(&error), "{error}");
    assert!(!dir.join("clone").exists());
}
