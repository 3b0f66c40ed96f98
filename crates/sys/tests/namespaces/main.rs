//! Namespaces, private roots and mounts, through the real kernel, as root and as an ordinary user.
#![cfg_attr(
    target_os = "linux",
    expect(clippy::unwrap_used, reason = "a failed call is a failed test")
)]

#[cfg(target_os = "linux")]
mod clones;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod roots;
#[cfg(target_os = "linux")]
mod spaces;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let tests = [spaces::TESTS, roots::TESTS, mounts::TESTS, clones::TESTS].concat();
    let helpers = [spaces::HELPERS, roots::HELPERS, mounts::HELPERS, clones::HELPERS].concat();
    spfs_testkit::program::Program::new(&tests, &helpers).main()
}

/// There are no namespaces to test.
#[cfg(not(target_os = "linux"))]
fn main() {}
