//! From the mount's beginning to its end: references, failures, threads.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use spfs_fuse::{Op, Options};
use spfs_testkit::ModelFs;
use spfs_vfs::api::{Ino, Name, Remove, Vfs};

use crate::support::{self, Fault, VIEW, Watched, wait_until};

/// The names of the threads of this process that serve mounts.
fn serving_threads() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("fuser-") || name.starts_with("spfs-"))
        .collect();
    names.sort();
    names
}

#[test]
fn unmounting_ends_the_session_and_leaves_no_thread() {
    let others = serving_threads();
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    File::open(mount.path("file")).unwrap().sync_all().unwrap();
    assert!(serving_threads().len() > others.len() + 3);
    assert!(!mount.session().is_ended());
    let fs = Arc::clone(mount.fs());
    let session = mount.unmount();
    assert!(session.is_ended());
    session.wait().unwrap();
    // Tests of one process may run beside this one: only fewer threads than before prove nothing.
    if std::env::var_os("NEXTEST").is_some() {
        assert_eq!(serving_threads(), others);
    }
    assert_eq!((session.nodes(), session.handles()), (0, 0));
    assert_eq!(fs.pins(), (0, 0));
}

#[test]
fn what_the_kernel_forgets_is_given_back_while_mounted() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    for index in 0..500 {
        fs::write(mount.path(format!("dir/{index}")), b"x").unwrap();
        if index % 3 == 0 {
            fs::hard_link(
                mount.path(format!("dir/{index}")),
                mount.path(format!("dir/link-{index}")),
            )
            .unwrap();
        }
    }
    // Many lookups of one node, by listing and by name.
    for _ in 0..3 {
        assert_eq!(fs::read_dir(mount.path("dir")).unwrap().count(), 667);
        fs::metadata(mount.path("dir/7")).unwrap();
    }
    assert_eq!(mount.session().nodes(), 501);
    assert_eq!(mount.fs().pins(), (501, 501), "one pin for each node");
    fs::remove_dir_all(mount.path("dir")).unwrap();
    wait_until("all nodes are forgotten", || mount.session().nodes() == 0);
    assert_eq!(mount.fs().pins(), (0, 0));
    assert_eq!(mount.session().lookup_underflows(), 0);
    mount.fs().model().check_invariants().unwrap();
}

#[test]
fn an_inode_that_lost_its_name_behind_the_kernel_is_kept_while_known() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap();
    let ino = mount.ino("file");
    mount.fs().remove(Ino::ROOT, Name::new(b"file").unwrap(), Remove::File).unwrap();
    let mut content = [0; 7];
    file.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"content");
    file.write_all_at(b"CONTENT", 0).unwrap();
    file.sync_all().unwrap();
    let name = spfs_vfs::api::NameBuf::new(&b"file"[..]).unwrap();
    mount.session().notifier().deleted(VIEW, Ino::ROOT, ino, name).wait().unwrap();
    assert!(mount.fs().model().peek(ino).is_some());
    drop(file);
    wait_until("the inode is gone", || mount.fs().model().peek(ino).is_none());
}

#[test]
fn a_failing_scratch_area_is_an_input_output_error() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    let file = File::open(mount.path("file")).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    mount.fs().set_fault(Some(Fault::Scratch));
    let mut buffer = [0; 7];
    let error = file.read_at(&mut buffer, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    mount.fs().set_fault(None);
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 7);
}

#[test]
fn an_inode_that_is_gone_is_stale() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(mount.path("file"))
        .unwrap();
    mount.fs().set_fault(Some(Fault::Stale));
    let error = file.read_at(&mut [0; 7], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleNetworkFileHandle);
    mount.fs().set_fault(None);
    assert_eq!(file.read_at(&mut [0; 7], 0).unwrap(), 7);
}

#[test]
fn a_bug_costs_one_request_and_not_the_mount() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(mount.path("file"))
        .unwrap();
    mount.fs().set_fault(Some(Fault::Panic));
    for _ in 0..20 {
        let error = file.read_at(&mut [0; 7], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    }
    mount.fs().set_fault(None);
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
}

