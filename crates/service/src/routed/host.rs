//! The runtimes of a service: given to processes, and taken away again.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};

use parking_lot::Mutex;
use spfs_fuse::{Session, ViewId};
use spfs_model::EnvSpec;
use spfs_runtime::{
    LiveRuntime, LiveShown, MountBackend, NewRuntime, RuntimeError, RuntimeName, Runtimes,
};
use spfs_vfs::{Leftovers, View};
use tokio::sync::Notify;

use super::view::RoutedView;
use crate::client::Figures;
use crate::daemon::{self, DaemonError};
use crate::failure::{Failure, FailureCode, chain};
use crate::proto;
use crate::router::{RouteError, Router};
use crate::serve::{Host, MountOptions, MountedAt, UnmountOptions, WhichRuntime};
use crate::upkeep::Kept;

/// The runtimes of a service.
pub(super) struct RoutedHost {
    runtimes: Runtimes,
    secondary: Vec<String>,
    router: Router<View>,
    session: Arc<Session<Router<View>>>,
    mountpoint: PathBuf,
    socket: PathBuf,
    views: Mutex<Views>,
    unsaved: mpsc::Sender<Weak<LiveRuntime>>,
    stopping: AtomicBool,
    end: Notify,
}

/// Runtimes whose records have still to be saved; one that has ended meanwhile has none.
pub(super) type Unsaved = mpsc::Receiver<Weak<LiveRuntime>>;

/// Saves the records of runtimes as they are started.
pub(super) fn save_records(unsaved: &Unsaved) {
    for live in unsaved.iter().filter_map(|live| live.upgrade()) {
        if let Err(error) = live.save() {
            tracing::error!("{}", chain(&error));
        }
    }
}

#[derive(Default)]
struct Views {
    by_name: BTreeMap<String, Arc<RoutedView>>,
    /// Names of runtimes that are being opened.
    starting: HashSet<String>,
}

impl RoutedHost {
    pub(super) fn new(
        runtimes: Runtimes,
        secondary: Vec<String>,
        router: Router<View>,
        session: Arc<Session<Router<View>>>,
        mountpoint: PathBuf,
        socket: PathBuf,
    ) -> (Self, Unsaved) {
        let (unsaved, receiver) = mpsc::channel();
        let host = Self {
            runtimes,
            secondary,
            router,
            session,
            mountpoint,
            socket,
            views: Mutex::default(),
            unsaved,
            stopping: AtomicBool::new(false),
            end: Notify::new(),
        };
        (host, receiver)
    }

    /// Ready when a request has asked for the end.
    pub(super) async fn asked_to_end(&self) {
        self.end.notified().await;
    }

    /// Takes no more runtimes.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Ends all runtimes.
    pub(super) fn end_all(&self) {
        self.stop();
        for view in self.all() {
            self.end_view(&view);
        }
        self.router.stop();
    }

    /// The last process of a view has ended.
    pub(super) fn emptied(&self, id: ViewId) {
        let found = self.all().into_iter().find(|view| view.id == id);
        // Another process may have joined meanwhile.
        if let Some(view) = found.filter(|view| self.router.members(view.id) == 0) {
            self.end_view(&view);
        }
    }

