//! Random layers with names from the alphabet of the operations.

use std::sync::Arc;

use spfs_model::NameBuf;

use super::{Said, Tree};
use crate::ops::resolve::pattern;
use crate::ops::{Profile, Rng};

/// How deep directories are nested.
const DEPTH_MAX: u32 = 3;

pub(super) fn layers(rng: &mut Rng) -> Vec<Tree> {
    let names = Profile::tame_names();
    let count = rng.below(5);
    (0..count).map(|number| tree(rng, &names, 0, number > 0)).collect()
}

fn tree(rng: &mut Rng, names: &[Vec<u8>], depth: u32, masks: bool) -> Tree {
    let len = rng.below(if depth == 0 { 9 } else { 5 });
    let mut tree = Tree::new();
    for _ in 0..len {
        let name = &names[rng.below(names.len() as u32) as usize];
        let name = NameBuf::new(name.as_slice()).expect("the alphabet holds names only");
        tree.insert(name, said(rng, names, depth, masks));
    }
    tree
}

fn said(rng: &mut Rng, names: &[Vec<u8>], depth: u32, masks: bool) -> Said {
    match rng.below(12) {
        0 if masks => Said::Mask,
        0..5 if depth < DEPTH_MAX => Said::Directory {
            perm: rng.choose(&[0o755, 0o755, 0o700, 0o2775, 0o1777]),
            entries: tree(rng, names, depth + 1, masks),
        },
        5..7 => Said::Symlink("target".repeat(1 + rng.below(20) as usize)),
        _ => Said::File {
            perm: rng.choose(&[0o644, 0o755, 0o4755, 0o6711, 0o444]),
            content: content(rng),
        },
    }
}

/// Contents around the sizes where a copy-up changes its way, some with holes.
fn content(rng: &mut Rng) -> Arc<[u8]> {
    let sizes = [0, 1, 100, 4096, 4097, 20_000, 128 << 10, (128 << 10) + 1, 300_000];
    let len = rng.choose(&sizes);
    let mut content = pattern(rng.next_u64() as u8, len);
    if rng.chance(1, 3) {
        let start = rng.below(len + 1) as usize;
        let end = start + rng.below(len + 1 - start as u32) as usize;
        content[start..end].fill(0);
    }
    content.into()
}
