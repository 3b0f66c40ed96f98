//! Progress of long work, on stderr, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use spfs_repo::Progress;

use super::size::Human;

/// A bar that counts files and tells their bytes; taken away when dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    bytes: std::sync::atomic::AtomicU64,
}

impl Bar {
    /// A bar that counts files. Nothing is drawn when stderr is no terminal.
    pub(crate) fn files(doing: &'static str) -> Self {
        // The template is a constant that the tests of this module parse.
        let style = ProgressStyle::with_template(
            "{prefix} {wide_bar} {pos}/{len} files {msg} {elapsed_precise}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style).with_prefix(doing);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, bytes: std::sync::atomic::AtomicU64::new(0) }
    }

    /// Tells what is done, when the number of files is not known beforehand.
    pub(crate) fn set(&self, files: u64, bytes: u64) {
        self.bar.set_length(files);
        self.bar.set_position(files);
        self.bar.set_message(Human(bytes).to_string());
    }
}

impl Progress for Bar {
    fn found(&self, files: u64, _bytes: u64) {
        self.bar.inc_length(files);
    }

    fn done(&self, files: u64, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        self.bar.inc(files);
        // Formatting at each of a million small files would cost more than storing them.
        if before >> 20 != (before + bytes) >> 20 {
            self.bar.set_message(Human(before + bytes).to_string());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
