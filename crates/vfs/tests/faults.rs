//! A failing disk: every call to the scratch area, the journal and the payloads fails once in turn.
//! The operation that needed it has then happened or not, everything else is as before, the view
//! goes on, and what it holds survives a restart and a commit.

use std::io::ErrorKind;
use std::sync::Arc;

use spfs_testkit::faults::{Faults, Plan};
use spfs_testkit::layers::BaseStack;
use spfs_testkit::ops::{Control, Op, Profile, Rng};
use spfs_testkit::pair::{Failure, Pair, Ticks, Verdict};
use spfs_testkit::view::ViewSubject;

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
    // Seeds whose operations write much.
    for seed in 7..7 + rounds(3) {
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
