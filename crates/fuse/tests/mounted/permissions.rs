//! Permissions: checked by the kernel, from what we tell it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::{self, Model, NOBODY};

/// Runs a shell command inside the mount as another user, and tells whether it worked.
fn as_user(mount: &Model, user: u32, script: &str) -> bool {
    Command::new("sh")
        .args(["-c", script])
        .current_dir(mount.root())
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .uid(user)
        .gid(user)
        .status()
        .unwrap()
        .success()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_bits_of_a_file_bind_other_users() {
    let Some(mount) = support::model() else { return };
    chmod(mount.root(), 0o755);
    fs::write(mount.path("file"), b"secret").unwrap();
    for (mode, read, write) in
        [(0o600, false, false), (0o604, true, false), (0o602, false, true), (0o606, true, true)]
    {
        chmod(&mount.path("file"), mode);
        assert_eq!(as_user(&mount, NOBODY, "cat file"), read, "reading {mode:o}");
        assert_eq!(as_user(&mount, NOBODY, "echo >> file"), write, "writing {mode:o}");
        assert_eq!(as_user(&mount, NOBODY, "test -r file"), read, "access of {mode:o}");
    }
    chown(mount.path("file"), Some(NOBODY), None).unwrap();
    chmod(&mount.path("file"), 0o400);
    assert!(as_user(&mount, NOBODY, "cat file"));
    assert!(!as_user(&mount, NOBODY, "echo >> file"));
    assert!(as_user(&mount, NOBODY, "chmod 600 file && echo >> file"));
}

#[test]
fn the_bits_of_a_directory_bind_other_users() {
    let Some(mount) = support::model() else { return };
    chmod(mount.root(), 0o755);
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("dir/file"), b"").unwrap();
    for (mode, list, enter, change) in [
        (0o700, false, false, false),
        (0o704, true, false, false),
        (0o701, false, true, false),
        (0o705, true, true, false),
        (0o707, true, true, true),
    ] {
        chmod(&mount.path("dir"), mode);
        assert_eq!(as_user(&mount, NOBODY, "ls dir"), list, "listing {mode:o}");
        assert_eq!(as_user(&mount, NOBODY, "cat dir/file"), enter, "entering {mode:o}");
        let changed = as_user(&mount, NOBODY, ": > dir/new && rm dir/new");
        assert_eq!(changed, change, "changing {mode:o}");
    }
    assert!(!as_user(&mount, NOBODY, "mkdir here"));
}

#[test]
fn a_sticky_directory_protects_what_others_made() {
    let Some(mount) = support::model() else { return };
    chmod(mount.root(), 0o1777);
    assert!(as_user(&mount, 1000, "umask 0; : > theirs; mkdir dir"));
    assert!(!as_user(&mount, 1001, "rm -f theirs"));
    assert!(!as_user(&mount, 1001, "mv theirs mine"));
    assert!(as_user(&mount, 1001, ": > mine"));
    assert!(!as_user(&mount, 1001, "mv mine theirs"));
    assert!(as_user(&mount, 1000, "mv theirs other && rm other"));
}

#[test]
fn only_who_may_execute_does() {
    let Some(mount) = support::model() else { return };
    chmod(mount.root(), 0o755);
    fs::copy("/bin/true", mount.path("true")).unwrap();
    chmod(&mount.path("true"), 0o744);
    assert!(!as_user(&mount, NOBODY, "./true"));
    chmod(&mount.path("true"), 0o755);
    assert!(as_user(&mount, NOBODY, "./true"));
}

#[test]
fn owners_change_what_is_theirs_and_nothing_else() {
    let Some(mount) = support::model() else { return };
    chmod(mount.root(), 0o777);
    fs::write(mount.path("roots"), b"").unwrap();
    assert!(!as_user(&mount, NOBODY, "chmod 666 roots"));
    assert!(!as_user(&mount, NOBODY, "touch -d @1 roots"));
    assert!(as_user(&mount, NOBODY, ": > own && chmod 600 own && touch -d @1 own"));
    assert!(!as_user(&mount, NOBODY, "chown 0 own"));
}
