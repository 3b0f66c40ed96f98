//! Threads for requests that may wait long (a power-safe sync, a payload from far away), so that
//! the threads that read requests stay free for the others.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

type Job = Box<dyn FnOnce() + Send>;

/// More jobs than this wait for each other: each is bound by the same disk or server.
const THREADS_MAX: usize = 8;

/// Threads that are started when they are first needed and end with [`Pool::close`].
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
    pub(crate) fn new() -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), work: Condvar::new() }) }
    }

    /// Runs `job` on a thread of the pool; on this one when there is none to be had.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        if state.closed || !self.staffed(&mut state) {
            drop(state);
            job();
            return;
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        self.shared.work.notify_one();
    }

    /// Makes sure that a thread will take the next job.
    fn staffed(&self, state: &mut State) -> bool {
        let all_taken = state.idle <= state.jobs.len();
        if all_taken && state.threads.len() < THREADS_MAX {
            let shared = Arc::clone(&self.shared);
            let name = format!("spfs-wait-{}", state.threads.len());
            match std::thread::Builder::new().name(name).spawn(move || shared.serve()) {
                Ok(thread) => state.threads.push(thread),
                Err(error) => tracing::warn!(%error, "no further thread for slow requests"),
            }
        }
        !state.threads.is_empty()
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
        let pool = Pool::new();
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
        let pool = Pool::new();
        let (done, results) = mpsc::channel();
        for _ in 0..2 * THREADS_MAX {
            pool.run(|| panic!("on purpose"));
        }
        pool.run(move || done.send(()).unwrap());
        results.recv().unwrap();
        pool.close();
    }

    #[test]
    fn a_closed_pool_runs_jobs_at_once() {
        let pool = Pool::new();
        pool.close();
        let (done, results) = mpsc::channel();
        pool.run(move || done.send(std::thread::current().id()).unwrap());
        assert_eq!(results.recv().unwrap(), std::thread::current().id());
    }
}
