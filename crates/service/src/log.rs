//! What a daemon logs.
//!
//! One that runs in the background was given a file for it, which nobody else looks after: of a log
//! that gets too long the newest half stays.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

/// The longest log in the background.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Where a daemon logs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Wherever its caller reads.
    Foreground,
    /// A file that was made for it.
    Background,
}

impl Kind {
    /// Who was started in the background reports on a descriptor that it is ready.
    pub(crate) fn of(ready: Option<i32>) -> Self {
        if ready.is_some() { Self::Background } else { Self::Foreground }
    }
}

/// Logs to standard error what `filter`, in the form of `RUST_LOG`, lets through.
pub(crate) fn start(filter: &str, kind: Kind) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // One descriptor for good: a log is needed most when there are no more.
    let file = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    match file {
        Ok(file) if kind == Kind::Background => {
            log.with_writer(Mutex::new(Bounded { file, max: LOG_BYTES_MAX })).init();
        }
        _ => log.with_writer(io::stderr).init(),
    }
}

/// A file that is appended to, also by others, and cut.
#[derive(Debug)]
struct Bounded {
    file: File,
    max: u64,
}

impl Bounded {
    fn cut(&self) -> io::Result<()> {
        let found = self.file.metadata()?;
        if !found.is_file() || found.len() <= self.max {
            return Ok(());
        }
        let keep = self.max / 2;
        let mut newest = vec![0; usize::try_from(keep).unwrap_or_default()];
        let read = self.file.read_exact_at(&mut newest, found.len() - keep);
        self.file.set_len(0)?;
        read?;
        let line = newest.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        (&self.file).write_all(&newest[line..])
    }
}

impl Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let written = self.file.write(text)?;
        self.cut()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_newest_lines_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::options().read(true).append(true).create(true).open(&path).unwrap();
        let mut log = Bounded { file, max: 1000 };
        for number in 0..10_000 {
            writeln!(log, "line {number:04}").unwrap();
            assert!(path.metadata().unwrap().len() <= 1000);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() > 40 && lines.last() == Some(&"line 9999"), "{lines:?}");
        assert!(lines.iter().all(|line| line.len() == 9), "{lines:?}");
    }
}
