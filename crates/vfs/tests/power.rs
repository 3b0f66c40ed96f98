//! The power goes: what was synced is there, nothing older comes back in its place, and no byte that
//! was good has become zero.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use spfs_testkit::drive::Outcome;
use spfs_testkit::environment::memory_directory;
use spfs_testkit::image::{Image, ImageNode, TreePath};
use spfs_testkit::layers::BaseStack;
use spfs_testkit::ops::{Control, Op, Profile, Rng};
use spfs_testkit::pair::{Pair, Ticks};
use spfs_testkit::power::{PowerDisk, from_earlier_boot};
use spfs_testkit::view::{Time, ViewSubject, open_view, options};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::View;
use spfs_vfs::api::{Access, File, Ino, SetAttr, SetTime, Timestamp, Vfs};

fn profile() -> Profile {
    Profile { xattr_len: (0, 300), ..Profile::core() }
}

/// What was there after each operation, and what had been synced by then.
#[derive(Default)]
struct History {
    images: Vec<Image>,
    ops: Vec<Op>,
    /// After this operation all names were durable.
    names_synced: usize,
    /// After which operation a file's content was durable last.
    content_synced: BTreeMap<Ino, usize>,
}

impl History {
    fn push(&mut self, op: Op, image: Image) {
        self.ops.push(op);
        self.images.push(image);
    }

    fn last(&self) -> usize {
        self.images.len() - 1
    }

    fn synced(&mut self, file: Option<Ino>) {
        let now = self.last();
        self.names_synced = now;
        match file {
            Some(file) => drop(self.content_synced.insert(file, now)),
            None => {
                let inodes = self.images[now].nodes.values().map(|node| node.ino);
                self.content_synced.extend(inodes.map(|ino| (ino, now)));
            }
        }
    }

    /// The contents a file had since it was synced; what the layers have is synced.
    fn contents(&self, ino: Ino) -> (Vec<&ImageNode>, bool) {
        let base = self.images[0].nodes.values().any(|node| node.ino == ino);
        let synced = self.content_synced.get(&ino).copied();
        let from = synced.unwrap_or(0);
        let nodes = self.images[from..]
            .iter()
            .filter_map(|image| image.nodes.values().find(|node| node.ino == ino));
        (nodes.collect(), base || synced.is_some())
    }

    /// Finds a moment since the last sync whose names are those found, and checks the contents. There
    /// may be several: two files that are alike but for their contents may have changed places.
    fn judge(&self, found: &Image) -> Result<(), String> {
        let names = without_contents(found);
        let matches = |image: &&Image| without_contents(image).same_but_times(&names);
        let moments = self.images[self.names_synced..].iter().filter(matches);
        let mut judged = moments.map(|moment| self.judge_contents(moment, found));
        let Some(first) = judged.next() else {
            let last = without_contents(&self.images[self.last()]);
            return Err(format!(
                "these are the names of no moment since operation {}; the last differs at {:?}",
                self.names_synced,
                last.difference(&names, &|_, _| true)
            ));
        };
        if judged.any(|other| other.is_ok()) { Ok(()) } else { first }
    }

    fn judge_contents(&self, moment: &Image, found: &Image) -> Result<(), String> {
        for (path, node) in &found.nodes {
            let ino = moment.nodes[path].ino;
            self.judge_content(ino, &node.content)
                .map_err(|reason| format!("{path:?}: {reason}"))?;
        }
        Ok(())
    }

    fn judge_content(&self, ino: Ino, found: &[u8]) -> Result<(), String> {
        let (since, was_synced) = self.contents(ino);
        let lens = || since.iter().map(|node| node.content.len());
        let (shortest, longest) = (lens().min().unwrap_or(0), lens().max().unwrap_or(0));
        let shortest = if was_synced { shortest } else { 0 };
        if !(shortest..=longest).contains(&found.len()) {
            return Err(format!("{} bytes, not {shortest} to {longest}", found.len()));
        }
        let synced_len =
            if was_synced { since.first().map_or(0, |node| node.content.len()) } else { 0 };
        for (at, byte) in found.iter().enumerate() {
            // Where the file has grown since, the end of a block may be there without its bytes.
            let fresh = at >= synced_len && *byte == 0;
            let known = since.iter().any(|node| match node.content.get(at) {
                Some(known) => known == byte,
                None => *byte == 0,
            });
            if !fresh && !known {
                return Err(format!("byte {at} is {byte:#04x}, which it was not since the sync"));
            }
        }
        Ok(())
    }
}

