//! A test program that is its own helper, and runs tests on its only thread.
//!
//! Making a user namespace needs a process with a single thread, and the usual test harness runs
//! tests on threads. So such a program runs them itself, and starts itself again as `--helper NAME`
//! for everything that happens in another process: as another user, in another namespace.
//!
//! It understands the arguments that `cargo test` and `cargo nextest` give to a test program. A
//! helper that fails panics.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

mod running;
mod selection;

pub use running::{As, GROUP, Running, USER, bind_to_itself, run};
use selection::Selection;

use crate::environment::{is_root, skip};

/// How long any single step may take. Nothing here waits so long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A test: its name and its body.
pub type Test = (&'static str, fn());

/// A helper: its name and its body, which gets the arguments after the name.
pub type Helper = (&'static str, fn(&[String]));

/// What a program does.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its tests.
    pub tests: &'a [Test],
    /// Its helpers.
    pub helpers: &'a [Helper],
    /// Runs a test; panics when that fails.
    pub around: fn(&Test),
}

impl<'a> Program<'a> {
    /// Tests that are simply run, and helpers.
    #[must_use]
    pub fn new(tests: &'a [Test], helpers: &'a [Helper]) -> Self {
        Self { tests, helpers, around: |(_, body)| body() }
    }

    /// Runs what the arguments ask for.
    #[must_use]
    pub fn main(&self) -> ExitCode {
        let arguments: Vec<String> =
            std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
        if let [flag, name, rest @ ..] = &arguments[..]
            && let Some(who) = As::of_flag(flag)
        {
            return self.help(who, name, rest);
        }
        self.test(&Selection::parse(&arguments))
    }

    fn help(&self, who: As, name: &str, arguments: &[String]) -> ExitCode {
        who.become_it();
        let helper = self.helpers.iter().find(|(known, _)| *known == name);
        let (_, body) = helper.unwrap_or_else(|| panic!("no helper {name} {arguments:?}"));
        body(arguments);
        ExitCode::SUCCESS
    }

    fn test(&self, selection: &Selection) -> ExitCode {
        let chosen: Vec<&Test> =
            self.tests.iter().filter(|(name, _)| selection.has(name)).collect();
        if selection.list {
            chosen.iter().for_each(|(name, _)| say(&format!("{name}: test")));
            return ExitCode::SUCCESS;
        }
        let mut failures = 0;
        for test in chosen {
            let passed = std::panic::catch_unwind(|| (self.around)(test)).is_ok();
            say(&format!("test {} ... {}", test.0, if passed { "ok" } else { "FAILED" }));
            failures += u32::from(!passed);
        }
        if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Writes a line to standard output: to the harness, or from a helper to its test.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads the output");
}

/// In a helper: waits for a line from the test.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the test writes lines");
    line.trim_end().to_owned()
}

/// Tells whether tests can run as root and as an ordinary user, and can mount FUSE as both. Where
/// they cannot, says so, and panics if `SPFS_TEST_REQUIRE_MOUNTS=1`.
#[must_use]
pub fn can_mount_as_both() -> bool {
    let reason = why_not();
    if let Some(why) = &reason {
        skip(why, "SPFS_TEST_REQUIRE_MOUNTS");
    }
    reason.is_none()
}

fn why_not() -> Option<String> {
    let say = |text: &str| Some(text.to_owned());
    if !spfs_sys::mount::HAS_NAMESPACES {
        return say("this system has no mount namespaces");
    }
    if !is_root() {
        return say("mounts are tested as root, who can also become an ordinary user");
    }
    let device = Path::new("/dev/fuse");
    let everybody = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    if std::fs::set_permissions(device, everybody).is_err() || std::fs::File::open(device).is_err()
    {
        return say("there is no /dev/fuse");
    }
    let setting = spfs_sys::mount::why_no_user_namespace()?;
    Some(format!("ordinary users may not make namespaces ({setting})"))
}
