//! Starting a service that outlives its caller, and waiting until it is there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spfs_sys::process::{Detached, number_of, spawn_detached};

use crate::args::ServiceRoot;
use crate::client::{Client, ClientError};
use crate::launch::DAEMON_NAME;
use crate::settings::Settings;

/// How long a service may take to mount.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How long another service that is being started is waited for.
const OTHER_WAIT: Duration = Duration::from_secs(20);
const OTHER_PAUSE: Duration = Duration::from_millis(10);

/// What a service says when it is there.
const READY: &str = "ok\n";
/// What it says first when another one was there before.
const RUNNING: &str = "running: ";

/// A service to start.
#[derive(Debug, Clone)]
pub struct ServiceLaunch<'a> {
    /// A program that calls [`crate::main`] when it is called [`DAEMON_NAME`].
    pub program: &'a Path,
    /// Where it is mounted.
    pub mountpoint: &'a Path,
    /// What the root of the mount shows.
    pub root: ServiceRoot,
    /// What it works with.
    pub settings: &'a Settings,
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its folder cannot be used.
    #[error("cannot use the folder of the service in {}", root.display())]
    Folder {
        /// The storage root.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start {} to serve {}", program.display(), mountpoint.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Where it should be mounted.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended before it was there.
    #[error("{message}")]
    Refused {
        /// Why, in its words.
        message: String,
    },
    /// Another one runs, or is being started.
    #[error("{message}")]
    Running {
        /// Which, in its words.
        message: String,
    },
    /// It runs and cannot be talked to.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Connects to the service of a repository; starts one when there is none.
///
/// # Errors
/// [`ServiceError`].
pub fn connect_or_start(launch: &ServiceLaunch<'_>) -> Result<Client, ServiceError> {
    let socket = launch.settings.socket();
    let begun = Instant::now();
    loop {
        match Client::connect(&socket) {
            Err(ClientError::NotServed { .. }) => {}
            connected => return Ok(connected?),
        }
        match start_service(launch) {
            // Somebody else starts one at this moment, or ends one.
            Err(ServiceError::Running { .. }) if begun.elapsed() < OTHER_WAIT => {
                std::thread::sleep(OTHER_PAUSE);
            }
            started => {
                started?;
                return Ok(Client::connect(&socket)?);
            }
        }
    }
}

/// Starts a service and waits until it has mounted.
///
/// # Errors
/// [`ServiceError`].
pub fn start_service(launch: &ServiceLaunch<'_>) -> Result<(), ServiceError> {
    start_service_with(launch, None)
}

/// As [`start_service`], and it listens on a port as well.
pub(crate) fn start_service_with(
    launch: &ServiceLaunch<'_>,
    listen: Option<SocketAddr>,
) -> Result<(), ServiceError> {
    let root = match launch.root {
        ServiceRoot::Lookup => "lookup",
        ServiceRoot::Link => "link",
    };
    start(launch, |ready| {
        let mut arguments: Vec<OsString> = vec!["service".into(), "--foreground".into()];
        arguments.extend(["--mountpoint".into(), launch.mountpoint.into()]);
        arguments.extend(["--ready".into(), ready.to_string().into()]);
        arguments.extend(["--root".into(), root.into()]);
        if let Some(listen) = listen {
            arguments.extend(["--listen".into(), listen.to_string().into()]);
        }
        arguments.extend(launch.settings.arguments());
        arguments
    })
}

/// Starts this program in the background and waits until it says that it is ready. `arguments` is
/// given the number of the descriptor on which it says so.
pub(crate) fn start(
    launch: &ServiceLaunch<'_>,
    arguments: impl FnOnce(i32) -> Vec<OsString>,
) -> Result<(), ServiceError> {
    let root = &launch.settings.storage_root;
    let folder = spfs_runtime::create_service_folder(root, spfs_sys::ids::euid())
        .map_err(|source| ServiceError::Folder { root: root.clone(), source })?;
    let failed = |source| ServiceError::Start {
        program: launch.program.to_owned(),
        mountpoint: launch.mountpoint.to_owned(),
        source,
    };
    let (answer, ready) = io::pipe().map_err(failed)?;
    let ready = OwnedFd::from(ready);
    spawn_detached(&Detached {
        program: launch.program,
        arg0: OsStr::new(DAEMON_NAME),
        arguments: &arguments(number_of(&ready)),
        log: Some(&folder.join("service.log")),
        inherit: &[ready.as_fd()],
    })
    .map_err(failed)?;
    drop(ready);
    let said = read_with_limit(answer).map_err(failed)?;
    match said.as_str() {
        READY => Ok(()),
        "" => Err(ServiceError::Refused { message: "the service has ended at once".to_owned() }),
        message => {
            let message = message.trim_end();
            Err(match message.strip_prefix(RUNNING) {
                Some(message) => ServiceError::Running { message: message.to_owned() },
                None => ServiceError::Refused { message: message.to_owned() },
            })
        }
    }
}

/// Reads to the end, from a thread that may be left behind.
fn read_with_limit(answer: io::PipeReader) -> io::Result<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("spfs-ready".into()).spawn(move || {
        let mut said = String::new();
        let read = answer.take(ANSWER_BYTES_MAX).read_to_string(&mut said);
        drop(sender.send(read.map(|_| said)));
    })?;
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")))
    })
}

/// The descriptor on which a service says that it is there, or why not.
#[derive(Debug)]
pub(crate) struct Ready(Option<File>);

impl Ready {
    /// Takes the descriptor that the caller has passed on, if any.
    pub(crate) fn take(number: Option<i32>) -> io::Result<Self> {
        let descriptor = number.map(spfs_sys::process::take_inherited).transpose()?;
        Ok(Self(descriptor.map(File::from)))
    }

    /// Says that the service is there.
    pub(crate) fn say(self) {
        self.tell(READY);
    }

    /// Says why it is not.
    pub(crate) fn refuse(self, reason: &str) {
        if self.0.is_some() {
            self.tell(reason);
        } else {
            crate::report(reason);
        }
    }

    /// Says that another one is there.
    pub(crate) fn refuse_second(self, reason: &str) {
        let said = if self.0.is_some() { format!("{RUNNING}{reason}") } else { reason.to_owned() };
        self.refuse(&said);
    }

    /// Tells the process that waits, if one does.
    pub(crate) fn tell(self, text: &str) {
        if let Some(mut descriptor) = self.0 {
            // Nobody may be waiting any more.
            drop(descriptor.write_all(text.as_bytes()));
        }
    }
}
