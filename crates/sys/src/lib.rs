//! The only unsafe code and the only platform switches: mounts, namespaces, identity, clone, durable publish.
//!
//! Each module is written once, for every platform, and says what its functions promise; what a
//! platform does differently stands in a module of the same name below `linux` or `macos`. A
//! function that one platform cannot offer exists there too and fails with
//! [`std::io::ErrorKind::Unsupported`], so that everything above compiles everywhere.
//!
//! This crate knows operating systems, not layers, runtimes or repositories. It reads no
//! environment variable, and keeps no state but the latest time that it was shown on a file
//! ([`clock::observe`]).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

pub mod clock;
pub mod files;
pub mod host;
pub mod ids;
pub mod limits;
pub mod lock;
pub mod macfuse;
pub mod mount;
pub mod owner;
pub mod process;
pub mod publish;
pub mod reflink;
pub mod socket;
