//! What a running view holds, as far as it may differ from its base.

use std::collections::BTreeMap;

use crate::{BlobEntry, NameBuf, Position};

/// The state of one path of a view, compared with the stack that the view is based on.
#[derive(Debug, PartialEq, Eq)]
pub enum Live {
    /// Equal to the base at this path, everything below included.
    Same,
    /// A file or symbolic link.
    Blob(BlobEntry),
    /// A directory and all it holds.
    Directory {
        /// Its mode; that of the root is not stored.
        mode: u32,
        /// The complete listing; what is not in it is gone.
        entries: BTreeMap<NameBuf, Self>,
    },
    /// What the merged tree at the bottom of the base holds at this position, everything below
    /// included: a file or directory of the base that was moved here.
    Lower(Position),
    /// Not to be looked at: the layer says nothing of this path, whatever the base has there, and
    /// also when it has nothing.
    LeftOut,
}

impl Live {
    /// A directory without entries.
    pub const fn directory(mode: u32) -> Self {
        Self::Directory { mode, entries: BTreeMap::new() }
    }
}

/// Taken apart level by level, since a chain of directories may be longer than the stack is deep.
impl Drop for Live {
    fn drop(&mut self) {
        let take = |live: &mut Self| match live {
            Self::Directory { entries, .. } => std::mem::take(entries),
            Self::Same | Self::Blob(_) | Self::Lower(_) | Self::LeftOut => BTreeMap::new(),
        };
        let mut pending: Vec<Self> = take(self).into_values().collect();
        while let Some(mut live) = pending.pop() {
            pending.extend(take(&mut live).into_values());
        }
    }
}
