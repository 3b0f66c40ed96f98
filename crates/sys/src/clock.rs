//! The one clock of the project.
//!
//! Everything that compares or stores times of files takes them from here, so that a time made in
//! user space never runs ahead of one that the kernel stamps a moment later.

use std::io;

use rustix::time::{ClockId, clock_gettime};

use crate::platform;

/// A point in time since 1970-01-01T00:00:00Z; negative seconds lie before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds within the second, 0..1_000_000_000.
    pub nanos: u32,
}

/// Returns the time that the kernel would stamp on a file now.
///
/// Linux stamps the time of the last timer tick, which lies up to 4 ms in the past. A precise time
/// given to one file and the kernel's own given to a file written later would make the later file
/// the older one, which `make` and `rsync` notice.
pub fn now() -> Now {
    read(platform::clock::FILE_CLOCK)
}

/// Returns the time as exactly as the machine knows it: for records and measurements, not for
/// times of files.
pub fn precise() -> Now {
    read(ClockId::Realtime)
}

/// Returns a text that differs between any two boots of any machines.
///
/// # Errors
/// When the kernel does not tell it.
pub fn boot_id() -> io::Result<String> {
    platform::clock::boot_id()
}

fn read(clock: ClockId) -> Now {
    let time = clock_gettime(clock);
    // The kernel keeps tv_nsec within 0..1e9; its C type is wider.
    Now { secs: time.tv_sec, nanos: u32::try_from(time.tv_nsec).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_never_ahead_of_the_precise_one() {
        let coarse = now();
        let exact = precise();
        assert!(coarse <= exact, "{coarse:?} lies after {exact:?}");
        assert!(exact.secs - coarse.secs <= 1);
        assert!(coarse.secs > 1_600_000_000 && coarse.nanos < 1_000_000_000);
    }

    #[test]
    fn a_file_written_after_now_is_not_older_than_now() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            let before = now();
            let file = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
            let stat = rustix::fs::fstat(file.as_file()).unwrap();
            let mtime = Now { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
            assert!(mtime >= before, "{mtime:?} lies before {before:?}");
        }
    }

    #[test]
    fn the_boot_id_stays_the_same() {
        let id = boot_id().unwrap();
        assert!(id.len() >= 32 && !id.contains('\n'), "{id:?}");
        assert_eq!(id, boot_id().unwrap());
    }
}
