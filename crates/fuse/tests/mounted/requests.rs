//! What an operation costs in requests: the table that all performance rests on. A request is a
//! round trip of 10 to 30 microseconds, so one more or less is what a user feels.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use spfs_fuse::Op;

use crate::support::{self, Model};

/// A row: what is done, and how often the kernel asks for what at most.
type Row = (&'static str, Vec<(Op, u64)>);

struct Table<'a> {
    mount: &'a Model,
    wrong: Vec<String>,
}

impl Table<'_> {
    /// Checks that `work` costs no more. STATFS is how the test looks; for RELEASE and FORGET nobody
    /// waits. How often the kernel tells the time of a write depends on its clock, which moves every
    /// few milliseconds: not at all when it did not move since the file was made, more than once
    /// when the machine is slow.
    fn row(&mut self, (what, most): Row, work: impl FnOnce()) {
        let ((), requests) = self.mount.requests_of(work);
        let silent = [Op::Statfs, Op::Release, Op::Forget];
        let seen: Vec<(Op, u64)> = Op::ALL
            .iter()
            .filter(|op| !silent.contains(op))
            .map(|&op| (op, requests.of(op)))
            .filter(|&(_, count)| count > 0)
            .collect();
        println!("{what:38} {seen:?}");
        let listed = |op| most.iter().find(|(listed, _)| *listed == op).map_or(0, |row| row.1);
        let allowed = |op| match op {
            Op::Setattr if listed(Op::Write) > 0 => u64::MAX,
            op => listed(op),
        };
        if seen.iter().any(|&(op, count)| count > allowed(op)) {
            self.wrong.push(format!("{what}: {seen:?}, more than {most:?}"));
        }
    }
}

#[test]
fn operations_cost_no_more_than_the_table_says() {
    let mut tries = Vec::new();
    // What the kernel knows it may drop, when somebody on this machine needs memory.
    while tries.len() < 3 {
        let Some(mount) = support::model() else { return };
        let mut table = Table { mount: &mount, wrong: Vec::new() };
        files(&mut table);
        names(&mut table);
        lists(&mut table);
        large_files(&mut table);
        programs(&mut table);
        if table.wrong.is_empty() {
            return;
        }
        tries.push(table.wrong);
    }
    panic!("{tries:#?}");
}

fn files(table: &mut Table<'_>) {
    use Op::{Create, Flush, Getattr, Getxattr, Lookup, Open, Setattr, Write};
    let mount = table.mount;
    let (first, path) = (mount.path("first"), mount.path("file"));
    let write = |path: &std::path::Path| fs::write(path, b"hello").unwrap();
    // FLUSH is refused the first time and then never sent.
    let row = ("first close of all", vec![(Getattr, 1), (Lookup, 1), (Create, 1), (Flush, 1)]);
    table.row(row, || drop(File::create(&first).unwrap()));
    // The kernel asks for security.capability before the first write to an inode.
    let row = (
        "create, write, close",
        vec![(Getattr, 1), (Lookup, 1), (Create, 1), (Getxattr, 1), (Write, 1)],
    );
    table.row(row, || write(&path));
    // Of the file, whose blocks only we know, and of its directory, which has changed.
    table.row(("stat after that", vec![(Getattr, 2)]), || support::stat(&path));
    table.row(("stat again", vec![]), || support::stat(&path));
    table.row(("open, read, close (pages known)", vec![(Open, 1)]), || {
        drop(fs::read(&path).unwrap());
    });
    table.row(("stat after that (writeback)", vec![(Getattr, 1)]), || {
        support::stat(&path);
    });
    let row =
        ("open(O_TRUNC), write, close", vec![(Open, 1), (Getxattr, 2), (Write, 1), (Setattr, 1)]);
    table.row(row, || write(&path));
    table.row(("append, close", vec![(Open, 1), (Getxattr, 1), (Write, 1), (Setattr, 1)]), || {
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    });
    table.row(("stat of a missing name", vec![(Lookup, 1)]), || {
        assert!(!mount.path("missing").exists());
    });
    table.row(("stat of it again", vec![]), || assert!(!mount.path("missing").exists()));
    let row =
        ("create what was missing, write, close", vec![(Create, 1), (Getxattr, 1), (Write, 1)]);
    table.row(row, || write(&mount.path("missing")));
    table.row(("fsync", vec![(Getattr, 1), (Open, 1), (Op::Fsync, 1)]), || {
        File::open(&path).unwrap().sync_all().unwrap();
    });
}

