//! The server of the control protocol: translates requests to calls of [`Control`], on threads
//! that may wait, and answers only the user it belongs to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spfs_model::Change;
use spfs_runtime::control::{
    CommitOptions, CommitProgress, Committed, EditMode, ExportOptions, Exported, LiveStatus,
    ResetOptions,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};
use tonic::{Request, Response, Status};

use crate::failure::{Failure, FailureCode};
use crate::proto;
use crate::proto::vfs_service_server::{VfsService, VfsServiceServer};

mod limited;

/// At most one word of progress is sent in this time.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Paths in one message: their longest form stays below the message size that clients accept.
const CHANGES_A_MESSAGE: usize = 512;

/// The longest environment that is understood: some ten thousand layers.
const SPEC_BYTES_MAX: usize = 1 << 20;

/// Open files that a status names, of all runtimes together.
const OPEN_FILES_MAX: usize = 256;

/// How long the end waits for answers to go out.
const ANSWERS_WAIT: Duration = Duration::from_secs(1);

/// A view to give to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) root_pid: u32,
    pub(crate) env_spec: String,
    pub(crate) editable: bool,
    pub(crate) name: Option<String>,
    pub(crate) runtime: WhichRuntime,
}

/// Which runtime a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhichRuntime {
    /// One that is made for it.
    New,
    /// One that is not being served.
    Existing,
    /// One that is being served.
    Served,
}

/// The runtime whose view was given to a process, and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedAt {
    /// The runtime.
    pub runtime: String,
    /// The mount point.
    pub mountpoint: String,
    /// The service is not told of all forks: the process should adopt what its descendants leave
    /// behind, or the view may lose them.
    pub adopt_orphans: bool,
}

/// A view to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnmountOptions {
    pub(crate) root_pid: u32,
    pub(crate) name: String,
    pub(crate) force: bool,
}

/// What a process serves: one runtime, or several.
pub(crate) trait Host: Send + Sync + 'static {
    type View: Control;

    /// The runtime of this name; the only one when the name is empty.
    fn view(self: &Arc<Self>, name: &str) -> Result<Arc<Self::View>, Failure>;

    /// All runtimes, sorted by name.
    fn views(self: &Arc<Self>) -> Vec<Arc<Self::View>>;

    fn mount(&self, _options: &MountOptions) -> Result<MountedAt, Failure> {
        Err(one_runtime("give another process a view"))
    }

    fn unmount(&self, _options: &UnmountOptions) -> Result<(), Failure> {
        Err(one_runtime("take a view away"))
    }

    fn figures(&self) -> Option<proto::ServiceFigures> {
        None
    }

    fn shutdown(&self, force: bool) -> Result<(), Failure>;
}

/// What can be asked of a runtime. The calls may wait.
pub(crate) trait Control: Send + Sync + 'static {
    fn status(&self) -> Result<LiveStatus, Failure>;
    fn commit(
        &self,
        options: &CommitOptions,
        progress: &mut (dyn FnMut(CommitProgress) + Send),
    ) -> Result<Committed, Failure>;
    fn set_editable(&self, editable: bool, keep_runtime: bool) -> Result<EditMode, Failure>;
    fn reset(&self, options: &ResetOptions) -> Result<u64, Failure>;
    fn diff(&self) -> Result<Vec<Change>, Failure>;
    fn export(&self, options: &ExportOptions) -> Result<Exported, Failure>;
}

/// Where requests come from.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A socket of this machine, whose other end is known.
    Unix(UnixListener),
    /// A port of this machine.
    Tcp(TcpListener),
}

/// Answers requests on `listener` until `stop` is ready, and then those that are under way.
pub(crate) async fn serve(
    listener: Listener,
    host: Arc<impl Host>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let own = spfs_sys::ids::euid();
    let service = VfsServiceServer::with_interceptor(Service { host }, move |request| {
        authorize(own, request)
    });
    let (drain, draining) = oneshot::channel::<()>();
    let draining = async { drop(draining.await) };
    let builder = tonic::transport::Server::builder();
    match listener {
        Listener::Unix(listener) => {
            let incoming = UnixListenerStream::new(listener);
            let server = builder.serve_with_incoming_shutdown(service, incoming, draining);
            until_drained(server, stop, drain).await
        }
        Listener::Tcp(listener) => {
            let incoming = limited::connections(listener);
            let server = builder.serve_with_incoming_shutdown(service, incoming, draining);
            until_drained(server, stop, drain).await
        }
    }
}

