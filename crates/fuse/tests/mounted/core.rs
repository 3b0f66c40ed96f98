//! The real core behind the real kernel: what only both together can get wrong.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use spfs_fuse::Options;
use spfs_testkit::layers::{BaseStack, PayloadStore, TreeBuilder};
use spfs_vfs::api::Owner;
use spfs_vfs::{Payloads, View, ViewOptions};

use crate::support::{self, Mounted};

/// A mounted view on layers.
pub(crate) struct Runtime {
    pub(crate) mount: Mounted<View>,
    _base: BaseStack,
    // After the mount, which uses it until it is dropped.
    _scratch: tempfile::TempDir,
}

pub(crate) fn runtime(tree: TreeBuilder) -> Option<Runtime> {
    let base = BaseStack::new(&[tree.build()]);
    let scratch = tempfile::tempdir().unwrap();
    let payloads: Arc<dyn Payloads> = Arc::<PayloadStore>::clone(&base.payloads);
    let options = ViewOptions::new(Owner { uid: 0, gid: 0 });
    let merged = Arc::clone(&base.merged);
    let view = View::open(scratch.path(), &base.layers, merged, payloads, options).unwrap();
    let mount = support::mount_with(view, Options::default())?;
    Some(Runtime { mount, _base: base, _scratch: scratch })
}

#[test]
fn files_of_layers_are_read_and_written() {
    let tree = TreeBuilder::new()
        .file("bin/tool", 0o755, &b"#!/bin/sh\necho from the layer\n"[..])
        .symlink("link", "bin/tool")
        .file("data/large", 0o644, vec![5; 3 << 20]);
    let Some(runtime) = runtime(tree) else { return };
    let mount = &runtime.mount;
    let output = std::process::Command::new(mount.path("link")).output().unwrap();
    assert_eq!(output.stdout, b"from the layer\n");
    let reader = File::open(mount.path("data/large")).unwrap();
    let writer = OpenOptions::new().write(true).open(mount.path("data/large")).unwrap();
    writer.write_all_at(b"changed", 1 << 20).unwrap();
    drop(writer);
    let mut content = Vec::new();
    (&reader).read_to_end(&mut content).unwrap();
    assert_eq!(&content[1 << 20..(1 << 20) + 7], b"changed");
    assert_eq!(content.iter().filter(|&&byte| byte == 5).count(), (3 << 20) - 7);
    fs::rename(mount.path("data"), mount.path("moved")).unwrap();
    assert_eq!(fs::metadata(mount.path("moved/large")).unwrap().len(), 3 << 20);
    OpenOptions::new()
        .append(true)
        .open(mount.path("moved/large"))
        .unwrap()
        .write_all(b"!")
        .unwrap();
    assert_eq!(fs::metadata(mount.path("moved/large")).unwrap().len(), (3 << 20) + 1);
}

#[test]
fn a_hundred_thousand_entries_are_listed_once_each_while_others_vanish() {
    let count = 100_000;
    let mut tree = TreeBuilder::new();
    for index in 0..count {
        tree = tree.file(&format!("dir/{index:06}"), 0o644, &b""[..]);
    }
    let Some(runtime) = runtime(tree) else { return };
    let mount = &runtime.mount;
    let started = Instant::now();
    let mut stayed = 0;
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(mount.path("dir")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let index: u32 = name.parse().unwrap();
        assert!(seen.insert(index), "{name} was listed twice");
        if index.is_multiple_of(30) {
            // This one, and one that is still to come or is gone already.
            fs::remove_file(mount.path("dir").join(&name)).unwrap();
            let later = mount.path(format!("dir/{:06}", (index + 50_001) % count));
            drop(fs::remove_file(later));
        } else {
            stayed += 1;
        }
    }
    let left = fs::read_dir(mount.path("dir")).unwrap().count();
    println!("{} listed, {left} left in {:?}", seen.len(), started.elapsed());
    assert!(left <= stayed);
    for entry in fs::read_dir(mount.path("dir")).unwrap() {
        let index: u32 = entry.unwrap().file_name().into_string().unwrap().parse().unwrap();
        assert!(seen.contains(&index), "{index} was there all the time and never listed");
    }
}
