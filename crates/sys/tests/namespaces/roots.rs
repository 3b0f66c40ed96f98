//! Mount points where none was prepared: made, or beside everything else in a private root.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use spfs_sys::mount::{self, MountError, Mountpoint};
use spfs_testkit::program::{As, Helper, Test, bind_to_itself, can_mount_as_both, run};

use crate::spaces::{folder, for_both, mount_tmpfs, path};

pub(crate) const TESTS: &[Test] = &[
    ("an_existing_directory_is_used", || for_both(existing)),
    ("a_missing_directory_is_made_by_root", created),
    ("where_it_cannot_be_made_a_private_root_has_it", || for_both(private_root)),
    ("a_private_root_can_be_built_inside_another", || for_both(nested)),
    ("only_names_directly_below_the_root_get_a_private_root", || for_both(too_deep)),
    ("what_is_no_directory_is_refused", || for_both(no_directory)),
];

pub(crate) const HELPERS: &[Helper] = &[
    ("existing", existing_helper),
    ("created", created_helper),
    ("private_root", private_root_helper),
    ("nested", nested_helper),
    ("too_deep", too_deep_helper),
    ("no_directory", no_directory_helper),
];

fn existing(who: As) {
    let dir = folder();
    run("existing", who, &[dir.path().to_str().unwrap()]);
}

fn existing_helper(arguments: &[String]) {
    mount::enter_private_namespace().unwrap();
    assert_eq!(mount::ensure_mountpoint(&path(arguments)).unwrap(), Mountpoint::Existing);
}

/// A name that no machine has in its root directory.
pub(crate) fn missing() -> PathBuf {
    PathBuf::from(format!("/.test-{}", std::process::id()))
}

fn created() {
    if can_mount_as_both() {
        run("created", As::Caller, &[]);
    }
}

fn created_helper(_arguments: &[String]) {
    mount::enter_private_namespace().unwrap();
    // A root directory of its own that can be written, so that the real one stays as it is.
    let first = missing();
    private_root_of_root(&first);
    mount::set_read_only(Path::new("/"), false).unwrap();
    let second = PathBuf::from(format!("{}-second", first.display()));
    assert_eq!(mount::ensure_mountpoint(&second).unwrap(), Mountpoint::Created);
    assert_eq!(fs::metadata(&second).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(mount::ensure_mountpoint(&second).unwrap(), Mountpoint::Existing);
}

/// Root may write its root directory, unless the machine has it read-only: here it has.
pub(crate) fn private_root_of_root(extra: &Path) {
    if mount::am_privileged() {
        mount::set_read_only(Path::new("/"), true).unwrap();
    }
    assert_eq!(mount::ensure_mountpoint(extra).unwrap(), Mountpoint::PrivateRoot);
}

/// The names in the root directory: what they are, and where links point.
fn root_entries() -> BTreeMap<PathBuf, String> {
    let describe = |entry: fs::DirEntry| {
        let kind = entry.file_type().unwrap();
        let what = match fs::read_link(entry.path()) {
            Ok(target) => format!("link to {}", target.display()),
            Err(_) => format!("directory: {}", kind.is_dir()),
        };
        (entry.path(), what)
    };
    fs::read_dir("/").unwrap().map(|entry| describe(entry.unwrap())).collect()
}

fn private_root(who: As) {
    let dir = folder();
    fs::write(dir.path().join("file"), "content").unwrap();
    run("private_root", who, &[dir.path().to_str().unwrap()]);
    assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "written inside");
}

fn private_root_helper(arguments: &[String]) {
    let (dir, extra, pid) = (path(arguments), missing(), std::process::id());
    std::env::set_current_dir(&dir).unwrap();
    let mut expected = root_entries();
    let mounts_before = mount::mounts().unwrap().len();
    mount::enter_private_namespace().unwrap();
    if mount::am_privileged() {
        // Writable, where the root directory is going to be read-only.
        bind_to_itself(&dir);
        std::env::set_current_dir(&dir).unwrap();
    }
    mount_below(&dir);
    private_root_of_root(&extra);

    expected.insert(extra.clone(), "directory: true".into());
    assert_eq!(root_entries(), expected);
    assert_eq!(fs::read_dir(&extra).unwrap().count(), 0);
    let error = fs::write("/.no", "").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied),
        "{error}"
    );
    // The old root is gone: nothing keeps it, and no name leads to it.
    let mounts = mount::mounts().unwrap();
    assert!(mounts.iter().all(|entry| !entry.target.starts_with(&extra)), "{mounts:?}");
    assert!(mounts.len() > mounts_before);
    assert!(mounts.iter().any(|entry| entry.target == dir.join("below")));
    assert!(dir.join("below/deep").exists(), "what was mounted below came along");

    assert_eq!(std::env::current_dir().unwrap(), dir);
    assert_eq!(fs::read_to_string("file").unwrap(), "content");
    fs::write("new", "written inside").unwrap();
    the_system_works(pid);
}

fn mount_below(dir: &Path) {
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    mount_tmpfs(&below);
    fs::write(below.join("deep"), "").unwrap();
}

fn the_system_works(pid: u32) {
    assert_eq!(fs::read_link("/proc/self").unwrap(), Path::new(&pid.to_string()));
    fs::write("/dev/null", "x").unwrap();
    assert!(Path::new("/sys/kernel").is_dir());
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "test -d /usr/bin && cat /proc/self/mountinfo | wc -l && pwd -P"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn nested(who: As) {
    run("nested", who, &[]);
}

fn nested_helper(_arguments: &[String]) {
    mount::enter_private_namespace().unwrap();
    let outer = missing();
    private_root_of_root(&outer);
    std::env::set_current_dir("/usr").unwrap();
    let inner = PathBuf::from(format!("{}-inner", outer.display()));
    mount::enter_private_namespace().unwrap();
    assert_eq!(mount::ensure_mountpoint(&outer).unwrap(), Mountpoint::Existing);
    assert_eq!(mount::ensure_mountpoint(&inner).unwrap(), Mountpoint::PrivateRoot);
    assert!(outer.is_dir() && inner.is_dir());
    assert_eq!(std::env::current_dir().unwrap(), Path::new("/usr"));
    the_system_works(std::process::id());
}

fn too_deep(who: As) {
    run("too_deep", who, &[]);
}

fn too_deep_helper(_arguments: &[String]) {
    mount::enter_private_namespace().unwrap();
    let path = missing().join("below");
    let error = mount::ensure_mountpoint(&path).unwrap_err();
    assert!(matches!(&error, MountError::Mountpoint { path: named, .. } if *named == path));
    assert_eq!(error.io_error().unwrap().kind(), ErrorKind::NotFound);
}

fn no_directory(who: As) {
    let dir = folder();
    fs::write(dir.path().join("file"), "").unwrap();
    run("no_directory", who, &[dir.path().join("file").to_str().unwrap()]);
}

fn no_directory_helper(arguments: &[String]) {
    mount::enter_private_namespace().unwrap();
    let error = mount::ensure_mountpoint(&path(arguments)).unwrap_err();
    assert_eq!(error.io_error().unwrap().kind(), ErrorKind::NotADirectory, "{error}");
}
