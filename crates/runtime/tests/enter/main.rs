//! Entering runtimes through the real kernel, as root and as an ordinary user, with a mount point
//! that is there and one that is not. What serves them is the real core, in this process.
#![expect(clippy::unwrap_used, reason = "a failed call is a failed test")]

#[cfg(target_os = "linux")]
mod daemon;
#[cfg(target_os = "linux")]
#[path = "../../../sys/tests/namespaces/harness.rs"]
#[expect(dead_code, reason = "it is made for other tests as well")]
mod harness;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod nested;
#[cfg(target_os = "linux")]
mod trouble;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let tests = [inside::TESTS, nested::TESTS, trouble::TESTS].concat();
    harness::main(&tests, daemon::HELPERS)
}

/// Other systems have no namespaces to enter.
#[cfg(not(target_os = "linux"))]
fn main() {}
