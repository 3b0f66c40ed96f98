//! Runtimes: records, storage, entering, editing, committing and their state.
#![forbid(unsafe_code)]

mod backend;
mod name;
mod record;

pub use backend::{BackendChoice, BackendError, BackendSource, Capability, MountBackend};
pub use name::{RuntimeName, RuntimeNameError};
pub use record::{Author, RecordConfig, RecordError, RecordStatus, RuntimeRecord, Unknown};
