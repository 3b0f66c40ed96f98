//! The kernel has a limit of its own beside the hard one.

/// What the kernel allows a process (`kern.maxfilesperproc`) even when the hard limit is none:
/// setrlimit refuses more.
pub(crate) fn nofile_max(hard: Option<u64>) -> u64 {
    /// `OPEN_MAX` of sys/syslimits.h, which is always allowed.
    const OPEN_MAX: u64 = 10_240;
    let mut value = [0; 4];
    let kernel = match super::sysctl(c"kern.maxfilesperproc", &mut value) {
        Ok(4) => u64::from(u32::from_ne_bytes(value)),
        _ => OPEN_MAX,
    };
    hard.map_or(kernel, |hard| hard.min(kernel))
}
