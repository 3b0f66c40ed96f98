//! A private world for each test: its own storage, home and configuration, the real binary, as
//! the user the test is about; and the promise that nothing of it is left behind.

mod command;
mod routed;
mod session;
mod tree;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

pub(crate) use command::{Outcome, Spfs};
use routed::Routed;
pub(crate) use routed::{ROUTED, own_mounts};
pub(crate) use session::Session;
pub(crate) use tree::{LIST, assert_same_tree, list};

/// No step of a test takes longer, or something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The user that stands for "an ordinary user" when the tests run as root.
const NOBODY: u32 = 65534;

/// Who runs the commands of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests.
    Myself,
    /// An ordinary user; the tests run as root.
    Nobody,
}

impl User {
    /// Everybody that commands can be run as here: root and an ordinary user where we are root.
    pub(crate) fn all() -> Vec<Self> {
        // On Linux only root can mount for all.
        let routed = std::env::var_os(ROUTED).is_some();
        if is_root() && !routed { vec![Self::Myself, Self::Nobody] } else { vec![Self::Myself] }
    }
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the root directory looks like to the commands of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// The machine's own.
    Host,
    /// One with an empty directory `/spfs`.
    WithSpfs,
    /// One without `/spfs`, which nobody can write to.
    WithoutSpfs,
}

/// One test's storage, home, configuration and files.
#[derive(Debug)]
pub(crate) struct World {
    dir: tempfile::TempDir,
    user: User,
    root: Root,
    routed: Option<Routed>,
}

impl World {
    /// A world of whoever runs the tests.
    pub(crate) fn new() -> Self {
        Self::of(User::Myself)
    }

    /// A world of root with a service, whose mount has this kind of root.
    pub(crate) fn routed(root: &str) -> Self {
        Self::with(User::Myself, Some(Routed::new(root)))
    }

    /// A world of this user.
    pub(crate) fn of(user: User) -> Self {
        Self::with(user, if user == User::Myself { Routed::asked_for() } else { None })
    }

    fn with(user: User, routed: Option<Routed>) -> Self {
        let dir = tempfile::Builder::new().prefix("spfs-e2e-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if user == User::Nobody {
            std::os::unix::fs::lchown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let world = Self { dir, user, root: Root::Host, routed };
        for name in ["home", "config", "work", "bin"] {
            fs::create_dir(world.path(name)).unwrap();
            world.give(&world.path(name));
        }
        let built = Path::new(env!("CARGO_BIN_EXE_spfs"));
        // The build directory may be closed to other users.
        if fs::hard_link(built, world.program()).is_err() {
            fs::copy(built, world.program()).unwrap();
        }
        if world.routed.is_some() {
            std::os::unix::fs::symlink(world.program(), world.path("bin/spfs-fuse")).unwrap();
        }
        world
    }

    /// Ends the service of a world that has one, if it serves nothing any more.
    fn end_service(&self) {
        if self.routed.is_some() {
            self.spfs(["shutdown"]).program(self.path("bin/spfs-fuse")).run();
        }
    }

    /// The same, seen from another root directory.
    pub(crate) fn under(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Where the binary lies.
    pub(crate) fn program(&self) -> PathBuf {
        self.path("bin/spfs")
    }

    /// The user of this world.
    pub(crate) fn user(&self) -> User {
        self.user
    }

    /// A path inside this world.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The storage root.
    pub(crate) fn storage(&self) -> PathBuf {
        self.path("storage")
    }

    /// Makes a directory with these files, owned by the world's user, and returns its path.
    ///
    /// A content of `-> target` makes a symbolic link, a path ending in `/` a directory.
    pub(crate) fn directory(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.path("work").join(name);
        fs::create_dir_all(&dir).unwrap();
        for (path, content) in files {
            let file = dir.join(path);
            if path.ends_with('/') {
                fs::create_dir_all(&file).unwrap();
                continue;
            }
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, &file).unwrap(),
                None => fs::write(&file, content).unwrap(),
            }
        }
        set_usual_modes(&dir);
        self.give(&dir);
        dir
    }

