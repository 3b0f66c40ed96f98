//! The process that serves one runtime in a mount of its own.
//!
//! It stays outside the runtime's namespaces, so that the mount ends with the last process of the
//! runtime; that end is what ends this process. Whatever may wait is done by threads that answer
//! no requests of the kernel.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use spfs_repo::{Encoding, RepoError, Repository};
use spfs_runtime::enter::LiveMount;
use spfs_runtime::{
    FolderLock, LiveError, LiveRuntime, MountBackend, RuntimeError, RuntimeName, Runtimes,
};
use spfs_sys::limits::{self, TooFewFiles};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::args::RuntimeArguments;
use crate::failure::chain;
use crate::handshake::{Entered, Handshake};
use crate::launch::DAEMON_NAME;
use crate::log;
use crate::mounted::{Mount, MountedRuntime};
use crate::remount::MOUNTPOINT;
use crate::serve;
use crate::signals::EndSignals;
use crate::upkeep;

/// Of so many open files a daemon needs about a third for itself; each file that is open in a
/// runtime takes one.
pub(crate) const FILES_MIN: u64 = 64;

/// Requests that are answered at the same time.
const BLOCKING_THREADS_MAX: usize = 8;

/// Why a runtime could not be served, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("the descriptor {number} of the entering process cannot be used")]
    Descriptor { number: i32, source: io::Error },
    #[error("cannot open the repository {}", root.display())]
    Storage { root: PathBuf, source: RepoError },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    #[error("cannot start a thread")]
    Thread { source: io::Error },
    #[error("the process that enters the runtime has ended, or does not do as agreed")]
    Entering { source: io::Error },
    #[error("cannot serve the mount of runtime {name}")]
    Mount { name: RuntimeName, source: io::Error },
    #[error("cannot listen on {}", socket.display())]
    Listen { socket: PathBuf, source: io::Error },
    #[error("the mount of runtime {name} broke down; what was changed is kept")]
    Broken { name: RuntimeName, source: io::Error },
}

/// Serves the runtime from its start to its end.
pub(crate) fn main(arguments: &RuntimeArguments) -> ExitCode {
    log::start(&arguments.log, log::Kind::Background);
    // Names are for people; a process without one serves as well.
    drop(spfs_sys::process::set_name(DAEMON_NAME));
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RuntimeArguments) -> Result<(), DaemonError> {
    let number = arguments.handshake;
    let handshake = spfs_sys::process::take_inherited(number)
        .map(Handshake::new)
        .map_err(|source| DaemonError::Descriptor { number, source })?;
    leave_outer_runtime(arguments);
    let served = match start(arguments, &handshake) {
        Ok(served) => served,
        Err(error) => {
            // The other process may be gone.
            drop(handshake.refuse(&chain(&error)));
            if arguments.fresh {
                discard(arguments);
            }
            return Err(error);
        }
    };
    if let Err(error) = handshake.accept() {
        tracing::warn!(%error, "the process that entered the runtime is gone");
    }
    served.until_the_end()
}

/// Loads the stack while the other process makes its namespaces, and serves when both are done.
fn start(arguments: &RuntimeArguments, handshake: &Handshake) -> Result<Served, DaemonError> {
    let files = limits::raise_nofile_to(FILES_MIN);
    let opening = {
        let arguments = arguments.clone();
        std::thread::Builder::new()
            .name("spfs-open".into())
            .spawn(move || Opened::new(&arguments))
            .map_err(|source| DaemonError::Thread { source })?
    };
    // What is wrong is told to a process that listens: it sends before that.
    let entered = handshake.receive();
    let opened = opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    files?;
    opened?.serve(entered.map_err(|source| DaemonError::Entering { source })?)
}

