//! Mounts that are read-only for all their life: the kernel opens files without asking.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;

use rustix::fs::SeekFrom as Sparse;
use spfs_fuse::{Op, Options};
use spfs_testkit::layers::{BaseStack, PayloadStore, TreeBuilder};
use spfs_vfs::api::Owner;
use spfs_vfs::{Payloads, View, ViewOptions};

use crate::support::{self, Mounted};

const LARGE: usize = 3 << 20;

struct ReadOnly {
    mount: Mounted<View>,
    _base: BaseStack,
}

fn read_only(tree: TreeBuilder) -> Option<ReadOnly> {
    let base = BaseStack::new(&[tree.build()]);
    let payloads: Arc<dyn Payloads> = Arc::<PayloadStore>::clone(&base.payloads);
    let options = ViewOptions::new(Owner { uid: 0, gid: 0 });
    let view = View::read_only(Arc::clone(&base.merged), payloads, options);
    let mount = support::mount_with(view, Options::read_only())?;
    spfs_sys::mount::set_read_only(mount.root(), true).unwrap();
    Some(ReadOnly { mount, _base: base })
}

fn tree() -> TreeBuilder {
    // No block of zeros, which may be a hole.
    let large: Vec<u8> = (0..LARGE).map(|at| byte_of(at / 4096)).collect();
    TreeBuilder::new()
        .file("bin/tool", 0o755, &b"#!/bin/sh\necho from the layer\n"[..])
        .file("small", 0o644, &b"content"[..])
        .file("empty", 0o644, &b""[..])
        .file("large", 0o644, large)
}

fn byte_of(block: usize) -> u8 {
    (block % 255) as u8 + 1
}

#[test]
fn what_is_in_memory_is_opened_and_read_without_a_request() {
    let Some(runtime) = read_only(tree()) else { return };
    let mount = &runtime.mount;
    // The first OPEN is refused, and with it all that would follow.
    let ((), first) = mount.requests_of(|| drop(File::open(mount.path("small")).unwrap()));
    assert_eq!(first.of(Op::Open), 1);
    for name in ["small", "large", "empty", "bin/tool"] {
        fs::read(mount.path(name)).unwrap();
    }
    let read = || assert_eq!(fs::read(mount.path("small")).unwrap(), b"content");
    mount.needs_at_most(&[], read);
    let ((), requests) = mount.requests_of(|| (0..100).for_each(|_| read()));
    assert_eq!((requests.of(Op::Open), requests.of(Op::Release)), (0, 0));
    mount.needs_at_most(&[], || assert_eq!(fs::read(mount.path("large")).unwrap().len(), LARGE));
}

#[test]
fn everything_that_reads_works_without_an_open_file() {
    let Some(runtime) = read_only(tree()) else { return };
    let mount = &runtime.mount;
    let output = Command::new(mount.path("bin/tool")).output().unwrap();
    assert_eq!(output.stdout, b"from the layer\n");
    assert_eq!(fs::read(mount.path("empty")).unwrap(), b"");
    let mut large = File::open(mount.path("large")).unwrap();
    for block in [700, 3, 0, 767] {
        let mut buffer = [0; 4096];
        large.read_exact_at(&mut buffer, block as u64 * 4096).unwrap();
        assert!(buffer.iter().all(|&byte| byte == byte_of(block)), "block {block}");
    }
    large.seek(SeekFrom::End(-1)).unwrap();
    let mut last = Vec::new();
    large.read_to_end(&mut last).unwrap();
    assert_eq!(last, [byte_of(767)]);
    let end = rustix::fs::seek(large.as_fd(), Sparse::Hole(10)).unwrap();
    assert_eq!(end, LARGE as u64);
    large.sync_all().unwrap();
}

#[test]
fn an_open_file_stays_readable_when_the_kernel_forgets_what_it_can() {
    let Some(runtime) = read_only(tree()) else { return };
    let mount = &runtime.mount;
    let open = File::open(mount.path("large")).unwrap();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let mut buffer = [0; 4096];
    open.read_exact_at(&mut buffer, 300 * 4096).unwrap();
    assert_eq!(buffer[0], byte_of(300));
}

#[test]
fn threads_that_read_at_once_all_get_their_bytes() {
    let Some(runtime) = read_only(tree()) else { return };
    let mount = &runtime.mount;
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            scope.spawn(move || {
                for round in 0..50_usize {
                    let block = (thread * 97 + round * 13) % (LARGE / 4096);
                    let mut buffer = [0; 4096];
                    let file = File::open(mount.path("large")).unwrap();
                    file.read_exact_at(&mut buffer, block as u64 * 4096).unwrap();
                    assert_eq!(buffer[17], byte_of(block));
                }
            });
        }
    });
}

#[test]
fn whoever_wants_to_write_is_refused_also_where_the_flag_was_taken_away() {
    let Some(runtime) = read_only(tree()) else { return };
    let mount = &runtime.mount;
    let write = || OpenOptions::new().write(true).open(mount.path("small"));
    assert_eq!(write().unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    let truncated = OpenOptions::new().write(true).truncate(true).open(mount.path("small"));
    assert_eq!(truncated.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    // Root may do this to its own mounts.
    spfs_sys::mount::set_read_only(mount.root(), false).unwrap();
    fs::read(mount.path("small")).unwrap();
    let refused = write().and_then(|file| file.write_all_at(b"changed", 0));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(File::create(mount.path("new")).is_err());
    drop(OpenOptions::new().write(true).truncate(true).open(mount.path("small")));
    spfs_sys::mount::set_read_only(mount.root(), true).unwrap();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    assert_eq!(fs::read(mount.path("small")).unwrap(), b"content");
}
