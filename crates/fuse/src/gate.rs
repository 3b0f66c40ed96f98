//! How many of the session's threads wait for requests.
//!
//! The kernel wakes the thread that has waited longest. Were all of them waiting, requests that
//! follow one another would go round all threads, each woken on another processor with nothing in
//! its caches; measured, that doubles what a small request costs. So threads that are not needed
//! are held back here, *after* they have answered, and one waits for requests.
//!
//! Others come in when that one may have to wait in the middle of a request ([`Turn::may_wait`]),
//! or is found at it by the deputy, a thread that looks every [`TICK`] while requests come: no
//! request waits longer than two ticks for one that takes long, whatever it waits for. Several stay
//! as long as they are busy at the same time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::linger::Linger;

/// How often the deputy looks.
const TICK: Duration = Duration::from_millis(3);

/// After so many ticks without a request the deputy sleeps until there is one.
const QUIET_TICKS: u32 = 10;

/// A thread is held back after it was one too many in so many requests, on balance.
const SPARE_MAX: usize = 16;

/// What it weighs against that balance when a request leaves nobody waiting.
const BUSY_WEIGHT: usize = 3;

/// Lets threads of a session wait for requests or holds them back.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Threads that have served a request and wait for another. Those that have served none yet are
    /// not counted: the kernel chooses them first.
    waiting: AtomicUsize,
    /// Requests begun.
    begun: AtomicUsize,
    /// How often there was a thread too many lately.
    spare: AtomicUsize,
    /// The deputy sleeps, and is to be woken by the next request.
    asleep: AtomicBool,
    held: Mutex<Held>,
    let_in: Condvar,
    deputy: Condvar,
    linger: Linger,
}

#[derive(Debug, Default)]
struct Held {
    /// Threads that are held back.
    threads: usize,
    /// How many of them may go.
    free: usize,
    ended: bool,
}

impl Gate {
    /// For threads of which one keeps looking for requests before it sleeps.
    pub(crate) fn new(linger: Linger) -> Self {
        Self { linger, ..Self::default() }
    }

