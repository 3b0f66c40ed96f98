//! Extended attributes.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    XattrFlags, getxattr, getxattr_query, lgetxattr, listxattr, listxattr_query, lsetxattr,
    removexattr, setxattr,
};
use rustix::io::Errno;

use crate::support::{self, NOBODY};

fn value(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 70_000];
    let len = getxattr(path, name, &mut *buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

fn names(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; 70_000];
    let len = listxattr(path, &mut *buffer).unwrap();
    let names = buffer[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

#[test]
fn attributes_are_set_read_listed_and_removed() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    assert!(names(&path).is_empty());
    let large: Vec<u8> = (0..60_000_u32).map(|at| at as u8).collect();
    for (name, content) in [("user.a", &b"one"[..]), ("user.empty", b""), ("user.large", &large)] {
        setxattr(&path, name, content, XattrFlags::empty()).unwrap();
        assert_eq!(value(&path, name).unwrap(), content);
    }
    assert_eq!(names(&path), ["user.a", "user.empty", "user.large"]);
    setxattr(&path, "user.a", b"another", XattrFlags::empty()).unwrap();
    assert_eq!(value(&path, "user.a").unwrap(), b"another");
    removexattr(&path, "user.a").unwrap();
    assert_eq!(value(&path, "user.a"), Err(Errno::NODATA));
    assert_eq!(removexattr(&path, "user.a"), Err(Errno::NODATA));
    assert_eq!(names(&path), ["user.empty", "user.large"]);
}

#[test]
fn a_caller_learns_how_much_room_it_needs() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    setxattr(&path, "user.some", b"12345", XattrFlags::empty()).unwrap();
    assert_eq!(getxattr_query(&path, "user.some"), Ok(5));
    assert_eq!(getxattr(&path, "user.some", &mut [0_u8; 4]), Err(Errno::RANGE));
    assert_eq!(getxattr(&path, "user.some", &mut [0_u8; 5]), Ok(5));
    assert_eq!(listxattr_query(&path), Ok(10));
    assert_eq!(listxattr(&path, &mut [0_u8; 9]), Err(Errno::RANGE));
    assert_eq!(listxattr(&path, &mut [0_u8; 10]), Ok(10));
}

#[test]
fn creation_and_replacement_are_told_apart() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    let set = |flags| setxattr(&path, "user.x", b"v", flags);
    assert_eq!(set(XattrFlags::REPLACE), Err(Errno::NODATA));
    assert_eq!(set(XattrFlags::CREATE), Ok(()));
    assert_eq!(set(XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set(XattrFlags::REPLACE), Ok(()));
}

#[test]
fn directories_and_symbolic_links_have_their_own() {
    let Some(mount) = support::model() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    symlink("dir", mount.path("link")).unwrap();
    setxattr(mount.path("dir"), "user.on", b"dir", XattrFlags::empty()).unwrap();
    lsetxattr(mount.path("link"), "trusted.on", b"link", XattrFlags::empty()).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(lgetxattr(mount.path("link"), "trusted.on", &mut buffer), Ok(4));
    assert_eq!(names(&mount.path("dir")), ["user.on"]);
}

#[test]
fn only_root_is_told_the_names_of_trusted_attributes() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    for name in ["trusted.some", "user.some"] {
        setxattr(&path, name, b"value", XattrFlags::empty()).unwrap();
    }
    assert_eq!(names(&path), ["trusted.some", "user.some"]);
    let of_nobody = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        names(&path)
    });
    assert_eq!(of_nobody.join().unwrap(), ["user.some"]);
}

#[test]
fn access_control_lists_are_refused_and_not_kept_without_effect() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    // Version 2 and the three entries that every ACL has.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, perm) in [(1_u16, 6_u16), (4, 4), (0x20, 4)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(u32::MAX.to_le_bytes());
    }
    let set = setxattr(&path, "system.posix_acl_access", &acl, XattrFlags::empty());
    assert_eq!(set, Err(Errno::OPNOTSUPP));
    assert_eq!(value(&path, "system.posix_acl_access"), Err(Errno::OPNOTSUPP));
    assert_eq!(value(&path, "security.selinux"), Err(Errno::OPNOTSUPP));
}

#[test]
fn capabilities_go_when_another_user_writes() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("tool");
    // cap_net_raw=ep in version 2 of the attribute's format.
    let mut capability = vec![1, 0, 0, 2];
    capability.extend((1_u32 << 13).to_le_bytes());
    capability.extend([0; 12]);
    fs::write(&path, b"tool").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for script in ["echo more >> \"$1\"", "truncate -s 1 \"$1\"", ": > \"$1\""] {
        setxattr(&path, "security.capability", &capability, XattrFlags::empty()).unwrap();
        assert_eq!(value(&path, "security.capability").unwrap(), capability);
        let status = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&path)
            .uid(NOBODY)
            .gid(NOBODY)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(value(&path, "security.capability"), Err(Errno::NODATA), "{script}");
    }
}
