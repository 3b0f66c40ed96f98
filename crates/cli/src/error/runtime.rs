//! Errors of runtimes, and of the processes that serve them.

use spfs_repo::RepoError;
use spfs_runtime::enter::EnterError;
use spfs_runtime::{BackendError, LiveError, RuntimeError, RuntimeName, RuntimeNameError};
use spfs_service::{ClientError, Failure, FailureCode, LaunchError, ServiceError};
use spfs_sys::mount::MountError;

use super::CliError;

impl From<RuntimeNameError> for CliError {
    fn from(error: RuntimeNameError) -> Self {
        Self::of(&error)
    }
}

impl From<BackendError> for CliError {
    fn from(error: BackendError) -> Self {
        Self::of(&error)
    }
}

impl From<RuntimeError> for CliError {
    fn from(error: RuntimeError) -> Self {
        let told = Self::of(&error);
        match &error {
            RuntimeError::Exists { name } => told.hint(format!(
                "choose another name, or start it again with 'spfs run --rerun {name}'"
            )),
            RuntimeError::Unknown { .. } => {
                told.hint("see 'spfs runtime list' for the runtimes of this storage")
            }
            RuntimeError::NotRunning { .. } => told.hint("see 'spfs runtime list' for what runs"),
            RuntimeError::InUse { .. } => {
                told.hint("it is still running: end its processes, or use 'spfs join'")
            }
            // Upstream's status for it, too.
            RuntimeError::Durable { .. } => {
                told.into_usage().hint("add --remove-durable to remove it and its changes")
            }
            RuntimeError::OtherUser { .. } => told.hint("--ignore-user removes it all the same"),
            RuntimeError::OtherHost { .. } => told.hint("--ignore-host removes it all the same"),
            RuntimeError::NotOurs { .. } => told.hint("start it with the program that made it"),
            RuntimeError::Gone { name, .. } => {
                told.hint(format!("remove what is left with 'spfs runtime remove {name}'"))
            }
            _ => told,
        }
    }
}

impl From<LiveError> for CliError {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Runtime(error) => error.into(),
            LiveError::Export { source: RepoError::NotEmpty { .. }, .. } => {
                Self::of(&error).hint("name an empty directory, or one that is not there yet")
            }
            LiveError::Commit { .. } => {
                Self::of(&error).hint("without --changes everything that can be saved is saved")
            }
            _ => Self::of(&error),
        }
    }
}

impl CliError {
    /// A runtime could not be entered.
    pub(crate) fn entering(name: &RuntimeName, error: &EnterError) -> Self {
        let told = match error {
            // The command was not there: the runtime has nothing to do with it.
            EnterError::Startup(error) => Self::of(error),
            error => Self::failed(format!("cannot enter runtime {name}")).because(error),
        };
        match error {
            EnterError::Forbidden { .. } => told.hint(
                "ask for that setting to be changed (docs/troubleshooting.md), or run as root",
            ),
            EnterError::Mount(MountError::Mount { step: "show" | "mount on", .. }) => told.hint(
                "what a live layer shows, and the way to where it shows it, must stay what it was; \
                 'spfs runtime export' saves the changes of a kept runtime",
            ),
            EnterError::Mount(MountError::Device { .. }) => {
                told.hint("load the kernel's fuse module, and give users access to /dev/fuse")
            }
            _ => told,
        }
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> Self {
        Self::of(&error)
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Client(error) => error.into(),
            error => Self::of(&error),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Failed(failure) => failure.into(),
            error => Self::of(&error),
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let told = |summary: &str| Self::failed(summary).because(&failure);
        match failure.code {
            FailureCode::NothingToCommit => told("nothing to commit")
                .hint("'spfs diff' shows what differs from the layers; nothing does"),
            FailureCode::OnlyLeftOut => {
                told("nothing to commit").hint("--keep-macos-files stores them")
            }
            FailureCode::NotEditable => {
                told("nothing to commit").hint("begin to change files with 'spfs edit'")
            }
            FailureCode::Busy => Self::of(&failure).hint("close these files and try again"),
            FailureCode::NoSpace => {
                Self::of(&failure).hint("make room on the volume of the storage root")
            }
            _ => Self::of(&failure),
        }
    }
}
