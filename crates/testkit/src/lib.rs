//! Test support: a model file system, a host file system, an operation generator, builders and faults.
//!
//! The one idea: [`ModelFs`] says what is right, and everything else is compared with it. A
//! [`Pair`](pair::Pair) drives the model and a [`Subject`](pair::Subject) side by side with
//! operations from [`ops`]; a [`Campaign`](campaign::Campaign) does that from seeds, shortens what
//! fails and prints it as a test.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod drive;
pub mod environment;
pub mod faults;
#[cfg(target_os = "linux")]
pub mod host_fs;
pub mod image;
pub mod layers;
pub mod model_fs;
pub mod ops;
pub mod pair;
pub mod paths;
pub mod power;
pub mod program;
pub mod repo;
pub mod view;

pub use environment::{Mounted, require_mounts, require_root, unprivileged, wait_until};
#[cfg(target_os = "linux")]
pub use host_fs::HostFs;
pub use layers::{BaseStack, TreeBuilder};
pub use model_fs::ModelFs;
pub use paths::Paths;
pub use repo::TestRepo;
pub use view::ViewSubject;
