//! The two ends of a start: a daemon that serves a view, here, and the process that enters it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use spfs_fuse::{Options, Session, Single};
use spfs_runtime::enter::{EnterPlan, JoinPlan, enter, join};
use spfs_runtime::startup::Startup;
use spfs_testkit::layers::Tree;
use spfs_testkit::program::{
    As, Helper, LIMIT, Running, USER, bind_to_itself, can_mount_as_both, hear, say,
};
use spfs_testkit::{BaseStack, wait_until};
use spfs_vfs::api::Owner;
use spfs_vfs::{View, ViewOptions};
use tempfile::TempDir;

pub(crate) const HELPERS: &[Helper] = &[
    ("enter", |arguments| enter_helper(arguments, false)),
    ("enter_with_threads", |arguments| enter_helper(arguments, true)),
    ("join", join_helper),
    ("outer", outer_helper),
    ("flag", flag_helper),
];

/// Where a runtime is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a folder that is there.
    Present,
    /// At a name that the root directory lacks and that cannot be made in it.
    Absent,
}

/// Runs a test body as root and as an ordinary user, at both places.
pub(crate) fn everywhere(body: fn(As, Place)) {
    if can_mount_as_both() {
        for who in [As::Caller, As::User] {
            for place in [Place::Present, Place::Absent] {
                body(who, place);
            }
        }
    }
}

/// A runtime: its folder, its mount point and what serves it.
pub(crate) struct Runtime {
    pub(crate) who: As,
    place: Place,
    dir: TempDir,
    mountpoint: PathBuf,
    pub(crate) view: Arc<View>,
}

/// How a helper enters a runtime.
pub(crate) struct Start<'a> {
    /// The folder it starts in; the home of the runtime's user by itself.
    pub(crate) from: Option<&'a Path>,
    pub(crate) helper: &'a str,
    /// `editable`, `read-only`, or `impatient`, which is read-only too.
    pub(crate) mode: &'a str,
    pub(crate) inherited: Vec<OwnedFd>,
    pub(crate) command: &'a [&'a str],
}

impl<'a> Start<'a> {
    pub(crate) fn new(socket: OwnedFd, command: &'a [&'a str]) -> Self {
        Self { from: None, helper: "enter", mode: "read-only", inherited: vec![socket], command }
    }
}

/// The serving side of one start.
pub(crate) struct Serving {
    /// The entering side's end of the handshake.
    pub(crate) socket: OwnedFd,
    /// The daemon, which ends with its mount.
    pub(crate) daemon: JoinHandle<Served>,
}

/// What a daemon learnt.
pub(crate) struct Served {
    pub(crate) pid: u32,
    pub(crate) namespace: String,
}

impl Runtime {
    pub(crate) fn new(who: As, place: Place, layer: &Tree) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mountpoint = match place {
            Place::Present => dir.path().join("mnt"),
            Place::Absent => {
                let name = dir.path().file_name().unwrap().to_string_lossy().into_owned();
                Path::new("/").join(format!(".test-{}", name.trim_start_matches('.')))
            }
        };
        Self::at(dir, mountpoint, who, place, layer)
    }

    /// Another runtime at the same mount point.
    pub(crate) fn another(&self, layer: &Tree) -> Self {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        Self::at(dir, self.mountpoint.clone(), self.who, self.place, layer)
    }

    fn at(dir: TempDir, mountpoint: PathBuf, who: As, place: Place, layer: &Tree) -> Self {
        let uid = if who == As::User { USER } else { 0 };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        for name in ["folder", "scratch", "mnt", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            chown(dir.path().join(name), Some(uid), Some(uid)).unwrap();
        }
        let base = BaseStack::new(std::slice::from_ref(layer));
        let options = ViewOptions::new(Owner { uid, gid: uid });
        let scratch = dir.path().join("scratch");
        // The payload store goes with the base: the view keeps it.
        let payloads: Arc<dyn spfs_vfs::Payloads> = base.payloads;
        let view = View::open(&scratch, &base.layers, base.merged, payloads, options).unwrap();
        Self { who, place, dir, mountpoint, view }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    /// A folder outside the runtime that its user may use.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn mountpoint(&self) -> &str {
        self.mountpoint.to_str().unwrap()
    }

    /// Starts a daemon for the runtime.
    pub(crate) fn serve(&self) -> Serving {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let view = Arc::clone(&self.view);
        Serving { socket: theirs.into(), daemon: thread::spawn(move || serve(&ours, view)) }
    }

    /// Enters the runtime with a command, from a folder.
    pub(crate) fn enter_from(&self, from: &Path, editable: bool, command: &[&str]) -> Entered {
        let serving = self.serve();
        let running = self.start(Start {
            from: Some(from),
            mode: if editable { "editable" } else { "read-only" },
            ..Start::new(serving.socket, command)
        });
        Entered { running, daemon: serving.daemon }
    }

    /// Enters the runtime with a command.
    pub(crate) fn enter(&self, editable: bool, command: &[&str]) -> Entered {
        self.enter_from(&self.home(), editable, command)
    }

    /// Starts a helper that enters; the first of the inherited descriptors is its handshake.
    pub(crate) fn start(&self, start: Start<'_>) -> Running {
        let socket = start.inherited[0].as_raw_fd();
        let arguments = self.enter_arguments(start.mode, socket, start.command);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let home = self.home();
        let from = start.from.unwrap_or(&home);
        if self.place == Place::Absent && self.who == As::Caller {
            // Root could make the mount point: in here its root directory is read-only.
            arguments.insert(0, start.helper);
            return Running::start_in(from, "outer", As::Caller, &arguments, start.inherited);
        }
        Running::start_in(from, start.helper, self.who, &arguments, start.inherited)
    }

    /// The arguments of the helper that enters.
    pub(crate) fn enter_arguments(&self, mode: &str, socket: i32, command: &[&str]) -> Vec<String> {
        let mut arguments = vec![
            self.folder().to_str().unwrap().to_owned(),
            self.mountpoint().to_owned(),
            socket.to_string(),
            mode.to_owned(),
        ];
        arguments.extend(command.iter().map(|word| (*word).to_owned()));
        arguments
    }

    /// Joins the runtime of a process with a command.
    pub(crate) fn join(&self, from: &Path, pid: u32, namespace: &str, command: &[&str]) -> Running {
        let folder = self.folder();
        let pid = pid.to_string();
        let mut arguments = vec![folder.to_str().unwrap(), self.mountpoint(), &pid, namespace];
        arguments.extend(command);
        Running::start_in(from, "join", self.who, &arguments, Vec::new())
    }
}

