//! Many sequences of operations from seeds; a failing one is made short and printed as a test.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::drive::Outcome;
use crate::ops::{Op, Profile, Rng};
use crate::pair::{Failure, Pair, Subject};

/// How much to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Operations in all.
    pub ops: usize,
    /// Operations on one file system, before a new one is made.
    pub sequence: usize,
    /// Where random numbers start; each sequence has a seed made from it.
    pub seed: u64,
    /// What the operations may do.
    pub profile: Profile,
}

/// How the operations came out: that a test tests something can be seen here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// For each operation, how often it came to what.
    pub outcomes: BTreeMap<(String, &'static str), u64>,
}

impl Statistics {
    fn count(&mut self, op: &Op, outcome: &Outcome) {
        let kind = match outcome {
            Outcome::Skipped => "skipped",
            Outcome::Failed(failed) => failed.name,
            _ => "done",
        };
        *self.outcomes.entry((op.title(), kind)).or_default() += 1;
    }

    /// How often an operation came to an outcome: `done`, `skipped` or the name of an error.
    pub fn times(&self, op: &str, outcome: &'static str) -> u64 {
        self.outcomes.get(&(op.to_owned(), outcome)).copied().unwrap_or(0)
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((op, outcome), times) in &self.outcomes {
            writeln!(f, "{op:12} {outcome:18} {times}")?;
        }
        Ok(())
    }
}

impl Campaign {
    /// A campaign of `ops` operations, or as many as `SPFS_OPS` says, from the seed `SPFS_SEED` or
    /// the same one always.
    pub fn from_env(ops: usize, profile: Profile) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            let parsed = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            Some(parsed.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
        };
        let ops = number("SPFS_OPS").map_or(ops, |ops| ops as usize);
        let seed = number("SPFS_SEED").unwrap_or(0x5bf5);
        Self { ops, sequence: 400, seed, profile }
    }

    /// Runs sequences on pairs from `make`, which is given each sequence's seed. Panics with a
    /// replayable test at the first difference.
    pub fn run<S: Subject>(&self, make: impl Fn(u64) -> Pair<S>) -> Statistics {
        let mut statistics = Statistics::default();
        let mut seeds = Rng::new(self.seed);
        let mut done = 0;
        while done < self.ops {
            let seed = seeds.next_u64();
            let ops = self.sequence(seed);
            if let Err(failure) = run_counted(&ops, || make(seed), &mut statistics) {
                let (ops, failure) = shrink(ops, failure, |ops| replay(ops, || make(seed)).err());
                panic!("{}", report(seed, &ops, &failure, &transcript(&ops, make(seed))));
            }
            done += ops.len();
        }
        statistics
    }

    /// Returns the operations that belong to a seed.
    pub fn sequence(&self, seed: u64) -> Vec<Op> {
        let mut rng = Rng::new(seed);
        (0..self.sequence.min(self.ops)).map(|_| Op::random(&mut rng, &self.profile)).collect()
    }
}

/// Runs operations on a new pair and compares everything at the end.
pub fn replay<S: Subject>(ops: &[Op], make: impl FnOnce() -> Pair<S>) -> Result<(), Failure> {
    run_counted(ops, make, &mut Statistics::default())
}

fn run_counted<S: Subject>(
    ops: &[Op],
    make: impl FnOnce() -> Pair<S>,
    statistics: &mut Statistics,
) -> Result<(), Failure> {
    let mut at = 0;
    let run = || {
        let mut pair = make();
        for op in ops {
            let outcome = pair.step(op)?;
            statistics.count(op, &outcome);
            at += 1;
        }
        pair.audit().map_err(|message| last(ops, message))
    };
    let result = catch_unwind(AssertUnwindSafe(run));
    result.unwrap_or_else(|panic| {
        let op = ops.get(at).or(ops.last()).copied().unwrap_or(Op::SyncAll);
        let message = format!("panicked: {}", panic_text(&*panic));
        Err(Failure { step: at, op, call: String::new(), message })
    })
}

fn last(ops: &[Op], message: String) -> Failure {
    let op = ops.last().copied().unwrap_or(Op::SyncAll);
    Failure { step: ops.len(), op, call: "comparing everything at the end".to_owned(), message }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with something not a text")
}

/// How often a failing sequence is run again to make it shorter.
const SHRINK_RUNS_MAX: usize = 3000;

/// Takes operations out as long as it fails: large pieces first, then single ones.
fn shrink(
    mut ops: Vec<Op>,
    mut failure: Failure,
    mut fails: impl FnMut(&[Op]) -> Option<Failure>,
) -> (Vec<Op>, Failure) {
    let mut runs = 0;
    ops.truncate(failure.step + 1);
    let mut piece = ops.len().div_ceil(2);
    while piece > 0 && runs < SHRINK_RUNS_MAX {
        let mut start = 0;
        let mut shorter = false;
        while start < ops.len() && runs < SHRINK_RUNS_MAX {
            let end = (start + piece).min(ops.len());
            let rest: Vec<Op> = [&ops[..start], &ops[end..]].concat();
            runs += 1;
            match fails(&rest) {
                Some(found) => {
                    ops = rest;
                    ops.truncate(found.step + 1);
                    failure = found;
                    shorter = true;
                }
                None => start = end,
            }
        }
        // Single operations are tried again until none can go.
        if piece > 1 || !shorter {
            piece /= 2;
        }
    }
    (ops, failure)
}

/// What each operation came to, for the reader of a failure.
fn transcript<S: Subject>(ops: &[Op], mut pair: Pair<S>) -> String {
    let line = |op: &Op| {
        let call = pair.describe(op);
        let step = catch_unwind(AssertUnwindSafe(|| pair.step(op)));
        let outcome = match step {
            Ok(Ok(outcome)) => format!("{outcome:?}"),
            Ok(Err(_)) => "differs".to_owned(),
            Err(_) => "panics".to_owned(),
        };
        format!("  {}\n    -> {}\n", cut(&call), cut(&outcome))
    };
    ops.iter().map(line).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

fn report(seed: u64, ops: &[Op], failure: &Failure, transcript: &str) -> String {
    let lines: Vec<String> = ops.iter().map(|op| format!("        {op:?},")).collect();
    format!(
        "{failure:?}\n\n{transcript}\nwith sequence seed {seed:#x}; as a test:\n\n    use spfs_testkit::ops::code::*;\n    \
         let ops = [\n{}\n    ];\n    replay(&ops, || make({seed:#x})).unwrap();\n",
        lines.join("\n")
    )
}