    /// Starts the deputy, which ends with [`Gate::end`].
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let gate = Arc::clone(self);
        std::thread::Builder::new().name("spfs-deputy".into()).spawn(move || gate.watch())
    }

    /// A request begins on this thread.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn<'_> {
        if self.served_here() && self.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            let fewer = |spare: usize| Some(spare.saturating_sub(BUSY_WEIGHT));
            // It cannot fail: the closure always gives a value.
            let _ = self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.wake_deputy();
        }
        Turn { gate: self }
    }

    /// Lets all threads go; from now on none is held back.
    pub(crate) fn end(&self) {
        self.linger.end();
        self.held.lock().ended = true;
        self.let_in.notify_all();
        self.deputy.notify_all();
    }

    /// The request is answered. Returns when the thread shall wait for another.
    fn finish(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0
            && self.spare.fetch_add(1, Ordering::Relaxed) >= SPARE_MAX
        {
            self.hold();
        }
        if self.waiting.fetch_add(1, Ordering::SeqCst) == 0 {
            // The kernel would wake another one that sleeps already.
            self.linger.look();
        }
    }

    fn hold(&self) {
        let mut held = self.held.lock();
        self.spare.store(0, Ordering::Relaxed);
        held.threads += 1;
        while held.free == 0 && !held.ended {
            self.let_in.wait(&mut held);
        }
        held.threads -= 1;
        held.free = held.free.saturating_sub(1);
    }

    /// Lets one more thread wait for requests, when nobody does.
    fn let_one_in(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return;
        }
        let mut held = self.held.lock();
        if held.free < held.threads {
            held.free += 1;
            self.let_in.notify_one();
        }
    }

    /// Whether another thread waits, or can be let in by the deputy.
    fn has_another(&self) -> bool {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return true;
        }
        let held = self.held.lock();
        held.free < held.threads
    }

    /// Whether this thread has served a request before. The first time it also sees to it that the
    /// others learn of its end: those held back would not hear of the end of the mount.
    fn served_here(self: &Arc<Self>) -> bool {
        struct Last(Arc<Gate>);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        thread_local! {
            static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
        }
        LAST.with_borrow_mut(|last| {
            let served = last.is_some();
            if !served {
                *last = Some(Last(Arc::clone(self)));
            }
            served
        })
    }

    fn wake_deputy(&self) {
        let _held = self.held.lock();
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.deputy.notify_one();
        }
    }

    fn watch(&self) {
        let mut held = self.held.lock();
        let (mut seen, mut quiet, mut nobody) = (0, 0, false);
        while !held.ended {
            self.deputy.wait_for(&mut held, TICK);
            let begun = self.begun.load(Ordering::SeqCst);
            let nobody_before = std::mem::replace(&mut nobody, self.nobody_waits());
            if nobody && nobody_before && held.free < held.threads {
                held.free += 1;
                self.let_in.notify_one();
            }
            quiet = if begun == seen && !nobody { quiet + 1 } else { 0 };
            seen = begun;
            if quiet >= QUIET_TICKS {
                self.sleep(&mut held, seen);
                quiet = 0;
            }
        }
    }

    /// Whether a request that comes now would find no thread.
    fn nobody_waits(&self) -> bool {
        self.begun.load(Ordering::SeqCst) > 0 && self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Waits for a request after those `seen`.
    fn sleep(&self, held: &mut parking_lot::MutexGuard<'_, Held>, seen: usize) {
        self.asleep.store(true, Ordering::SeqCst);
        // A request that began before it could see the line above is seen here.
        if self.begun.load(Ordering::SeqCst) == seen {
            while self.asleep.load(Ordering::SeqCst) && !held.ended {
                self.deputy.wait(held);
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// A request being served. When it is dropped, after the answer, the thread may be held back.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    gate: &'a Gate,
}

impl Turn<'_> {
    /// What comes now may take long: another thread should be there for other requests.
    pub(crate) fn may_wait(&self) {
        self.gate.let_one_in();
    }

    /// Whether other requests will find a thread if this one takes long. None is let in yet, which is
    /// left to the deputy: this may be over sooner than another thread has woken up.
    pub(crate) fn has_another(&self) -> bool {
        self.gate.has_another()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !condition() {
            assert!(Instant::now() < end, "waited in vain until {what}");
            std::thread::yield_now();
        }
    }

    /// Threads that serve requests out of one queue, as those of a session do.
    struct Served {
        gate: Arc<Gate>,
        requests: mpsc::Sender<Request>,
        threads: Vec<JoinHandle<()>>,
        deputy: JoinHandle<()>,
    }

    type Request = Box<dyn FnOnce(&Turn<'_>) + Send>;

    impl Served {
        fn start(threads: usize) -> Self {
            let gate = Arc::new(Gate::default());
            let deputy = gate.start().unwrap();
            let (requests, queue) = mpsc::channel::<Request>();
            let queue = Arc::new(Mutex::new(queue));
            let serve = || {
                let (gate, queue) = (Arc::clone(&gate), Arc::clone(&queue));
                std::thread::spawn(move || {
                    loop {
                        let Ok(request) = queue.lock().recv() else { return };
                        request(&gate.begin());
                    }
                })
            };
            let threads = (0..threads).map(|_| serve()).collect();
            Self { gate, requests, threads, deputy }
        }

        fn request(&self, request: impl FnOnce(&Turn<'_>) + Send + 'static) {
            self.requests.send(Box::new(request)).unwrap();
        }

        /// One request after another, until all threads but one are held back.
        fn settle(&self) {
            let (done, answers) = mpsc::channel();
            until("one thread is left", || {
                let done = done.clone();
                self.request(move |_| done.send(()).unwrap());
                answers.recv_timeout(LIMIT).unwrap();
                self.gate.held.lock().threads == self.threads.len() - 1
            });
        }

        fn end(self) {
            drop(self.requests);
            for thread in self.threads {
                thread.join().unwrap();
            }
            self.deputy.join().unwrap();
        }
    }

    #[test]
    fn threads_that_are_not_needed_are_held_back_until_the_end() {
        let served = Served::start(4);
        served.settle();
        served.end();
    }

    #[test]
    fn another_request_is_served_while_one_waits_whether_it_said_so_or_not() {
        for says_so in [true, false] {
            let served = Served::start(4);
            for _ in 0..20 {
                served.settle();
                let (open, opened) = mpsc::channel::<()>();
                let (done, answers) = mpsc::channel();
                let first = done.clone();
                served.request(move |turn| {
                    if says_so {
                        turn.may_wait();
                    }
                    opened.recv_timeout(LIMIT).unwrap();
                    first.send(1).unwrap();
                });
                served.request(move |_| {
                    done.send(2).unwrap();
                    open.send(()).unwrap();
                });
                let order: Vec<i32> =
                    (0..2).map(|_| answers.recv_timeout(LIMIT).unwrap()).collect();
                assert_eq!(order, [2, 1]);
            }
            served.end();
        }
    }

    #[test]
    fn a_request_knows_whether_others_would_find_a_thread() {
        for (threads, expected) in [(1, false), (2, true)] {
            let served = Served::start(threads);
            served.settle();
            let (said, answer) = mpsc::channel();
            served.request(move |turn| said.send(turn.has_another()).unwrap());
            assert_eq!(answer.recv_timeout(LIMIT).unwrap(), expected, "{threads} threads");
            served.end();
        }
    }

    #[test]
    fn all_threads_come_in_when_all_are_needed() {
        let served = Served::start(4);
        served.settle();
        let (done, answers) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(4));
        for _ in 0..4 {
            let (done, barrier) = (done.clone(), Arc::clone(&barrier));
            served.request(move |_| {
                barrier.wait();
                done.send(()).unwrap();
            });
        }
        for _ in 0..4 {
            answers.recv_timeout(LIMIT).unwrap();
        }
        served.end();
    }

    #[test]
    fn the_deputy_sleeps_while_nothing_is_asked_and_wakes_with_the_next_request() {
        let served = Served::start(2);
        for _ in 0..3 {
            served.settle();
            until("the deputy sleeps", || served.gate.asleep.load(Ordering::SeqCst));
            served.request(|_| {});
            until("the deputy is awake", || !served.gate.asleep.load(Ordering::SeqCst));
        }
        served.end();
    }
}