fn names(table: &mut Table<'_>) {
    use Op::{Getattr, Link, Lookup, Mkdir, Readlink, Rename, Setattr, Symlink, Unlink};
    let mount = table.mount;
    let path = |name: &str| mount.path(name);
    table.row(("mkdir", vec![(Getattr, 1), (Lookup, 1), (Mkdir, 1)]), || {
        fs::create_dir(path("dir")).unwrap();
    });
    // A directory that changed is asked for before the next step through it. The times of a moved,
    // linked or unlinked file come along because the kernel keeps them (writeback).
    let row = ("rename", vec![(Getattr, 1), (Lookup, 1), (Rename, 1), (Setattr, 1)]);
    table.row(row, || fs::rename(path("file"), path("dir/file")).unwrap());
    let row = ("hard link", vec![(Getattr, 2), (Lookup, 1), (Link, 1), (Setattr, 1)]);
    table.row(row, || fs::hard_link(path("dir/file"), path("hard")).unwrap());
    let row = ("unlink", vec![(Getattr, 1), (Unlink, 1), (Setattr, 1)]);
    table.row(row, || fs::remove_file(path("hard")).unwrap());
    let row = ("symlink", vec![(Getattr, 1), (Lookup, 1), (Symlink, 1)]);
    table.row(row, || symlink("dir/file", path("link")).unwrap());
    let row = ("readlink", vec![(Getattr, 1), (Readlink, 1)]);
    table.row(row, || drop(fs::read_link(path("link")).unwrap()));
    table.row(("readlink again", vec![]), || drop(fs::read_link(path("link")).unwrap()));
    table.row(("chmod", vec![(Getattr, 2), (Setattr, 1)]), || {
        fs::set_permissions(path("dir/file"), fs::Permissions::from_mode(0o600)).unwrap();
    });
}

fn lists(table: &mut Table<'_>) {
    use Op::{Create, Getattr, Lookup, Mkdir, Opendir, Readdirplus, Rmdir, Setattr, Unlink};
    let mount = table.mount;
    let dir = mount.path("many");
    table.row(("mkdir", vec![(Getattr, 1), (Lookup, 1), (Mkdir, 1)]), || {
        fs::create_dir(&dir).unwrap();
    });
    let row = ("create 100 files", vec![(Getattr, 100), (Lookup, 100), (Create, 100)]);
    table.row(row, || {
        for index in 0..100 {
            File::create(dir.join(format!("{index:02}"))).unwrap();
        }
    });
    let list = || assert_eq!(fs::read_dir(&dir).unwrap().count(), 100);
    // OPENDIR is refused the first time and then never sent.
    table.row(("list 100 names", vec![(Getattr, 1), (Opendir, 1), (Readdirplus, 2)]), list);
    table.row(("list 100 names again", vec![(Getattr, 1)]), list);
    table.row(("list and stat 100 files", vec![]), || {
        fs::read_dir(&dir).unwrap().for_each(|entry| assert!(entry.unwrap().metadata().is_ok()));
    });
    let row = ("ls -l of 100 files", vec![(Op::Getxattr, 2)]);
    table.row(row, || {
        let listed = Command::new("ls").arg("-l").arg(&dir).output().unwrap();
        assert_eq!(listed.stdout.split(|&byte| byte == b'\n').count(), 102);
    });
    let row =
        ("rm -r of 100 files", vec![(Getattr, 100), (Unlink, 100), (Setattr, 100), (Rmdir, 1)]);
    table.row(row, || fs::remove_dir_all(&dir).unwrap());
}

fn large_files(table: &mut Table<'_>) {
    use Op::{CopyFileRange, Create, Getattr, Getxattr, Lookup, Open, Read, Setattr, Write};
    let mount = table.mount;
    let (big, copy) = (mount.path("big"), mount.path("copy"));
    // 1 MiB a WRITE, less where the kernel is short of memory.
    let row = (
        "write 8 MiB, close",
        vec![(Getattr, 1), (Lookup, 1), (Create, 1), (Getxattr, 1), (Write, 16), (Setattr, 1)],
    );
    table.row(row, || fs::write(&big, vec![7; 8 << 20]).unwrap());
    table.row(("read 8 MiB (pages known)", vec![(Getattr, 2), (Open, 1)]), || {
        assert_eq!(fs::read(&big).unwrap().len(), 8 << 20);
    });
    let mut file = File::open(&big).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    // 128 KiB each: the kernel's read-ahead, which only /sys/class/bdi can raise.
    table.row(("read 8 MiB", vec![(Getattr, 1), (Read, 64)]), || {
        let mut content = Vec::new();
        assert_eq!(file.read_to_end(&mut content).unwrap(), 8 << 20);
    });
    // COPY_FILE_RANGE is refused the first time and then never sent.
    let row = (
        "copy 8 MiB",
        vec![
            (Getattr, 1),
            (Lookup, 1),
            (Open, 1),
            (Create, 1),
            (Setattr, 2),
            (CopyFileRange, 1),
            (Getxattr, 1),
            (Write, 16),
        ],
    );
    table.row(row, || assert_eq!(fs::copy(&big, &copy).unwrap(), 8 << 20));
}

fn programs(table: &mut Table<'_>) {
    let mount = table.mount;
    let program = mount.path("true");
    fs::copy("/bin/true", &program).unwrap();
    // A child that another test has just forked may hold the copy open for writing until it execs.
    support::wait_until("the program is not busy", || Command::new(&program).status().is_ok());
    let run = || assert!(Command::new(&program).status().unwrap().success());
    table.row(("run a program again", vec![(Op::Open, 1)]), run);
}
