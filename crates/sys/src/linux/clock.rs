//! The coarse clock of the kernel, and the boot id.

use std::fs;
use std::io;

use rustix::time::ClockId;

/// What `current_time()` in the kernel stamps on inodes.
pub(crate) const FILE_CLOCK: ClockId = ClockId::RealtimeCoarse;

pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
