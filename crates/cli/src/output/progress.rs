//! Progress of long work, on stderr, where that is a terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use spfs_repo::Progress;

use super::size::Human;

/// A bar that counts files and tells their bytes; taken away when dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    /// Bytes that are done.
    bytes: AtomicU64,
    /// Bytes that are to be done, as far as that is known.
    all_bytes: AtomicU64,
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
        Self::of(bar)
    }

    /// A bar that is never drawn.
    pub(crate) fn hidden() -> Self {
        Self::of(ProgressBar::hidden())
    }

    const fn of(bar: ProgressBar) -> Self {
        Self { bar, bytes: AtomicU64::new(0), all_bytes: AtomicU64::new(0) }
    }

    /// Tells what is done, when the number of files is not known beforehand.
    pub(crate) fn set(&self, files: u64, bytes: u64) {
        self.bar.set_length(files);
        self.bar.set_position(files);
        self.bar.set_message(Human(bytes).to_string());
    }
}

impl Progress for Bar {
    fn found(&self, files: u64, bytes: u64) {
        self.bar.inc_length(files);
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn done(&self, files: u64, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        self.bar.inc(files);
        // Formatting at each of a million small files would cost more than storing them.
        if before >> 20 != after >> 20 {
            let all = self.all_bytes.load(Ordering::Relaxed);
            self.bar.set_message(far(after, all));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How many bytes are done, of how many where that is known.
fn far(bytes: u64, all: u64) -> String {
    match all {
        0 => Human(bytes).to_string(),
        all => format!("{} of {}", Human(bytes), Human(all)),
    }
}

#[cfg(test)]
mod tests {
    use super::far;

    #[test]
    fn bytes_are_told_with_their_sum_where_it_is_known() {
        assert_eq!(far(2048, 0), "2.0 KiB");
        assert_eq!(far(2048, 4096), "2.0 KiB of 4.0 KiB");
    }
}
