//! What the kernel of Linux tells; the other one has the same interface and is tried on a Mac.
#![cfg(target_os = "linux")]

use super::*;
use crate::process::identify;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const LIMIT: Duration = Duration::from_secs(20);

/// A shell that reads commands from the test.
fn shell() -> Child {
    Command::new("/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn tell(shell: &mut Child, line: &str) -> String {
    use std::io::Write;
    writeln!(shell.stdin.as_mut().unwrap(), "{line}").unwrap();
    let mut answer = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
    answer.trim().to_owned()
}

fn end(mut shell: Child) {
    drop(shell.stdin.take());
    shell.wait().unwrap();
}

/// Waits until the end of `pid` is told.
fn ends(watcher: &Watcher, pid: u32) -> bool {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        if watcher.wait(LIMIT).unwrap().ended.contains(&pid) {
            return true;
        }
    }
    false
}

#[test]
fn a_followed_process_is_alive_until_its_end_is_told() {
    let watcher = Watcher::new().unwrap();
    let shell = shell();
    let id = identify(shell.id()).unwrap();
    let (followed, process) = watcher.follow(id.pid).unwrap();
    assert!(followed.is_alive());
    assert_eq!(process.id, id);
    end(shell);
    assert!(ends(&watcher, id.pid));
    assert!(!followed.is_alive());
    assert_eq!(watcher.follow(id.pid).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn threads_are_told_from_processes() {
    let watcher = Watcher::new().unwrap();
    let me = identify(std::process::id()).unwrap();
    assert_eq!(watcher.follow(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    let thread = std::thread::spawn(move || {
        let thread = thread_number();
        assert_eq!(process_of(thread).unwrap(), me.pid);
        assert!(is_thread_of(thread, me.pid) && !is_thread_of(thread, 1));
        assert_eq!(watcher.follow(thread).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        thread
    });
    let thread = thread.join().unwrap();
    assert!(!is_thread_of(thread, me.pid));
}

#[test]
fn forks_are_told_in_their_order_even_of_processes_that_have_ended() {
    let watcher = Watcher::new().unwrap();
    if !watcher.sees_all_forks() {
        assert_eq!(watcher.forks(&mut |_| {}).unwrap(), Forks::Missing);
        return;
    }
    let mut shell = shell();
    // The one in the middle ends before the last one.
    let orphan: u32 = tell(&mut shell, "(sleep 1000 >/dev/null 2>&1 & echo $!)").parse().unwrap();
    let mut chain = Vec::new();
    let told = watcher.forks(&mut |fork| chain.push(fork)).unwrap();
    assert_eq!(told, Forks::All);
    let parent_of = |child| chain.iter().find(|fork| fork.child == child).map(|fork| fork.parent);
    let middle = parent_of(orphan).expect("the fork was told");
    assert_eq!(parent_of(middle), Some(shell.id()));
    let orphan = identify(orphan).unwrap();
    let started = Instant::now();
    while describe(orphan.pid).unwrap().parent == middle && started.elapsed() < LIMIT {
        std::thread::yield_now();
    }
    let adopted = describe(orphan.pid).unwrap().parent != middle;
    assert!(crate::process::end(orphan, crate::process::End::Kill).unwrap());
    assert!(adopted, "the one in the middle has ended");
    end(shell);
}

#[test]
fn a_wait_can_be_ended() {
    let watcher = Watcher::new().unwrap();
    watcher.wake();
    let started = Instant::now();
    // Forks of other processes end it, too.
    watcher.wait(LIMIT).unwrap();
    assert!(started.elapsed() < LIMIT);
}

#[test]
fn the_system_tells_of_this_process() {
    let me = describe(std::process::id()).unwrap();
    assert_eq!(System.describe(me.id.pid), Some(me));
    assert!(System.all().contains(&me));
    assert_eq!(System.describe(u32::MAX), None);
}
