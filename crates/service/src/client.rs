//! The client of the control protocol, for callers that wait.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use spfs_model::Change;
use spfs_runtime::control::{
    CommitOptions, CommitProgress, Committed, EditMode, ExportOptions, Exported, LiveStatus,
    ResetOptions,
};
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;
use crate::messages::malformed;
use crate::proto;
use crate::proto::commit_event::Event;
use crate::proto::vfs_service_client::VfsServiceClient;

/// What a serving process tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Version of its program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The runtimes it serves.
    pub views: Vec<LiveStatus>,
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("nothing serves the runtime: cannot connect to {}", socket.display())]
    NotServed {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The client itself cannot work.
    #[error("cannot prepare the connection to {}", socket.display())]
    Setup {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection failed or carried something else than the protocol.
    #[error("the connection to {} failed: {reason}", socket.display())]
    Connection {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The serving process refused or failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A connection to a serving process.
pub struct Client {
    executor: tokio::runtime::Runtime,
    stub: VfsServiceClient<Channel>,
    socket: PathBuf,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the process that listens on `socket`.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let setup = |source| ClientError::Setup { socket: socket.to_owned(), source };
        let stream = spfs_sys::socket::connect(socket)
            .map_err(|source| ClientError::NotServed { socket: socket.to_owned(), source })?;
        stream.set_nonblocking(true).map_err(setup)?;
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
        let channel = executor
            .block_on(async { channel(tokio::net::UnixStream::from_std(stream)?).await })
            .map_err(setup)?;
        Ok(Self { executor, stub: VfsServiceClient::new(channel), socket: socket.to_owned() })
    }

    /// Asks what is being served.
    pub fn status(&mut self) -> Result<ServiceStatus, ClientError> {
        let request = proto::StatusRequest { runtime_name: String::new() };
        let answer = self.executor.block_on(self.stub.status(request)).map_err(failed)?;
        let proto::StatusResponse { version, pid, views } = answer.into_inner();
        let views = views.into_iter().map(LiveStatus::try_from).collect::<Result<_, _>>();
        Ok(ServiceStatus { version, pid, views: views.map_err(|e| self.malformed(e))? })
    }

    /// Makes a layer or a platform of the runtime; `progress` hears where it stands.
    pub fn commit(
        &mut self,
        options: &CommitOptions,
        progress: &mut dyn FnMut(CommitProgress),
    ) -> Result<Committed, ClientError> {
        let stub = &mut self.stub;
        let done = self.executor.block_on(async {
            let mut events = stub.commit(proto::CommitRequest::from(options)).await?.into_inner();
            while let Some(event) = events.message().await? {
                match event.event {
                    Some(Event::Progress(proto::CommitProgress { files, bytes })) => {
                        progress(CommitProgress { files, bytes });
                    }
                    Some(Event::Done(done)) => return Ok(Some(done)),
                    None => {}
                }
            }
            Ok(None)
        });
        let done = done.map_err(failed)?.ok_or_else(|| malformed("a commit without an end"));
        done.and_then(Committed::try_from).map_err(|error| self.malformed(error))
    }

    /// Turns edit mode on or off; `keep_runtime` makes the runtime durable as well.
    pub fn set_editable(
        &mut self,
        editable: bool,
        keep_runtime: bool,
    ) -> Result<EditMode, ClientError> {
        let request =
            proto::SetEditableRequest { runtime_name: String::new(), editable, keep_runtime };
        let answer = self.executor.block_on(self.stub.set_editable(request)).map_err(failed)?;
        Ok(answer.into_inner().into())
    }

    /// Drops changes, and returns the number of paths that are as in the layers again.
    pub fn reset(&mut self, options: &ResetOptions) -> Result<u64, ClientError> {
        let request = proto::ResetRequest::from(options);
        let answer = self.executor.block_on(self.stub.reset(request)).map_err(failed)?;
        Ok(answer.into_inner().paths)
    }

    /// Lists what differs from the layers, sorted by path.
    pub fn diff(&mut self) -> Result<Vec<Change>, ClientError> {
        let request = proto::DiffRequest { runtime_name: String::new() };
        let stub = &mut self.stub;
        let changes = self.executor.block_on(async {
            let mut parts = stub.diff(request).await?.into_inner();
            let mut changes = Vec::new();
            while let Some(part) = parts.message().await? {
                changes.extend(part.changes);
            }
            Ok(changes)
        });
        let changes = changes.map_err(failed)?.into_iter().map(Change::try_from);
        changes.collect::<Result<_, _>>().map_err(|error| self.malformed(error))
    }

    /// Saves what the runtime shows as plain files. Of long lists the answer holds the beginning.
    pub fn export(&mut self, options: &ExportOptions) -> Result<Exported, ClientError> {
        let request = proto::ExportRequest::from(options);
        let answer = self.executor.block_on(self.stub.export(request)).map_err(failed)?;
        Ok(answer.into_inner().into())
    }

    /// Ends the serving process; with `force` even while processes are using the runtime.
    pub fn shutdown(&mut self, force: bool) -> Result<(), ClientError> {
        let request = proto::ShutdownRequest { force };
        self.executor.block_on(self.stub.shutdown(request)).map_err(failed)?;
        Ok(())
    }

    fn malformed(&self, failure: Failure) -> ClientError {
        ClientError::Connection { socket: self.socket.clone(), reason: failure.message }
    }
}

/// Makes a channel of a connected stream. Channels reconnect by themselves; ours has one stream and
/// then fails, since the serving process it belonged to is gone.
async fn channel(stream: tokio::net::UnixStream) -> io::Result<Channel> {
    let mut stream = Some(TokioIo::new(stream));
    let connect = tower::service_fn(move |_| {
        let stream = stream.take().ok_or(io::ErrorKind::ConnectionReset);
        async move { stream.map_err(io::Error::from) }
    });
    // The address is needed for the form of the requests alone.
    Endpoint::from_static("http://spfs.invalid")
        .connect_with_connector(connect)
        .await
        .map_err(io::Error::other)
}

fn failed(status: tonic::Status) -> ClientError {
    ClientError::Failed(status.into())
}
