//! What is on the disk after the end of the process or the machine at any moment: a journal cut at
//! every byte opens as it was after some acknowledged operation; damage is reported, not guessed at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use spfs_testkit::campaign::replay;
use spfs_testkit::environment::memory_directory;
use spfs_testkit::image::{Image, TreePath};
use spfs_testkit::layers::BaseStack;
use spfs_testkit::ops::{Control, Op, Profile, Rng};
use spfs_testkit::pair::{Pair, Ticks};
use spfs_testkit::view::{Time, ViewSubject, open_view, options};
use spfs_vfs::{OpenError, View};
use tempfile::TempDir;

/// The state after an operation was acknowledged.
struct Moment {
    op: Option<Op>,
    /// Length of the journal.
    journal: usize,
    image: Image,
    scratch: BTreeMap<String, Vec<u8>>,
}

/// Operations on a view, with everything that was on the disk after each.
struct Recording {
    base: Arc<BaseStack>,
    moments: Vec<Moment>,
    journal: Vec<u8>,
}

fn profile() -> Profile {
    Profile { file_size_max: 20_000, xattr_len: (0, 300), ..Profile::core() }
}

fn pair(seed: u64, profile: Profile) -> Pair<ViewSubject> {
    let base = BaseStack::random_up_to(seed, 5000);
    let ticks = Ticks::default();
    let model = ViewSubject::model_of(&base, &ticks);
    Pair::new(ViewSubject::new(base, Time::Machine, ticks.clone()), model, ticks, profile)
}

fn read_dir(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the scratch folder is there");
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("the scratch folder can be read");
        let name = entry.file_name().into_string().expect("scratch files have numbers");
        (name, fs::read(entry.path()).expect("scratch files can be read"))
    };
    entries.map(file).collect()
}

/// Runs `ops` and takes note of the disk after each. A view that keeps handles open would leave
/// orphans out of the images, so what is compared are names and what they lead to.
fn record(seed: u64, ops: &[Op], profile: Profile) -> Recording {
    let mut pair = pair(seed, profile);
    pair.audit_every = usize::MAX;
    let mut moments = vec![moment(&pair, None)];
    for op in ops {
        pair.step(op).unwrap_or_else(|failure| panic!("{failure:?}"));
        moments.push(moment(&pair, Some(*op)));
    }
    let journal = fs::read(pair.subject.dir().join("journal")).expect("the journal can be read");
    Recording { base: Arc::clone(pair.subject.base()), moments, journal }
}

fn moment(pair: &Pair<ViewSubject>, op: Option<Op>) -> Moment {
    let dir = pair.subject.dir();
    let journal = fs::metadata(dir.join("journal")).expect("the journal is there").len() as usize;
    let image = Image::read(pair.model()).expect("the model is consistent");
    Moment { op, journal, image, scratch: read_dir(&dir.join("scratch")) }
}

/// Puts a scratch area on the disk.
fn lay_out(journal: &[u8], scratch: &[&BTreeMap<String, Vec<u8>>]) -> TempDir {
    let dir = memory_directory().expect("tests can make directories");
    fs::write(dir.path().join("journal"), journal).expect("tests can write files");
    let folder = dir.path().join("scratch");
    fs::create_dir(&folder).expect("tests can make directories");
    for (name, content) in scratch.iter().flat_map(|files| files.iter()) {
        fs::write(folder.join(name), content).expect("tests can write files");
    }
    dir
}

fn open(dir: &Path, base: &BaseStack) -> Result<Arc<View>, OpenError> {
    open_view(base, dir, options(Time::Machine, &Ticks::default()))
}

/// Whether an operation changes what files hold, piece by piece: then it may be cut in the middle
/// for that file, whose content may be partly new and whose privileges may be gone already.
fn changes_content(op: Option<Op>) -> bool {
    matches!(op, Some(Op::WriteAt { .. } | Op::Truncate { .. } | Op::Fallocate { .. }))
}

