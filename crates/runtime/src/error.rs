//! What can go wrong with runtimes.

use std::io;
use std::path::PathBuf;

use spfs_repo::RepoError;

use crate::backend::BackendError;
use crate::mount_points::MountPointError;
use crate::name::{RuntimeName, RuntimeNameError};
use crate::record::RecordError;

/// Why a process cannot go into a runtime that runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// It belongs to another user.
    #[error("it belongs to {user}, and only {user} may")]
    OtherUser {
        /// Whose it is.
        user: String,
    },
    /// It runs on another host.
    #[error("it runs on host {host}")]
    OtherHost {
        /// Where it runs.
        host: String,
    },
    /// It is there, and none of its processes is seen.
    #[error(
        "its processes cannot be reached: who is in another runtime has to leave that one first"
    )]
    Hidden,
}

/// Why something could not be done with a runtime or its record.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The name cannot be one of a runtime.
    #[error(transparent)]
    Name(#[from] RuntimeNameError),
    /// A runtime of this name is there already.
    #[error("runtime {name} already exists")]
    Exists {
        /// The name.
        name: RuntimeName,
    },
    /// There is no runtime of this name.
    #[error("there is no runtime {name}")]
    Unknown {
        /// The name.
        name: RuntimeName,
    },
    /// Something of the host cannot be shown in a runtime.
    #[error("runtime {name} cannot show its live layers")]
    LiveLayers {
        /// The runtime.
        name: String,
        /// Why.
        source: MountPointError,
    },
    /// The record is unreadable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The backend does not fit.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The runtime is being served, or about to be.
    #[error("runtime {name} is in use")]
    InUse {
        /// The name.
        name: RuntimeName,
    },
    /// No process of the runtime lives.
    #[error("runtime {name} is not running")]
    NotRunning {
        /// The name.
        name: RuntimeName,
    },
    /// The runtime runs, and this process cannot go there.
    #[error("runtime {name} is running, and cannot be entered from here")]
    OutOfReach {
        /// The name.
        name: RuntimeName,
        /// Why.
        source: OutOfReach,
    },
    /// The processes of this machine cannot be listed.
    #[error("cannot find the processes of runtime {name}")]
    Processes {
        /// The name.
        name: RuntimeName,
        /// Why.
        source: io::Error,
    },
    /// The runtime is kept until it is removed expressly.
    #[error("runtime {name} is durable")]
    Durable {
        /// The name.
        name: RuntimeName,
    },
    /// The runtime belongs to another user.
    #[error("runtime {name} belongs to {user}")]
    OtherUser {
        /// The name.
        name: RuntimeName,
        /// Whose it is.
        user: String,
    },
    /// The runtime lives on another host.
    #[error("runtime {name} lives on host {host}")]
    OtherHost {
        /// The name.
        name: RuntimeName,
        /// Where it lives.
        host: String,
    },
    /// Another program made the runtime, and only that program can start it.
    #[error("runtime {name} was made by another program, with the backend {backend}")]
    NotOurs {
        /// The name.
        name: RuntimeName,
        /// Its backend.
        backend: String,
    },
    /// Nothing of the runtime is left to start again.
    #[error("nothing is left of runtime {name}: its folder {} is gone", folder.display())]
    Gone {
        /// The name.
        name: RuntimeName,
        /// Where its scratch was.
        folder: PathBuf,
    },
    /// The repository that holds the records failed.
    #[error("cannot {doing} the record of runtime {name}")]
    Repository {
        /// What was being done.
        doing: &'static str,
        /// The runtime.
        name: RuntimeName,
        /// Why it failed.
        source: RepoError,
    },
    /// The records could not be listed.
    #[error("cannot list the runtimes in {}", root.display())]
    List {
        /// The storage root.
        root: PathBuf,
        /// Why.
        source: RepoError,
    },
    /// The storage root is no repository.
    #[error("cannot open the repository {}", root.display())]
    Storage {
        /// The storage root.
        root: PathBuf,
        /// Why.
        source: RepoError,
    },
    /// The runtime's folder failed.
    #[error("cannot {doing} {}", path.display())]
    Folder {
        /// What was being done.
        doing: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
