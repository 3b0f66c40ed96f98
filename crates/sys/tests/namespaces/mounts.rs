//! Mounts: FUSE without a server, the read-only flag, stale mounts. Nothing here may wait for a
//! server: there is none.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use spfs_sys::mount::{self, FuseMount, MountError};
use spfs_testkit::program::{As, Helper, Running, Test, hear, run, say};

use crate::spaces::{folder, for_both, mount_tmpfs, path};

pub(crate) const TESTS: &[Test] = &[
    ("a_fuse_mount_is_found_without_asking_its_server", || for_both(fuse)),
    ("a_mount_is_not_made_read_only_under_a_writer", || for_both(busy)),
    ("the_flag_can_be_changed_from_outside", || for_both(flag_from_outside)),
    ("a_mount_whose_server_is_gone_is_found_and_removed", || for_both(stale)),
    ("the_topmost_of_several_mounts_counts", || for_both(topmost)),
    ("mounting_on_nothing_is_an_error", || for_both(nowhere)),
];

pub(crate) const HELPERS: &[Helper] = &[
    ("fuse", fuse_helper),
    ("busy", busy_helper),
    ("flag_member", flag_member),
    ("flag_outside", flag_outside),
    ("stale", stale_helper),
    ("topmost", topmost_helper),
    ("nowhere", nowhere_helper),
];

fn options(read_only: bool) -> FuseMount<'static> {
    FuseMount {
        source: "test source",
        subtype: "test",
        allow_other: mount::am_privileged() && spfs_sys::ids::euid() == 0,
        read_only,
        max_read: Some(128 * 1024),
    }
}

/// The options of the mount itself, as the kernel shows them.
fn flags(target: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == target.to_str())
        .unwrap_or_else(|| panic!("{} is not mounted", target.display()));
    line.split(' ').nth(5).unwrap().split(',').map(str::to_owned).collect()
}

fn in_folder(name: &str, who: As) {
    let dir = folder();
    run(name, who, &[dir.path().to_str().unwrap()]);
    assert_eq!(mount::mount_at(dir.path()).unwrap(), None, "the mount outlives its namespace");
}

fn fuse(who: As) {
    in_folder("fuse", who);
}

fn fuse_helper(arguments: &[String]) {
    let target = path(arguments);
    mount::enter_private_namespace().unwrap();
    for read_only in [true, false] {
        assert_eq!(mount::mount_at(&target).unwrap(), None);
        let device = mount::open_fuse_device().unwrap();
        mount::mount_fuse(device.as_fd(), &target, &options(read_only)).unwrap();
        let entry = mount::mount_at(&target).unwrap().expect("it is mounted");
        assert_eq!(entry.file_system, "fuse.test");
        assert_eq!(entry.source, "test source");
        assert_eq!((entry.read_only, entry.is_fuse()), (read_only, true));
        assert!(mount::mounts().unwrap().contains(&entry));
        for flag in ["nosuid", "nodev", if read_only { "ro" } else { "rw" }] {
            assert!(flags(&target).iter().any(|f| f == flag), "{flag}: {:?}", flags(&target));
        }
        // There and back: the other flags stay, and the file system itself is not read-only.
        for change in [!read_only, read_only, true, false] {
            mount::set_read_only(&target, change).unwrap();
            let now = flags(&target);
            assert_eq!(now.iter().any(|flag| flag == "ro"), change);
            assert!(now.iter().any(|f| f == "nosuid") && now.iter().any(|f| f == "nodev"));
        }
        mount::detach(&target).unwrap();
    }
    assert_eq!(mount::mount_at(&target).unwrap(), None);
    assert!(mount::detach(&target).is_err(), "nothing is mounted any more");
}

fn busy(who: As) {
    in_folder("busy", who);
}

