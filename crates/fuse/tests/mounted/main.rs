//! The edge through the real kernel: each test mounts a file system of its own and uses it with
//! ordinary system calls.
//!
//! Mounting needs root and /dev/fuse. Where they are missing the tests say so and pass; with
//! `SPFS_TEST_REQUIRE_MOUNTS=1` they fail instead.
//!
//! They mount by mount(2) and use calls that Linux alone has.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic and says by its output what it skips and measures"
)]

mod support;

mod attributes;
mod caching;
mod core;
mod files;
mod lifecycle;
mod links;
mod listing;
mod mapping;
mod names;
mod notifications;
mod permissions;
mod requests;
mod silent_opens;
mod space;
mod storm;
mod views;
mod xattrs;
