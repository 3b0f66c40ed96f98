//! What a reset costs: its work is counted, not timed.

use std::io::ErrorKind;
use std::sync::Arc;

use spfs_testkit::faults::{Faults, Plan};
use spfs_testkit::layers::{BaseStack, Tree};
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{Time, ViewSubject};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::api::{Error, Vfs};
use spfs_vfs::{Invalidation, View};

/// Files in each directory.
const FILES: usize = 5;

fn layer(directories: usize) -> Tree {
    let mut layer = TreeBuilder::new();
    for (dir, file) in all(directories) {
        layer = layer.file(&format!("all/{dir}/{file}"), 0o644, *b"of the layer");
    }
    layer.build()
}

fn all(directories: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..directories).flat_map(|dir| (0..FILES).map(move |file| (dir, file)))
}

/// Changes a view, resets all of it, and tells how many steps that took.
fn steps(directories: usize, change: &dyn Fn(&Arc<View>, usize)) -> usize {
    let layer = layer(directories);
    let base = BaseStack::new(std::slice::from_ref(&layer));
    let mut subject = ViewSubject::new(base, Time::Machine, Ticks::default());
    for dir in 0..directories {
        change(subject.view(), dir);
    }
    let report = subject.reset_paths(&[""]).expect("a reset");
    assert_eq!(subject.shown().expect("a tree"), layer);
    assert_eq!(subject.view().change_count(), 0);
    subject.restart().expect("a restart");
    assert_eq!(subject.shown().expect("a tree"), layer);
    report.steps
}

fn grows_with_the_changes(change: &dyn Fn(&Arc<View>, usize)) {
    let (few, many) = (steps(25, change), steps(200, change));
    // Eight times as much of everything; 64 times as much would be quadratic.
    assert!(few >= 25, "{few} steps are fewer than there were changes");
    assert!(many <= 9 * few, "{few} steps for 25 directories, {many} for 200");
}

fn each_file(dir: usize) -> impl Iterator<Item = String> {
    (0..FILES).map(move |file| format!("all/{dir}/{file}"))
}

fn remove_all(view: &Arc<View>, dir: usize) {
    each_file(dir).for_each(|path| view.unlink(&path).expect("unlink"));
    view.rmdir(&format!("all/{dir}")).expect("rmdir");
}

#[test]
fn regression_a_path_that_is_missing_hides_nothing_of_what_was_reset() {
    let layer = layer(2);
    let mut subject = ViewSubject::new(
        BaseStack::new(std::slice::from_ref(&layer)),
        Time::Machine,
        Ticks::default(),
    );
    let view = subject.view();
    view.write_file("all/0/0", b"of the LAYER").unwrap();
    view.write_file("new", b"new").unwrap();
    view.unlink("all/1/1").unwrap();
    let report = subject.reset_paths(&["new", "all/0/0", "missing", "all/1"]).unwrap();
    assert!(matches!(report.failed, Some(Error::NotFound)), "{report:?}");
    assert_eq!(report.restored, 3, "{report:?}");
    let told = |what: &dyn Fn(&Invalidation) -> bool| report.invalidate.iter().any(what);
    assert!(told(&|what| matches!(what, Invalidation::Removed { .. })), "{report:?}");
    assert!(told(&|what| matches!(what, Invalidation::Inode(_))), "{report:?}");
    assert!(told(&|what| matches!(what, Invalidation::Entry { .. })), "{report:?}");
    assert_eq!(subject.shown().unwrap(), layer);
    // What has lost its name is freed, too.
    subject.view().sync().unwrap();
    subject.view().remove_leftovers();
    let left = std::fs::read_dir(subject.dir().join("scratch")).unwrap().count();
    assert_eq!(left, 0);
    subject.restart().unwrap();
    assert_eq!(subject.shown().unwrap(), layer);
    // Nothing at all to do is an error.
    assert!(matches!(subject.reset_paths(&["missing"]), Err(Error::NotFound)));
}

#[test]
fn a_reset_of_changed_files_is_linear() {
    grows_with_the_changes(&|view, dir| {
        for path in each_file(dir) {
            view.write_file(&path, b"changed").unwrap();
        }
    });
}

#[test]
fn a_reset_of_one_changed_file_in_each_directory_is_linear() {
    grows_with_the_changes(&|view, dir| {
        view.write_file(&format!("all/{dir}/0"), b"of the LAYER").unwrap();
    });
}

#[test]
fn a_reset_of_removed_directories_is_linear() {
    grows_with_the_changes(&remove_all);
}

#[test]
fn a_reset_of_removed_directories_with_open_files_is_linear() {
    grows_with_the_changes(&|view, dir| {
        // Never taken back: the inode stays as long as the view.
        view.pin(view.find(&format!("all/{dir}/0")).unwrap().ino);
        remove_all(view, dir);
    });
}

#[test]
fn a_reset_of_moved_directories_is_linear() {
    grows_with_the_changes(&|view, dir| {
        view.mv(&format!("all/{dir}"), &format!("moved-{dir}")).unwrap();
    });
}

#[test]
fn a_reset_of_directories_that_were_replaced_is_linear() {
    grows_with_the_changes(&|view, dir| {
        remove_all(view, dir);
        view.write_file(&format!("all/{dir}"), b"a file").unwrap();
    });
}

/// Lets each call below fail in turn while changes are dropped, until none is left to fail.
fn each_call_fails(in_place: bool) -> usize {
    let layer = layer(2);
    for call in 1.. {
        let faults = Arc::new(Faults::default());
        let base = BaseStack::new(std::slice::from_ref(&layer));
        let mut subject = ViewSubject::with_faults(base, Ticks::default(), &faults);
        let view = subject.view();
        view.write_file("all/0/0", b"longer than of the layer").expect("nothing fails");
        view.write_file("all/0/1", b"OF THE LAYER").expect("nothing fails");
        view.write_file("new", b"new").expect("nothing fails");
        remove_all(view, 1);
        let changed = subject.shown().expect("a tree");
        faults.arm(Plan { call, lasting: false, kind: ErrorKind::Other });
        let done = match in_place {
            true => subject.reset_in_place(&[Vec::new()]),
            false => subject.reset_paths(&[""]),
        };
        let failed = faults.has_failed();
        faults.disarm();
        let told = done.as_ref().is_ok_and(|report| report.failed.is_none());
        subject.view().sync().expect("nothing fails");
        let shown = subject.shown().expect("a tree");
        assert!(!told || shown == layer, "call {call} failed, and nobody was told");
        assert!(in_place || shown == layer || shown == changed, "call {call}: {done:?}");
        subject.restart().expect("a restart");
        assert!(subject.shown().expect("a tree") == shown, "call {call}: another tree");
        subject.reset_paths(&[""]).expect("nothing fails");
        assert!(subject.shown().expect("a tree") == layer, "call {call}: {done:?}");
        if !failed {
            return call as usize - 1;
        }
    }
    unreachable!("calls are counted without an end")
}

#[test]
fn any_call_may_fail_while_changes_are_dropped() {
    assert!(each_call_fails(false) >= 1);
    assert!(each_call_fails(true) >= 3);
}
