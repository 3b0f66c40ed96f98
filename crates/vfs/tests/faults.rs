//! A failing disk: every call to the scratch area, the journal and the payloads fails once in turn.
//! The operation that needed it has then happened or not, everything else is as before, the view
//! goes on, and what it holds survives a restart and a commit.

use std::io::ErrorKind;
use std::sync::Arc;

use spfs_testkit::Paths;
use spfs_testkit::faults::{Faults, Plan};
use spfs_testkit::layers::BaseStack;
use spfs_testkit::ops::{Control, Op, Profile, Rng};
use spfs_testkit::pair::{Failure, Pair, Ticks, Verdict};
use spfs_testkit::view::ViewSubject;
use spfs_vfs::View;
use spfs_vfs::api::{Access, File, Vfs};

fn profile() -> Profile {
    Profile {
        names: Profile::tame_names(),
        specials: false,
        devices: false,
        xattr_len: (0, 300),
        ..Profile::core()
    }
}

fn ops(seed: u64, len: usize) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut ops: Vec<_> = (0..len).map(|_| Op::random(&mut rng, &profile())).collect();
    ops.insert(len / 3, Op::Control(Control::Commit));
    ops.insert(2 * len / 3, Op::Control(Control::Reopen));
    ops
}

/// What happened in one run.
struct Run {
    failed: Vec<&'static str>,
    verdicts: Vec<Verdict>,
}

/// Runs all operations with one planned fault; afterwards commits and restarts.
fn run(seed: u64, ops: &[Op], plan: Plan) -> Result<Run, Failure> {
    let base = BaseStack::random(seed);
    base.payloads.set_links(seed.is_multiple_of(2));
    let (ticks, faults) = (Ticks::default(), Arc::new(Faults::default()));
    let model = ViewSubject::model_of(&base, &ticks);
    let subject = ViewSubject::with_faults(base, ticks.clone(), &faults);
    let mut pair = Pair::new(subject, model, ticks, profile());
    faults.arm(plan);
    let mut verdicts = Vec::new();
    for op in ops {
        let verdict = pair.step_with_faults(op, &faults)?;
        verdicts.push(verdict);
        if verdict == Verdict::Unknown {
            break;
        }
    }
    let failed = faults.failed();
    faults.disarm();
    if !verdicts.contains(&Verdict::Unknown) {
        for control in [Control::Commit, Control::Reopen, Control::Commit] {
            pair.step(&Op::Control(control))?;
        }
    }
    Ok(Run { failed, verdicts })
}

/// Lets each call fail in turn, until a run needs fewer calls. Returns what failed.
fn each_call_in_turn(seed: u64, len: usize, lasting: bool, kind: ErrorKind) -> Vec<Run> {
    let ops = ops(seed, len);
    let mut runs = Vec::new();
    for call in 1.. {
        let done = run(seed, &ops, Plan { call, lasting, kind }).unwrap_or_else(|failure| {
            panic!("seed {seed}, call {call} failing with {kind:?}: {failure:?}")
        });
        if done.failed.is_empty() {
            break;
        }
        runs.push(done);
    }
    runs
}

/// More in a run that asks for more operations.
fn rounds(few: u64) -> u64 {
    if std::env::var_os("SPFS_OPS").is_some() { 20 * few } else { few }
}

#[test]
fn any_call_may_fail_once() {
    let mut failed = std::collections::BTreeSet::new();
    let mut undone = 0;
    // Seeds whose operations write much and read payloads.
    for seed in 1..1 + rounds(3) {
        for run in each_call_in_turn(seed, 120, false, ErrorKind::Other) {
            failed.extend(run.failed);
            undone += run.verdicts.iter().filter(|verdict| **verdict == Verdict::Undone).count();
        }
    }
    assert!(undone > 10, "only {undone} operations failed");
    for call in [
        "write the journal",
        "write a scratch file",
        "create a scratch file",
        "sync the journal",
        "open a payload",
    ] {
        assert!(failed.contains(call), "{call:?} is not among {failed:?}");
    }
}

#[test]
fn a_full_disk_harms_nothing_that_was_there() {
    for seed in 10..10 + rounds(2) {
        each_call_in_turn(seed, 80, true, ErrorKind::StorageFull);
    }
}

fn write_files(view: &Arc<View>, number: u32) {
    for number in 0..number {
        view.write_file(&format!("n{number}"), b"new").expect("the disk works");
    }
}

#[test]
fn what_a_sync_could_not_write_is_written_again_by_the_next() {
    for files in [1, 20] {
        let faults = Arc::new(Faults::default());
        let (base, ticks) = (BaseStack::random(1), Ticks::default());
        let subject = ViewSubject::with_faults(base, ticks, &faults);
        let view = subject.view();
        let next_fails = |what| faults.fail_next(what, ErrorKind::Other);
        write_files(view, files);
        let file = view.open_path("n0", Access::Read).unwrap();

        next_fails("sync a scratch file");
        assert!(file.sync().is_err());
        for sync in [&|| file.sync(), &|| view.sync()] as [&dyn Fn() -> _; 2] {
            next_fails("write a scratch file");
            // A sync of the whole volume that fails is followed by one of each file.
            assert!(sync().is_err() || files > 1);
            assert_eq!(faults.failed().last(), Some(&"write a scratch file"));
            faults.arm(Plan { call: u64::MAX, lasting: false, kind: ErrorKind::Other });
        }
        view.sync().unwrap();
        next_fails("write a scratch file");
        view.sync().unwrap();
        file.sync().unwrap();

        // Who is told of it takes nothing for safe that is not.
        view.mkdir("dir").unwrap();
        next_fails("sync the journal");
        assert!(view.sync_if_changed().is_err());
        next_fails("write the journal again");
        assert!(file.sync().is_err());
        file.sync().unwrap();
        next_fails("sync the journal");
        file.sync().unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_synced_keeps_nothing_else_from_being_safe() {
    let faults = Arc::new(Faults::default());
    let subject = ViewSubject::with_faults(BaseStack::random(1), Ticks::default(), &faults);
    let view = subject.view();
    view.write_file("new", b"new").unwrap();
    faults.fail_next("sync a scratch file", ErrorKind::Other);
    assert!(view.sync_if_changed().is_err());
    faults.fail_next("sync the journal", ErrorKind::Other);
    view.sync_names().unwrap();
    // A volume that cannot be synced as a whole is synced file by file.
    write_files(view, 20);
    faults.arm(Plan { call: u64::MAX, lasting: false, kind: ErrorKind::Other });
    faults.fail_next("sync the scratch area", ErrorKind::Other);
    view.sync().unwrap();
    assert_eq!(faults.failed(), ["sync the scratch area"]);
}