/// Whether two images are equal but for the content and privileges of one inode, and for times.
fn same_but_one_content(a: &Image, b: &Image) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    let differing: Vec<TreePath> = a
        .nodes
        .iter()
        .filter(|(path, node)| {
            b.nodes.get(*path).is_some_and(|other| other.content != node.content)
        })
        .map(|(_, node)| node.first_name.clone())
        .collect();
    if differing.windows(2).any(|pair| pair[0] != pair[1]) {
        return false;
    }
    for node in a.nodes.values_mut().chain(b.nodes.values_mut()) {
        if differing.contains(&node.first_name) {
            node.content.clear();
            node.perm &= 0o777;
            node.xattrs.remove(b"security.capability".as_slice());
        }
    }
    a.same_but_times(&b)
}

fn is_right(found: &Image, before: &Moment, after: &Moment) -> bool {
    let same = |moment: &Moment| found.same_but_times(&moment.image);
    let close = |moment: &Moment| same_but_one_content(found, &moment.image);
    same(before) || same(after) || changes_content(after.op) && (close(before) || close(after))
}

/// Opens the journal cut at every byte behind its first records.
fn cut_everywhere(recording: &Recording) {
    let Recording { base, moments, journal } = recording;
    for cut in 0..=journal.len() {
        let at = moments.partition_point(|moment| moment.journal <= cut);
        // Before the first moment the scratch area is only being made.
        let before = &moments[at.saturating_sub(1)];
        let after = moments.get(at).unwrap_or(before);
        let whole = cut == before.journal;
        // What the next operation has done before its record; it removes files only afterwards.
        let scratch: &[_] =
            if whole { &[&before.scratch] } else { &[&before.scratch, &after.scratch] };
        let dir = lay_out(&journal[..cut], scratch);
        let context = || {
            format!("cut at {cut} of {} during {:?} after {:?}", journal.len(), after.op, before.op)
        };
        let view = open(dir.path(), base).unwrap_or_else(|e| panic!("{}: {e}", context()));
        let found = Image::read(&view).unwrap_or_else(|e| panic!("{}: {e}", context()));
        let after = if whole { before } else { after };
        if !is_right(&found, before, after) {
            let difference = before.image.difference(&found, &|_, _| true);
            panic!("{}: {difference:?}", context());
        }
    }
}

fn ops(seed: u64, len: usize, profile: &Profile) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| Op::random(&mut rng, profile)).collect()
}

/// How many journals to cut: more in a run that asks for more operations.
fn rounds(few: u64) -> u64 {
    if std::env::var_os("SPFS_OPS").is_some() { 10 * few } else { few }
}

#[test]
fn a_journal_cut_at_every_byte_opens_as_it_was_after_an_operation() {
    for seed in 0..rounds(3) {
        cut_everywhere(&record(seed, &ops(seed, 60, &profile()), profile()));
    }
}

#[test]
fn a_journal_with_commits_cut_at_every_byte_opens_as_it_was() {
    let profile =
        Profile { names: Profile::tame_names(), specials: false, devices: false, ..profile() };
    for seed in 100..100 + rounds(2) {
        let mut ops = ops(seed, 60, &profile);
        for at in [15, 30, 45] {
            ops.insert(at, Op::Control(Control::Commit));
        }
        cut_everywhere(&record(seed, &ops, profile.clone()));
    }
}

#[test]
fn a_torn_tail_of_zeros_or_garbage_is_cut_off() {
    let recording = record(1, &ops(1, 80, &profile()), profile());
    let last = recording.moments.last().expect("there is a first moment");
    let mut rng = Rng::new(7);
    for len in [1, 15, 16, 17, 100, 5000] {
        let zeros = vec![0; len];
        let garbage: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        for tail in [zeros, garbage] {
            let journal = [&recording.journal[..], &tail].concat();
            let dir = lay_out(&journal, &[&last.scratch]);
            let view = open(dir.path(), &recording.base).expect("a torn tail is no damage");
            let found = Image::read(&view).expect("the view is consistent");
            assert!(found.same_but_times(&last.image));
            drop(view);
            // And what is added behind the cut is found again.
            let view = open(dir.path(), &recording.base).expect("a cut journal opens");
            let again = Image::read(&view).expect("the view is consistent");
            assert!(again.same_but_times(&last.image));
        }
    }
}

/// The state after a number of whole records, by opening the journal cut there.
fn image_of_prefix(recording: &Recording, end: usize) -> Image {
    let last = recording.moments.last().expect("there is a first moment");
    let dir = lay_out(&recording.journal[..end], &[&last.scratch]);
    let view = open(dir.path(), &recording.base).expect("a prefix opens");
    Image::read(&view).expect("the view is consistent")
}

