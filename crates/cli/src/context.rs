//! What every command is given: environment, configuration and output.

use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;

use spfs_repo::AnyRepository;

use crate::config::{self, Config};
use crate::env::Environment;
use crate::error::Result;
use crate::output::Output;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// The environment of the process.
    pub(crate) env: Environment,
    /// Where results go.
    pub(crate) out: Output,
    /// How often `-v` was given.
    pub(crate) verbosity: u8,
    /// The repository that stands before `origin` in this call.
    pub(crate) wrap_origin: Option<PathBuf>,
    opened: RefCell<Vec<Arc<dyn AnyRepository>>>,
    config: OnceCell<Config>,
}

impl Context {
    /// The context of this process.
    pub(crate) fn new(env: Environment, verbosity: u8, wrap_origin: Option<PathBuf>) -> Self {
        let (opened, config) = (RefCell::default(), OnceCell::new());
        Self { env, out: Output::new(), verbosity, wrap_origin, opened, config }
    }

    /// Remembers a repository that may have to be saved when the command has succeeded.
    pub(crate) fn opened(&self, repository: &Arc<dyn AnyRepository>) {
        self.opened.borrow_mut().push(Arc::clone(repository));
    }

    /// Saves what the command changed.
    pub(crate) fn save(&self) -> Result<()> {
        Ok(self.opened.borrow().iter().try_for_each(|repository| repository.save())?)
    }

    /// The configuration, read when the first command asks for it, with its warnings told.
    pub(crate) fn config(&self) -> Result<&Config> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let loaded = config::load(&self.env)?;
        for warning in loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(self.config.get_or_init(|| loaded.config))
    }
}
