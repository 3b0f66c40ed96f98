//! Helpers: this program in another process, as another user.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use spfs_sys::process;

use super::LIMIT;

/// A user without a name, and a further group it is in.
pub const USER: u32 = 54_321;
/// The further group of [`USER`].
pub const GROUP: u32 = 54_322;

/// Who a helper runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// As the tests themselves.
    Caller,
    /// As an ordinary user; the tests must be root for this.
    User,
}

impl As {
    fn flag(self) -> &'static str {
        match self {
            Self::Caller => "--helper",
            Self::User => "--helper-as-user",
        }
    }

    pub(super) fn of_flag(flag: &str) -> Option<Self> {
        [Self::Caller, Self::User].into_iter().find(|who| who.flag() == flag)
    }

    /// Only possible while there is one thread.
    pub(super) fn become_it(self) {
        if self == Self::User {
            platform::become_user();
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::path::Path;

    use rustix::fs::{Gid, Uid};
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    use super::{GROUP, USER};

    /// Only possible while there is one thread: it changes no others.
    pub(super) fn become_user() {
        let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
        set_thread_groups(&[Gid::from_raw(GROUP)]).expect("root may set groups");
        set_thread_res_gid(gid, gid, gid).expect("root may set the group");
        set_thread_res_uid(uid, uid, uid).expect("root may set the user");
        // As after an exec: without it /proc/self would go on belonging to root.
        set_dumpable_behavior(DumpableBehavior::Dumpable).expect("a process may be inspected");
    }

    pub(super) fn bind_to_itself(folder: &Path) {
        rustix::mount::mount_bind(folder, folder).expect("a folder can be bound");
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn become_user() {}

    pub(super) fn bind_to_itself(_folder: &std::path::Path) {}
}

/// Makes a folder a mount of its own, where there are such mounts.
pub fn bind_to_itself(folder: &Path) {
    platform::bind_to_itself(folder);
}

/// A helper process; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
}

impl Running {
    /// Starts a helper.
    pub fn start(name: &str, who: As, arguments: &[&str]) -> Self {
        Self::start_in(Path::new("."), name, who, arguments, Vec::new())
    }

    /// Starts a helper in a folder, with descriptors that it inherits under their numbers here.
    pub fn start_in(
        folder: &Path,
        name: &str,
        who: As,
        arguments: &[&str],
        inherited: Vec<OwnedFd>,
    ) -> Self {
        let mut all: Vec<OsString> = [who.flag(), name].map(OsString::from).to_vec();
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
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line from the helper.
    pub fn line(&self) -> String {
        self.lines
            .recv_timeout(LIMIT)
            .unwrap_or_else(|error| panic!("helper {} says nothing: {error}", self.name))
    }

    /// Sends a line to the helper.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open until finish");
        writeln!(input, "{line}").expect("the helper lives");
    }

    /// Closes the helper's standard input, waits until it has ended and returns whether it
    /// succeeded.
    pub fn succeeds(self) -> bool {
        self.status().success()
    }

    /// As [`Running::succeeds`], and returns how it ended.
    pub fn status(mut self) -> ExitStatus {
        self.input = None;
        if let Ok(id) = process::identify(self.child.id()) {
            let ended = process::wait_for_end(id, LIMIT).expect("a child can be watched");
            assert!(ended, "helper {} hangs", self.name);
        }
        self.child.wait().expect("it is our child")
    }

    /// As [`Running::succeeds`], which must be so.
    pub fn finish(self) {
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
pub fn run(name: &str, who: As, arguments: &[&str]) {
    Running::start(name, who, arguments).finish();
}
