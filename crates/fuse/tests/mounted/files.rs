//! Content of regular files.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::support::{self, VIEW, wait_until};

/// Bytes in which every position shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

#[test]
fn what_is_written_is_read_back_at_every_size() {
    let Some(mount) = support::model() else { return };
    for len in [0, 1, 4095, 4096, 4097, 131_072, (1 << 20) + 3, 5 << 20] {
        let path = mount.path(format!("file-{len}"));
        let content = pattern(len);
        fs::write(&path, &content).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), len as u64);
        // Once from the page cache, once from us.
        assert!(fs::read(&path).unwrap() == content, "{len} bytes, warm");
        let file = File::open(&path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(fs::read(&path).unwrap() == content, "{len} bytes, cold");
    }
}

#[test]
fn pieces_written_anywhere_leave_the_rest_as_it_was() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    let mut content = pattern(300_000);
    fs::write(&path, &content).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for (at, len) in [(0, 1), (4090, 12), (100_000, 70_000), (299_999, 1), (299_990, 5_000)] {
        let piece = vec![at as u8 | 1; len];
        file.write_all_at(&piece, at as u64).unwrap();
        content.resize(content.len().max(at + len), 0);
        content[at..at + len].copy_from_slice(&piece);
    }
    drop(file);
    let file = File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert!(fs::read(&path).unwrap() == content);
}

#[test]
fn bytes_between_the_end_and_a_write_beyond_it_are_zero() {
    let Some(mount) = support::model() else { return };
    let mut file = File::create_new(mount.path("file")).unwrap();
    file.write_all(b"start").unwrap();
    file.seek(SeekFrom::Start(1_000_000)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    let content = fs::read(mount.path("file")).unwrap();
    assert_eq!(content.len(), 1_000_003);
    assert_eq!(&content[..5], b"start");
    assert!(content[5..1_000_000].iter().all(|&byte| byte == 0));
    assert_eq!(&content[1_000_000..], b"end");
}

#[test]
fn reading_beyond_the_end_gives_nothing() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"0123456789").unwrap();
    let file = File::open(mount.path("file")).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 6);
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
}

#[test]
fn appends_through_two_handles_follow_each_other() {
    let Some(mount) = support::model() else { return };
    let open = || OpenOptions::new().append(true).create(true).open(mount.path("log")).unwrap();
    let (mut first, mut second) = (open(), open());
    for turn in 0..50 {
        first.write_all(format!("first {turn}\n").as_bytes()).unwrap();
        second.write_all(format!("second {turn}\n").as_bytes()).unwrap();
    }
    drop((first, second));
    let expected: String = (0..50).map(|turn| format!("first {turn}\nsecond {turn}\n")).collect();
    assert_eq!(fs::read_to_string(mount.path("log")).unwrap(), expected);
}

#[test]
fn exclusive_creation_succeeds_once() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("lock");
    File::create_new(&path).unwrap();
    assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    File::create_new(&path).unwrap();
}

#[test]
fn creation_that_meets_a_file_opens_it() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    // The kernel believes the name is free; it came to exist behind its back.
    assert!(!path.exists());
    let spfs_file = spfs_vfs::api::New {
        kind: spfs_vfs::api::NewKind::Regular,
        perm: 0o644,
        owner: spfs_vfs::api::Owner { uid: 0, gid: 0 },
    };
    let name = spfs_vfs::api::Name::new(b"file").unwrap();
    use spfs_vfs::api::Vfs;
    let ino = mount.fs().create(spfs_vfs::api::Ino::ROOT, name, spfs_file).unwrap().ino;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().ino(), ino.0);
    drop(file);
    assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn truncation_cuts_and_extends_with_zeros() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, pattern(10_000)).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(5_000).unwrap();
    file.set_len(9_000).unwrap();
    drop(file);
    let content = fs::read(&path).unwrap();
    assert_eq!(content[..5_000], pattern(5_000));
    assert_eq!(content[5_000..], [0; 4_000]);
    // On open, and while another handle has the file open.
    let reader = File::open(&path).unwrap();
    File::create(&path).unwrap().write_all(b"new").unwrap();
    let mut seen = String::new();
    (&reader).read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "new");
}

