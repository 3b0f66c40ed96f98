use super::*;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

const BLOCK: u64 = 64 * 1024;

fn file_of(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn content(file: &File) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

#[test]
fn a_punched_range_reads_as_zeros_and_gives_its_space_back() {
    let file = file_of(&vec![7; 4 * BLOCK as usize]);
    sync_all(&file).unwrap();
    let before = file.metadata().unwrap().blocks();
    punch_hole(&file, BLOCK, 2 * BLOCK).unwrap();
    let mut expected = vec![7; 4 * BLOCK as usize];
    expected[BLOCK as usize..3 * BLOCK as usize].fill(0);
    assert_eq!(content(&file), expected);
    assert!(file.metadata().unwrap().blocks() < before);
}

#[test]
fn an_unaligned_hole_touches_no_neighbour() {
    let file = file_of(&[7; 10_000]);
    punch_hole(&file, 1, 9_998).unwrap();
    let mut expected = [0; 10_000];
    (expected[0], expected[9_999]) = (7, 7);
    assert_eq!(content(&file), expected);
}

#[test]
fn a_hole_never_makes_the_file_longer() {
    let file = file_of(&[7; 100]);
    punch_hole(&file, 50, 1000).unwrap();
    assert_eq!(content(&file).len(), 100);
    punch_hole(&file, 0, 0).unwrap();
    punch_hole(&file, 5000, 10).unwrap();
    assert_eq!(content(&file)[..50], [7; 50]);
}

#[test]
fn allocate_grows_only_when_asked_to() {
    let file = file_of(b"abc");
    allocate(&file, 0, BLOCK, true).unwrap();
    assert_eq!(content(&file), b"abc");
    assert!(file.metadata().unwrap().blocks() * 512 >= BLOCK);
    allocate(&file, 0, BLOCK, false).unwrap();
    assert_eq!(file.metadata().unwrap().len(), BLOCK);
    assert_eq!(content(&file)[..4], *b"abc\0");
}

#[test]
fn data_and_holes_are_found() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[1; 4096], BLOCK).unwrap();
    file.set_len(4 * BLOCK).unwrap();
    assert_eq!(seek_data(&file, 0).unwrap(), Some(BLOCK));
    assert_eq!(seek_hole(&file, 0).unwrap(), Some(0));
    let end = seek_hole(&file, BLOCK).unwrap().unwrap();
    assert!((BLOCK + 4096..=2 * BLOCK).contains(&end), "{end}");
    assert_eq!(seek_data(&file, end).unwrap(), None, "no data follows");
    assert_eq!(seek_hole(&file, 4 * BLOCK).unwrap(), None, "beyond the end");
    assert_eq!(seek_data(&file, 9 * BLOCK).unwrap(), None);
}

#[test]
fn files_folders_and_volumes_can_be_synced() {
    let dir = tempfile::tempdir().unwrap();
    let folder = File::open(dir.path()).unwrap();
    let file = file_of(b"data");
    sync_data(&file).unwrap();
    sync_all(&file).unwrap();
    sync_all(&folder).unwrap();
    syncfs(&folder).unwrap();
}

#[test]
fn the_figures_of_a_volume_make_sense() {
    let dir = tempfile::tempdir().unwrap();
    let figures = fstatvfs(File::open(dir.path()).unwrap()).unwrap();
    assert!(figures.blocks_available <= figures.blocks_free);
    assert!(figures.blocks_free <= figures.blocks);
    assert!(figures.block_size >= 512 && figures.name_max >= 255);
}

#[test]
fn what_memory_holds_is_read_at_once_or_not_at_all() {
    let file = file_of(b"content");
    will_need(&file, 7);
    let mut buffer = [0; 10];
    for (offset, expected) in [(0, &b"content"[..]), (3, b"tent"), (7, b""), (100, b"")] {
        if let Some(count) = read_now(&file, &mut buffer, offset).unwrap() {
            assert_eq!(buffer[..count], *expected);
        }
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    let unreadable = File::options().write(true).open(path.path()).unwrap();
    assert!(read_now(&unreadable, &mut buffer, 0).is_err() || cfg!(target_os = "macos"));
}
