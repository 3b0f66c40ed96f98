//! The active runtime: the one that this process is in.

use spfs_runtime::control::LiveStatus;
use spfs_runtime::{RuntimeFolder, RuntimeName, RuntimeNameError};
use spfs_service::{Client, ClientError};

use super::tree::shown_path;
use crate::context::Context;
use crate::env::RUNTIME;
use crate::error::{CliError, Result};

/// The active runtime and a connection to what serves it.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) name: RuntimeName,
    pub(crate) client: Client,
}

impl Active {
    /// What is known of it.
    pub(crate) fn status(&mut self) -> Result<LiveStatus> {
        let mut served = self.client.status()?;
        match served.views.iter().position(|view| view.name == self.name.as_str()) {
            Some(at) => Ok(served.views.swap_remove(at)),
            None => Err(CliError::failed(format!("runtime {} is not being served", self.name))),
        }
    }
}

/// Names files that are open for writing, a few of many.
pub(crate) fn open_files(paths: &[Vec<u8>]) -> String {
    const SHOWN_MAX: usize = 5;
    let mut shown: Vec<String> =
        paths.iter().take(SHOWN_MAX).map(|path| shown_path(path)).collect();
    if paths.len() > SHOWN_MAX {
        shown.push(format!("and {} more", paths.len() - SHOWN_MAX));
    }
    format!("files are open for writing: {}", shown.join(", "))
}

/// The active runtime's name; `what` is the command that needs one.
pub(crate) fn name(context: &Context, what: &str) -> Result<RuntimeName> {
    let name = context.env.runtime().ok_or_else(|| CliError::no_runtime(what))?;
    name.parse().map_err(|error: RuntimeNameError| {
        CliError::failed(format!("the variable {RUNTIME} names no runtime")).because(&error)
    })
}

/// Connects to what serves the active runtime; `what` is the command that needs it.
pub(crate) fn connect(context: &Context, what: &str) -> Result<Active> {
    let name = name(context, what)?;
    let folder = RuntimeFolder::new(&context.config()?.storage.root, &name);
    match Client::connect(&folder.socket()) {
        Ok(client) => {
            let client = client.for_runtime(name.as_str());
            Ok(Active { name, client })
        }
        Err(error @ ClientError::NotServed { .. }) => {
            let gone = CliError::failed(format!("the active runtime {name} is not being served"))
                .because(&error);
            Err(if folder.exists() {
                gone.hint(format!(
                    "leave it, then start it again with 'spfs run --rerun {name} -- COMMAND'; \
                     its changes are kept"
                ))
            } else {
                gone.hint("it has ended, or SPFS_RUNTIME is left over from somewhere else")
            })
        }
        Err(error) => Err(error.into()),
    }
}
