//! Why a live runtime could not do what was asked of it.

use std::io;

use spfs_model::DiffError;
use spfs_repo::RepoError;
use spfs_vfs::{CommitError, OpenError};

use super::ModeError;
use crate::backend::BackendError;
use crate::error::RuntimeError;
use crate::name::RuntimeName;
use crate::patterns::PatternError;

/// Why a live runtime could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The record or the folder failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The backend cannot do it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A pattern means nothing.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The runtime has ended meanwhile.
    #[error("runtime {name} has ended")]
    Ended {
        /// The runtime.
        name: RuntimeName,
    },
    /// The layers cannot be read.
    #[error("cannot read the layers of runtime {name}")]
    Layers {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: RepoError,
    },
    /// The scratch area cannot be opened.
    #[error("cannot open the scratch area of runtime {name}")]
    Scratch {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: OpenError,
    },
    /// The journal is damaged.
    #[error(
        "the journal of runtime {name} is damaged; \
         'spfs runtime export {name} DIR' saves what can be read of it"
    )]
    Damaged {
        /// The runtime.
        name: RuntimeName,
        /// How.
        source: OpenError,
    },
    /// The content of the runtime could not be saved.
    #[error("cannot save what is in runtime {name}")]
    Export {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: RepoError,
    },
    /// There is nothing to make a layer of.
    #[error("nothing was changed in runtime {name}")]
    NothingToCommit {
        /// The runtime.
        name: RuntimeName,
    },
    /// All that was changed is left out of the layer.
    #[error("only files of macOS were changed in runtime {name} ({count}), and these are left out")]
    OnlyLeftOut {
        /// The runtime.
        name: RuntimeName,
        /// How many files and directories.
        count: u64,
    },
    /// The runtime is read-only and holds no changes.
    #[error("runtime {name} is not in edit mode, and nothing was changed in it")]
    NotEditable {
        /// The runtime.
        name: RuntimeName,
    },
    /// The state of the view could not be taken.
    #[error("cannot commit runtime {name}")]
    Commit {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: CommitError,
    },
    /// The changes do not fit the format.
    #[error("the changes of runtime {name} cannot become a layer")]
    Difference {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: DiffError,
    },
    /// The layer could not be stored.
    #[error("cannot store the changes of runtime {name}")]
    Store {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: RepoError,
    },
    /// The core failed.
    #[error("cannot {doing} runtime {name}")]
    View {
        /// What was being done.
        doing: &'static str,
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: spfs_vfs::api::Error,
    },
    /// The kernel's memory could not be brought up to date.
    #[error("cannot {doing} runtime {name}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: io::Error,
    },
    /// Files are open for writing.
    #[error("files are open for writing in runtime {name}: {}", list(paths))]
    Busy {
        /// The runtime.
        name: RuntimeName,
        /// The files, relative to the root of the view.
        paths: Vec<Vec<u8>>,
    },
    /// The mount could not be changed.
    #[error("cannot change the edit mode of runtime {name}")]
    Mode {
        /// The runtime.
        name: RuntimeName,
        /// Why.
        source: ModeError,
    },
}

impl LiveError {
    /// A scratch area that cannot be opened.
    pub(super) fn scratch(name: &RuntimeName, source: OpenError) -> Self {
        let name = name.clone();
        match source {
            OpenError::Damaged { .. } | OpenError::Contradiction { .. } => {
                Self::Damaged { name, source }
            }
            _ => Self::Scratch { name, source },
        }
    }
}

/// Names the first few of many paths.
fn list(paths: &[Vec<u8>]) -> String {
    const SHOWN_MAX: usize = 5;
    let mut shown: Vec<String> =
        paths.iter().take(SHOWN_MAX).map(|path| format!("/spfs/{}", path.escape_ascii())).collect();
    if paths.is_empty() {
        shown.push("files that have no name any more".to_owned());
    }
    if paths.len() > SHOWN_MAX {
        shown.push(format!("and {} more", paths.len() - SHOWN_MAX));
    }
    shown.join(", ")
}
