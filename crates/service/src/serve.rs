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
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use crate::failure::{Failure, FailureCode};
use crate::proto;
use crate::proto::vfs_service_server::{VfsService, VfsServiceServer};

/// At most one word of progress is sent in this time.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Paths in one message: their longest form stays below the message size that clients accept.
const CHANGES_A_MESSAGE: usize = 512;

/// Open files that a status names.
const OPEN_FILES_MAX: usize = 256;

/// How long the end waits for answers to go out.
const ANSWERS_WAIT: Duration = Duration::from_secs(1);

/// What can be asked of the one runtime that a process serves. The calls may wait.
pub(crate) trait Control: Send + Sync + 'static {
    fn name(&self) -> &str;
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
    fn shutdown(&self, force: bool) -> Result<(), Failure>;
}

/// Answers requests on `listener` until `stop` is ready, and then those that are under way.
pub(crate) async fn serve(
    listener: UnixListener,
    control: Arc<impl Control>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let own = spfs_sys::ids::euid();
    let service =
        VfsServiceServer::with_interceptor(Service { control }, move |request: Request<()>| {
            authorize(own, request)
        });
    let (drain, draining) = oneshot::channel::<()>();
    let server = tonic::transport::Server::builder().serve_with_incoming_shutdown(
        service,
        UnixListenerStream::new(listener),
        async { drop(draining.await) },
    );
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
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match peer {
        Some(peer) if peer.uid() == own || peer.uid() == 0 => Ok(request),
        Some(peer) => Err(Failure::new(
            FailureCode::Denied,
            format!("this runtime belongs to uid {own}, not to uid {}", peer.uid()),
        )
        .into()),
        None => Err(Failure::new(FailureCode::Denied, "the caller's user is unknown").into()),
    }
}

struct Service<C> {
    control: Arc<C>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<C: Control> Service<C> {
    /// Refuses requests that mean another runtime.
    fn check(&self, name: &str) -> Result<(), Failure> {
        let own = self.control.name();
        if name.is_empty() || name == own {
            return Ok(());
        }
        let text = format!("runtime {name} is not served here; this process serves {own}");
        Err(Failure::new(FailureCode::UnknownRuntime, text))
    }

    /// Runs a call where waiting harms nobody.
    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&C) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Status> {
        self.check(name)?;
        let control = Arc::clone(&self.control);
        let done = tokio::task::spawn_blocking(move || call(&control)).await;
        Ok(done.map_err(|error| Status::internal(format!("the request was cut off: {error}")))??)
    }
}

#[tonic::async_trait]
impl<C: Control> VfsService for Service<C> {
    type CommitStream = Answers<proto::CommitEvent>;
    type DiffStream = Answers<proto::DiffResponse>;

    async fn mount(
        &self,
        _request: Request<proto::MountRequest>,
    ) -> Result<Response<proto::MountResponse>, Status> {
        Err(one_runtime("give another process a view").into())
    }

    async fn unmount(
        &self,
        _request: Request<proto::UnmountRequest>,
    ) -> Result<Response<proto::UnmountResponse>, Status> {
        Err(one_runtime("take a view away").into())
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let mut view = self.call(&request.into_inner().runtime_name, Control::status).await?;
        view.open_for_writing.truncate(OPEN_FILES_MAX);
        Ok(Response::new(proto::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            views: vec![view.into()],
        }))
    }

    async fn commit(
        &self,
        request: Request<proto::CommitRequest>,
    ) -> Result<Response<Self::CommitStream>, Status> {
        let request = request.into_inner();
        self.check(&request.runtime_name)?;
        let options = CommitOptions::from(request);
        let control = Arc::clone(&self.control);
        let (send, events) = mpsc::channel(4);
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
            if send.blocking_send(event).is_err() {
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
        self.call("", move |control| control.shutdown(force)).await?;
        Ok(Response::new(proto::ShutdownResponse {}))
    }
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