/// A process in a mount namespace holds its mounts. Ordinary users cannot leave one; for them the
/// runtime around ours ends no earlier than ours.
fn leave_outer_runtime(arguments: &RuntimeArguments) {
    let Some(outer) = &arguments.outer else { return };
    if !spfs_sys::mount::am_privileged() {
        return;
    }
    let folder = spfs_runtime::RuntimeFolder::new(&arguments.storage, outer);
    let Some(pid) = folder.holder() else { return };
    if let Err(error) = spfs_sys::mount::join_mount_namespace(pid) {
        tracing::warn!("cannot leave runtime {outer}: {}", chain(&error));
    }
}

/// Takes away what was made for a start that failed.
fn discard(arguments: &RuntimeArguments) {
    let done = runtimes(arguments).and_then(|runtimes| Ok(runtimes.discard(&arguments.name)?));
    if let Err(error) = done {
        tracing::warn!("cannot remove runtime {}: {}", arguments.name, chain(&error));
    }
}

fn runtimes(arguments: &RuntimeArguments) -> Result<Runtimes, DaemonError> {
    let root = &arguments.storage;
    let encoding =
        Encoding { strategy: arguments.digest_strategy, format: arguments.encoding_format };
    let repository = Repository::open(root)
        .map_err(|source| DaemonError::Storage { root: root.clone(), source })?
        .with_encoding(encoding);
    let uid = spfs_sys::ids::euid();
    let user = spfs_sys::ids::user_name(uid).unwrap_or_else(|| uid.to_string().into());
    let text = |name: OsString| name.to_string_lossy().into_owned();
    Ok(Runtimes::new(Arc::new(repository), text(user), text(spfs_sys::ids::host_name())))
}

/// A runtime that can be served.
struct Opened {
    runtimes: Runtimes,
    live: LiveRuntime,
    lock: FolderLock,
}

impl Opened {
    fn new(arguments: &RuntimeArguments) -> Result<Self, DaemonError> {
        let runtimes = runtimes(arguments)?;
        let name = &arguments.name;
        let lock = lock(&runtimes, name)?;
        let live = LiveRuntime::open(runtimes.clone(), name.clone())?;
        Ok(Self { runtimes, live, lock })
    }

    fn serve(self, entered: Entered) -> Result<Served, DaemonError> {
        let Self { runtimes, live, lock } = self;
        let live = Arc::new(live);
        let folder = live.folder();
        folder.remove_socket()?;
        let socket = folder.socket();
        let listener = spfs_sys::socket::bind(&socket, 0o600)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| DaemonError::Listen { socket, source })?;
        let view = Arc::clone(live.view());
        if let Err(error) = view.start_reading_ahead() {
            tracing::warn!(%error, "small files are not read ahead");
        }
        let session = spfs_fuse::serve(view, entered.device, fuse_options(live.backend()))
            .map_err(|source| DaemonError::Mount { name: live.name().clone(), source })?;
        live.started(entered.pid, Some(&entered.namespace))?;
        let shown = LiveMount::all(&live.record(), Path::new(MOUNTPOINT));
        let shown = shown.map_err(RuntimeError::from)?;
        let mount = Mount { namespace: entered.namespace, pid: entered.pid, live: shown };
        let control = Arc::new(MountedRuntime::new(live, session, mount));
        Served::new(runtimes, control, listener, lock)
    }
}

/// A runtime that can become editable needs to be told of every open file.
fn fuse_options(backend: MountBackend) -> spfs_fuse::Options {
    if backend.supports_editable() {
        spfs_fuse::Options::default()
    } else {
        spfs_fuse::Options::read_only()
    }
}

pub(crate) fn lock(runtimes: &Runtimes, name: &RuntimeName) -> Result<FolderLock, DaemonError> {
    let Some(lock) = runtimes.folder(name).lock_soon()? else {
        return Err(RuntimeError::InUse { name: name.clone() }.into());
    };
    if let Err(error) = lock.note_holder(std::process::id()) {
        tracing::warn!(%error, "cannot note who serves the runtime");
    }
    Ok(lock)
}

