//! Entering runtimes through the real kernel, as root and as an ordinary user, with a mount point
//! that is there and one that is not. What serves them is the real core, in this process.
#![expect(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod daemon;
mod inside;
mod nested;
mod trouble;

fn main() -> std::process::ExitCode {
    let tests = [inside::TESTS, nested::TESTS, trouble::TESTS].concat();
    spfs_testkit::program::Program::new(&tests, daemon::HELPERS).main()
}
