//! Threads for a stretch of work.

use std::io;

/// How many threads are worth starting.
pub(crate) fn parallelism() -> usize {
    // Schedules must not depend on the machine.
    let known = if cfg!(feature = "shuttle") { Ok(2) } else { machine() };
    known.unwrap_or(1)
}

fn machine() -> io::Result<usize> {
    std::thread::available_parallelism().map(usize::from)
}

/// Runs `work` on so many threads, of which this is one, and waits for all.
#[cfg(not(feature = "shuttle"))]
pub(crate) fn together(threads: usize, work: impl Fn() + Send + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(&work);
        }
        work();
    });
}

/// Runs `work` on so many threads, of which this is one, and waits for all.
#[cfg(feature = "shuttle")]
pub(crate) fn together(threads: usize, work: impl Fn() + Send + Sync) {
    shuttle::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(&work);
        }
        work();
    });
}

/// Runs `work` on a stack of so many bytes.
#[cfg(not(feature = "shuttle"))]
pub(crate) fn on_deep_stack<T: Send>(
    bytes: usize,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes).spawn_scoped(scope, work)?;
        thread.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` here: the trees of schedules are flat.
#[cfg(feature = "shuttle")]
pub(crate) fn on_deep_stack<T: Send>(
    _bytes: usize,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    Ok(work())
}
