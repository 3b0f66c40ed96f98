//! The service: one mount that shows each process its own view, and the control protocol beside it.
//!
//! What is asked of a view, and what ends one, is in `host` and `view`; here is the life of the
//! process: what an earlier one left is taken away, the mount is made and served, and at the end
//! nothing of it is left but durable runtimes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use spfs_fuse::RootMode;
use spfs_repo::RepoError;
use spfs_sys::limits::{self, TooFewFiles};
use spfs_sys::lock::Lock;
use spfs_sys::mount::MountError;
use spfs_sys::process::System;
use spfs_vfs::View;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};

use crate::args::{ServiceArguments, ServiceRoot};
use crate::daemon::FILES_MIN;
use crate::failure::chain;
use crate::launch::DAEMON_NAME;
use crate::log;
use crate::router::{Emptied, Router};
use crate::serve::{self, Listener};
use crate::settings::{Defaults, Settings};
use crate::signals::EndSignals;
use crate::start::{Ready, ServiceLaunch, start_service_with};
use crate::upkeep;
use crate::volume::ServedVolume;

mod host;
mod mounting;
mod view;

use host::RoutedHost;
use mounting::{claim, default_view, mount, release};

/// Of the descriptors that this process may have, the router takes at most one of so many.
const FOLLOW_SHARE: u64 = 4;

/// Requests that are answered at the same time: commits take long, and nobody waits for those of
/// others.
const BLOCKING_THREADS_MAX: usize = 64;

/// Why a service ended, or never began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoutedError {
    #[error("cannot open the repository {}", root.display())]
    Storage { root: PathBuf, source: RepoError },
    #[error("cannot use the folder of the service in {}", root.display())]
    Folder { root: PathBuf, source: io::Error },
    #[error("a service for {} is running already; see 'spfs-fuse status'", root.display())]
    Running { root: PathBuf },
    #[error("{} is served already by a process of {owner}", mountpoint.display())]
    Mounted { mountpoint: PathBuf, owner: String },
    #[error("somebody holds a lock on the folder of {}: another service that is starting there?", mountpoint.display())]
    Claimed { mountpoint: PathBuf },
    #[error("cannot use {} as mount point{hint}", mountpoint.display())]
    Mountpoint { mountpoint: PathBuf, hint: &'static str, source: io::Error },
    #[error("cannot look at the mounts of this machine")]
    Table { source: MountError },
    #[error("cannot mount on {}", mountpoint.display())]
    Mount { mountpoint: PathBuf, source: io::Error },
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    #[error("cannot start a thread")]
    Thread { source: io::Error },
}

/// Runs a service to its end, or starts one.
pub(crate) fn main(arguments: &ServiceArguments, defaults: Defaults<'_>) -> ExitCode {
    match Settings::new(&arguments.storage, defaults) {
        Ok(settings) if arguments.foreground => run(arguments, &settings),
        Ok(settings) => in_background(arguments, &settings),
        Err(reason) => {
            crate::report(&reason);
            ExitCode::FAILURE
        }
    }
}

