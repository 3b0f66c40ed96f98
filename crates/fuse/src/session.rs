//! A mount being served.

use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spfs_vfs::api::{Ino, Vfs};

use crate::counters::Requests;
use crate::edge::Edge;
use crate::gate::Gate;
use crate::linger::Linger;
use crate::notify::{Notifier, Sent};
use crate::platform;
use crate::server::Server;
use crate::views::{Single, ViewId, Views};

/// A year: nothing changes in a view without the kernel asking for it or being told.
const TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the root of a mount with several views shows each caller his own. It has no meaning for a
/// mount with one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootMode {
    /// A name in the root is looked up in the caller's view each time.
    Lookup,
    /// A name in the root is a link, whose target the caller's view decides: `.rt/<view>/<name>`.
    /// What is below has one path for all, also for those who open a program by its path on behalf
    /// of another process.
    Link,
}

/// How a mount is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that read requests; `None` leaves it to us. macOS has one.
    pub threads: Option<NonZeroUsize>,
    /// How long the kernel may believe names (also names that do not exist) and attributes without
    /// asking again.
    pub ttl: Duration,
    /// Whether the kernel collects writes and keeps size and times itself meanwhile: many
    /// small writes then cost a fraction. In return it asks for attributes again after every close, also after
    /// reading, and tells us of the time of every unlink, rename and link: one request each. So a
    /// mount that is mostly read is better off without. It stays so for the life of the mount.
    pub writeback: bool,
    /// Whether the kernel opens and closes files without asking, where it can do that: a file that is in
    /// memory is then opened, read and closed without a single request. Nobody knows who has what open,
    /// so it is only for a mount of which nothing ever changes, with the kernel's read-only flag.
    pub silent_opens: bool,
    /// What the root shows.
    pub root: RootMode,
}

impl Options {
    /// For a mount that is read-only for all its life.
    pub fn read_only() -> Self {
        Self { writeback: false, silent_opens: true, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: None,
            ttl: TTL,
            writeback: true,
            silent_opens: false,
            root: RootMode::Lookup,
        }
    }
}

/// Serves one view on a FUSE device that is mounted already. The kernel's first request is answered
/// before this returns; the others are from then on, by threads of the session.
///
/// # Errors
/// When the device is not mounted (or no more), its protocol is too old, or threads cannot be
/// started.
pub fn serve<V: Vfs>(
    vfs: Arc<V>,
    device: OwnedFd,
    options: Options,
) -> io::Result<Session<Single<V>>> {
    serve_views(Single::new(vfs), device, options)
}

/// With one processor, looking for requests would keep from running whoever is to make them.
fn linger(device: &OwnedFd) -> io::Result<Linger> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let looks = platform::POLLED_DEVICE && processors > 1;
    Ok(Linger::at(looks.then(|| device.try_clone()).transpose()?))
}

/// Serves several views on one mount; see [`serve`].
///
/// # Errors
/// As [`serve`].
pub fn serve_views<W: Views>(
    views: W,
    device: OwnedFd,
    options: Options,
) -> io::Result<Session<W>> {
    let edge = Arc::new(Edge::new(views, &options)?);
    let config = platform::session_config(options.threads);
    let several = config.n_threads.is_some_and(|threads| threads > 1);
    let gate = Arc::new(Gate::new(linger(&device)?));
    // Who may enter is the mount's to say (allow_other, user namespaces), not ours.
    let session = fuser::Session::from_fd(
        Server::new(Arc::clone(&edge), options, Arc::clone(&gate)),
        device,
        fuser::SessionACL::All,
        config,
    )?;
    edge.set_kernel(session.notifier());
    let (notifier, notify_thread) = Notifier::start(session.notifier(), edge.has_links())?;
    edge.set_notifier(notifier.clone());
    let deputy = several.then(|| gate.start()).transpose()?;
    let end = Arc::new(End::default());
    let server = {
        let (notifier, end) = (notifier.clone(), Arc::clone(&end));
        std::thread::Builder::new().name("spfs-fuse".into()).spawn(move || {
            let result = match session.run() {
                // The kernel cut the connection off: that is an end, not a failure.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
                result => result,
            };
            gate.end();
            if let Some(deputy) = deputy {
                drop(deputy.join());
            }
            notifier.end();
            drop(notify_thread.join());
            end.reach(result);
        })?
    };
    Ok(Session { edge, notifier, end, server: Mutex::new(Some(server)) })
}

