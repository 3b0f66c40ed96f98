//! The only place that prints: results to stdout, logs, questions and errors to stderr.
//!
//! A reader that went away (`spfs tags | head -1`) is no error: the command ends quietly and
//! successfully, as other tools do.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::env::Environment;
use crate::error::{CliError, Result};

pub(crate) mod progress;
pub(crate) mod size;

/// The results of a command, on stdout.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<io::Stdout>,
    is_terminal: bool,
}

impl Output {
    /// Standard output.
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self { stdout: BufWriter::new(stdout), is_terminal }
    }

    /// Writes one line; to a terminal without anything that would control it.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<()> {
        let written = match self.is_terminal {
            true => writeln!(self.stdout, "{}", harmless(&line.to_string())),
            false => writeln!(self.stdout, "{line}"),
        };
        written.map_err(CliError::writing_output)
    }

    /// Writes `value` as indented JSON.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.stdout, value)
            .map_err(|error| CliError::writing_output(error.into()))?;
        self.line("")
    }

    /// Writes `value` as one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl serde::Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.stdout, value)
            .map_err(|error| CliError::writing_output(error.into()))?;
        self.line("")
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdout.write_all(bytes).map_err(CliError::writing_output)
    }

    /// Hands over what is buffered.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.stdout.flush().map_err(CliError::writing_output)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// How loud the logs are and where they go.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogOptions {
    /// Steps above the normal level.
    pub(crate) verbosity: u8,
    /// A file that gets a copy.
    pub(crate) file: Option<PathBuf>,
    /// Whether each line on stderr begins with the time.
    pub(crate) timestamp: bool,
}

/// Sends log lines to stderr, and to the file when there is one.
pub(crate) fn start_logging(options: &LogOptions, env: &Environment) -> Result<()> {
    let mut refused = Vec::new();
    let mut variable = |name| {
        let text = env.text(name)?;
        let parsed = EnvFilter::builder().parse(text);
        parsed
            .map_err(|error| refused.push(format!("{name}={text:?} is ignored: {error}")))
            .ok()?;
        Some(text)
    };
    let (spfs_log, rust_log) = (variable("SPFS_LOG"), variable("RUST_LOG"));
    let filter = filter_directives(options.verbosity, spfs_log, rust_log);
    let stderr = layer(BoxMakeWriter::new(io::stderr), &filter, options.timestamp, colours(env));
    let mut layers = vec![stderr];
    if let Some(path) = &options.file {
        let file = File::options().append(true).create(true).open(path).map_err(|source| {
            CliError::failed(format!("cannot open the log file {}", path.display()))
                .because(&source)
        })?;
        layers.push(layer(BoxMakeWriter::new(Mutex::new(file)), &filter, true, false));
    }
    let subscriber = Registry::default().with(layers);
    // A second call in one process (tests) keeps the first subscriber, which is as good.
    tracing::subscriber::set_global_default(subscriber).unwrap_or_default();
    for refused in refused {
        tracing::warn!("the variable {refused}");
    }
    Ok(())
}

fn layer(
    writer: BoxMakeWriter,
    filter: &str,
    timestamp: bool,
    ansi: bool,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let filter = EnvFilter::builder().parse_lossy(filter);
    let layer =
        tracing_subscriber::fmt::layer().with_writer(writer).with_target(false).with_ansi(ansi);
    if timestamp {
        layer.with_filter(filter).boxed()
    } else {
        layer.without_time().with_filter(filter).boxed()
    }
}

/// What is logged at which verbosity; `RUST_LOG` adds to it, `SPFS_LOG` replaces the quietest.
fn filter_directives(verbosity: u8, spfs_log: Option<&str>, rust_log: Option<&str>) -> String {
    let base = match verbosity {
        0 => spfs_log.unwrap_or("spfs=info,warn"),
        1 => "spfs=debug,info",
        2 => "spfs=trace,info",
        3 => "spfs=trace,debug",
        _ => "trace",
    };
    rust_log.map_or_else(|| base.to_owned(), |more| format!("{base},{more}"))
}

/// Whether stderr may be coloured: a terminal, and nobody asked for plain text.
fn colours(env: &Environment) -> bool {
    env.value("NO_COLOR").is_none()
        && env.text("TERM") != Some("dumb")
        && io::stderr().is_terminal()
}

/// Tells the user on stderr what went wrong.
pub(crate) fn report(error: &CliError) {
    // Nobody is left to tell when stderr itself cannot be written.
    write!(io::stderr().lock(), "{}", harmless(&error.to_string())).unwrap_or_default();
}

/// The text without control characters other than ends of lines and tabs: names of files may hold
/// what turns a terminal upside down, and are chosen by others.
fn harmless(text: &str) -> Cow<'_, str> {
    let controls = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(controls) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match controls(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown.into()
}

/// Shows help or what is wrong with the command line, and returns the exit status.
pub(crate) fn report_usage(error: &clap::Error) -> std::process::ExitCode {
    // A reader that went away while the help was printed is nobody's fault.
    error.print().unwrap_or_default();
    if error.use_stderr() {
        std::process::ExitCode::from(2)
    } else {
        std::process::ExitCode::SUCCESS
    }
}

/// Asks on stderr and reads the answer from stdin; anything but yes is no.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let asked = write!(io::stderr().lock(), "{question} (y/N) ");
    asked.map_err(CliError::writing_output)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|source| {
        CliError::failed("cannot read the answer from standard input").because(&source)
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_control_the_terminal() {
        assert_eq!(harmless("plain\tname\nü 日本"), "plain\tname\nü 日本");
        assert_eq!(harmless("a\u{1b}[31mred\r\u{9b}x"), "a\\u{1b}[31mred\\r\\u{9b}x");
    }

    #[test]
    fn each_v_shows_more_and_spfs_log_rules_without_one() {
        assert_eq!(filter_directives(0, None, None), "spfs=info,warn");
        assert_eq!(filter_directives(0, Some("error"), None), "error");
        assert_eq!(filter_directives(1, Some("error"), None), "spfs=debug,info");
        assert_eq!(filter_directives(9, None, Some("h2=off")), "trace,h2=off");
    }
}
