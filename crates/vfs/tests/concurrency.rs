//! Many threads on one view: it ends consistent, loses nothing, and never stops for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spfs_testkit::image::Image;
use spfs_testkit::layers::{BaseStack, tree_of_vfs};
use spfs_testkit::ops::Rng;
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{Time, ViewSubject};
use spfs_testkit::{Paths, TreeBuilder, wait_until};
use spfs_vfs::View;
use spfs_vfs::api::{Access, Allocate, Error, File, NewKind, Replace, SetAttr, Vfs, XattrMode};

const THREADS: u64 = 4;
const ROUNDS: u32 = 1500;

fn base() -> BaseStack {
    let mut layer = TreeBuilder::new().dir("shared", 0o777);
    for number in 0..8 {
        let content: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8 | 1).collect();
        layer = layer.file(&format!("shared/base{number}"), 0o644, content);
        layer = layer.file(&format!("shared/dir{number}/inner"), 0o644, *b"inner");
    }
    BaseStack::new(&[layer.build()])
}

/// Errors that other threads may cause; all others are bugs.
fn tolerate<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(
            Error::NotFound
            | Error::Exists
            | Error::NotEmpty
            | Error::IsDirectory
            | Error::NotDirectory
            | Error::Invalid
            | Error::Stale
            | Error::NotPermitted,
        ) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// A name that threads meet at.
fn shared(rng: &mut Rng) -> String {
    let name = rng.choose(&["base", "dir", "new", "link"]);
    format!("shared/{name}{}", rng.below(8))
}

/// One operation that collides with those of other threads.
fn collide(view: &Arc<View>, rng: &mut Rng) {
    let (one, two) = (shared(rng), shared(rng));
    match rng.below(12) {
        0 => drop(tolerate(view.make(&one, NewKind::Regular, 0o644))),
        1 => drop(tolerate(view.mkdir(&one))),
        2 => drop(tolerate(view.unlink(&one))),
        3 => drop(tolerate(view.rmdir(&one))),
        4 => drop(tolerate(view.hard_link(&one, &two))),
        5 => drop(tolerate(view.mv(&one, &two))),
        6 => drop(tolerate(exchange(view, &one, &two))),
        7 => drop(tolerate(view.names("shared"))),
        8 => drop(tolerate(view.read_file(&one))),
        9 => drop(tolerate(scribble(view, rng, &one))),
        10 => drop(tolerate(truncate(view, rng, &one))),
        _ => drop(tolerate(mark(view, &one))),
    }
}

fn exchange(view: &Arc<View>, one: &str, two: &str) -> Result<(), Error> {
    view.rename(view.place(one)?, view.place(two)?, Replace::Exchange)
}

fn scribble(view: &Arc<View>, rng: &mut Rng, path: &str) -> Result<(), Error> {
    let file = view.open_path(path, Access::Write)?;
    file.write_at(u64::from(rng.below(200_000)), &[0x55; 5000], rng.chance(1, 2))?;
    file.allocate(u64::from(rng.below(100_000)), 5000, Allocate::PunchHole, false)?;
    file.sync()
}

fn truncate(view: &Arc<View>, rng: &mut Rng, path: &str) -> Result<(), Error> {
    let size = Some(u64::from(rng.below(3)) * 100_000);
    let ino = view.find(path)?.ino;
    view.setattr(ino, &SetAttr { size, ..SetAttr::default() }).map(drop)
}

fn mark(view: &Arc<View>, path: &str) -> Result<(), Error> {
    let ino = view.find(path)?.ino;
    view.setxattr(ino, b"user.mark", b"x", XattrMode::Set)
}

/// Writes a file of its own and reads it back: what others do must not be seen in it.
fn keep_own(view: &Arc<View>, rng: &mut Rng, thread: u64, round: u32) {
    let path = format!("own{thread}/file{}", rng.below(20));
    let content: Vec<u8> = (0..rng.below(20_000))
        .map(|at| (at as u8).wrapping_mul(thread as u8 + 3).wrapping_add(round as u8))
        .collect();
    view.write_file(&path, &content).unwrap_or_else(|error| panic!("{path}: {error:?}"));
    let read = view.read_file(&path).unwrap_or_else(|error| panic!("{path}: {error:?}"));
    assert!(read == content, "{path} reads otherwise than it was written");
}

fn work(view: &Arc<View>, thread: u64) {
    let mut rng = Rng::new(thread);
    view.mkdir(&format!("own{thread}")).expect("nobody else makes this directory");
    for round in 0..ROUNDS {
        collide(view, &mut rng);
        if round % 4 == 0 {
            keep_own(view, &mut rng, thread, round);
        }
    }
}

/// What the daemon does beside: background syncs, looks at the changes, commits that fail.
fn interrupt(view: &Arc<View>, base: &BaseStack, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        view.sync_if_changed().expect("the disk works");
        view.remove_leftovers_in_peace();
        view.compact_if_long().expect("the disk works");
        drop(view.changes(&*base.payloads).expect("everything can be stored"));
        drop(view.begin_commit(&*base.payloads).expect("everything can be stored"));
        view.open_for_writing();
    }
}

/// Runs `test` and gives it up when it does not end: a deadlock must not stop the whole run.
fn within(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(test);
    assert!(wait_until(limit, || thread.is_finished()), "still running after {limit:?}");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn threads_leave_a_consistent_view_that_survives_restart_and_commit() {
    within(Duration::from_secs(300), || {
        let mut subject = ViewSubject::new(base(), Time::Machine, Ticks::default());
        let (view, base) = (Arc::clone(subject.view()), Arc::clone(subject.base()));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let background = scope.spawn(|| interrupt(&view, &base, &done));
            let workers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let view = &view;
                    scope.spawn(move || work(view, thread))
                })
                .collect();
            let panics: Vec<_> = workers.into_iter().filter_map(|w| w.join().err()).collect();
            done.store(true, Ordering::Relaxed);
            background.join().expect("the daemon's part works");
            if let Some(panic) = panics.into_iter().next() {
                std::panic::resume_unwind(panic);
            }
        });
        let before = Image::read(&view).expect("the view is consistent");
        assert!(before.nodes.len() > 20, "{} nodes", before.nodes.len());
        drop(view);
        subject.restart().expect("the scratch area opens again");
        let after = Image::read(subject.view()).expect("the view is consistent");
        assert_eq!(before.difference(&after, &|_, _| true), None);
        subject.commit_all().expect("everything can be committed");
        let shown = subject.shown().expect("the stack can be read");
        assert!(shown == tree_of_vfs(subject.view()).expect("a layer holds all of it"));
    });
}