/// A mount being served by threads of its own.
///
/// It ends when the mount does: by unmounting, or when the last process of its mount namespace is
/// gone. Dropping the value changes nothing about that.
pub struct Session<W: Views> {
    edge: Arc<Edge<W>>,
    notifier: Notifier,
    end: Arc<End>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl<W: Views> std::fmt::Debug for Session<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("ended", &self.is_ended())
            .field("nodes", &self.nodes())
            .field("handles", &self.handles())
            .field("requests", &self.requests())
            .finish()
    }
}

impl<W: Views> Session<W> {
    /// Waits for the end of the mount. When it returns, no thread of the session is left and
    /// everything that was held for the kernel has been given back. May be called by several
    /// threads.
    ///
    /// # Errors
    /// What ended the session other than the end of the mount.
    pub fn wait(&self) -> io::Result<()> {
        let result = self.end.wait();
        if let Some(server) = self.server.lock().take() {
            // It has nothing left to do but to return.
            drop(server.join());
        }
        result
    }

    /// Whether the mount has ended.
    pub fn is_ended(&self) -> bool {
        self.end.is_reached()
    }

    /// Tells the kernel what changed behind its back.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// The inodes of a view that are open for writing. Only of these may the kernel hold written
    /// pages that have not come here: closing writes them.
    pub fn write_handles(&self, view: ViewId) -> Vec<Ino> {
        self.edge.writers(view)
    }

    /// Where everybody finds the root of a view, below the mount point; `None` when who asks decides
    /// what is there, or there is but one view.
    pub fn root_of(&self, view: ViewId) -> Option<PathBuf> {
        self.edge
            .has_links()
            .then(|| Path::new(OsStr::from_bytes(crate::links::FOLDER)).join(view.to_string()))
    }

    /// Gives back what is held for the nodes of a view that was taken away, and makes the kernel
    /// forget the path to it. Call it after the view is gone: see [`Views::view`].
    pub fn forget_view(&self, view: ViewId) -> Sent {
        self.edge.forget_view(view);
        self.notifier.forget_root(view)
    }

    /// How many nodes the kernel knows, without the root.
    pub fn nodes(&self) -> usize {
        self.edge.node_count()
    }

    /// How many files are open.
    pub fn handles(&self) -> usize {
        self.edge.handle_count()
    }

    /// What the kernel has asked so far.
    pub fn requests(&self) -> Requests {
        self.edge.counters.read()
    }

    /// How often the kernel gave back more lookups than it had made: always 0, or there is a bug.
    pub fn lookup_underflows(&self) -> u64 {
        self.edge.underflows()
    }
}

/// The end of a session, which several may wait for.
#[derive(Default)]
struct End {
    // An error cannot be copied; its kind and text can.
    result: Mutex<Option<Result<(), (io::ErrorKind, String)>>>,
    reached: Condvar,
}

impl End {
    fn reach(&self, result: io::Result<()>) {
        *self.result.lock() = Some(result.map_err(|error| (error.kind(), error.to_string())));
        self.reached.notify_all();
    }

    fn is_reached(&self) -> bool {
        self.result.lock().is_some()
    }

    fn wait(&self) -> io::Result<()> {
        let mut result = self.result.lock();
        loop {
            match &*result {
                Some(Ok(())) => return Ok(()),
                Some(Err((kind, text))) => return Err(io::Error::new(*kind, text.clone())),
                None => self.reached.wait(&mut result),
            }
        }
    }
}
