//! What every command is given: environment, configuration and output.

use std::cell::OnceCell;

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
    config: OnceCell<Config>,
}

impl Context {
    /// The context of this process.
    pub(crate) fn new(env: Environment, verbosity: u8) -> Self {
        Self { env, out: Output::new(), verbosity, config: OnceCell::new() }
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
