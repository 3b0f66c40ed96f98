//! Runtimes: records, storage, entering, editing, committing and their state.
//!
//! **Invariant:** a record has one writer at a time, the holder of the lock on the runtime's
//! folder, and what is on its stack is in the repository before it is saved.
#![forbid(unsafe_code)]

mod backend;
pub mod control;
pub mod enter;
mod error;
mod folder;
mod live;
mod mount_points;
mod name;
mod patterns;
mod record;
mod runtimes;
pub mod startup;
mod status;

pub use backend::{BackendChoice, BackendError, BackendSource, Capability, MountBackend};
pub use error::{OutOfReach, RuntimeError};
pub use folder::{FolderLock, RuntimeFolder, create_service_folder, service_folder};
pub use live::{Kernel, LiveError, LiveRuntime, ModeError, check_address, resolve, view_of_layers};
pub use mount_points::{LiveShown, MountPointError};
pub use name::{RuntimeName, RuntimeNameError};
pub use patterns::{PatternError, Patterns};
pub use record::{Author, RecordConfig, RecordError, RecordStatus, RuntimeRecord, Unknown};
pub use runtimes::{
    Listed, Member, NewRuntime, PruneStrategy, Pruned, RemoveOptions, Rerun, Runtimes,
};
pub use status::{ForeignStatus, RuntimeStatus};
