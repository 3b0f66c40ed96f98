//! A look at the device before sleeping.
//!
//! Whoever asks a file system for one thing mostly asks for the next within microseconds. A thread that
//! sleeps until then has to be woken, and where processors are idle that takes longer than the whole
//! request: 10 µs where they doze, 50 µs in a virtual machine that has given its processor back. So the
//! thread that waits for requests keeps looking for a moment before it sleeps.
//!
//! That occupies a processor, so it goes on only while it pays off: each look that finds a request
//! counts for it, each one in vain against it, and when those have the upper hand only one answer in
//! [`PROBE`] is followed by a look. Where all processors are taken, requests do not come while somebody
//! looks in vain, and so it ends there by itself.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a look takes at most: about what being woken costs.
const WINDOW: Duration = Duration::from_micros(50);

/// The most that counts for looking. So many looks in vain in a row end it.
const LUCK_MAX: u32 = 32;

/// Without luck, one answer in so many is followed by a look all the same.
const PROBE: u32 = 32;

/// Looks for the next request on a device.
#[derive(Debug, Default)]
pub(crate) struct Linger {
    /// A descriptor of its own, given up with the session: processes wait for answers as long as
    /// anybody has the device open.
    device: RwLock<Option<OwnedFd>>,
    luck: AtomicU32,
    /// Answers that were not followed by a look since the last one.
    passed: AtomicU32,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// There is something to read.
    Found,
    /// Nothing came.
    InVain,
    /// It was not worth it.
    Omitted,
}

impl Linger {
    /// Looks at this device; without one there is nothing to look at.
    pub(crate) fn at(device: Option<OwnedFd>) -> Self {
        Self {
            device: RwLock::new(device),
            luck: AtomicU32::new(LUCK_MAX),
            passed: AtomicU32::new(0),
        }
    }

    /// Looks for a request, if that is worth it. The caller waits for it afterwards in any case.
    pub(crate) fn look(&self) -> Look {
        if !self.is_worth_it() {
            return Look::Omitted;
        }
        let device = self.device.read();
        let Some(device) = device.as_ref() else { return Look::Omitted };
        let end = Instant::now() + WINDOW;
        while !is_readable(device) {
            if Instant::now() > end {
                self.count(|luck| luck.saturating_sub(1));
                return Look::InVain;
            }
            std::hint::spin_loop();
        }
        self.count(|luck| (luck + 1).min(LUCK_MAX));
        Look::Found
    }

    /// Gives the device up.
    pub(crate) fn end(&self) {
        drop(self.device.write().take());
    }

    fn is_worth_it(&self) -> bool {
        if self.luck.load(Ordering::Relaxed) > 0 {
            return true;
        }
        if self.passed.fetch_add(1, Ordering::Relaxed) + 1 < PROBE {
            return false;
        }
        self.passed.store(0, Ordering::Relaxed);
        true
    }

    fn count(&self, change: impl Fn(u32) -> u32) {
        // It cannot fail: the closure always gives a value.
        let _ =
            self.luck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |luck| Some(change(luck)));
    }
}

/// Whether reading would return at once, be it with an error: who reads is told then.
fn is_readable(device: &OwnedFd) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(device, PollFlags::IN)], Some(&NOW)) != Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    fn device() -> (Linger, File, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let linger = Linger::at(Some(reader.try_clone().unwrap()));
        (linger, File::from(reader), File::from(writer))
    }

    #[test]
    fn a_request_that_is_there_is_found() {
        let (linger, mut reader, mut writer) = device();
        for _ in 0..100 {
            writer.write_all(b"r").unwrap();
            assert_eq!(linger.look(), Look::Found);
            reader.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn looks_in_vain_become_rare_and_luck_brings_them_back() {
        let (linger, mut reader, mut writer) = device();
        for _ in 0..LUCK_MAX {
            assert_eq!(linger.look(), Look::InVain);
        }
        for _ in 0..3 {
            for _ in 1..PROBE {
                assert_eq!(linger.look(), Look::Omitted);
            }
            assert_eq!(linger.look(), Look::InVain);
        }
        writer.write_all(b"r").unwrap();
        for _ in 1..PROBE {
            assert_eq!(linger.look(), Look::Omitted);
        }
        for _ in 0..5 {
            assert_eq!(linger.look(), Look::Found);
        }
        reader.read_exact(&mut [0]).unwrap();
        assert_eq!(linger.look(), Look::InVain);
    }

    #[test]
    fn the_end_of_the_other_side_is_something_to_read() {
        let (linger, _reader, writer) = device();
        drop(writer);
        assert_eq!(linger.look(), Look::Found);
    }

    #[test]
    fn nothing_is_looked_at_after_the_end() {
        let (linger, reader, mut writer) = device();
        drop(reader);
        linger.end();
        // Nobody reads any more: the descriptor is closed.
        assert_eq!(writer.write(b"r").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(linger.look(), Look::Omitted);
        assert_eq!(Linger::default().look(), Look::Omitted);
    }
}
