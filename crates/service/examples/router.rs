//! How long the router takes to tell who sees which view.
//!
//! `cargo run --release -p spfs-service --example router`: one line a figure, with the median and
//! the 99th percentile over calls timed in batches (known callers) or one by one (unknown ones).
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a terminal")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use spfs_fuse::{Caller, ViewId, Views};
use spfs_service::Router;
use spfs_sys::process::System;
use spfs_testkit::ModelFs;

const CALLS: u32 = 1000;
const ROUNDS: usize = 500;
const PROCESSES: usize = 300;

fn main() {
    let uid = spfs_sys::ids::euid();
    let start = |follow_max| {
        let fs = Arc::new(ModelFs::with_system_clock());
        Router::start(uid, fs, Box::new(System), follow_max).unwrap()
    };
    let caller = |pid| Caller { pid, uid, gid: 0 };
    for (name, follow_max) in [("followed", 10_000), ("looked at each time", 0)] {
        let (router, _emptied) = start(follow_max);
        let child = sleeper();
        let view = add(&router, child.0.id());
        let known = || assert_eq!(router.of_caller(caller(child.0.id())), view);
        print(&format!("known caller, {name}"), &mut batches(known));
        if follow_max > 0 {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| churn(&router, &stop));
                print("known caller, while views come and go", &mut batches(known));
                stop.store(true, Ordering::Relaxed);
            });
            let none = || assert_eq!(router.of_caller(caller(0)), ViewId::FIRST);
            print("the kernel itself", &mut batches(none));
        }
        router.stop();
    }
    let (router, _emptied) = start(10_000);
    let (root, view) = children_of_a_member(&router);
    let pids = children(root.0.id());
    let mut taken: Vec<Duration> = pids
        .iter()
        .map(|pid| {
            let started = Instant::now();
            assert_eq!(router.of_caller(caller(*pid)), view);
            started.elapsed()
        })
        .collect();
    print("children of members, first call", &mut taken);
    let (other, _emptied) = start(10_000);
    // Ancestors are met by the first; the others stop at their parent.
    other.of_caller(caller(root.0.id()));
    let mut taken: Vec<Duration> = pids
        .iter()
        .map(|pid| {
            let started = Instant::now();
            assert_eq!(other.of_caller(caller(*pid)), ViewId::FIRST);
            started.elapsed()
        })
        .collect();
    print("unknown callers, looked up", &mut taken);
    for pid in pids {
        let id = spfs_sys::process::identify(pid).unwrap();
        spfs_sys::process::end(id, spfs_sys::process::End::Kill).unwrap();
    }
    router.stop();
    other.stop();
}

/// A process that is ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn sleeper() -> Running {
    Running(Command::new("sleep").arg("1000").spawn().unwrap())
}

fn add(router: &Router<ModelFs>, pid: u32) -> ViewId {
    router.add(pid, Arc::new(ModelFs::with_system_clock())).unwrap()
}

fn churn(router: &Router<ModelFs>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let child = sleeper();
        let view = add(router, child.0.id());
        router.remove(view);
    }
}

fn children_of_a_member(router: &Router<ModelFs>) -> (Running, ViewId) {
    let script =
        format!("read go; for i in $(seq {PROCESSES}); do sleep 1000 & done; echo ready; read end");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut root = Running(command.spawn().unwrap());
    let view = add(router, root.0.id());
    std::io::Write::write_all(root.0.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let mut answer = [0; 6];
    std::io::Read::read_exact(root.0.stdout.as_mut().unwrap(), &mut answer).unwrap();
    (root, view)
}

fn children(parent: u32) -> Vec<u32> {
    let pids = spfs_sys::process::list().unwrap().into_iter();
    pids.filter(|pid| spfs_sys::process::parent(*pid).is_ok_and(|found| found == parent)).collect()
}

/// The time of one call, from many batches.
fn batches(call: impl Fn()) -> Vec<Duration> {
    let mut taken = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        (0..CALLS).for_each(|_| call());
        taken.push(started.elapsed() / CALLS);
    }
    taken
}

fn print(what: &str, taken: &mut [Duration]) {
    taken.sort_unstable();
    let at = |share: usize| taken[(taken.len() * share / 100).min(taken.len() - 1)];
    println!("{what:40} median {:>10.3?}   p99 {:>10.3?}", at(50), at(99));
}
