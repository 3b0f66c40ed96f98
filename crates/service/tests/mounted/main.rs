//! Runtimes from their start to their end, with real mounts, processes and daemons.
//!
//! This program is everything that takes part: the tests, the daemon (when it is called
//! `spfs-fuse`), and the other processes (`--helper NAME`). The first of these runs a test again as
//! an ordinary user when the tests are root.
#![cfg_attr(target_os = "linux", expect(clippy::unwrap_used, reason = "a failed test is to panic"))]

#[cfg(target_os = "linux")]
mod around;
#[cfg(target_os = "linux")]
mod ends;
#[cfg(target_os = "linux")]
mod helpers;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod life;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod reset;
#[cfg(target_os = "linux")]
mod routed;
#[cfg(target_os = "linux")]
mod service;
#[cfg(target_os = "linux")]
mod users;
#[cfg(target_os = "linux")]
mod work;
#[cfg(target_os = "linux")]
mod world;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let services = [routed::TESTS, ends::TESTS, users::TESTS, hostile::TESTS].concat();
    around::main(&[life::TESTS, work::TESTS, reset::TESTS, &services].concat())
}

/// Runtimes have no mounts of their own there.
#[cfg(not(target_os = "linux"))]
fn main() {}
