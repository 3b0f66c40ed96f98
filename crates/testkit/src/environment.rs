//! What tests need of the machine, and what they do without it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The user that unprivileged parts of tests run as: nobody.
pub const NOBODY: u32 = 65534;

/// Tells whether file systems can be mounted here. Where they cannot, says so on standard error, so
/// that a skipped test is seen, and panics if `SPFS_TEST_REQUIRE_MOUNTS=1`.
#[must_use]
pub fn require_mounts() -> bool {
    let Err(reason) = can_mount() else { return true };
    skip(&format!("no mounts: {reason}"), "SPFS_TEST_REQUIRE_MOUNTS");
    false
}

fn can_mount() -> Result<(), String> {
    let device = Path::new("/dev/fuse");
    if !Path::new("/dev/macfuse0").exists() {
        let open = std::fs::OpenOptions::new().read(true).write(true).open(device);
        open.map_err(|error| format!("{}: {error}", device.display()))?;
    }
    if is_root() {
        return Ok(());
    }
    let path = "/proc/sys/user/max_user_namespaces";
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim() == "0" => Err(format!("{path} is 0 and this is not root")),
        _ => Ok(()),
    }
}

/// Tells whether this is root. Where it is not, says so on standard error, and panics if
/// `SPFS_TEST_REQUIRE_ROOT=1`.
#[must_use]
pub fn require_root() -> bool {
    if !is_root() {
        skip("this is not root", "SPFS_TEST_REQUIRE_ROOT");
    }
    is_root()
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says loudly that a test cannot run here.
///
/// # Panics
/// Where the variable `insist` is `1`: there it has to run.
pub fn skip(reason: &str, insist: &str) {
    if std::env::var_os(insist).is_some_and(|value| value == "1") {
        panic!("{insist}=1, but {reason}");
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not captured by the test harness, which shows nothing of tests that pass.
    let _ = writeln!(io::stderr().lock(), "SKIPPED {test}: {reason}");
}

/// Waits until `condition` holds, at most as long as `limit`; returns whether it does.
#[must_use]
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Lets a command run as an unprivileged user: as [`NOBODY`] without groups when this is root.
pub fn unprivileged(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    if is_root() {
        // With a user of its own, std drops the supplementary groups of root as well.
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Makes a directory below which [`NOBODY`] may do what it likes.
pub fn open_directory() -> io::Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
    Ok(dir)
}

/// Makes a directory for a test that makes many files: in memory where the machine has such a
/// volume, unless `TMPDIR` says otherwise.
pub fn memory_directory() -> io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let asked = std::env::var_os("TMPDIR").is_some();
    if memory.is_dir() && !asked { TempDir::new_in(memory) } else { TempDir::new() }
}

/// A mounted file system and what serves it.
#[derive(Debug)]
pub struct Mounted<G> {
    guard: Option<G>,
    dir: TempDir,
}

impl<G> Mounted<G> {
    /// Makes a mount point and lets `mount` mount something there; what it returns ends the mount
    /// when it is dropped.
    pub fn new<E>(mount: impl FnOnce(&Path) -> Result<G, E>) -> Result<Self, E>
    where
        E: From<io::Error>,
    {
        let dir = open_directory()?;
        let guard = mount(dir.path())?;
        Ok(Self { guard: Some(guard), dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the mount point.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// What serves it.
    pub fn guard(&self) -> &G {
        self.guard.as_ref().expect("the guard is taken only when this is dropped")
    }
}

impl<G> Drop for Mounted<G> {
    fn drop(&mut self) {
        self.guard = None;
        let path = self.dir.path();
        let ended = wait_until(Duration::from_secs(10), || !is_mount_point(path));
        if !ended && !std::thread::panicking() {
            panic!("{} is still mounted", path.display());
        }
    }
}

/// Whether another volume begins at a path. A mount whose server has died counts.
pub fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|stat| stat.dev());
    let parent = path.parent().unwrap_or(path);
    match (device(path), device(parent)) {
        (Ok(here), Ok(above)) => here != above,
        (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
        _ => false,
    }
}
