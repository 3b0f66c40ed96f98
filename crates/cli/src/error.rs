//! What a user is told when a command fails, and the exit status.
//!
//! Libraries say what failed; here is decided whose fault it is, what to do about it, and which
//! status the process ends with. Every conversion from a library's error lives in this folder.

mod repo;
mod runtime;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Result of a command.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command could not do what was asked.
    Failed,
    /// The command line does not make sense.
    Usage,
    /// The reader of our output went away: no failure at all.
    BrokenPipe,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    /// The command could not do what was asked.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// The command line does not make sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, ..Self::failed(message) }
    }

    /// Output could not be written.
    pub(crate) fn writing_output(source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::BrokenPipe => Kind::BrokenPipe,
            _ => Kind::Failed,
        };
        Self { kind, ..Self::failed("cannot write the output").because(&source) }
    }

    /// A command that works on the active runtime was given outside of one.
    pub(crate) fn no_runtime(what: &str) -> Self {
        Self::failed(format!("no active runtime: {what} works inside of one"))
            .hint("enter one with 'spfs shell REF' or 'spfs run REF -- COMMAND'")
    }

    /// Adds `source` and everything below it as causes.
    pub(crate) fn because(mut self, source: &dyn StdError) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            let text = error.to_string();
            // Many errors repeat their source's text in their own.
            let said = self.causes.last().unwrap_or(&self.message);
            if !said.ends_with(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds what the user may do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error's own sentence and the sentences of everything below it.
    pub(crate) fn of(error: &dyn StdError) -> Self {
        let failed = Self::failed(error.to_string());
        match error.source() {
            Some(source) => failed.because(source),
            None => failed,
        }
    }

    /// The same, as a mistake of the command line.
    pub(crate) fn into_usage(self) -> Self {
        Self { kind: Kind::Usage, ..self }
    }

    /// The error and its causes in one line, for the log.
    pub(crate) fn one_line(&self) -> String {
        let parts: Vec<&str> =
            std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect();
        parts.join(": ")
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.kind == Kind::BrokenPipe
    }

    /// The status the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::BrokenPipe => ExitCode::SUCCESS,
            Kind::Failed => ExitCode::FAILURE,
            Kind::Usage => ExitCode::from(2),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            writeln!(f, "  because: {cause}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<crate::config::ConfigError> for CliError {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::of(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let io = io::Error::other("disk on fire");
        let error = CliError::failed("cannot save x: disk on fire").because(&io).hint("run");
        assert_eq!(error.to_string(), "error: cannot save x: disk on fire\n  hint: run\n");
        let error = CliError::failed("cannot save x").because(&io);
        assert_eq!(error.to_string(), "error: cannot save x\n  because: disk on fire\n");
    }

    #[test]
    fn a_broken_pipe_is_success_and_other_output_errors_are_not() {
        let broken = CliError::writing_output(io::ErrorKind::BrokenPipe.into());
        assert!(broken.is_broken_pipe());
        let full = CliError::writing_output(io::ErrorKind::StorageFull.into());
        assert!(!full.is_broken_pipe());
    }
}