    /// Hands `path`, and what lies below it, to the world's user.
    pub(crate) fn give(&self, path: &Path) {
        if self.user == User::Myself {
            return;
        }
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    /// A command line of `spfs` in this world.
    pub(crate) fn spfs<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Spfs {
        Spfs::new(self, arguments)
    }

    /// Commits a directory of these files under `tag`.
    pub(crate) fn layer(&self, tag: &str, files: &[(&str, &str)]) {
        let dir = self.directory(&format!("layer-{}", tag.replace('/', "-")), files);
        self.spfs(["commit", "--path"]).arg(&dir).args(["--tag", tag]).succeeds();
    }

    /// The digest that a ref resolves to, as `spfs info --json` tells it.
    pub(crate) fn digest_of(&self, reference: &str) -> String {
        let out = self.spfs(["info", "--json", reference]).succeeds().stdout;
        let info: serde_json::Value = serde_json::from_str(&out).unwrap();
        info[0]["digest"].as_str().unwrap_or_else(|| panic!("no digest in {out}")).to_owned()
    }

    /// Starts a shell in a runtime and returns when it answers.
    pub(crate) fn session<S: AsRef<std::ffi::OsStr>>(
        &self,
        run_arguments: impl IntoIterator<Item = S>,
    ) -> Session {
        Session::start(self.spfs(["run"]).args(run_arguments).args(["--", "sh"]))
    }

    /// Names of the runtimes that are listed.
    pub(crate) fn runtimes(&self) -> Vec<String> {
        let out = self.spfs(["runtime", "list", "-q"]).succeeds().stdout;
        out.lines().map(str::to_owned).collect()
    }

    /// What is left of runtimes in the storage; the folder of a service stays.
    pub(crate) fn left_of_runtimes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.storage().join("runtimes")).into_iter().flatten();
        let mut left: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        if self.routed.is_some() {
            left.retain(|path| !path.ends_with("service#0"));
        }
        left
    }

    /// Processes with this world's path in their command line.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let needle = self.dir.path().as_os_str().as_encoded_bytes().to_vec();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            if line.windows(needle.len()).any(|part| part == needle) {
                found.push(pid);
            }
        }
        found
    }

    /// The daemon's process id of the only runtime.
    pub(crate) fn daemon(&self) -> u32 {
        let daemons: Vec<u32> =
            self.processes().into_iter().filter(|pid| name_of(*pid) == "spfs-fuse").collect();
        assert_eq!(daemons.len(), 1, "one daemon serves the only runtime: {daemons:?}");
        daemons[0]
    }

    /// Waits until nothing of this world runs any more.
    pub(crate) fn settle(&self) {
        wait_for("the world's processes to end", || {
            self.end_service();
            self.processes().is_empty()
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.processes().is_empty() && Instant::now() < deadline {
            self.end_service();
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = self.processes();
        let described: Vec<String> =
            left.iter().map(|pid| format!("{pid} ({})", name_of(*pid))).collect();
        for pid in &left {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid as i32) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or(());
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let here = self.dir.path().to_string_lossy().into_owned();
        let mounted = mounts.lines().any(|line| line.contains(&here));
        if !std::thread::panicking() {
            assert!(described.is_empty(), "processes left behind: {described:?}");
            assert!(!mounted, "mounts left behind:\n{mounts}");
        }
    }
}

/// Modes are part of a digest, and must not depend on the umask of whoever runs the tests.
fn set_usual_modes(path: &Path) {
    if path.is_symlink() {
        return;
    }
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            set_usual_modes(&entry.unwrap().path());
        }
    }
}

/// The kernel's name of a process.
pub(crate) fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Waits until `condition` holds; fails the test when it takes too long.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether real mounts can be made; says so loudly when not, and fails where they are required.
pub(crate) fn mounts_work() -> bool {
    static PREPARE: Once = Once::new();
    PREPARE.call_once(|| {
        if is_root() && Path::new("/dev/fuse").exists() {
            // Distributions ship it with this mode; minimal machines do not.
            fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap_or(());
        }
    });
    let able = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !able {
        assert!(
            std::env::var_os("SPFS_TEST_REQUIRE_MOUNTS").is_none_or(|value| value != "1"),
            "SPFS_TEST_REQUIRE_MOUNTS=1, and /dev/fuse cannot be opened"
        );
        eprintln!("SKIPPED: /dev/fuse cannot be opened, so nothing was mounted and tested");
    }
    able
}

/// Runs `body` once for each user, where mounts work.
pub(crate) fn as_each_user(body: impl Fn(&World)) {
    if !mounts_work() {
        return;
    }
    for user in User::all() {
        eprintln!("as {user:?}");
        body(&World::of(user));
    }
}