async fn until_drained(
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
    stop: impl Future<Output = ()>,
    drain: oneshot::Sender<()>,
) -> Result<(), tonic::transport::Error> {
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = stop => drop(drain),
    }
    // A caller that keeps its connection and does not read would be waited for for ever.
    tokio::time::timeout(ANSWERS_WAIT, server).await.unwrap_or(Ok(()))
}

/// The socket's mode keeps others out already; this holds where a mode does not, and tells why.
fn authorize(own: u32, request: Request<()>) -> Result<Request<()>, Status> {
    match peer(&request) {
        Some(peer) if peer == own || peer == 0 => Ok(request),
        Some(peer) => Err(Failure::new(
            FailureCode::Denied,
            format!("this runtime belongs to uid {own}, not to uid {peer}"),
        )
        .into()),
        None => Err(Failure::new(FailureCode::Denied, "the caller's user is unknown").into()),
    }
}

/// The user who asks.
fn peer(request: &Request<()>) -> Option<u32> {
    let extensions = request.extensions();
    if let Some(info) = extensions.get::<UdsConnectInfo>() {
        return info.peer_cred.map(|peer| peer.uid());
    }
    let info = extensions.get::<TcpConnectInfo>()?;
    if !spfs_sys::socket::TELLS_TCP_PEERS {
        // Who opened a port there has opened it to all users of the machine.
        return Some(spfs_sys::ids::euid());
    }
    spfs_sys::socket::tcp_peer(info.local_addr()?, info.remote_addr()?)
}

struct Service<H> {
    host: Arc<H>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<H: Host> Service<H> {
    /// Runs a call about a runtime where waiting harms nobody.
    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&H::View) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Status> {
        let view = self.host.view(name)?;
        blocking(move || call(&view)).await
    }

    /// Runs a call about all of them where waiting harms nobody.
    async fn call_host<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Arc<H>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Status> {
        let host = Arc::clone(&self.host);
        blocking(move || call(&host)).await
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(call).await;
    Ok(done.map_err(|error| Status::internal(format!("the request was cut off: {error}")))??)
}

#[tonic::async_trait]
impl<H: Host> VfsService for Service<H> {
    type CommitStream = Answers<proto::CommitEvent>;
    type DiffStream = Answers<proto::DiffResponse>;

    async fn mount(
        &self,
        request: Request<proto::MountRequest>,
    ) -> Result<Response<proto::MountResponse>, Status> {
        let options = MountOptions::from(request.into_inner());
        if options.env_spec.len() > SPEC_BYTES_MAX {
            let text = format!("an environment has at most {SPEC_BYTES_MAX} bytes");
            return Err(Failure::new(FailureCode::Invalid, text).into());
        }
        let done = self.call_host(move |host| host.mount(&options)).await?;
        let MountedAt { runtime: runtime_name, mountpoint, adopt_orphans } = done;
        Ok(Response::new(proto::MountResponse { runtime_name, mountpoint, adopt_orphans }))
    }

    async fn unmount(
        &self,
        request: Request<proto::UnmountRequest>,
    ) -> Result<Response<proto::UnmountResponse>, Status> {
        let proto::UnmountRequest { root_pid, runtime_name: name, force } = request.into_inner();
        let options = UnmountOptions { root_pid, name, force };
        self.call_host(move |host| host.unmount(&options)).await?;
        Ok(Response::new(proto::UnmountResponse {}))
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let name = request.into_inner().runtime_name;
        let (views, figures) = self
            .call_host(move |host| {
                let views = if name.is_empty() { host.views() } else { vec![host.view(&name)?] };
                let views = views.iter().map(|view| view.status()).collect::<Result<Vec<_>, _>>();
                Ok((views?, host.figures()))
            })
            .await?;
        let mut left = OPEN_FILES_MAX;
        let views = views.into_iter().map(|mut view| {
            view.open_for_writing.truncate(left);
            left -= view.open_for_writing.len();
            view.into()
        });
        Ok(Response::new(proto::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            views: views.collect(),
            figures,
        }))
    }

