//! This program as the daemon, and what each test is run with.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use spfs_service::DAEMON_NAME;
use spfs_testkit::environment::{NOBODY, is_root, open_directory, require_mounts, require_root};
use spfs_testkit::program::{Program, Test};

use crate::helpers;

/// Topics of which the tests mount for everybody, which on Linux is for root alone.
const NEED_ROOT: [&str; 4] = ["ends::", "hostile::", "routed::", "users::"];

pub(crate) fn main(tests: &[Test]) -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == DAEMON_NAME) {
        return spfs_service::main();
    }
    Program { tests, helpers: helpers::HELPERS, around: run }.main()
}

/// Runs a test as this user, and as an ordinary one if that is root.
fn run((name, body): &Test) {
    if !require_mounts() {
        return;
    }
    if NEED_ROOT.iter().any(|topic| name.starts_with(topic)) {
        if require_root() {
            body();
        }
        return;
    }
    body();
    if is_root() {
        // Where everybody can execute it by its path.
        let folder = open_directory().expect("there is a folder for temporary files");
        let program = folder.path().join("program");
        let own = std::env::current_exe().expect("this program has a path");
        std::fs::copy(own, &program).expect("there is room for a copy");
        let status = Command::new(&program)
            .args(["--exact", name])
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY)
            .status()
            .expect("this program can be executed");
        assert!(status.success(), "{name} failed as an ordinary user");
    }
}