/// Names and what they lead to, without what regular files hold and may lose with it.
fn without_contents(image: &Image) -> Image {
    let mut image = image.clone();
    for node in image.nodes.values_mut() {
        if node.file_type == spfs_vfs::api::FileType::Regular {
            node.content.clear();
        }
    }
    image
}

struct Machine {
    pair: Pair<ViewSubject>,
    disk: Arc<PowerDisk>,
    base: Arc<BaseStack>,
    history: History,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let base = BaseStack::random(seed);
        let (ticks, disk) = (Ticks::default(), Arc::new(PowerDisk::default()));
        let model = ViewSubject::model_of(&base, &ticks);
        let subject = ViewSubject::with_power(base, ticks.clone(), &disk);
        let base = Arc::clone(subject.base());
        let mut pair = Pair::new(subject, model, ticks, profile());
        pair.audit_every = usize::MAX;
        let mut history = History::default();
        history.push(Op::SyncAll, image(&pair));
        Self { pair, disk, base, history }
    }

    fn step(&mut self, op: Op) {
        let open = match op {
            Op::SyncFile { slot } => self.pair.model_ino_in(slot.into()),
            _ => None,
        };
        let outcome = self.pair.step(&op).unwrap_or_else(|failure| panic!("{failure:?}"));
        self.history.push(op, image(&self.pair));
        match (op, outcome) {
            (Op::SyncAll, Outcome::Done) => self.history.synced(None),
            (Op::SyncFile { .. }, Outcome::Done) => self.history.synced(open),
            _ => {}
        }
    }

    /// Lets the power go now, on a copy, and looks at what a new start finds.
    fn lose_power(&self, rng: &mut Rng) -> Result<(), String> {
        let dir = memory_directory().map_err(|e| e.to_string())?;
        let lost = self.disk.fail(rng, self.pair.subject.dir(), dir.path());
        lost.map_err(|e| format!("the disk: {e}"))?;
        boot_anew(dir.path()).map_err(|e| e.to_string())?;
        for start in ["first", "second"] {
            let view = self.open(dir.path())?;
            let found = Image::read(&view).map_err(|e| format!("{start} start: {e}"))?;
            self.history.judge(&found).map_err(|reason| format!("{start} start: {reason}"))?;
        }
        Ok(())
    }

    fn open(&self, dir: &std::path::Path) -> Result<Arc<View>, String> {
        let options = options(Time::Machine, &Ticks::default());
        open_view(&self.base, dir, options).map_err(|e| e.to_string())
    }
}

fn image(pair: &Pair<ViewSubject>) -> Image {
    Image::read(pair.model()).expect("the model is consistent")
}

/// More in a run that asks for more operations.
fn rounds(few: u64) -> u64 {
    if std::env::var_os("SPFS_OPS").is_some() { 20 * few } else { few }
}

#[test]
fn a_power_loss_takes_nothing_that_was_synced() {
    let mut checked = BTreeSet::new();
    for seed in 0..rounds(10) {
        let mut rng = Rng::new(seed);
        let mut machine = Machine::new(seed);
        for number in 0..80 {
            let op = match rng.below(12) {
                0 => Op::SyncAll,
                1..3 => Op::SyncFile { slot: rng.below(Op::FILE_SLOTS.into()) as u8 },
                3 => Op::Control(Control::Commit),
                _ => Op::random(&mut rng, &profile()),
            };
            machine.step(op);
            if rng.chance(1, 4) {
                checked.insert(op.title());
                machine.lose_power(&mut rng).unwrap_or_else(|reason| {
                    panic!("seed {seed}, after operation {number}: {reason}\n{}", story(&machine))
                });
            }
        }
    }
    assert!(checked.len() > 15, "{checked:?}");
}

