//! The FUSE edge: translates between the kernel protocol and the core.
//!
//! [`serve`] answers the requests of a FUSE device that somebody mounted. Node ids, lookup counts,
//! handles, how long the kernel may remember, and errno live here and nowhere else.
//!
//! **Invariant:** nothing is decided here. A file system is a [`spfs_vfs::api::Vfs`]; this crate
//! knows neither layers nor a repository, and no other crate knows the protocol or its library.
#![forbid(unsafe_code)]

mod buffer;
mod convert;
mod counters;
mod edge;
mod errno;
mod gate;
mod handle;
mod linger;
mod links;
mod node;
mod notify;
// The one switch between systems: everything that differs is in one of the two files.
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(not(target_os = "macos"), path = "linux.rs")]
mod platform;
mod pool;
mod server;
mod session;
mod views;

pub use counters::{Op, Requests};
pub use notify::{Invalidation, Notifier, Sent};
pub use platform::Volume;
pub use session::{Options, RootMode, Session, serve, serve_views};
pub use views::{Caller, Single, ViewId, Views};
