//! A service on a mount of its own, and real processes that use it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use spfs_model::Digest;
use spfs_repo::{Repository, commit_path};
use spfs_service::{Client, MountRequest, MountedAt, Settings, Wanted};
use spfs_sys::process::{End, ProcessId, end, identify};
use spfs_testkit::environment::open_directory;
use spfs_testkit::wait_until;
use tempfile::TempDir;

use crate::world::{LIMIT, Outcome, outcome};

/// The two things that the root of the mount can show.
pub(crate) const ROOTS: [&str; 2] = ["lookup", "link"];

/// A service; it ends with the value, and nothing of it may be left then.
pub(crate) struct Service {
    process: Option<Child>,
    pub(crate) settings: Settings,
    pub(crate) mountpoint: PathBuf,
    root: &'static str,
    user: u32,
    folder: TempDir,
}

/// This program, as the daemon.
pub(crate) fn daemon() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("spfs-fuse").stdin(Stdio::null());
    command
}

impl Service {
    pub(crate) fn start(root: &'static str) -> Self {
        Self::start_with(root, &[])
    }

    pub(crate) fn start_with(root: &'static str, more: &[&str]) -> Self {
        let mut service = Self::prepare(root, 0);
        service.run(more);
        service
    }

    /// A service of another user, who may mount.
    pub(crate) fn start_as(user: u32) -> Self {
        let mut service = Self::prepare("lookup", user);
        service.run(&[]);
        service
    }

    /// A service that has not been started.
    pub(crate) fn prepare(root: &'static str, user: u32) -> Self {
        let folder = open_directory().unwrap();
        let storage = folder.path().join("storage");
        drop(Repository::create(&storage).unwrap());
        let owner = user.to_string();
        let given = Command::new("chown").args(["-R", &owner]).arg(&storage).status().unwrap();
        assert!(given.success());
        let mountpoint = folder.path().canonicalize().unwrap().join("spfs");
        let settings = Settings::of(storage);
        Self { process: None, settings, mountpoint, root, user, folder }
    }

    /// The command line of the service.
    pub(crate) fn command(&self) -> Command {
        self.command_at(&self.mountpoint)
    }

    /// The command line of the service, but for another mount point.
    pub(crate) fn command_at(&self, mountpoint: &Path) -> Command {
        let mut command = if self.user == 0 { daemon() } else { self.daemon_of_user() };
        command.args(["service", "--root", self.root, "--storage"]);
        command.arg(&self.settings.storage_root).arg("--mountpoint").arg(mountpoint);
        command
    }

