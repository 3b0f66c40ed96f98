//! The client of the control protocol, for callers that wait.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use spfs_model::Change;
use spfs_runtime::control::{
    CommitOptions, CommitProgress, Committed, EditMode, ExportOptions, Exported, LiveStatus,
    ResetOptions,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};

use crate::failure::{Failure, chain};
use crate::messages::malformed;
use crate::proto;
use crate::proto::commit_event::Event;
use crate::proto::vfs_service_client::VfsServiceClient;
use crate::router::RouterFigures;
use crate::serve::MountedAt;

/// While an answer is waited for, the serving process is asked this often whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The longest answer: the status of a service that shows many runtimes of many layers.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long it may take to say so.
const PING_WAIT: Duration = Duration::from_secs(10);

/// A view to give to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The process.
    pub root_pid: u32,
    /// Which runtime it gets.
    pub runtime: Wanted,
}

/// The runtime that a process gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A new one.
    New {
        /// What it shows.
        env_spec: String,
        /// Whether it can be changed.
        editable: bool,
        /// Its name; the service chooses one when absent.
        name: Option<String>,
    },
    /// One that has a record and is not being served.
    Existing(String),
    /// One that is being served.
    Served(String),
}

impl From<&MountRequest> for proto::MountRequest {
    fn from(request: &MountRequest) -> Self {
        let mut message = Self { root_pid: request.root_pid, ..Self::default() };
        match &request.runtime {
            Wanted::New { env_spec, editable, name } => {
                message.env_spec.clone_from(env_spec);
                message.editable = *editable;
                message.runtime_name = name.clone().unwrap_or_default();
            }
            Wanted::Existing(name) => {
                message.runtime_name.clone_from(name);
                message.existing = true;
            }
            Wanted::Served(name) => {
                message.runtime_name.clone_from(name);
                message.join = true;
            }
        }
        message
    }
}

/// What a service that shows several views tells of its work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Where it is mounted.
    pub mountpoint: String,
    /// What its router knows and has done.
    pub router: RouterFigures,
    /// Files and names that the kernel remembers.
    pub nodes: u64,
    /// Open files.
    pub handles: u64,
    /// Requests of the kernel so far.
    pub requests: u64,
}

impl From<Figures> for proto::ServiceFigures {
    fn from(figures: Figures) -> Self {
        let Figures { mountpoint, router, nodes, handles, requests } = figures;
        let RouterFigures { processes, followed, met, sees_all_forks } = router;
        Self { mountpoint, processes, followed, met, sees_all_forks, nodes, handles, requests }
    }
}

impl From<proto::ServiceFigures> for Figures {
    fn from(figures: proto::ServiceFigures) -> Self {
        let proto::ServiceFigures { processes, followed, met, sees_all_forks, .. } = figures;
        Self {
            mountpoint: figures.mountpoint,
            router: RouterFigures { processes, followed, met, sees_all_forks },
            nodes: figures.nodes,
            handles: figures.handles,
            requests: figures.requests,
        }
    }
}