fn story(machine: &Machine) -> String {
    let from = machine.history.names_synced;
    machine.history.ops[from..].iter().map(|op| format!("  {op:?}\n")).collect()
}

/// The path of a file with this content, for stories.
fn holds(image: &Image, path: &str) -> Option<Vec<u8>> {
    image.nodes.get(&TreePath(path.into())).map(|node| node.content.clone())
}

/// What a file called `file` holds after the power went at the end of `work`.
fn after_a_power_loss(seed: u64, work: &dyn Fn(&Arc<View>)) -> Vec<u8> {
    holds(&image_after_a_power_loss(seed, work), "file").unwrap_or_default()
}

/// What is there after the power went at the end of `work`.
fn image_after_a_power_loss(seed: u64, work: &dyn Fn(&Arc<View>)) -> Image {
    image_after(seed, &|subject| work(subject.view()))
}

fn image_after(seed: u64, work: &dyn Fn(&mut ViewSubject)) -> Image {
    let disk = Arc::new(PowerDisk::default());
    let mut subject = ViewSubject::with_power(base(), Ticks::default(), &disk);
    work(&mut subject);
    after_a_failure(&subject, &disk, seed)
}

fn base() -> BaseStack {
    BaseStack::new(&[TreeBuilder::new().file("file", 0o644, *b"of the layer").build()])
}

/// What is there after the power went now.
fn after_a_failure(subject: &ViewSubject, disk: &PowerDisk, seed: u64) -> Image {
    let dir = memory_directory().expect("tests can make directories");
    disk.fail(&mut Rng::new(seed), subject.dir(), dir.path()).expect("the disk works");
    found_after_a_boot(subject, dir.path())
}

/// Lets the journal in a folder be of an earlier boot of the machine.
fn boot_anew(dir: &Path) -> std::io::Result<()> {
    let journal = dir.join("journal");
    let mut bytes = fs::read(&journal)?;
    from_earlier_boot(&mut bytes, crc32c::crc32c)?;
    fs::write(&journal, bytes)
}

/// What a start finds in a folder that an earlier boot of the machine has left.
fn found_after_a_boot(subject: &ViewSubject, dir: &Path) -> Image {
    boot_anew(dir).expect("the journal is there");
    let options = options(Time::Machine, &Ticks::default());
    let view = open_view(subject.base(), dir, options);
    Image::read(&view.expect("it opens")).expect("it is consistent")
}

fn write(view: &Arc<View>, path: &str, content: &[u8]) {
    view.write_file(path, content).expect("the disk works");
}

fn sync(view: &Arc<View>, path: &str) {
    let file = view.open_path(path, Access::Read).expect("the disk works");
    file.sync().expect("the disk works");
}