fn busy_helper(arguments: &[String]) {
    let target = path(arguments);
    mount::enter_private_namespace().unwrap();
    mount_tmpfs(&target);
    let writer = File::create(target.join("file")).unwrap();
    let error = mount::set_read_only(&target, true).unwrap_err();
    assert!(matches!(&error, MountError::Busy { path } if *path == target), "{error}");
    assert!(flags(&target).iter().any(|flag| flag == "rw"));
    drop(writer);
    let reader = File::open(target.join("file")).unwrap();
    mount::set_read_only(&target, true).unwrap();
    let error = fs::write(target.join("other"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mount::set_read_only(&target, false).unwrap();
    fs::write(target.join("other"), "").unwrap();
    drop(reader);
    let error = mount::set_read_only(&target.join("file"), true).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

fn flag_from_outside(who: As) {
    let dir = folder();
    let target = dir.path().to_str().unwrap();
    let mut member = Running::start("flag_member", who, &[target]);
    let (namespace, pid) = (member.line(), member.pid().to_string());
    for (flag, expected) in [("ro", "refused"), ("rw", "written"), ("ro", "refused")] {
        run("flag_outside", who, &[target, &pid, &namespace, flag]);
        member.tell("write");
        assert_eq!(member.line(), expected, "{flag}");
    }
    member.tell("end");
    member.finish();
}

fn flag_member(arguments: &[String]) {
    let target = path(arguments);
    mount::enter_private_namespace().unwrap();
    mount_tmpfs(&target);
    say(&mount::namespace_id(std::process::id()).unwrap());
    while hear() == "write" {
        match fs::write(target.join("file"), "") {
            Ok(()) => say("written"),
            Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => say("refused"),
            Err(error) => say(&error.to_string()),
        }
    }
}

fn flag_outside(arguments: &[String]) {
    let pid = arguments[1].parse().unwrap();
    mount::join_namespaces(pid, Some(&arguments[2])).unwrap();
    mount::set_read_only(&path(arguments), arguments[3] == "ro").unwrap();
}

fn stale(who: As) {
    in_folder("stale", who);
}

fn stale_helper(arguments: &[String]) {
    let target = path(arguments);
    mount::enter_private_namespace().unwrap();
    let device = mount::open_fuse_device().unwrap();
    mount::mount_fuse(device.as_fd(), &target, &options(false)).unwrap();
    assert_eq!(mount::stale_mounts("another").unwrap(), []);
    // Nobody has answered the first request yet: it is not dead, and this does not wait for it.
    let limit = Duration::from_millis(50);
    let found = mount::dead_mounts("test source", limit).unwrap();
    assert_eq!(found.dead, []);
    assert_eq!(found.silent.iter().map(|entry| &*entry.target).collect::<Vec<_>>(), [&*target]);
    // The last descriptor goes: what the death of a daemon does.
    drop(device);
    let error = fs::read_dir(&target).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTCONN.raw_os_error()));
    let stale = mount::stale_mounts("test source").unwrap();
    assert_eq!(stale.iter().map(|entry| entry.target.as_path()).collect::<Vec<_>>(), [&target]);
    mount::force_unmount(&target).unwrap();
    assert_eq!(mount::mount_at(&target).unwrap(), None);
    assert_eq!(mount::stale_mounts("test source").unwrap(), []);
}

fn topmost(who: As) {
    in_folder("topmost", who);
}

fn topmost_helper(arguments: &[String]) {
    let target = path(arguments);
    mount::enter_private_namespace().unwrap();
    mount_tmpfs(&target);
    fs::create_dir(target.join("folder")).unwrap();
    assert_eq!(mount::mount_at(&target).unwrap().unwrap().file_system, "tmpfs");
    assert_eq!(mount::mount_at(&target.join("folder")).unwrap(), None);
    let device = mount::open_fuse_device().unwrap();
    mount::mount_fuse(device.as_fd(), &target, &options(true)).unwrap();
    assert_eq!(mount::mount_at(&target).unwrap().unwrap().file_system, "fuse.test");
    mount::set_read_only(&target, false).unwrap();
    mount::detach(&target).unwrap();
    let below = mount::mount_at(&target).unwrap().unwrap();
    assert_eq!((below.file_system.to_str(), below.read_only), (Some("tmpfs"), false));
    assert!(target.join("folder").exists());
}

fn nowhere(who: As) {
    in_folder("nowhere", who);
}

fn nowhere_helper(arguments: &[String]) {
    let target = path(arguments).join("missing");
    mount::enter_private_namespace().unwrap();
    let device = mount::open_fuse_device().unwrap();
    let error = mount::mount_fuse(device.as_fd(), &target, &options(false)).unwrap_err();
    assert!(matches!(&error, MountError::Mount { path, .. } if *path == target));
    assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::NotFound);
    assert!(mount::mount_at(&target).is_err() && mount::set_read_only(&target, true).is_err());
}