/// Where frames begin: a magic of 8 bytes, then a head of 16 and as many bytes as the head says.
fn frames(journal: &[u8]) -> Vec<usize> {
    let mut starts = vec![8];
    let mut at = 8;
    while let Some(head) = journal.get(at..at + 4) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        at += 16 + len;
        starts.push(at);
    }
    starts
}

#[test]
fn a_damaged_middle_is_refused_and_what_is_before_it_can_be_saved() {
    let recording = record(3, &ops(3, 80, &profile()), profile());
    let frames = frames(&recording.journal);
    assert!(frames.len() > 30 && frames.last() == Some(&recording.journal.len()));
    let last_record = frames[frames.len() - 2];
    let last = recording.moments.last().expect("there is a first moment");
    for at in 8..last_record {
        let mut journal = recording.journal.clone();
        journal[at] ^= 1 << (at % 8);
        let dir = lay_out(&journal, &[&last.scratch]);
        let record = frames.partition_point(|start| *start <= at) - 1;
        match open(dir.path(), &recording.base) {
            Err(OpenError::Damaged { readable, damage, .. }) => {
                assert_eq!(readable, record, "byte {at}");
                assert!(damage.contains(&readable.to_string()), "{damage}");
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => panic!("byte {at}: a damaged journal was opened"),
        }
        // Each record in turn, at its first damaged byte: saving is slower than refusing.
        if record > 1 && frames.contains(&at) {
            let saved = View::salvage(
                dir.path(),
                Arc::clone(&recording.base.merged),
                Arc::<spfs_testkit::layers::PayloadStore>::clone(&recording.base.payloads),
                options(Time::Machine, &Ticks::default()),
            );
            let saved = saved.expect("what is before the damage can be read");
            let found = Image::read(&saved).expect("the view is consistent");
            let wanted = image_of_prefix(&recording, at);
            assert_eq!(wanted.difference(&found, &|_, _| true), None, "byte {at}");
        }
        assert_eq!(fs::read(dir.path().join("journal")).expect("the journal is there"), journal);
    }
}

#[test]
fn a_damaged_last_record_is_a_torn_tail() {
    let recording = record(4, &ops(4, 60, &profile()), profile());
    let frames = frames(&recording.journal);
    let start = frames[frames.len() - 2];
    let last = recording.moments.last().expect("there is a first moment");
    let wanted = image_of_prefix(&recording, start);
    for at in start..recording.journal.len() {
        let mut journal = recording.journal.clone();
        journal[at] ^= 0x10;
        let dir = lay_out(&journal, &[&last.scratch]);
        let view = open(dir.path(), &recording.base).expect("a torn tail is no damage");
        let found = Image::read(&view).expect("the view is consistent");
        assert_eq!(wanted.difference(&found, &|_, _| true), None, "byte {at}");
    }
}

#[test]
fn another_stack_is_refused() {
    let recording = record(5, &ops(5, 20, &profile()), profile());
    let last = recording.moments.last().expect("there is a first moment");
    let dir = lay_out(&recording.journal, &[&last.scratch]);
    let other = BaseStack::new(&[spfs_testkit::TreeBuilder::new().file("x", 0o644, *b"x").build()]);
    let refused = open(dir.path(), &other).expect_err("these are other layers");
    assert!(matches!(refused, OpenError::OtherStack { .. }), "{refused}");
}

#[test]
fn the_stack_of_a_scratch_area_can_be_asked_for() {
    let dir = TempDir::new().expect("tests can make directories");
    assert_eq!(View::recorded_stack(dir.path()).expect("an empty folder is no error"), None);
    let recording = record(6, &[], profile());
    let dir = lay_out(&recording.journal, &[]);
    let stack = View::recorded_stack(dir.path()).expect("the journal can be read");
    let stack = stack.expect("there is a journal");
    assert_eq!((stack.base, stack.committed), (recording.base.layers.clone(), Vec::new()));
}

#[test]
fn the_recorded_operations_replay_alike() {
    // What the tests above compare with is the model; this keeps their sequences honest.
    let ops = ops(2, 200, &profile());
    replay(&ops, || pair(2, profile())).unwrap_or_else(|failure| panic!("{failure:?}"));
}
