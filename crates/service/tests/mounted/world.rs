//! A storage of its own for each test, and runtimes in it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spfs_model::Digest;
use spfs_repo::{AnyRepository, Repository, commit_path};
use spfs_runtime::{
    LiveShown, MountBackend, NewRuntime, Rerun, RuntimeError, RuntimeName, RuntimeStatus, Runtimes,
};
use spfs_sys::process::{End, ProcessId};
use spfs_testkit::wait_until;
use tempfile::TempDir;

use crate::helpers::STORAGE;

/// How long anything may take that is waited for; nothing does unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) runtimes: Runtimes,
    root: TempDir,
}

/// What a command in a runtime said, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn says(&self, lines: &[&str]) {
        let said: Vec<&str> = self.out.lines().map(str::trim_end).collect();
        assert_eq!(said, lines, "{self:#?}");
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        let repository = Arc::new(Repository::create(root.path().join("storage")).unwrap());
        let runtimes = Runtimes::new(repository, "tester".to_owned(), host());
        Self { runtimes, root }
    }

    /// Commits files as a layer.
    pub(crate) fn layer(&self, files: &[(&str, &str)]) -> Digest {
        let source = TempDir::new().unwrap();
        for (path, content) in files {
            let path = source.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let repository = &**self.runtimes.repository();
        commit_path(repository, source.path(), &Default::default()).unwrap().layer
    }

    pub(crate) fn new_runtime(&self, name: &str, stack: &[Digest]) -> NewRuntime {
        NewRuntime {
            name: Some(named(name)),
            stack: stack.to_vec(),
            live: Vec::new(),
            live_shown: LiveShown::default(),
            backend: MountBackend::FuseWithScratch,
            editable: true,
            durable: false,
            command: Vec::new(),
            secondary_repositories: Vec::new(),
            include_secondary_tags: true,
        }
    }

    /// A command that starts a new runtime with a shell script in it. The script calls `spfs`.
    pub(crate) fn start(&self, new: NewRuntime, script: &str) -> Command {
        let editable = new.editable;
        let record = self.runtimes.create(new).unwrap();
        self.command(&record.name, "fresh", editable, script)
    }

    /// The same for a runtime that is there.
    pub(crate) fn start_again(&self, name: &str, script: &str) -> Command {
        let again = Rerun { editable: None, command: &[] };
        let record = self.runtimes.rerun(&named(name), again).unwrap();
        self.command(name, "again", record.status.editable, script)
    }

    fn command(&self, name: &str, fresh: &str, editable: bool, script: &str) -> Command {
        let program = std::env::current_exe().unwrap().display().to_string();
        let prelude = format!("spfs() {{ {program} --helper spfs \"$@\"; }}\n");
        // Whoever runs the tests may ignore some signals.
        let mut command = Command::new("env");
        command
            .args(["--default-signal", &program, "--helper", "start", name, fresh])
            .arg(if editable { "editable" } else { "read-only" })
            .args(["sh", "-c", &format!("{prelude}{script}")])
            .env(STORAGE, self.runtimes.root())
            .env("HOME", self.root.path())
            .env("SELF", program)
            .env_remove("SPFS_RUNTIME")
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a script in a new editable runtime and waits for its end.
    pub(crate) fn run(&self, name: &str, stack: &[Digest], script: &str) -> Outcome {
        outcome(&mut self.start(self.new_runtime(name, stack), script))
    }

    /// Starts a script in the background.
    pub(crate) fn spawn(&self, mut command: Command) -> Background {
        Background(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn status(&self, name: &str) -> Option<RuntimeStatus> {
        match self.runtimes.read(&named(name)) {
            Ok(record) => Some(self.runtimes.status(&record).unwrap()),
            Err(RuntimeError::Unknown { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until nothing of a runtime is left.
    #[track_caller]
    pub(crate) fn vanishes(&self, name: &str) {
        let folder = self.runtimes.folder(&named(name));
        let gone = wait_until(LIMIT, || self.status(name).is_none() && !folder.exists());
        assert!(gone, "runtime {name} is still {:?}: {}", self.status(name), self.log(name));
        let tags = self.runtimes.repository().tags_in(None).names().unwrap();
        assert!(tags.iter().all(|tag| tag.name() != name), "{tags:?}");
    }

    #[track_caller]
    pub(crate) fn becomes(&self, name: &str, status: RuntimeStatus) {
        let reached = wait_until(LIMIT, || self.status(name) == Some(status));
        assert!(reached, "runtime {name} is {:?}: {}", self.status(name), self.log(name));
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.runtimes.folder(&named(name)).log()).unwrap_or_default()
    }

    /// The daemon that serves a runtime.
    pub(crate) fn daemon(&self, name: &str) -> ProcessId {
        let pid = self.runtimes.folder(&named(name)).holder().expect("it is served");
        spfs_sys::process::identify(pid).unwrap()
    }

    /// Ends the daemon and waits until it has let go of the runtime.
    pub(crate) fn end_daemon(&self, name: &str, how: End) {
        assert!(spfs_sys::process::end(self.daemon(name), how).unwrap());
        let folder = self.runtimes.folder(&named(name));
        assert!(wait_until(LIMIT, || !folder.is_locked().unwrap()), "{}", self.log(name));
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
}

fn host() -> String {
    spfs_sys::ids::host_name().to_string_lossy().into_owned()
}

pub(crate) fn named(name: &str) -> RuntimeName {
    name.parse().unwrap()
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

/// A script that runs while a test goes on; it reads lines from the test. Killed when dropped.
pub(crate) struct Background(Child);

impl Background {
    /// Waits for the next line of the script.
    pub(crate) fn line(&mut self) -> String {
        use std::io::Read;
        let out = self.0.stdout.as_mut().expect("it is piped");
        let mut line = Vec::new();
        let mut byte = [0];
        while out.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Sends a line to the script.
    pub(crate) fn tell(&mut self, line: &str) {
        use std::io::Write;
        writeln!(self.0.stdin.as_mut().expect("it is piped"), "{line}").unwrap();
    }

    /// Closes its input, and waits for the rest of what it says and its end.
    pub(crate) fn finish(mut self) -> String {
        use std::io::Read;
        drop(self.0.stdin.take());
        let mut rest = String::new();
        self.0.stdout.take().expect("it is piped").read_to_string(&mut rest).unwrap();
        self.0.wait().unwrap();
        rest
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
