//! Several processes at once at the same names: whatever wins, listings, lookups and link counts
//! agree in the end, for the kernel and in the core.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spfs_testkit::image::Image;
use spfs_testkit::layers::TreeBuilder;
use spfs_testkit::ops::Rng;

use crate::core::runtime;

const PROCESSES: u64 = 4;
const COMMANDS: usize = 500;

/// A name that processes meet at; some are those of the layer.
fn name(rng: &mut Rng) -> String {
    let dir = rng.choose(&["a", "b", "a/deep"]);
    let name = rng.choose(&["base0", "base1", "base2", "new0", "new1", "new2", "dir0", "dir1"]);
    format!("{dir}/{name}")
}

/// What one process does. Most commands fail because of what the others have done.
fn script(seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let mut script = "set -C\n".to_owned();
    for _ in 0..COMMANDS {
        let (one, two) = (name(&mut rng), name(&mut rng));
        script += &match rng.below(10) {
            // O_EXCL, and an ordinary open.
            0 | 1 => format!("true > {one}\n"),
            2 => format!("echo {seed} >> {one}\n"),
            3 => format!("mkdir {one}\n"),
            4 | 5 => format!("ln -T {one} {two}\n"),
            6 | 7 => format!("mv -T {one} {two}\n"),
            8 => format!("rm {one}\n"),
            _ => format!("rmdir {one} || mv -nT a/deep b/deep || mv -nT b/deep a/deep\n"),
        };
    }
    script + "echo finished\n"
}

/// All below a directory: for each path the inode number that the listing tells.
fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, u64>) {
    for entry in fs::read_dir(root.join(dir)).unwrap() {
        let entry = entry.unwrap();
        let path = dir.join(entry.file_name());
        assert!(found.insert(path.clone(), entry.ino()).is_none(), "{path:?} is listed twice");
        if entry.file_type().unwrap().is_dir() {
            walk(root, &path, found);
        }
    }
}

#[test]
fn a_storm_of_processes_ends_consistent() {
    let mut tree = TreeBuilder::new().dir("b", 0o755).dir("a/deep", 0o755);
    for path in ["a/base0", "a/base1", "a/base2", "b/base0", "a/deep/base1", "a/dir0/inner"] {
        tree = tree.file(path, 0o644, &b"of the layer\n"[..]);
    }
    let Some(runtime) = runtime(tree) else { return };
    let root = runtime.mount.root();
    let processes: Vec<_> = (0..PROCESSES)
        .map(|seed| {
            let mut command = Command::new("sh");
            command.args(["-c", &script(seed)]).current_dir(root);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for process in processes {
        assert_eq!(process.wait_with_output().unwrap().stdout, b"finished\n");
    }
    let mut listed = BTreeMap::new();
    walk(root, Path::new(""), &mut listed);
    let mut names = BTreeMap::<u64, u64>::new();
    for ino in listed.values() {
        *names.entry(*ino).or_default() += 1;
    }
    for (path, ino) in &listed {
        let stat = fs::symlink_metadata(root.join(path)).unwrap();
        assert_eq!(stat.ino(), *ino, "{path:?}");
        let inside = |other: &&PathBuf| other.parent() == Some(path) && root.join(other).is_dir();
        let links = match stat.is_dir() {
            true => 2 + listed.keys().filter(inside).count() as u64,
            false => names[ino],
        };
        assert_eq!(stat.nlink(), links, "{path:?}");
    }
    // The core sees the same, and agrees with itself.
    let image = Image::read(runtime.mount.fs()).unwrap();
    let known: BTreeSet<PathBuf> = image
        .inodes()
        .map(|(path, _)| PathBuf::from(String::from_utf8(path.0.clone()).unwrap()))
        .filter(|path| path != Path::new(""))
        .collect();
    assert_eq!(known, listed.into_keys().collect());
    // Nothing is left that cannot be removed by its name.
    for dir in ["a", "b"] {
        fs::remove_dir_all(root.join(dir)).unwrap();
    }
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    assert_eq!(fs::metadata(root).unwrap().nlink(), 2);
}