#[test]
fn regression_what_was_written_before_the_daemon_was_killed_is_synced_by_the_next() {
    for seed in 0..20 {
        let image = image_after(seed, &|subject| {
            write(subject.view(), "file", b"changed");
            write(subject.view(), "new", b"new");
            subject.restart().expect("it opens again");
            if seed % 2 == 0 {
                subject.view().sync().expect("the disk works");
            } else {
                sync(subject.view(), "file");
                sync(subject.view(), "new");
            }
        });
        assert_eq!(holds(&image, "file").as_deref(), Some(&b"changed"[..]));
        assert_eq!(holds(&image, "new").as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn names_that_were_synced_are_there_whatever_their_bytes_are() {
    for seed in 0..20 {
        let image = image_after_a_power_loss(seed, &|view| {
            view.mkdir("new").expect("the disk works");
            write(view, "new/file", b"bytes");
            view.mv("file", "new/moved").expect("the disk works");
            view.sync_names().expect("the disk works");
            write(view, "later", b"bytes");
        });
        let found = holds(&image, "new/file").expect("its name was synced");
        assert!([&b"bytes"[..], b"", &[0; 5]].contains(&&*found), "{found:?}");
        assert!(holds(&image, "new/moved").is_some() && holds(&image, "file").is_none());
    }
}

#[test]
fn a_file_replaced_by_renaming_is_the_old_or_the_new_one() {
    for seed in 0..40 {
        let content = after_a_power_loss(seed, &|view| {
            for (name, content) in [("file", b"old"), ("new", b"new")] {
                write(view, name, content);
                sync(view, name);
            }
            view.mv("new", "file").expect("the disk works");
        });
        let text = String::from_utf8_lossy(&content);
        assert!(["old", "new"].contains(&&*text), "seed {seed}: {text:?}");
    }
}

#[test]
fn regression_a_file_replaced_by_one_that_nobody_synced_is_whole_after_another_was_synced() {
    let large = |byte: u8| vec![byte; 200_000];
    for seed in 0..40 {
        for second in ["other", "file"] {
            let content = after_a_power_loss(seed, &|view| {
                write(view, "file", &large(b'1'));
                sync(view, "file");
                write(view, "new", &large(b'2'));
                view.mv("new", "file").expect("the disk works");
                write(view, "again", &large(b'3'));
                write(view, "other", b"other");
                view.mv("again", second).expect("the disk works");
                write(view, "synced", b"synced");
                sync(view, "synced");
            });
            let expected = if second == "file" { b'3' } else { b'2' };
            assert!(content == large(expected), "seed {seed}: {} bytes", content.len());
        }
    }
}

#[test]
fn regression_a_file_written_anew_is_the_old_or_the_new_one_whatever_else_is_synced() {
    for seed in 0..80 {
        for (again, len) in [(1, 3), (3, 100_000)] {
            let content = after_a_power_loss(seed, &|view| {
                write(view, "file", &[b'1'; 1000]);
                sync(view, "file");
                for turn in 0..again {
                    truncate(view, "file");
                    sync_another(view, seed % 3);
                    write(view, "file", &vec![b'2' + turn; len]);
                    sync_another(view, seed / 3 % 4);
                }
            });
            let first = content.first().copied().unwrap_or_default();
            let expected = if first == b'1' { 1000 } else { len };
            assert!((b'1'..=b'1' + again).contains(&first), "seed {seed}: begins with {first}");
            assert!(content == vec![first; expected], "seed {seed}: {} bytes", content.len());
        }
    }
}

/// What somebody else may do meanwhile.
fn sync_another(view: &Arc<View>, kind: u64) {
    match kind {
        0 => {}
        1 => view.sync_names().expect("the disk works"),
        2 => {
            write(view, "synced", b"synced");
            sync(view, "synced");
        }
        _ => assert!(view.sync_if_changed().expect("the disk works")),
    }
    view.remove_leftovers();
}

fn truncate(view: &Arc<View>, path: &str) {
    let ino = view.find(path).expect("it is there").ino;
    view.setattr(ino, &SetAttr { size: Some(0), ..SetAttr::default() }).expect("the disk works");
}

/// What `file` and `new` hold in all that a power loss may leave.
fn all_that_may_be_left(subject: &ViewSubject, disk: &PowerDisk) -> BTreeSet<[String; 2]> {
    let text = |image: &Image, path| {
        let content = holds(image, path).unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    };
    (0..60)
        .map(|seed| {
            let image = after_a_failure(subject, disk, seed);
            [text(&image, "file"), text(&image, "new")]
        })
        .collect()
}

#[test]
fn regression_a_restart_keeps_what_a_power_loss_before_the_next_sync_needs() {
    let disk = Arc::new(PowerDisk::default());
    let mut subject = ViewSubject::with_power(base(), Ticks::default(), &disk);
    for name in ["file", "new"] {
        write(subject.view(), name, b"synced");
    }
    subject.view().sync().expect("the disk works");
    for name in ["file", "new"] {
        write(subject.view(), name, b"later");
    }
    subject.restart().expect("it opens again");
    for found in all_that_may_be_left(&subject, &disk) {
        assert!(found.iter().all(|text| ["synced", "later"].contains(&&**text)), "{found:?}");
    }
}

/// When somebody writes to files that a commit has taken.
#[derive(Debug, Clone, Copy)]
enum Written {
    During,
    AfterItFailed,
    ByAStartAfterItFailed,
}

#[test]
fn regression_files_written_beside_a_commit_lose_no_byte_that_was_synced() {
    for when in [Written::During, Written::AfterItFailed, Written::ByAStartAfterItFailed] {
        let disk = Arc::new(PowerDisk::default());
        let mut subject = ViewSubject::with_power(base(), Ticks::default(), &disk);
        subject.base().payloads.set_links(true);
        let view = Arc::clone(subject.view());
        for name in ["file", "new"] {
            write(&view, name, b"synced");
        }
        view.sync().expect("the disk works");
        let payloads = Arc::clone(&subject.base().payloads);
        let (changes, commit) = view.begin_commit(&*payloads).expect("a layer can hold it");
        let change = |view: &Arc<View>| {
            for name in ["file", "new"] {
                let file = view.open_path(name, Access::Write).expect("the disk works");
                file.write_at(0, b"S", false).expect("the disk works");
            }
        };
        match when {
            Written::During => {
                change(&view);
                let manifest = spfs_model::diff(&subject.stack(), &changes.live);
                let manifest = manifest.expect("it is UTF-8").expect("something changed");
                let layer = manifest.digest(spfs_model::DigestStrategy::WithKindAndSalt);
                commit.finish(layer).expect("the disk works");
            }
            Written::AfterItFailed => {
                drop(commit);
                change(&view);
            }
            Written::ByAStartAfterItFailed => drop(commit),
        }
        drop(view);
        if matches!(when, Written::ByAStartAfterItFailed) {
            subject.restart().expect("it opens again");
        }
        let view = subject.view();
        write(view, "other", b"other");
        sync(view, "other");
        view.sync_names().expect("the disk works");
        view.remove_leftovers();
        for found in all_that_may_be_left(&subject, &disk) {
            let known = |text: &String| ["synced", "Synced"].contains(&&**text);
            assert!(found.iter().all(known), "{when:?}: {found:?}");
        }
    }
}

#[test]
fn regression_times_of_what_has_no_scratch_file_are_synced() {
    let disk = Arc::new(PowerDisk::default());
    let subject = ViewSubject::with_power(base(), Ticks::default(), &disk);
    let view = subject.view();
    view.mkdir("dir").expect("the disk works");
    view.sync().expect("the disk works");
    let time = Timestamp { secs: 1_000_000, nanos: 5 };
    let date = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
    for name in ["file", "dir"] {
        let ino = view.find(name).expect("it is there").ino;
        view.setattr(ino, &date).expect("the disk works");
    }
    sync(view, "file");
    let to = memory_directory().expect("tests can make directories");
    disk.fail_with_the_least(subject.dir(), to.path()).expect("the disk works");
    let image = found_after_a_boot(&subject, to.path());
    for name in ["file", "dir"] {
        assert_eq!(image.nodes[&TreePath(name.into())].times.mtime, time, "{name}");
    }
}

#[test]
fn regression_a_removed_file_that_a_reset_brought_back_falls_back_to_the_layer() {
    let disk = Arc::new(PowerDisk::default());
    let subject = ViewSubject::with_power(base(), Ticks::default(), &disk);
    let view = subject.view();
    write(view, "file", b"synced");
    sync(view, "file");
    view.unlink("file").expect("the disk works");
    view.reset(&[b"file".to_vec()], &subject.stack()).expect("the disk works");
    write(view, "file", b"later");
    sync_another(view, 2);
    for [found, _] in all_that_may_be_left(&subject, &disk) {
        assert!(["of the layer", "later"].contains(&&*found), "{found:?}");
    }
}
