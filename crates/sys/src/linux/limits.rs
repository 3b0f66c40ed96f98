//! The hard limit is what a process may raise itself to.

/// The number of files that `NR_OPEN` allows when the hard limit is none.
const NR_OPEN: u64 = 1 << 20;

pub(crate) fn nofile_max(hard: Option<u64>) -> u64 {
    hard.unwrap_or(NR_OPEN)
}