/// A runtime whose mount and control socket are served.
struct Served {
    runtimes: Runtimes,
    control: Arc<MountedRuntime>,
    lock: FolderLock,
    executor: tokio::runtime::Runtime,
    events: Events,
}

/// What the end can come from, and what goes on until then.
struct Events {
    mount_ended: oneshot::Receiver<io::Result<()>>,
    signals: EndSignals,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    stop_server: oneshot::Sender<()>,
    _stop_syncing: mpsc::Sender<()>,
}

/// Why a process stops serving.
enum End {
    /// The mount has ended.
    Unmounted,
    /// Somebody asked for it.
    Asked,
    /// The mount could not be served any more.
    Broken(io::Error),
}

impl Served {
    fn new(
        runtimes: Runtimes,
        control: Arc<MountedRuntime>,
        listener: std::os::unix::net::UnixListener,
        lock: FolderLock,
    ) -> Result<Self, DaemonError> {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(|source| DaemonError::Thread { source })?;
        let events = {
            let _context = executor.enter();
            Events::new(&control, listener)?
        };
        Ok(Self { runtimes, control, lock, executor, events })
    }

    fn until_the_end(self) -> Result<(), DaemonError> {
        let Self { runtimes, control, lock, executor, events } = self;
        let saving = Arc::clone(&control);
        executor.spawn_blocking(move || tidy_up(&saving, &runtimes));
        let end = executor.block_on(events.wait_for_the_end(&control));
        executor.shutdown_background();
        let live = control.live();
        match end {
            End::Unmounted => Ok(live.end(lock)?),
            End::Asked => {
                control.quiesce();
                Ok(live.end(lock)?)
            }
            End::Broken(source) => Err(DaemonError::Broken { name: live.name().clone(), source }),
        }
    }
}

impl Events {
    fn new(
        control: &Arc<MountedRuntime>,
        listener: std::os::unix::net::UnixListener,
    ) -> Result<Self, DaemonError> {
        let socket = control.live().folder().socket();
        let listener = UnixListener::from_std(listener)
            .map_err(|source| DaemonError::Listen { socket, source })?;
        let (stop_server, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(serve::serve(
            serve::Listener::Unix(listener),
            Arc::clone(control),
            stopped,
        ));
        let mount = Arc::clone(control);
        let (ended, mount_ended) = oneshot::channel();
        start_thread("spfs-end", move || drop(ended.send(mount.wait())))?;
        let live = Arc::clone(control.live());
        let (stop_syncing, stopped) = mpsc::channel();
        start_thread("spfs-sync", move || upkeep::keep(&*live, &stopped))?;
        let signals = EndSignals::new().map_err(|source| DaemonError::Thread { source })?;
        Ok(Self { mount_ended, signals, server, stop_server, _stop_syncing: stop_syncing })
    }

    async fn wait_for_the_end(mut self, control: &MountedRuntime) -> End {
        let end = tokio::select! {
            result = self.mount_ended => match result {
                Ok(Ok(())) => End::Unmounted,
                Ok(Err(error)) => End::Broken(error),
                Err(_) => End::Broken(io::Error::other("nobody waits for the end of the mount")),
            },
            () = self.signals.received() => End::Asked,
            () = control.asked_to_end() => End::Asked,
        };
        drop(self.stop_server);
        match self.server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the control socket failed: {}", chain(&error)),
            Err(error) => tracing::warn!("the control socket failed: {error}"),
        }
        end
    }
}

pub(crate) fn start_thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), DaemonError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|source| DaemonError::Thread { source })
}

/// What a start put off: the record is saved, and what earlier runtimes left is removed.
fn tidy_up(control: &MountedRuntime, runtimes: &Runtimes) {
    if let Err(error) = control.live().save() {
        tracing::error!("{}", chain(&error));
    }
    if let Err(error) = runtimes.clean_leftovers() {
        tracing::warn!("{}", chain(&error));
    }
}
