//! A journal: as it is, and with its numbers and checksums made right, so that what they hold is
//! replayed.
#![no_main]

use std::fs;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use spfs_model::{Digest, MergedTree};
use spfs_vfs::api::{Access, Cookie, File as _, FileType, Ino, Owner, Vfs};
use spfs_vfs::{Payloads, View, ViewOptions};

/// Bytes of the magic, and of a frame before its record.
const MAGIC: usize = 8;
const HEAD: usize = 16;

#[derive(Debug)]
struct NoPayloads;

impl Payloads for NoPayloads {
    fn open(&self, _digest: &Digest) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fuzz_target!(|bytes: &[u8]| {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().expect("a folder")).path();
    open(dir, bytes);
    open(dir, &mended(bytes));
});

/// The same frames with the numbers and checksums that they should have.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (mut at, mut number) = (MAGIC, 0_u64);
    while at + HEAD <= bytes.len() {
        let len = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let len = (len as usize).min(bytes.len() - at - HEAD);
        bytes[at..at + 4].copy_from_slice(&(len as u32).to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&number.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[at + 8..at + HEAD + len]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += HEAD + len;
        number += 1;
    }
    bytes
}

fn open(dir: &Path, bytes: &[u8]) {
    let options = || ViewOptions::new(Owner { uid: 0, gid: 0 });
    let lower = || Arc::new(MergedTree::empty());
    for editable in [false, true] {
        drop(fs::remove_dir_all(dir.join("scratch")));
        fs::write(dir.join("journal"), bytes).expect("room");
        drop(View::recorded_stack(dir));
        let Ok(stack) = View::salvageable_stack(dir) else { continue };
        let view = match editable {
            false => View::salvage(dir, lower(), Arc::new(NoPayloads), options()),
            true => View::open(dir, &stack.base, lower(), Arc::new(NoPayloads), options()),
        };
        if let Ok(view) = view {
            walk(&view);
        }
    }
}

/// Looks at everything, as a user would.
fn walk(view: &Arc<View>) {
    let mut pending = vec![Ino::ROOT];
    let mut left = 1000;
    while let Some(dir) = pending.pop() {
        let mut entries = Vec::new();
        let listed = view.readdir(dir, Cookie::START, &mut |entry| {
            entries.push((entry.ino, entry.file_type));
            ControlFlow::Continue(())
        });
        drop(listed);
        for (ino, kind) in entries {
            left -= 1;
            if left == 0 {
                return;
            }
            drop((view.getattr(ino), view.listxattr(ino)));
            match kind {
                FileType::Directory => pending.push(ino),
                FileType::Regular => {
                    if let Ok(file) = view.open(ino, Access::Read) {
                        drop(file.read_at(0, &mut [0; 64]));
                    }
                }
                _ => drop(view.readlink(ino)),
            }
        }
    }
}