#[test]
fn syncs_that_wait_hold_nobody_up() {
    let fs = Arc::new(Watched::new(ModelFs::with_system_clock()));
    let options = Options { threads: NonZeroUsize::new(2), ..Options::default() };
    let Some(mount) = support::mount_with(fs, options) else { return };
    mount.fs().hold_syncs(true);
    std::thread::scope(|scope| {
        for index in 0..5 {
            let path = mount.path(format!("{index}"));
            scope.spawn(move || {
                let mut file = File::create(path).unwrap();
                file.write_all(b"content").unwrap();
                file.sync_all().unwrap();
            });
        }
        // Not the root: the kernel lets nobody into a directory while it is synced.
        fs::create_dir(mount.path("dir")).unwrap();
        let dir = File::open(mount.path("dir")).unwrap();
        scope.spawn(move || dir.sync_all().unwrap());
        wait_until("six syncs wait", || mount.fs().syncs().0 == 6);
        for index in 0..100 {
            fs::write(mount.path(format!("other-{index}")), b"content").unwrap();
            assert!(!mount.path(format!("missing-{index}")).exists());
        }
        assert_eq!(mount.fs().syncs(), (6, 0));
        mount.fs().hold_syncs(false);
    });
    assert_eq!(mount.fs().syncs(), (0, 6));
}

#[test]
fn one_thread_is_enough() {
    let fs = Arc::new(Watched::new(ModelFs::with_system_clock()));
    let options = Options { threads: NonZeroUsize::new(1), ..Options::default() };
    let Some(mount) = support::mount_with(fs, options) else { return };
    let file = File::create(mount.path("file")).unwrap();
    file.write_all_at(&[b'x'; 100_000], 0).unwrap();
    // The kernel writes back to us while it takes the notification.
    mount.session().notifier().inval_inode(VIEW, mount.ino("file")).wait().unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(fs::read(mount.path("file")).unwrap().len(), 100_000);
}

#[test]
fn a_device_that_is_not_mounted_is_an_error() {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let Ok(device) = device else { return };
    let fs = Arc::new(Watched::new(ModelFs::with_system_clock()));
    let error = spfs_fuse::serve(fs, device, Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[test]
fn a_lazily_unmounted_file_system_ends_with_its_last_user() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"content").unwrap();
    let mut file = OpenOptions::new().append(true).open(mount.path("file")).unwrap();
    rustix::mount::unmount(mount.root(), rustix::mount::UnmountFlags::DETACH).unwrap();
    file.write_all(b" and more").unwrap();
    file.sync_all().unwrap();
    assert!(!mount.session().is_ended());
    assert_eq!(mount.fs().getattr(mount.ino("file")).unwrap().size, 16);
    let (fs, session) = mount.detached();
    drop(file);
    session.wait().unwrap();
    assert_eq!(fs.pins(), (0, 0));
}

#[test]
fn many_at_once_leave_everything_in_order() {
    let Some(mount) = support::model() else { return };
    for dir in 0..3 {
        fs::create_dir(mount.path(format!("{dir}"))).unwrap();
    }
    let end = AtomicBool::new(false);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 1..=6_u64 {
            let (mount, end, failed) = (&mount, &end, &failed);
            scope.spawn(move || {
                let mut random = seed;
                while !end.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                    let at = |shift: u32| random >> shift & 7;
                    let path = |a: u64, b: u64| mount.path(format!("{}/{b}", a % 3));
                    let (one, other) = (path(at(20), at(24)), path(at(28), at(32)));
                    let result = match at(40) {
                        0 | 1 => fs::write(&one, random.to_le_bytes()),
                        2 => fs::remove_file(&one),
                        3 => fs::rename(&one, &other),
                        4 => fs::hard_link(&one, &other),
                        5 => fs::read(&one).map(drop),
                        6 => fs::read_dir(mount.path(format!("{}", at(20) % 3)))
                            .map(|entries| entries.for_each(|entry| drop(entry.unwrap()))),
                        _ => OpenOptions::new().append(true).open(&one).and_then(|mut file| {
                            file.write_all(b"more")?;
                            file.sync_data()
                        }),
                    };
                    let fine =
                        |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::AlreadyExists);
                    if let Err(error) = result
                        && !fine(error.kind())
                    {
                        eprintln!("{error}: {} {}", one.display(), other.display());
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        wait_until("time is up", || Instant::now() > deadline || failed.load(Ordering::Relaxed));
        end.store(true, Ordering::Relaxed);
    });
    assert!(!failed.load(Ordering::Relaxed));
    mount.settle();
    mount.fs().model().check_invariants().unwrap();
    let requests = mount.session().requests();
    assert!(requests.of(Op::Rename) > 0 && requests.of(Op::Link) > 0, "{requests:?}");
    for dir in 0..3 {
        fs::remove_dir_all(mount.path(format!("{dir}"))).unwrap();
    }
    wait_until("all nodes are forgotten", || mount.session().nodes() == 0);
    wait_until("all files are closed", || mount.session().handles() == 0);
    assert_eq!(mount.fs().pins(), (0, 0));
    assert_eq!(mount.session().lookup_underflows(), 0);
}
