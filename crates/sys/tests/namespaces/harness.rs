//! A test program that is its own helper.
//!
//! Making a user namespace needs a process with a single thread, and the usual test harness runs
//! tests on threads. So this program runs them on its only thread, and starts itself again as
//! `--helper NAME` for everything that happens in another process: as another user, in another
//! namespace. A helper that fails says why on standard error and ends with a failure.
//!
//! It understands the arguments that `cargo test` and `cargo nextest` give to a test program.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use spfs_sys::{ids, process};

/// How long any single step may take. Nothing here waits so long unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A user without a name, and a further group it is in.
pub(crate) const USER: u32 = 54_321;
pub(crate) const GROUP: u32 = 54_322;

/// A test: its name and its body.
pub(crate) type Test = (&'static str, fn());

/// A helper: its name and its body, which gets the arguments after the name.
pub(crate) type Helper = (&'static str, fn(&[String]));

/// Who a helper runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// As the tests themselves.
    Caller,
    /// As an ordinary user; the tests must be root for this.
    User,
}

/// Runs what the arguments ask for.
pub(crate) fn main(tests: &[Test], helpers: &[Helper]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, who, name, rest @ ..] = &arguments[..]
        && flag == "--helper"
    {
        if who == "user" {
            platform::become_user();
        }
        let (_, body) = helpers.iter().find(|(known, _)| known == name).expect("a known helper");
        body(rest);
        return ExitCode::SUCCESS;
    }
    let selection = Selection::parse(&arguments);
    if selection.list {
        for (name, _) in tests.iter().filter(|(name, _)| selection.has(name)) {
            say(&format!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let mut failures = 0;
    for (name, body) in tests.iter().filter(|(name, _)| selection.has(name)) {
        let passed = std::panic::catch_unwind(body).is_ok();
        say(&format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
        failures += u32::from(!passed);
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// Writes a line to standard output: to the harness, or from a helper to its test.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads the output");
}

/// In a helper: waits for a line from the test.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the test writes lines");
    line.trim_end().to_owned()
}

/// Says loudly that a test cannot run here, or fails where it has to run.
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("SPFS_TEST_REQUIRE_MOUNTS").is_none_or(|value| value != "1"),
        "SPFS_TEST_REQUIRE_MOUNTS=1, but {why}"
    );
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("standard error is open");
}

/// Returns whether tests can run as root and as an ordinary user, and can mount FUSE as both.
pub(crate) fn can_mount() -> bool {
    if platform::WITHOUT_NAMESPACES {
        skip("this system has no mount namespaces");
        return false;
    }
    if ids::euid() != 0 {
        skip("mounts are tested as root, who can also become an ordinary user");
        return false;
    }
    let device = Path::new("/dev/fuse");
    let everybody = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    if std::fs::set_permissions(device, everybody).is_err() || std::fs::File::open(device).is_err()
    {
        skip("there is no /dev/fuse");
        return false;
    }
    if let Some(setting) = spfs_sys::mount::why_no_user_namespace() {
        skip(&format!("ordinary users may not make namespaces ({setting})"));
        return false;
    }
    true
}

#[cfg(target_os = "linux")]
mod platform {
    use std::path::Path;

    use rustix::fs::{Gid, Uid};
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    use super::{GROUP, USER};

    pub(crate) const WITHOUT_NAMESPACES: bool = false;

    /// Only possible while there is one thread: it changes no others.
    pub(crate) fn become_user() {
        let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
        set_thread_groups(&[Gid::from_raw(GROUP)]).expect("root may set groups");
        set_thread_res_gid(gid, gid, gid).expect("root may set the group");
        set_thread_res_uid(uid, uid, uid).expect("root may set the user");
        // As after an exec: without it /proc/self would go on belonging to root.
        set_dumpable_behavior(DumpableBehavior::Dumpable).expect("a process may be inspected");
    }

    /// Makes a folder a mount of its own.
    pub(crate) fn bind_to_itself(folder: &Path) {
        rustix::mount::mount_bind(folder, folder).expect("a folder can be bound");
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    pub(crate) const WITHOUT_NAMESPACES: bool = true;

    pub(crate) fn become_user() {}

    pub(crate) fn bind_to_itself(_folder: &std::path::Path) {}
}

pub(crate) use platform::bind_to_itself;

/// A helper process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
}

impl Running {
    /// Starts a helper.
    pub(crate) fn start(name: &str, who: As, arguments: &[&str]) -> Self {
        Self::start_in(Path::new("."), name, who, arguments, Vec::new())
    }

    /// Starts a helper in a folder, with descriptors that it inherits under their numbers here.
    pub(crate) fn start_in(
        folder: &Path,
        name: &str,
        who: As,
        arguments: &[&str],
        inherited: Vec<OwnedFd>,
    ) -> Self {
        let who = match who {
            As::Caller => "caller",
            As::User => "user",
        };
        let mut all: Vec<OsString> = ["--helper", who, name].map(OsString::from).to_vec();
        all.extend(arguments.iter().map(OsString::from));
        // Through the link, which works where the path to the program does not.
        let mut command = Command::new("/proc/self/exe");
        // No start files of whoever runs the tests.
        command
            .env("HOME", "/nonexistent")
            .args(all)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for fd in inherited {
            process::pass_on(&mut command, fd);
        }
        let mut child = command.spawn().expect("this program can be executed");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, input, lines, name: name.to_owned() }
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line from the helper.
    pub(crate) fn line(&self) -> String {
        self.lines
            .recv_timeout(LIMIT)
            .unwrap_or_else(|error| panic!("helper {} says nothing: {error}", self.name))
    }

    /// Sends a line to the helper.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open until finish");
        writeln!(input, "{line}").expect("the helper lives");
    }

    /// Closes the helper's standard input, waits until it has ended and returns whether it
    /// succeeded.
    pub(crate) fn succeeds(self) -> bool {
        self.status().success()
    }

    /// As [`Running::succeeds`], and returns how it ended.
    pub(crate) fn status(mut self) -> ExitStatus {
        self.input = None;
        if let Ok(id) = process::identify(self.child.id()) {
            let ended = process::wait_for_end(id, LIMIT).expect("a child can be watched");
            assert!(ended, "helper {} hangs", self.name);
        }
        self.child.wait().expect("it is our child")
    }

    /// As [`Running::succeeds`], which must be so.
    pub(crate) fn finish(self) {
        let name = self.name.clone();
        assert!(self.succeeds(), "helper {name} failed");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a helper that needs nothing more from its test.
pub(crate) fn run(name: &str, who: As, arguments: &[&str]) {
    Running::start(name, who, arguments).finish();
}