fn in_background(arguments: &ServiceArguments, settings: &Settings) -> ExitCode {
    let started = spfs_sys::process::own_executable()
        .map_err(|error| format!("cannot tell where this program lies: {error}"))
        .and_then(|program| {
            let mountpoint = absolute(&arguments.mountpoint);
            let (program, mountpoint, root) = (&program, &mountpoint, arguments.root);
            let launch = ServiceLaunch { program, mountpoint, root, settings };
            start_service_with(&launch, arguments.listen).map_err(|error| chain(&error))
        });
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            crate::report(&reason);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &ServiceArguments, settings: &Settings) -> ExitCode {
    log::start(&settings.log, log::Kind::of(arguments.ready));
    // Names are for people; a process without one serves as well.
    drop(spfs_sys::process::set_name(DAEMON_NAME));
    let ready = match Ready::take(arguments.ready) {
        Ok(ready) => ready,
        Err(error) => {
            crate::report(&format!("the descriptor to report on cannot be used: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match Service::start(arguments, settings) {
        Ok(service) => {
            ready.say();
            service.until_the_end()
        }
        Err(error) => {
            match &error {
                RoutedError::Running { .. } => ready.refuse_second(&chain(&error)),
                _ => ready.refuse(&chain(&error)),
            }
            ExitCode::FAILURE
        }
    }
}

/// The path without links and dots in what is above its last name. The mount itself is not looked
/// at: nobody may be answering.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path,
    }
}

/// A service that has begun. Fields are dropped in this order: the mount goes before the lock.
struct Service {
    host: Arc<RoutedHost>,
    executor: tokio::runtime::Runtime,
    events: Events,
    mount: ServedVolume<Router<View>>,
    socket: PathBuf,
    _lock: Lock,
}

struct Events {
    signals: EndSignals,
    unmounted: oneshot::Receiver<()>,
    servers: Vec<tokio::task::JoinHandle<Result<(), tonic::transport::Error>>>,
    stop_servers: watch::Sender<bool>,
    _stop_syncing: mpsc::Sender<()>,
}

/// What threads of their own are told of.
struct Told {
    emptied: Emptied,
    unsaved: host::Unsaved,
}

impl Service {
    fn start(arguments: &ServiceArguments, settings: &Settings) -> Result<Self, RoutedError> {
        let root = &settings.storage_root;
        let runtimes = settings
            .runtimes()
            .map_err(|source| RoutedError::Storage { root: root.clone(), source })?;
        let (folder, lock) = lock(root)?;
        let mountpoint = absolute(&arguments.mountpoint);
        let claim = claim(&mountpoint)?;
        release(&mountpoint)?;
        let files = limits::raise_nofile_to(FILES_MIN)?;
        let follow_max = usize::try_from(files / FOLLOW_SHARE).unwrap_or(usize::MAX);
        let uid = spfs_sys::ids::euid();
        let (router, emptied) = Router::start(uid, default_view(), Box::new(System), follow_max)
            .map_err(|source| RoutedError::Thread { source })?;
        let mode = match arguments.root {
            ServiceRoot::Lookup => RootMode::Lookup,
            ServiceRoot::Link => RootMode::Link,
        };
        let mount = mount(&mountpoint, router.clone(), mode)?;
        drop(claim);
        let socket = folder.join("control.sock");
        let (host, unsaved) = RoutedHost::new(
            runtimes,
            settings.secondary_repositories.clone(),
            router,
            Arc::clone(&mount.session),
            mountpoint,
            socket.clone(),
        );
        let host = Arc::new(host);
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(|source| RoutedError::Thread { source })?;
        let events = {
            let _context = executor.enter();
            Events::new(arguments, &host, &mount, Told { emptied, unsaved }, &socket)?
        };
        let tidy = Arc::clone(&host);
        executor.spawn_blocking(move || tidy.clean_leftovers());
        Ok(Self { host, executor, events, mount, socket, _lock: lock })
    }

    fn until_the_end(self) -> ExitCode {
        let Self { host, executor, events, mount, socket, _lock } = self;
        executor.block_on(events.wait_for_the_end(&host));
        executor.shutdown_background();
        host.end_all();
        drop(mount);
        // A later service makes it anew; nobody listens there now.
        drop(std::fs::remove_file(socket));
        ExitCode::SUCCESS
    }
}

fn lock(root: &Path) -> Result<(PathBuf, Lock), RoutedError> {
    let failed = |source| RoutedError::Folder { root: root.to_owned(), source };
    let folder =
        spfs_runtime::create_service_folder(root, spfs_sys::ids::euid()).map_err(failed)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("lock"))
        .map_err(failed)?;
    match Lock::try_exclusive(file).map_err(failed)? {
        Some(lock) => Ok((folder, lock)),
        None => Err(RoutedError::Running { root: root.to_owned() }),
    }
}

impl Events {
    fn new(
        arguments: &ServiceArguments,
        host: &Arc<RoutedHost>,
        mount: &ServedVolume<Router<View>>,
        told: Told,
        socket: &Path,
    ) -> Result<Self, RoutedError> {
        let Told { emptied, unsaved } = told;
        let thread = |source| RoutedError::Thread { source };
        let (stop_servers, stopped) = watch::channel(false);
        let mut servers = Vec::new();
        for listener in listeners(arguments, socket)? {
            let mut stopped = stopped.clone();
            let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
            servers.push(tokio::spawn(serve::serve(listener, Arc::clone(host), stop)));
        }
        let watcher = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(thread)
        };
        let ends = Arc::clone(host);
        watcher("spfs-ends", Box::new(move || emptied.iter().for_each(|view| ends.emptied(view))))?;
        watcher("spfs-save", Box::new(move || host::save_records(&unsaved)))?;
        let (ended, unmounted) = oneshot::channel();
        let session = Arc::clone(&mount.session);
        watcher(
            "spfs-end",
            Box::new(move || {
                drop(session.wait());
                let _ = ended.send(());
            }),
        )?;
        let (stop_syncing, stopped) = mpsc::channel::<()>();
        let syncing = Arc::clone(host);
        watcher("spfs-sync", Box::new(move || upkeep::keep(&*syncing, &stopped)))?;
        let signals = EndSignals::new().map_err(thread)?;
        Ok(Self { signals, unmounted, servers, stop_servers, _stop_syncing: stop_syncing })
    }

    async fn wait_for_the_end(mut self, host: &RoutedHost) {
        tokio::select! {
            _ = self.unmounted => tracing::warn!("the mount was taken away"),
            () = self.signals.received() => {}
            () = host.asked_to_end() => {}
        }
        host.stop();
        let _ = self.stop_servers.send(true);
        for server in self.servers {
            match server.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("a control socket failed: {}", chain(&error)),
                Err(error) => tracing::warn!("a control socket failed: {error}"),
            }
        }
    }
}

fn listeners(arguments: &ServiceArguments, socket: &Path) -> Result<Vec<Listener>, RoutedError> {
    let failed = |source| RoutedError::Listen { address: socket.display().to_string(), source };
    // The lock is ours: whoever listened there is gone.
    drop(std::fs::remove_file(socket));
    let listener = spfs_sys::socket::bind(socket, 0o600).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let mut listeners = vec![Listener::Unix(UnixListener::from_std(listener).map_err(failed)?)];
    if let Some(address) = arguments.listen {
        let failed = |source| RoutedError::Listen { address: address.to_string(), source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        listeners.push(Listener::Tcp(TcpListener::from_std(listener).map_err(failed)?));
    }
    Ok(listeners)
}
