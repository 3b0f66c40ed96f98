//! Mounting for a test, and looking at what became of it.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use spfs_fuse::{Op, Options, Requests, Session, Single, ViewId, Views, serve_views};
use spfs_testkit::ModelFs;
use spfs_vfs::api::{Ino, Name, Vfs};

mod watched;
pub(crate) use watched::{Fault, Watched};

/// No test takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A user that owns nothing.
pub(crate) const NOBODY: u32 = 65534;

/// The view of every mount here.
pub(crate) const VIEW: ViewId = ViewId::FIRST;

/// A mounted file system; unmounted when dropped, also by a panic.
pub(crate) struct Mounted<V: Vfs, W: Views<Vfs = V> = Single<V>> {
    root: PathBuf,
    fs: Arc<V>,
    session: Option<Session<W>>,
    _directory: tempfile::TempDir,
    _watchdog: Watchdog,
}

/// A mounted model file system.
pub(crate) type Model = Mounted<Watched>;

/// Mounts an empty model file system; `None` when nothing can be mounted here, which has then been
/// said.
pub(crate) fn model() -> Option<Model> {
    mount_with(Arc::new(Watched::new(ModelFs::with_system_clock())), Options::default())
}

/// Mounts `fs`.
pub(crate) fn mount_with<V: Vfs>(fs: Arc<V>, options: Options) -> Option<Mounted<V>> {
    mount_views(Single::new(Arc::clone(&fs)), fs, options)
}

/// Mounts `views`, of which `fs` is the first.
pub(crate) fn mount_views<W: Views>(
    views: W,
    fs: Arc<W::Vfs>,
    options: Options,
) -> Option<Mounted<W::Vfs, W>> {
    let device = match open_device() {
        Ok(device) => device,
        Err(reason) => {
            let required = std::env::var_os("SPFS_TEST_REQUIRE_MOUNTS").is_some_and(|v| v == "1");
            assert!(!required, "mounts are required here, but {reason}");
            eprintln!("SKIPPED: {reason}");
            return None;
        }
    };
    let directory = tempfile::tempdir().unwrap();
    // Other users come through here in the tests of permissions.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = directory.path().join("spfs");
    fs::create_dir(&root).unwrap();
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_fd().as_raw_fd()
    );
    let data = CString::new(data).unwrap();
    mount("spfs", &root, "fuse.spfs", MountFlags::NOSUID | MountFlags::NODEV, data.as_c_str())
        .unwrap();
    let watchdog = Watchdog::start(&root);
    let session = serve_views(views, device, options).unwrap();
    Some(Mounted { root, fs, session: Some(session), _directory: directory, _watchdog: watchdog })
}

fn open_device() -> Result<OwnedFd, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("mounting needs root".into());
    }
    rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("/dev/fuse cannot be opened: {error}"))
}

impl<V: Vfs, W: Views<Vfs = V>> Mounted<V, W> {
    /// A path inside the mount.
    pub(crate) fn path(&self, inner: impl AsRef<Path>) -> PathBuf {
        self.root.join(inner)
    }

    /// The mount point.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The file system behind the mount.
    pub(crate) fn fs(&self) -> &Arc<V> {
        &self.fs
    }

    /// The session that serves the mount.
    pub(crate) fn session(&self) -> &Session<W> {
        self.session.as_ref().unwrap()
    }

    /// What the kernel asks while `work` runs. Requests for which nobody waits may come later.
    pub(crate) fn requests_of<T>(&self, work: impl FnOnce() -> T) -> (T, Requests) {
        self.settle();
        let before = self.session().requests();
        let value = work();
        self.settle();
        (value, self.session().requests().since(&before))
    }

    /// Checks that the kernel knows enough for `work` to need no more than `most`. What it knows it
    /// may drop at any time, when somebody on this machine needs memory: one try of five must do.
    pub(crate) fn needs_at_most(&self, most: &[(Op, u64)], mut work: impl FnMut()) {
        let silent = [Op::Statfs, Op::Release, Op::Forget];
        let mut tries = Vec::new();
        for _ in 0..5 {
            let ((), requests) = self.requests_of(&mut work);
            let allowed = |op| most.iter().find(|row| row.0 == op).map_or(0, |row| row.1);
            let asked = |op: &&Op| !silent.contains(op) && requests.of(**op) > allowed(**op);
            if Op::ALL.iter().find(asked).is_none() {
                return;
            }
            tries.push(requests);
        }
        panic!("more than {most:?} each time: {tries:#?}");
    }

    /// Waits until the kernel has sent what it still had to send: when a request of ours goes
    /// through and nothing else came meanwhile, twice.
    pub(crate) fn settle(&self) {
        let mut quiet = 0;
        let mut before = self.session().requests();
        let deadline = Instant::now() + LIMIT;
        while quiet < 3 {
            assert!(Instant::now() < deadline, "the kernel does not stop asking");
            // A round trip behind the requests that are queued already.
            rustix::fs::statvfs(&self.root).unwrap();
            std::thread::yield_now();
            let after = self.session().requests();
            let new = after.since(&before);
            quiet = if new.total() == new.of(Op::Statfs) { quiet + 1 } else { 0 };
            before = after;
        }
    }

    /// The inode number in the view of something at `inner`.
    pub(crate) fn ino(&self, inner: impl AsRef<Path>) -> Ino {
        let mut ino = Ino::ROOT;
        for name in inner.as_ref() {
            let name = Name::new(name.as_encoded_bytes()).unwrap();
            ino = self.fs.lookup(ino, name).unwrap().ino;
        }
        ino
    }

    /// For who has unmounted already.
    pub(crate) fn detached(mut self) -> (Arc<V>, Session<W>) {
        (Arc::clone(&self.fs), self.session.take().unwrap())
    }

    /// Unmounts and waits for the end of the session.
    pub(crate) fn unmount(mut self) -> Session<W> {
        unmount(&self.root, UnmountFlags::empty()).unwrap();
        let session = self.session.take().unwrap();
        session.wait().unwrap();
        session
    }
}

impl<V: Vfs, W: Views<Vfs = V>> Drop for Mounted<V, W> {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Detached, for a failing test may still have files open; forced, for nobody shall wait.
        let detached = unmount(&self.root, UnmountFlags::DETACH | UnmountFlags::FORCE);
        if std::thread::panicking() {
            return;
        }
        detached.unwrap();
        session.wait().unwrap();
        assert_eq!(session.lookup_underflows(), 0);
    }
}

/// Asks for the attributes of a file that is there, which is all.
pub(crate) fn stat(path: impl AsRef<Path>) {
    assert!(fs::metadata(path).unwrap().ino() != 0);
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Ends the process when a test hangs: first the connection, so that nobody is left waiting in the
/// kernel.
struct Watchdog {
    _test: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(root: &Path) -> Self {
        let (test, end) = mpsc::channel::<()>();
        let root = root.to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("a test on {} hangs", root.display());
                // Whatever comes of it, the process ends.
                let _ = unmount(&root, UnmountFlags::FORCE | UnmountFlags::DETACH);
                std::process::abort();
            }
        });
        Self { _test: test }
    }
}