    /// This program as the daemon of another user, who has the privilege to mount and no other.
    fn daemon_of_user(&self) -> Command {
        let program = self.path("spfs-fuse");
        if !program.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        let mut command = Command::new("setpriv");
        let id = self.user.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        command.args(["--inh-caps", "+sys_admin", "--ambient-caps", "+sys_admin"]);
        command.arg(&program).stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Starts the service (again) and waits until it answers.
    pub(crate) fn run(&mut self, more: &[&str]) {
        let mut command = self.command();
        self.run_as(command.args(more));
    }

    /// The same with this command, to which it is added that it stays in the foreground.
    pub(crate) fn run_as(&mut self, command: &mut Command) {
        self.process = Some(command.arg("--foreground").spawn().unwrap());
        let socket = self.socket();
        assert!(wait_until(LIMIT, || Client::connect(&socket).is_ok()), "it does not answer");
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        let folder = spfs_runtime::service_folder(&self.settings.storage_root, self.user);
        folder.join("control.sock")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    /// Makes a layer of files.
    pub(crate) fn layer(&self, files: &[(&str, &str)]) -> Digest {
        let source = TempDir::new().unwrap();
        for (path, content) in files {
            let path = source.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let repository = Repository::open(&self.settings.storage_root).unwrap();
        commit_path(&repository, source.path(), &Default::default()).unwrap().layer
    }

    /// Gives a process an editable view with a name.
    pub(crate) fn give(&self, pid: u32, name: &str, stack: &[Digest]) -> MountedAt {
        let env_spec = match stack {
            [] => "-".to_owned(),
            stack => stack.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"),
        };
        let runtime = Wanted::New { env_spec, editable: true, name: Some(name.to_owned()) };
        self.client().mount(&MountRequest { root_pid: pid, runtime }).unwrap()
    }

    /// A shell in an editable view.
    pub(crate) fn shell(&self, name: &str, stack: &[Digest]) -> Shell {
        let shell = Shell::new(&self.mountpoint);
        self.give(shell.pid(), name, stack);
        shell
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let views = self.client().status().unwrap().views;
        views.into_iter().map(|view| view.name).collect()
    }

    pub(crate) fn folder_of(&self, name: &str) -> PathBuf {
        self.settings.storage_root.join("runtimes").join(name)
    }

    /// Waits until a runtime has ended.
    #[track_caller]
    pub(crate) fn ends(&self, name: &str) {
        let gone = wait_until(LIMIT, || !self.names().iter().any(|found| found == name));
        assert!(gone, "{name} is served still: {:?}", self.client().status());
    }

    pub(crate) fn is_mounted(&self) -> bool {
        let mounts = spfs_sys::mount::mounts().unwrap();
        mounts.iter().any(|entry| entry.target == self.mountpoint)
    }

    /// Ends the process by a signal, and waits for its end.
    pub(crate) fn signal(&mut self, how: End) {
        let mut process = self.process.take().expect("it runs");
        assert!(end(identify(process.id()).unwrap(), how).unwrap());
        process.wait().unwrap();
    }

    /// Waits for the end of the process, which somebody has asked for.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.process.take().expect("it runs").wait().unwrap().code()
    }

    /// A path in the folder of the test, which everybody can reach.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Nothing of a service that has ended is left.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        assert!(!self.is_mounted());
        assert!(!self.socket().exists());
        assert_eq!(std::fs::read_dir(&self.mountpoint).unwrap().count(), 0);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let asked = self.client().shutdown(true).is_ok();
            if !asked {
                drop(process.kill());
            }
            drop(process.wait());
        }
        if self.is_mounted() {
            drop(spfs_sys::mount::force_unmount(&self.mountpoint));
            assert!(std::thread::panicking(), "the mount is left");
        }
    }
}

/// Ends what a line of a shell says.
const END: &str = "end-of-answer";

/// A shell that reads commands from the test. What it starts in the background the test has to end.
pub(crate) struct Shell {
    process: Child,
}

impl Shell {
    pub(crate) fn new(mountpoint: &Path) -> Self {
        Self::run(&mut Command::new("sh"), mountpoint)
    }

    /// A command that becomes a shell.
    pub(crate) fn run(command: &mut Command, mountpoint: &Path) -> Self {
        let process = command
            .env("M", mountpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs a line, in which `$M` is the mount point, and returns what it says on one line.
    pub(crate) fn says(&mut self, line: &str) -> String {
        self.tell(line);
        self.answer()
    }

    /// Lets it run a line without waiting for [`Shell::answer`].
    pub(crate) fn tell(&mut self, line: &str) {
        use std::io::Write;
        let input = self.process.stdin.as_mut().expect("it is piped");
        writeln!(input, "{{ {line}\n}} 2>&1; echo {END}").unwrap();
    }

    /// What the line that was told it said, on one line.
    pub(crate) fn answer(&mut self) -> String {
        use std::io::Read;
        let output = self.process.stdout.as_mut().expect("it is piped");
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(format!("{END}\n").as_bytes()) {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "the shell has ended");
            said.push(byte[0]);
        }
        said.truncate(said.len() - END.len() - 1);
        let said = String::from_utf8(said).unwrap();
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Ends the shell, and waits for that.
    pub(crate) fn end(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A process in the background that a test has to end.
pub(crate) struct Orphan(pub(crate) ProcessId);

impl Orphan {
    pub(crate) fn of(pid: &str) -> Self {
        Self(identify(pid.parse().unwrap_or_else(|_| panic!("{pid:?} is no pid"))).unwrap())
    }

    pub(crate) fn end(self) {
        assert!(end(self.0, End::Kill).unwrap());
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // It may have ended.
        drop(end(self.0, End::Kill));
    }
}

/// Runs `spfs-fuse` with these arguments.
pub(crate) fn spfs_fuse(service: &Service, arguments: &[&str]) -> Outcome {
    let mut command = daemon();
    let (command_name, rest) = arguments.split_first().expect("there is a command");
    command.arg(command_name).arg("--storage").arg(&service.settings.storage_root).args(rest);
    outcome(&mut command)
}
