//! Telling how far long work has come.

/// Is told how far long work has come; called from several threads, often, and must be quick.
pub trait Progress: Send + Sync {
    /// More work was found: so many files, and so many bytes where that is known beforehand.
    fn found(&self, files: u64, bytes: u64);

    /// Some of it is done.
    fn done(&self, files: u64, bytes: u64);
}

/// For work that nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn found(&self, _files: u64, _bytes: u64) {}

    fn done(&self, _files: u64, _bytes: u64) {}
}
