//! Random layers with names from the alphabet of the operations.

use std::sync::Arc;

use spfs_model::NameBuf;

use super::{Said, Tree};
use crate::ops::resolve::pattern;
use crate::ops::{Profile, Rng};

/// How deep directories are nested.
const DEPTH_MAX: u32 = 3;

pub(super) fn layers(rng: &mut Rng, content_max: u32) -> Vec<Tree> {
    let names = Profile::tame_names();
    let count = rng.below(5);
    let layer = |number| {
        let mut builder = Builder { rng, names: &names, content_max, masks: number > 0 };
        builder.tree(0)
    };
    (0..count).map(layer).collect()
}

struct Builder<'a> {
    rng: &'a mut Rng,
    names: &'a [Vec<u8>],
    content_max: u32,
    masks: bool,
}

impl Builder<'_> {
    fn tree(&mut self, depth: u32) -> Tree {
        let len = self.rng.below(if depth == 0 { 9 } else { 5 });
        let mut tree = Tree::new();
        for _ in 0..len {
            let name = &self.names[self.rng.below(self.names.len() as u32) as usize];
            let name = NameBuf::new(name.as_slice()).expect("the alphabet holds names only");
            tree.insert(name, self.said(depth));
        }
        tree
    }

    fn said(&mut self, depth: u32) -> Said {
        match self.rng.below(12) {
            0 if self.masks => Said::Mask,
            0..5 if depth < DEPTH_MAX => Said::Directory {
                perm: self.rng.choose(&[0o755, 0o755, 0o700, 0o2775, 0o1777]),
                entries: self.tree(depth + 1),
            },
            5..7 => Said::Symlink("target".repeat(1 + self.rng.below(20) as usize)),
            _ => Said::File {
                perm: self.rng.choose(&[0o644, 0o755, 0o4755, 0o6711, 0o444]),
                content: content(self.rng, self.content_max),
            },
        }
    }
}

/// Contents around the sizes where a copy-up changes its way, some with holes.
fn content(rng: &mut Rng, content_max: u32) -> Arc<[u8]> {
    let sizes = [0, 1, 100, 4096, 4097, 20_000, 128 << 10, (128 << 10) + 1, 300_000];
    let len = rng.choose(&sizes).min(content_max);
    let mut content = pattern(rng.next_u64() as u8, len);
    if rng.chance(1, 3) {
        let start = rng.below(len + 1) as usize;
        let end = start + rng.below(len + 1 - start as u32) as usize;
        content[start..end].fill(0);
    }
    content.into()
}
