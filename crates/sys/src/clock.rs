//! The one clock of the project.
//!
//! Everything that compares or stores times of files takes them from here, so that a time made in
//! user space never runs ahead of one that the kernel stamps a moment later.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

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

impl Now {
    /// Nanoseconds since 1970, which a number holds up to the year 2262.
    fn as_nanos(self) -> i64 {
        self.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanos))
    }

    fn plus_nanos(self, nanos: i64) -> Self {
        let nanos = i64::from(self.nanos) + nanos;
        let within = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
        Self { secs: self.secs + nanos.div_euclid(1_000_000_000), nanos: within }
    }
}

/// The latest time that the kernel is known to have stamped on a file, in nanoseconds since 1970.
static OBSERVED_NANOS: AtomicI64 = AtomicI64::new(i64::MIN);

/// What lies further ahead of the last timer tick than any tick is long (10 ms at HZ=100) was
/// observed before the clock was set back.
const AHEAD_NANOS_MAX: i64 = 20_000_000;

/// Returns the time that the kernel would stamp on a file now.
///
/// Linux stamps the time of the last timer tick, which lies up to 4 ms in the past. A precise time
/// given to one file and the kernel's own given to a file written later would make the later file
/// the older one, which `make` and `rsync` notice. The other way round, since Linux 6.13 the kernel
/// stamps no time before one that it has given precisely to anybody (multigrain timestamps), and
/// does not tell which; what it is seen to stamp ([`observe`]) is made up for here.
pub fn now() -> Now {
    let tick = read(platform::clock::FILE_CLOCK);
    let ahead = OBSERVED_NANOS.load(Ordering::Relaxed).saturating_sub(tick.as_nanos());
    if (1..=AHEAD_NANOS_MAX).contains(&ahead) { tick.plus_nanos(ahead) } else { tick }
}

/// Takes notice of a time that the kernel has stamped on a file: [`now`] will not lie before it.
/// Times in the future are none that the kernel stamped, and are left alone.
pub fn observe(stamped: Now) {
    let (stamped, present) = (stamped.as_nanos(), precise().as_nanos());
    if stamped <= present {
        let later = |known| (known < stamped || known > present).then_some(stamped);
        // Nobody orders other memory by this number; an unchanged one is as good.
        let _unchanged = OBSERVED_NANOS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
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
    fn a_time_seen_on_a_file_is_not_fallen_behind() {
        let file = tempfile::tempfile().unwrap();
        let present = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let touch = rustix::fs::Timestamps { last_access: present, last_modification: present };
        for _ in 0..100 {
            rustix::fs::futimens(&file, &touch).unwrap();
            // Looking makes the next stamp a precise one, where the kernel has such.
            let stat = rustix::fs::fstat(&file).unwrap();
            let seen = Now { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
            observe(seen);
            assert!(now() >= seen, "the clock fell behind {seen:?}");
            assert!(now() <= precise());
        }
        let present = precise();
        observe(Now { secs: present.secs + 3_600, nanos: 0 });
        assert!(now() <= precise(), "a time in the future is not believed");
        observe(Now { secs: i64::MIN, nanos: 0 });
        observe(Now { secs: i64::MAX, nanos: 999_999_999 });
        assert!(now() <= precise());
    }

    #[test]
    fn a_sum_of_times_carries_into_the_seconds() {
        let time = Now { secs: -1, nanos: 999_999_999 };
        assert_eq!(time.plus_nanos(1), Now { secs: 0, nanos: 0 });
        assert_eq!(time.plus_nanos(20_000_000), Now { secs: 0, nanos: 19_999_999 });
        assert_eq!(time.as_nanos(), -1);
    }

    #[test]
    fn the_boot_id_stays_the_same() {
        let id = boot_id().unwrap();
        assert!(id.len() >= 32 && !id.contains('\n'), "{id:?}");
        assert_eq!(id, boot_id().unwrap());
    }
}
