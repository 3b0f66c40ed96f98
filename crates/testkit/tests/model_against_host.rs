//! The model against the kernel: what the model says is what Linux does.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use std::path::Path;
use std::sync::Arc;

use spfs_testkit::campaign::{Campaign, Statistics};
use spfs_testkit::drive::{Outcome, Times};
use spfs_testkit::host_fs::{HostFs, excuse_outcome, excuse_times, keeps_cookies};
use spfs_testkit::model_fs::ModelFs;
use spfs_testkit::ops::{Call, Profile};
use spfs_testkit::pair::{Pair, Subject, Ticks};
use spfs_vfs::api::{FileType, Ino, Owner, Vfs};
use tempfile::TempDir;

struct Directory {
    fs: Arc<HostFs>,
    _dir: TempDir,
}

impl Subject for Directory {
    type Fs = HostFs;

    fn fs(&self) -> Arc<HostFs> {
        Arc::clone(&self.fs)
    }

    fn allows(&self, call: &Call, model: &Outcome, host: &Outcome) -> Option<&'static str> {
        excuse_outcome(call, model, host)
    }

    fn excuse_times(&self, file_type: FileType, model: &Times, host: &mut Times) {
        excuse_times(file_type, model, host);
    }

    fn keeps_cookies(&self) -> bool {
        keeps_cookies(&self.fs)
    }
}

fn user() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

fn profile() -> Profile {
    Profile::host(rustix::process::geteuid().is_root(), user())
}

/// A new directory in `parent`, and a model that begins like it.
fn directory_in(parent: &Path) -> Pair<Directory> {
    let dir = TempDir::new_in(parent).unwrap();
    let fs = Arc::new(HostFs::open(dir.path()).unwrap());
    let root = fs.getattr(Ino::ROOT).unwrap();
    let ticks = Ticks::default();
    let model = ModelFs::new(ticks.clock(), root.perm, root.owner);
    model.take_times(Ino::ROOT, &root).unwrap();
    Pair::new(Directory { fs, _dir: dir }, model, ticks, profile())
}

/// What a campaign must have come to so that it says something.
fn assert_meaningful(statistics: &Statistics) {
    let common = [
        "Lookup",
        "Make",
        "Link",
        "Unlink",
        "Rmdir",
        "Rename",
        "Chmod",
        "Chown",
        "Truncate",
        "Utimens",
        "SetXattr",
        "GetXattr",
        "RemoveXattr",
        "Readlink",
        "Parent",
        "List",
        "ScanNext",
        "Open",
        "ReadAt",
        "WriteAt",
        "Fallocate",
        "SeekTo",
        "SyncFile",
    ];
    for op in common {
        assert!(statistics.times(op, "done") > 10, "{op} hardly ever succeeds\n{statistics}");
    }
    let failures = [
        ("Make", "Exists"),
        ("Make", "NotFound"),
        ("Make", "NotDirectory"),
        ("Link", "NotPermitted"),
        ("Unlink", "IsDirectory"),
        ("Rmdir", "NotEmpty"),
        ("Rmdir", "NotDirectory"),
        ("Rename", "Invalid"),
        ("Rename", "NotEmpty"),
        ("Rename", "Exists"),
        ("Rename", "IsDirectory"),
        ("Rename", "NotDirectory"),
        ("SetXattr", "NoAttribute"),
        ("SeekTo", "NoSuchAddress"),
    ];
    for (op, error) in failures {
        assert!(statistics.times(op, error) > 0, "{op} never fails with {error}\n{statistics}");
    }
}

#[test]
fn the_model_agrees_with_tmpfs() {
    let shm = Path::new("/dev/shm");
    let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let statistics = Campaign::from_env(20_000, profile()).run(|_| directory_in(&parent));
    assert_meaningful(&statistics);
}

#[test]
fn the_model_agrees_with_the_volume_of_temporary_files() {
    let parent = std::env::temp_dir();
    let statistics = Campaign::from_env(10_000, profile()).run(|_| directory_in(&parent));
    assert_meaningful(&statistics);
}
