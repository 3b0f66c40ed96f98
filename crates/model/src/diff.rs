//! What a view changed, as the manifest of a new layer.

use crate::{Live, Manifest, ManifestError, Stack};

/// The layer that turns `base` into `live`; `None` when they are equal.
pub fn diff(_base: &Stack<'_>, _live: &Live) -> Result<Option<Manifest>, DiffError> {
    unimplemented!()
}

/// Why changes cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The format cannot hold what is at a path.
    #[error("cannot store {path:?}")]
    Entry {
        /// The path of the entry.
        path: String,
        /// Why.
        source: ManifestError,
    },
    /// The view says that a path equals the base, which has nothing there.
    #[error("the base has nothing at {path:?}, which is said to be unchanged")]
    NothingBelow {
        /// The path.
        path: String,
    },
    /// The view refers to a node that the base does not have.
    #[error("{path:?} stands for a node that the base does not have")]
    NoSuchNode {
        /// The path.
        path: String,
    },
    /// The root is a file.
    #[error("the root of a view is a directory")]
    RootIsNoDirectory,
}
