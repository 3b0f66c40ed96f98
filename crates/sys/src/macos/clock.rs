//! The precise clock, and the id of the boot session.

use std::io;

use rustix::time::ClockId;

/// APFS stamps the precise time.
pub(crate) const FILE_CLOCK: ClockId = ClockId::Realtime;

pub(crate) fn boot_id() -> io::Result<String> {
    let mut value = [0; 64];
    let size = super::sysctl(c"kern.bootsessionuuid", &mut value)?;
    let text = value.get(..size).unwrap_or_default();
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}
