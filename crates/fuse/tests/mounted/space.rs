//! Space inside files: reserving, punching, and looking for data.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::support;

fn open(mount: &support::Model, content: &[u8]) -> File {
    fs::write(mount.path("file"), content).unwrap();
    OpenOptions::new().read(true).write(true).open(mount.path("file")).unwrap()
}

#[test]
fn reserved_space_extends_the_file_unless_told_not_to() {
    let Some(mount) = support::model() else { return };
    let file = open(&mount, b"12345");
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 10_000).unwrap();
    assert_eq!(file.metadata().unwrap().size(), 5);
    fallocate(&file, FallocateFlags::empty(), 3, 10_000).unwrap();
    assert_eq!(file.metadata().unwrap().size(), 10_003);
    let content = fs::read(mount.path("file")).unwrap();
    assert_eq!(&content[..5], b"12345");
    assert!(content[5..].iter().all(|&byte| byte == 0));
}

#[test]
fn punched_and_zeroed_ranges_read_as_zeros() {
    let Some(mount) = support::model() else { return };
    let file = open(&mount, &[b'x'; 30_000]);
    // What is still in the page cache is punched, too.
    file.write_all_at(b"dirty", 5_000).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 4_000, 2_000).unwrap();
    fallocate(&file, FallocateFlags::ZERO_RANGE, 29_000, 2_000).unwrap();
    let keep = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, keep, 30_500, 5_000).unwrap();
    let content = fs::read(mount.path("file")).unwrap();
    assert_eq!(content.len(), 31_000);
    let zeros = |range: std::ops::Range<usize>| content[range].iter().all(|&byte| byte == 0);
    assert!(zeros(4_000..6_000) && zeros(29_000..31_000));
    assert_eq!(content.iter().filter(|&&byte| byte == b'x').count(), 30_000 - 3_000);
}

#[test]
fn what_is_not_supported_says_so() {
    let Some(mount) = support::model() else { return };
    let file = open(&mount, &[b'x'; 20_000]);
    for flags in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(fallocate(&file, flags, 4_096, 4_096), Err(Errno::OPNOTSUPP));
    }
}

#[test]
fn data_and_the_end_are_found() {
    let Some(mount) = support::model() else { return };
    let file = open(&mount, &[b'x'; 10_000]);
    assert_eq!(seek(&file, SeekFrom::Data(10)), Ok(10));
    assert_eq!(seek(&file, SeekFrom::Hole(10)), Ok(10_000));
    assert_eq!(seek(&file, SeekFrom::Data(10_000)), Err(Errno::NXIO));
    assert_eq!(seek(&file, SeekFrom::Hole(10_001)), Err(Errno::NXIO));
    assert_eq!(seek(&file, SeekFrom::End(-1)), Ok(9_999));
}

#[test]
fn data_that_was_just_written_is_found() {
    let Some(mount) = support::model() else { return };
    let file = open(&mount, b"");
    file.write_all_at(&[b'x'; 5_000], 100_000).unwrap();
    // cp(1) and tar(1) skip what this calls a hole.
    assert_eq!(seek(&file, SeekFrom::Data(100_000)), Ok(100_000));
    assert_eq!(seek(&file, SeekFrom::Hole(100_000)), Ok(105_000));
    let reader = File::open(mount.path("file")).unwrap();
    assert_eq!(seek(&reader, SeekFrom::Data(104_999)), Ok(104_999));
}