#[test]
fn a_reader_sees_what_is_written_after_it_opened() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, b"old").unwrap();
    let reader = File::open(&path).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 3);
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all_at(b"newer", 0).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 5);
    assert_eq!(&buffer[..5], b"newer");
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"before ").unwrap();
    let ino = mount.ino("file");
    fs::remove_file(&path).unwrap();
    file.write_all(b"after").unwrap();
    file.sync_all().unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.nlink(), metadata.len()), (0, 12));
    file.rewind().unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "before after");
    drop(file);
    wait_until("the core lets the inode go", || mount.fs().model().peek(ino).is_none());
}

#[test]
fn files_open_for_writing_are_known_until_they_are_closed() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    let first = File::create(&path).unwrap();
    let second = OpenOptions::new().append(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let ino = mount.ino("file");
    assert_eq!(mount.session().write_handles(VIEW), [ino]);
    drop(first);
    mount.settle();
    assert_eq!(mount.session().write_handles(VIEW), [ino]);
    drop(second);
    wait_until("no writer is left", || mount.session().write_handles(VIEW).is_empty());
    assert_eq!(mount.session().handles(), 1);
    drop(reader);
    wait_until("no handle is left", || mount.session().handles() == 0);
}

#[test]
fn nothing_written_is_missing_from_the_core_after_close() {
    let Some(mount) = support::model() else { return };
    use spfs_vfs::api::{Access, File as _, Vfs};
    let content = pattern(100_000);
    for index in 0..20 {
        fs::write(mount.path(format!("{index}")), &content).unwrap();
        // Straight from the core, without asking the kernel.
        let file = mount.fs().open(mount.ino(format!("{index}")), Access::Read).unwrap();
        let mut seen = vec![0; content.len() + 1];
        let len = file.read_at(0, &mut seen).unwrap();
        assert!(seen[..len] == content);
    }
}

#[test]
fn unnamed_files_are_refused_cleanly() {
    let Some(mount) = support::model() else { return };
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let error = rustix::fs::open(mount.root(), flags, 0o600.into()).unwrap_err();
    assert_eq!(error, Errno::OPNOTSUPP);
}

#[test]
fn direct_io_reads_and_writes_past_the_page_cache() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    let content = pattern(64 << 10);
    let direct = |options: &mut OpenOptions| {
        options.custom_flags(OFlags::DIRECT.bits() as i32).open(&path).unwrap()
    };
    let writer = direct(OpenOptions::new().write(true).create(true));
    writer.write_all_at(&content, 0).unwrap();
    let reader = direct(OpenOptions::new().read(true));
    let mut seen = vec![0; content.len()];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == content);
}

#[test]
fn copies_between_files_are_complete() {
    let Some(mount) = support::model() else { return };
    let content = pattern(3 << 20);
    fs::write(mount.path("from"), &content).unwrap();
    // std copies with copy_file_range(2).
    assert_eq!(fs::copy(mount.path("from"), mount.path("to")).unwrap(), content.len() as u64);
    assert!(fs::read(mount.path("to")).unwrap() == content);
    let (from, to) =
        (File::open(mount.path("to")).unwrap(), File::create(mount.path("part")).unwrap());
    let mut offset = 1_000;
    let copied = rustix::fs::copy_file_range(&from, Some(&mut offset), &to, None, 500).unwrap();
    assert_eq!(fs::read(mount.path("part")).unwrap(), content[1_000..1_000 + copied]);
}

#[test]
fn a_terminal_control_on_a_file_is_refused() {
    let Some(mount) = support::model() else { return };
    fs::write(mount.path("file"), b"").unwrap();
    let file = File::open(mount.path("file")).unwrap();
    assert!(!std::io::IsTerminal::is_terminal(&file));
}
