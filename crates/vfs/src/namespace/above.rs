//! Which directories have something touched below them, as far as the lower tree tells.

use std::collections::HashSet;

use crate::api::Ino;
use crate::lower::Lower;

use super::Namespace;

/// The lower directories with touched inodes below them: their position in the lower tree does not
/// tell what they hold. Any other lower directory holds, at any depth, what the lower tree has.
///
/// Whoever has one is told once about each inode, and climbs no further than somebody did before:
/// that makes all of it linear in what is touched and the directories above.
#[derive(Debug, Default)]
pub(crate) struct TouchedAbove {
    above: HashSet<Ino>,
    /// How many directories were looked at.
    pub(crate) steps: usize,
}

impl TouchedAbove {
    /// Adds a touched inode.
    pub(crate) fn add(&mut self, lower: &Lower, ino: Ino) {
        let mut at = ino;
        while let Some(parent) = lower.parent(at).filter(|parent| *parent != at) {
            self.steps += 1;
            if !self.above.insert(parent) {
                return;
            }
            at = parent;
        }
    }

    /// Whether something touched is below a lower directory.
    pub(crate) fn contains(&self, dir: Ino) -> bool {
        self.above.contains(&dir)
    }
}

impl Namespace {
    /// The lower directories that have something touched below them now.
    pub(crate) fn touched_above(&self) -> TouchedAbove {
        let mut above = TouchedAbove::default();
        for (ino, _) in self.nodes() {
            above.add(&self.lower, ino);
        }
        above
    }
}
