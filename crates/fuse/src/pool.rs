//! Threads for requests that may wait long (a power-safe sync, a payload from far away), so that
//! the threads that read requests stay free for the others.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

type Job = Box<dyn FnOnce() + Send>;

/// More jobs than this wait for each other: each is bound by the same disk or server.
const THREADS_MAX: usize = 8;

/// Threads for slow requests: one from the start, more when they are needed.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: Vec<JoinHandle<()>>,
    idle: usize,
    closed: bool,
}

impl Pool {
    /// Starts the first thread, so that a job never has to run on the thread that gives it: some
    /// jobs make the kernel send requests, and wait for their answers.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new() });
        let first = shared.spawn(0)?;
        shared.state.lock().threads.push(first);
        Ok(Self { shared })
    }

    /// Runs `job` on a thread of the pool. After [`Pool::close`] it is dropped.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        if state.closed {
            return;
        }
        state.jobs.push_back(Box::new(job));
        if state.idle < state.jobs.len() && state.threads.len() < THREADS_MAX {
            match self.shared.spawn(state.threads.len()) {
                Ok(thread) => state.threads.push(thread),
                Err(error) => tracing::warn!(%error, "no further thread for slow requests"),
            }
        }
        drop(state);
        self.shared.work.notify_one();
    }

    /// Finishes the jobs that were given and ends the threads.
    pub(crate) fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.shared.work.notify_all();
        for thread in threads {
            // A job's panic is caught in the thread, so there is nothing to learn from it.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn spawn(self: &Arc<Self>, number: usize) -> io::Result<JoinHandle<()>> {
        let shared = Arc::clone(self);
        std::thread::Builder::new()
            .name(format!("spfs-wait-{number}"))
            .spawn(move || shared.serve())
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // The reply that the job owned answers EIO when it is dropped.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a slow request panicked");
                }
                state = self.state.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_run_beside_one_another_and_close_waits_for_them() {
        let pool = Pool::start().unwrap();
        let (to_second, from_first) = mpsc::channel();
        let (done, results) = mpsc::channel();
        let first_done = done.clone();
        // The first job ends only after the second has begun: they need two threads.
        pool.run(move || first_done.send(from_first.recv().unwrap()).unwrap());
        pool.run(move || to_second.send(1).unwrap());
        pool.run(move || done.send(2).unwrap());
        pool.close();
        let mut results: Vec<i32> = results.iter().collect();
        results.sort_unstable();
        assert_eq!(results, [1, 2]);
    }

    #[test]
    fn a_panic_in_a_job_leaves_the_pool_working() {
        let pool = Pool::start().unwrap();
        let (done, results) = mpsc::channel();
        for _ in 0..2 * THREADS_MAX {
            pool.run(|| panic!("on purpose"));
        }
        pool.run(move || done.send(()).unwrap());
        results.recv().unwrap();
        pool.close();
    }

    #[test]
    fn a_closed_pool_drops_jobs() {
        let pool = Pool::start().unwrap();
        pool.close();
        let (done, results) = mpsc::channel();
        pool.run(move || done.send(()).unwrap());
        results.recv().unwrap_err();
    }
}