/// A command in a runtime.
pub(crate) struct Entered {
    pub(crate) running: Running,
    daemon: JoinHandle<Served>,
}

impl Entered {
    /// Waits until the command has succeeded and its mount has ended.
    pub(crate) fn finish(self) -> Served {
        self.running.finish();
        ended(self.daemon)
    }

    /// Waits until the command and its mount have ended, and returns how.
    pub(crate) fn status(self) -> (Served, ExitStatus) {
        let status = self.running.status();
        (ended(self.daemon), status)
    }

    /// Waits for the command, and leaves the daemon to whoever else uses its mount.
    pub(crate) fn leave(self) -> JoinHandle<Served> {
        self.running.finish();
        self.daemon
    }
}

/// Waits for the end of a daemon: the kernel drops the mount with its last process.
pub(crate) fn ended(daemon: JoinHandle<Served>) -> Served {
    assert!(wait_until(LIMIT, || daemon.is_finished()), "the mount outlives its processes");
    daemon.join().unwrap()
}

/// The daemon: takes the device, serves it, says so, and waits for the end.
fn serve(socket: &UnixStream, view: Arc<View>) -> Served {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut first = [0];
    let (_, device) = spfs_sys::socket::recv_fd(socket, &mut first).unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    let (pid, namespace) = line.trim().split_once(' ').unwrap();
    let served = Served {
        pid: pid.strip_prefix("pid=").unwrap().parse().unwrap(),
        namespace: namespace.strip_prefix("mntns=").unwrap().to_owned(),
    };
    let device = device.expect("the FUSE device");
    let session: Session<Single<View>> =
        spfs_fuse::serve(view, device, Options::default()).unwrap();
    let mut stream = socket;
    stream.write_all(b"ok\n").unwrap();
    session.wait().unwrap();
    served
}

fn startup(folder: &str, mountpoint: &str, command: &[String]) -> Startup {
    Startup {
        name: "runtime-of-test".parse().unwrap(),
        folder: folder.into(),
        mountpoint: mountpoint.into(),
        command: command.iter().map(Into::into).collect(),
        environment: BTreeMap::from([
            ("HOME".into(), "/nonexistent".into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ]),
        overrides: Vec::new(),
        terminal: false,
    }
}

fn enter_helper(arguments: &[String], with_threads: bool) {
    let [folder, mountpoint, socket, mode, command @ ..] = arguments else {
        panic!("{arguments:?}");
    };
    let (_alive, ended) = std::sync::mpsc::channel::<()>();
    if with_threads {
        thread::spawn(move || ended.recv());
    }
    let plan = EnterPlan {
        startup: startup(folder, mountpoint, command),
        editable: mode == "editable",
        live: Vec::new(),
        handshake: spfs_sys::process::take_inherited(socket.parse().unwrap()).unwrap(),
        log: Path::new(folder).join("daemon.log"),
        // Tests of silent daemons do not want to wait long, all others never come near it.
        patience: if mode == "impatient" { Duration::from_millis(50) } else { LIMIT },
    };
    let Err(error) = enter(plan);
    say(&format!("error: {error}"));
    std::process::exit(1);
}

fn join_helper(arguments: &[String]) {
    let [folder, mountpoint, pid, namespace, command @ ..] = arguments else {
        panic!("{arguments:?}");
    };
    let Err(error) = join(&JoinPlan {
        startup: startup(folder, mountpoint, command),
        pid: pid.parse().unwrap(),
        namespace: namespace.clone(),
    });
    say(&format!("error: {error}"));
    std::process::exit(1);
}

/// Plays a machine whose root directory is read-only, and becomes another helper in it.
fn outer_helper(arguments: &[String]) {
    spfs_sys::mount::enter_private_namespace().unwrap();
    spfs_sys::mount::set_read_only(Path::new("/"), true).unwrap();
    // The runtime's own folders go on being writable, as they are on such machines.
    let folder = Path::new(&arguments[1]).parent().unwrap();
    bind_to_itself(folder);
    spfs_sys::mount::set_read_only(folder, false).unwrap();
    std::env::set_current_dir(std::env::current_dir().unwrap()).unwrap();
    enter_helper(&arguments[1..], arguments[0] == "enter_with_threads");
}

/// Changes the flag of a runtime's mount from outside, as a daemon's child does.
fn flag_helper(arguments: &[String]) {
    let [mountpoint, pid, namespace, flag] = arguments else { panic!("{arguments:?}") };
    spfs_sys::mount::join_namespaces(pid.parse().unwrap(), Some(namespace)).unwrap();
    match spfs_sys::mount::set_read_only(Path::new(mountpoint), flag == "ro") {
        Ok(()) => say("done"),
        Err(error) => say(&error.to_string()),
    }
    hear();
}
