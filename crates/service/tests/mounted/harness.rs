//! Runs tests on the only thread of this program, and the helpers they start.
//!
//! It understands the arguments that `cargo test` and `cargo nextest` give to a test program.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use spfs_service::DAEMON_NAME;
use spfs_testkit::environment::{NOBODY, is_root, open_directory, require_mounts, require_root};

use crate::helpers;

/// A test: its name and its body.
pub(crate) type Test = (&'static str, fn());

pub(crate) fn main(tests: &[Test]) -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == DAEMON_NAME) {
        return spfs_service::main();
    }
    let arguments: Vec<String> =
        arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let [flag, name, rest @ ..] = &arguments[..]
        && flag == "--helper"
    {
        return helpers::run(name, rest);
    }
    let selection = Selection::parse(&arguments);
    let chosen: Vec<&Test> = tests.iter().filter(|(name, _)| selection.has(name)).collect();
    if selection.list {
        chosen.iter().for_each(|(name, _)| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    let mut failures = 0;
    for (name, body) in chosen {
        let passed = std::panic::catch_unwind(|| run(name, *body)).is_ok();
        say(&format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
        failures += u32::from(!passed);
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Topics of which the tests mount for everybody, which on Linux is for root alone.
const NEED_ROOT: [&str; 1] = ["routed::"];

/// Runs a test as this user, and as an ordinary one if that is root.
fn run(name: &str, body: fn()) {
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

/// Whether the test runs for the second time, as an ordinary user.
pub(crate) fn is_ordinary_user() -> bool {
    !is_root()
}

/// Writes a line to standard output.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads the output");
}

#[derive(Default)]
struct Selection {
    list: bool,
    nothing: bool,
    exact: bool,
    names: Vec<String>,
    skip: Vec<String>,
}

impl Selection {
    fn parse(arguments: &[String]) -> Self {
        let mut selection = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => selection.list = true,
                // There are no ignored tests.
                "--ignored" => selection.nothing = true,
                "--exact" => selection.exact = true,
                "--skip" => selection.skip.extend(arguments.next().cloned()),
                "--format" | "--test-threads" | "--color" | "--logfile" => {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                name => selection.names.push(name.to_owned()),
            }
        }
        selection
    }

    fn has(&self, name: &str) -> bool {
        let fits = |wanted: &String| {
            if self.exact { name == wanted } else { name.contains(wanted.as_str()) }
        };
        !self.nothing
            && (self.names.is_empty() || self.names.iter().any(fits))
            && !self.skip.iter().any(fits)
    }
}