/// What a serving process tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Version of its program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The runtimes it serves.
    pub views: Vec<LiveStatus>,
    /// More of a service that shows several views.
    pub figures: Option<Figures>,
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The process that listens belongs to another user.
    #[error("{} belongs to uid {uid}", socket.display())]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// Whose it is.
        uid: u32,
    },
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
    /// The runtime that is meant where several are served.
    runtime: String,
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
        let own = spfs_sys::ids::euid();
        let uid = spfs_sys::socket::peer(&stream).map_err(setup)?.uid;
        if uid != own && uid != 0 && own != 0 {
            return Err(ClientError::Foreign { socket: socket.to_owned(), uid });
        }
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
        let channel = executor
            .block_on(async { channel(tokio::net::UnixStream::from_std(stream)?).await })
            .map_err(setup)?;
        Ok(Self::new(executor, channel, socket.to_owned()))
    }

    /// Connects to the process that listens on a port of this machine.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_port(address: SocketAddr) -> Result<Self, ClientError> {
        let socket = PathBuf::from(address.to_string());
        let setup = |source| ClientError::Setup { socket: socket.clone(), source };
        let stream = std::net::TcpStream::connect(address)
            .map_err(|source| ClientError::NotServed { socket: socket.clone(), source })?;
        stream.set_nonblocking(true).map_err(setup)?;
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
        let channel = executor
            .block_on(async { channel(tokio::net::TcpStream::from_std(stream)?).await })
            .map_err(setup)?;
        Ok(Self::new(executor, channel, socket))
    }

    fn new(executor: tokio::runtime::Runtime, channel: Channel, socket: PathBuf) -> Self {
        let stub = VfsServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Self { executor, stub, socket, runtime: String::new() }
    }

    /// Means this runtime from now on: a process may serve several.
    #[must_use]
    pub fn for_runtime(mut self, name: &str) -> Self {
        name.clone_into(&mut self.runtime);
        self
    }

    /// Gives a view to a process and all that it starts.
    ///
    /// # Errors
    /// When the runtime cannot be served, or the process was given a view before.
    pub fn mount(&mut self, request: &MountRequest) -> Result<MountedAt, ClientError> {
        let request = proto::MountRequest::from(request);
        let answer = self.executor.block_on(self.stub.mount(request)).map_err(failed)?;
        let answer = answer.into_inner();
        let proto::MountResponse { runtime_name: runtime, mountpoint, adopt_orphans } = answer;
        Ok(MountedAt { runtime, mountpoint, adopt_orphans })
    }

    /// Takes the view away that was given to a process, or that of the runtime this client means.
    /// With `force` even though files are open for writing.
    ///
    /// # Errors
    /// When there is no such view, or files are open for writing.
    pub fn unmount(&mut self, root_pid: Option<u32>, force: bool) -> Result<(), ClientError> {
        let runtime_name = self.runtime.clone();
        let root_pid = root_pid.unwrap_or_default();
        let request = proto::UnmountRequest { root_pid, runtime_name, force };
        self.executor.block_on(self.stub.unmount(request)).map_err(failed)?;
        Ok(())
    }

    /// Whether the serving process answers in time; one that is stopped does not.
    pub fn answers_within(&mut self, limit: Duration) -> bool {
        let request = proto::StatusRequest { runtime_name: self.runtime.clone() };
        let answer = self.stub.status(request);
        self.executor.block_on(async { tokio::time::timeout(limit, answer).await }).is_ok()
    }

    /// Asks what is being served.
    pub fn status(&mut self) -> Result<ServiceStatus, ClientError> {
        let request = proto::StatusRequest { runtime_name: self.runtime.clone() };
        let answer = self.executor.block_on(self.stub.status(request)).map_err(failed)?;
        let proto::StatusResponse { version, pid, views, figures } = answer.into_inner();
        let views = views.into_iter().map(LiveStatus::try_from).collect::<Result<_, _>>();
        let views = views.map_err(|e| self.malformed(e))?;
        Ok(ServiceStatus { version, pid, views, figures: figures.map(Into::into) })
    }

    /// Makes a layer or a platform of the runtime; `progress` hears where it stands.
    pub fn commit(
        &mut self,
        options: &CommitOptions,
        progress: &mut dyn FnMut(CommitProgress),
    ) -> Result<Committed, ClientError> {
        let stub = &mut self.stub;
        let request = proto::CommitRequest {
            runtime_name: self.runtime.clone(),
            ..proto::CommitRequest::from(options)
        };
        let done = self.executor.block_on(async {
            let mut events = stub.commit(request).await?.into_inner();
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
        let runtime_name = self.runtime.clone();
        let request = proto::SetEditableRequest { runtime_name, editable, keep_runtime };
        let answer = self.executor.block_on(self.stub.set_editable(request)).map_err(failed)?;
        Ok(answer.into_inner().into())
    }

    /// Drops changes, and returns the number of paths that are as in the layers again.
    pub fn reset(&mut self, options: &ResetOptions) -> Result<u64, ClientError> {
        let request = proto::ResetRequest {
            runtime_name: self.runtime.clone(),
            ..proto::ResetRequest::from(options)
        };
        let answer = self.executor.block_on(self.stub.reset(request)).map_err(failed)?;
        Ok(answer.into_inner().paths)
    }

    /// Lists what differs from the layers, sorted by path.
    pub fn diff(&mut self) -> Result<Vec<Change>, ClientError> {
        let request = proto::DiffRequest { runtime_name: self.runtime.clone() };
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
        let request = proto::ExportRequest {
            runtime_name: self.runtime.clone(),
            ..proto::ExportRequest::from(options)
        };
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
async fn channel<S>(stream: S) -> io::Result<Channel>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connect = tower::service_fn(move |_| {
        let stream = stream.take().ok_or(io::ErrorKind::ConnectionReset);
        async move { stream.map_err(io::Error::from) }
    });
    // The address is needed for the form of the requests alone.
    Endpoint::from_static("http://spfs.invalid")
        // A process that is stopped or hangs answers no pings; one that works long does.
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .connect_with_connector(connect)
        .await
        .map_err(io::Error::other)
}

fn failed(status: tonic::Status) -> ClientError {
    let cause = std::error::Error::source(&status).map(chain);
    let mut failure = Failure::from(status);
    if let Some(cause) = cause {
        // Nothing that the serving process said.
        failure.message = format!("it does not answer: it has ended, or is stopped ({cause})");
    }
    ClientError::Failed(failure)
}