    pub(super) fn clean_leftovers(&self) {
        if let Err(error) = self.runtimes.clean_leftovers() {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn all(&self) -> Vec<Arc<RoutedView>> {
        self.views.lock().by_name.values().map(Arc::clone).collect()
    }

    fn end_view(&self, view: &RoutedView) {
        view.end();
        let mut views = self.views.lock();
        let name = view.live.name().as_str();
        if views.by_name.get(name).is_some_and(|found| found.id == view.id) {
            views.by_name.remove(name);
        }
    }

    fn find(&self, name: &str) -> Result<Arc<RoutedView>, Failure> {
        let views = self.views.lock();
        let only = (name.is_empty() && views.by_name.len() == 1)
            .then(|| views.by_name.values().next())
            .flatten();
        only.or_else(|| views.by_name.get(name)).map(Arc::clone).ok_or_else(|| {
            let text = if name.is_empty() {
                format!("{} runtimes are served here: name one", views.by_name.len())
            } else {
                format!("runtime {name} is not served here")
            };
            Failure::new(FailureCode::UnknownRuntime, text)
        })
    }

    /// Makes the record of a new runtime.
    fn create(&self, options: &MountOptions) -> Result<RuntimeName, Failure> {
        let spec: EnvSpec = options.env_spec.parse().map_err(|error| {
            let text = format!("{:?} is no environment: {}", options.env_spec, chain(&error));
            Failure::new(FailureCode::Invalid, text)
        })?;
        let stack = spfs_runtime::resolve(&self.runtimes, &self.secondary, &spec)
            .map_err(|error| Failure::new(FailureCode::Invalid, chain(&error)))?;
        let name = match (&options.name, options.editable) {
            (Some(name), _) => Some(parse_name(name)?),
            (None, true) => Some(parse_name(&format!("runtime-{}", options.root_pid))?),
            (None, false) => None,
        };
        let record = self.runtimes.create(NewRuntime {
            name,
            stack,
            live: Vec::new(),
            live_shown: LiveShown::default(),
            backend: MountBackend::FuseWithScratch,
            editable: options.editable,
            durable: false,
            command: Vec::new(),
            secondary_repositories: self.secondary.clone(),
            include_secondary_tags: true,
        })?;
        parse_name(&record.name)
    }

    /// Opens a runtime that has a record and gives it to a process.
    fn serve(&self, name: &RuntimeName, root_pid: u32) -> Result<(), Failure> {
        let _starting = Starting::new(self, name)?;
        let lock = daemon::lock(&self.runtimes, name)?;
        let live = Arc::new(LiveRuntime::open(self.runtimes.clone(), name.clone())?);
        refuse_live_mounts(&live)?;
        let folder = live.folder();
        folder.remove_socket()?;
        std::os::unix::fs::symlink(&self.socket, folder.socket()).map_err(|source| {
            Failure::new(FailureCode::Other, format!("cannot name the control socket: {source}"))
        })?;
        // From here on the process sees it.
        let id = self
            .router
            .add(root_pid, Arc::clone(live.view()))
            .map_err(|error| self.explain(&error))?;
        if let Err(error) = live.started(root_pid, None) {
            self.router.remove(id);
            return Err(error.into());
        }
        let (session, router) = (Arc::clone(&self.session), self.router.clone());
        let mountpoint = self.mountpoint.clone();
        let view = RoutedView::new(Arc::clone(&live), id, session, router, mountpoint, lock);
        let view = Arc::new(view);
        self.views.lock().by_name.insert(name.to_string(), Arc::clone(&view));
        if self.router.members(id) == 0 {
            // Its end was told before the view could be found.
            self.end_view(&view);
            let text = format!("process {root_pid} has ended");
            return Err(Failure::new(FailureCode::Invalid, text));
        }
        // Saving waits for the disk several times, and the process for its view.
        drop(self.unsaved.send(Arc::downgrade(&live)));
        Ok(())
    }

    fn explain(&self, error: &RouteError) -> Failure {
        let code = match error {
            RouteError::HasView { .. } => FailureCode::Exists,
            RouteError::NoProcess { .. } => FailureCode::Invalid,
            RouteError::NoView { .. } => FailureCode::UnknownRuntime,
            RouteError::Exhausted => FailureCode::Other,
        };
        let mut text = error.to_string();
        if let RouteError::HasView { pid } = error
            && let Some(id) = self.router.given_to(*pid)
            && let Some(view) = self.all().into_iter().find(|view| view.id == id)
        {
            text.push_str(&format!(": that of runtime {}", view.live.name()));
        }
        Failure::new(code, text)
    }

    fn join(&self, name: &str, root_pid: u32) -> Result<(), Failure> {
        let view = self.find(name)?;
        self.router.join(root_pid, view.id).map_err(|error| self.explain(&error))
    }

    fn mounted_at(&self, name: &str) -> MountedAt {
        MountedAt {
            runtime: name.to_owned(),
            mountpoint: text(&self.mountpoint),
            adopt_orphans: !self.router.figures().sees_all_forks,
        }
    }
}

impl Kept for RoutedHost {
    fn sync(&self) {
        for view in self.all() {
            view.live.sync();
        }
    }

    fn remove_leftovers(&self) -> Leftovers {
        let put_off = self
            .all()
            .iter()
            .filter(|view| view.live.remove_leftovers() == Leftovers::PutOff)
            .count();
        if put_off == 0 { Leftovers::None } else { Leftovers::PutOff }
    }
}

impl Host for RoutedHost {
    type View = RoutedView;

    fn view(self: &Arc<Self>, name: &str) -> Result<Arc<RoutedView>, Failure> {
        self.find(name)
    }

    fn views(self: &Arc<Self>) -> Vec<Arc<RoutedView>> {
        self.all()
    }

    fn mount(&self, options: &MountOptions) -> Result<MountedAt, Failure> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Failure::new(FailureCode::Busy, "this service is ending"));
        }
        check_user(options.root_pid)?;
        let name = match options.runtime {
            WhichRuntime::Served => {
                let name = options.name.as_deref().unwrap_or_default();
                self.join(name, options.root_pid)?;
                return Ok(self.mounted_at(name));
            }
            WhichRuntime::Existing => {
                let name = parse_name(options.name.as_deref().unwrap_or_default())?;
                if !self.runtimes.folder(&name).exists() {
                    return Err(RuntimeError::Unknown { name }.into());
                }
                name
            }
            WhichRuntime::New => self.create(options)?,
        };
        if let Err(failure) = self.serve(&name, options.root_pid) {
            // What was made for this request is of no use to anybody.
            if options.runtime == WhichRuntime::New
                && let Err(error) = self.runtimes.discard(&name)
                && !matches!(error, RuntimeError::Unknown { .. })
            {
                tracing::warn!("cannot remove runtime {name}: {}", chain(&error));
            }
            return Err(failure);
        }
        Ok(self.mounted_at(name.as_str()))
    }

    fn unmount(&self, options: &UnmountOptions) -> Result<(), Failure> {
        let view = if options.name.is_empty() {
            let given = self.router.given_to(options.root_pid);
            self.all().into_iter().find(|view| Some(view.id) == given).ok_or_else(|| {
                let text = format!("process {} was given no view", options.root_pid);
                Failure::new(FailureCode::UnknownRuntime, text)
            })?
        } else {
            self.find(&options.name)?
        };
        let open = view.live.view().open_for_writing();
        if !open.is_empty() && !options.force {
            let text = format!("files of runtime {} are open for writing", view.live.name());
            return Err(Failure { paths: open, ..Failure::new(FailureCode::Busy, text) });
        }
        self.end_view(&view);
        Ok(())
    }

    fn figures(&self) -> Option<proto::ServiceFigures> {
        let figures = Figures {
            mountpoint: text(&self.mountpoint),
            router: self.router.figures(),
            nodes: self.session.nodes() as u64,
            handles: self.session.handles() as u64,
            requests: self.session.requests().total(),
        };
        Some(figures.into())
    }

    fn shutdown(&self, force: bool) -> Result<(), Failure> {
        let mut views = self.all();
        // One whose last process has ended is about to go by itself.
        views.retain(|view| self.router.members(view.id) > 0);
        if !force && !views.is_empty() {
            let names: Vec<&str> = views.iter().map(|view| view.live.name().as_str()).collect();
            let text = format!("processes are using {}", names.join(", "));
            return Err(Failure::new(FailureCode::Busy, text));
        }
        self.stop();
        self.end.notify_one();
        Ok(())
    }
}