    async fn commit(
        &self,
        request: Request<proto::CommitRequest>,
    ) -> Result<Response<Self::CommitStream>, Status> {
        let request = request.into_inner();
        let control = self.host.view(&request.runtime_name)?;
        let options = CommitOptions::try_from(request)?;
        let (send, events) = mpsc::channel(4);
        // The end has its place from the beginning, so that it waits for nobody who does not read.
        let end = send.clone().try_reserve_owned();
        let end = end.map_err(|error| Status::internal(error.to_string()))?;
        // Not awaited: a commit goes on to its end when the caller goes away.
        tokio::task::spawn_blocking(move || {
            let mut last: Option<Instant> = None;
            let done = control.commit(&options, &mut |progress| {
                if last.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY) {
                    last = Some(Instant::now());
                    // A caller that reads slowly misses some.
                    send.try_send(Ok(progress.into())).ok();
                }
            });
            let event = done.map(Into::into).map_err(Status::from);
            if end.send(event).is_closed() {
                tracing::warn!("the caller of a commit did not wait for its end");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn set_editable(
        &self,
        request: Request<proto::SetEditableRequest>,
    ) -> Result<Response<proto::SetEditableResponse>, Status> {
        let request = request.into_inner();
        let (editable, keep) = (request.editable, request.keep_runtime);
        let mode = self
            .call(&request.runtime_name, move |control| control.set_editable(editable, keep))
            .await?;
        Ok(Response::new(mode.into()))
    }

    async fn reset(
        &self,
        request: Request<proto::ResetRequest>,
    ) -> Result<Response<proto::ResetResponse>, Status> {
        let request = request.into_inner();
        let name = request.runtime_name.clone();
        let options = ResetOptions::try_from(request)?;
        let paths = self.call(&name, move |control| control.reset(&options)).await?;
        Ok(Response::new(proto::ResetResponse { paths }))
    }

    async fn diff(
        &self,
        request: Request<proto::DiffRequest>,
    ) -> Result<Response<Self::DiffStream>, Status> {
        let changes = self.call(&request.into_inner().runtime_name, Control::diff).await?;
        let mut changes = changes.into_iter();
        let parts = std::iter::from_fn(move || {
            let part: Vec<_> = changes.by_ref().take(CHANGES_A_MESSAGE).map(Into::into).collect();
            (!part.is_empty()).then_some(Ok(proto::DiffResponse { changes: part }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn export(
        &self,
        request: Request<proto::ExportRequest>,
    ) -> Result<Response<proto::ExportResponse>, Status> {
        let request = request.into_inner();
        let name = request.runtime_name.clone();
        let options = ExportOptions::try_from(request)?;
        let exported = self.call(&name, move |control| control.export(&options)).await?;
        Ok(Response::new(exported.into()))
    }

    async fn shutdown(
        &self,
        request: Request<proto::ShutdownRequest>,
    ) -> Result<Response<proto::ShutdownResponse>, Status> {
        let force = request.into_inner().force;
        self.call_host(move |host| host.shutdown(force)).await?;
        Ok(Response::new(proto::ShutdownResponse {}))
    }
}

impl From<proto::MountRequest> for MountOptions {
    fn from(request: proto::MountRequest) -> Self {
        Self {
            root_pid: request.root_pid,
            env_spec: request.env_spec,
            editable: request.editable,
            name: Some(request.runtime_name).filter(|name| !name.is_empty()),
            runtime: match (request.join, request.existing) {
                (true, _) => WhichRuntime::Served,
                (false, true) => WhichRuntime::Existing,
                (false, false) => WhichRuntime::New,
            },
        }
    }
}

/// For a process that serves one runtime: refuses requests that mean another one.
pub(crate) fn check_name(own: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name == own {
        return Ok(());
    }
    let text = format!("runtime {name} is not served here; this process serves {own}");
    Err(Failure::new(FailureCode::UnknownRuntime, text))
}

fn one_runtime(doing: &str) -> Failure {
    let text = format!(
        "this process serves one runtime in a mount of its own and cannot {doing}; \
         a service that shows several processes their own views can"
    );
    Failure::new(FailureCode::Unsupported, text)
}

#[cfg(test)]
mod tests;
