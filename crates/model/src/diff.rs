//! How a view differs from its base: as the manifest of a new layer, or as a list for people.

mod changes;
mod layer;
mod walk;

pub use changes::{Change, ChangeKind, Shown, changes, changes_between, changes_from};
pub use layer::diff;

use crate::ManifestError;

/// Why a view cannot be compared with its base, or its changes cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The format cannot hold what is at a path.
    #[error("cannot store \"{path}\"")]
    Entry {
        /// The path.
        path: String,
        /// Why.
        source: ManifestError,
    },
    /// The view says that a path equals the base, which has nothing there.
    #[error("\"{path}\" is said to be unchanged, but the base has nothing there")]
    NothingBelow {
        /// The path.
        path: String,
    },
    /// The view refers to a node that the base does not have.
    #[error("\"{path}\" stands for node {position} of the base, which has no such node")]
    NoSuchNode {
        /// The path.
        path: String,
        /// The position.
        position: u32,
    },
    /// The root is a file.
    #[error("the root of a view is a directory, here it is a file")]
    RootIsNoDirectory,
}