/// The name of a runtime that is being opened: nobody else opens it meanwhile.
struct Starting<'a> {
    host: &'a RoutedHost,
    name: String,
}

impl<'a> Starting<'a> {
    fn new(host: &'a RoutedHost, name: &RuntimeName) -> Result<Self, Failure> {
        let mut views = host.views.lock();
        let served = views.by_name.contains_key(name.as_str());
        if served || !views.starting.insert(name.to_string()) {
            let text = format!("runtime {name} is being served already");
            return Err(Failure::new(FailureCode::Exists, text));
        }
        drop(views);
        Ok(Self { host, name: name.to_string() })
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.host.views.lock().starting.remove(&self.name);
    }
}

/// A runtime that was made for a mount of its own has its live layers mounted in there, and this
/// mount has no place for them: one that is made for a service has links.
fn refuse_live_mounts(live: &LiveRuntime) -> Result<(), Failure> {
    let record = live.record();
    let layers = record.live_layers().map_err(RuntimeError::from)?;
    if layers.is_empty() || record.config.live_shown == LiveShown::Links {
        return Ok(());
    }
    let text = format!(
        "runtime {} was made for a mount of its own, in which its live layers are mounted; a \
         service cannot show them: make a new runtime for it",
        live.name()
    );
    Err(Failure::new(FailureCode::Unsupported, text))
}

/// Only processes of the service's own user see its views: a view for another one would be of no
/// use to anybody.
fn check_user(pid: u32) -> Result<(), Failure> {
    let own = spfs_sys::ids::euid();
    let user = spfs_sys::process::user(pid).map_err(|_| {
        Failure::new(FailureCode::Invalid, RouteError::NoProcess { pid }.to_string())
    })?;
    if user == own {
        return Ok(());
    }
    let text = format!("process {pid} belongs to uid {user}: this service is for uid {own} alone");
    Err(Failure::new(FailureCode::Denied, text))
}

fn parse_name(name: &str) -> Result<RuntimeName, Failure> {
    name.parse().map_err(|error| Failure::new(FailureCode::Invalid, chain(&error)))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let code = match &error {
            RuntimeError::Exists { .. } => FailureCode::Exists,
            RuntimeError::Unknown { .. } => FailureCode::UnknownRuntime,
            RuntimeError::InUse { .. } => FailureCode::Busy,
            RuntimeError::Name(_) => FailureCode::Invalid,
            RuntimeError::Backend(_) => FailureCode::Unsupported,
            _ => FailureCode::Other,
        };
        Self::new(code, chain(&error))
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Runtime(error) => error.into(),
            DaemonError::Live(error) => error.into(),
            error => Self::new(FailureCode::Other, chain(&error)),
        }
    }
}
