//! A model and a file system under test, driven side by side.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spfs_vfs::api::{Error, File, FileType, Ino, Seek, Timestamp, Vfs};

use crate::ModelFs;
use crate::drive::{Outcome, Session, TICKS_START, Times};
use crate::image::{Image, ImageNode, first_difference};
use crate::model_fs::Clock;
use crate::ops::resolve::{World, key_of, resolve};
use crate::ops::{Call, Control, Known, Op, Pick, Profile};

mod fault;
mod scan;

pub use fault::Verdict;
use scan::Scan;

/// A file system under test, with what else can be done to it.
pub trait Subject {
    /// What it implements the interface with.
    type Fs: Vfs;

    /// Returns the file system as it is now.
    fn fs(&self) -> Arc<Self::Fs>;

    /// Says why an outcome that differs from the model's is right all the same.
    fn allows(&self, call: &Call, model: &Outcome, subject: &Outcome) -> Option<&'static str> {
        let _ = (call, model, subject);
        None
    }

    /// Sets the times that need not agree to the model's.
    fn excuse_times(&self, file_type: FileType, model: &Times, subject: &mut Times) {
        let _ = (file_type, model, subject);
    }

    /// Whether the subject can tell that an inode is gone.
    fn knows_gone(&self, ino: Ino) -> bool {
        let _ = ino;
        true
    }

    /// Whether reading a directory in steps neither skips nor repeats entries.
    fn keeps_cookies(&self) -> bool {
        true
    }

    /// While the subject is looked at, nothing may fail that is told to; afterwards it may again.
    fn set_watched(&self, watched: bool) {
        let _ = watched;
    }

    /// Checks what only it knows of itself.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Does something from outside, and to the model what that means there. Everything open has
    /// been closed before [`Control::Reopen`].
    fn control(&mut self, control: &Steered, model: &ModelFs) -> Result<Controlled, String> {
        let _ = (control, model);
        Ok(Controlled::Nothing)
    }
}

/// A [`Control`] with its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steered {
    /// [`Control::Reopen`]
    Reopen,
    /// [`Control::Commit`]
    Commit,
    /// [`Control::Edit`]
    Edit(bool),
    /// [`Control::Reset`] of everything
    ResetAll,
    /// [`Control::Reset`] of a path
    Reset {
        /// The path from the root of something that is there.
        path: Vec<u8>,
        /// The choice, for a subject that chooses another path.
        pick: Pick,
    },
}

/// What a control did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controlled {
    /// It means nothing to this subject.
    Nothing,
    /// It happened; inodes keep their numbers.
    Done,
    /// It happened; files whose content or place changed may have other numbers now.
    Renumbered,
}

/// Time as the number of the operation: what both file systems are given as clock, so that times
/// can be compared exactly.
#[derive(Debug, Clone, Default)]
pub struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// Returns the present time.
    pub fn now(&self) -> Timestamp {
        let tick = self.0.load(Ordering::Relaxed);
        Timestamp { secs: TICKS_START.saturating_add_unsigned(tick), nanos: 0 }
    }

    /// Returns the time as a clock of the model.
    pub fn clock(&self) -> Clock {
        let ticks = self.clone();
        Arc::new(move || ticks.now())
    }

    /// Lets time go on.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl spfs_vfs::Clock for Ticks {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

/// What went wrong, and where.
#[derive(Clone)]
pub struct Failure {
    /// Which operation, counted from 0.
    pub step: usize,
    /// The operation.
    pub op: Op,
    /// The call it came to.
    pub call: String,
    /// What differs.
    pub message: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "operation {} {:?}\n  call: {}\n  {}",
            self.step, self.op, self.call, self.message
        )
    }
}

/// A model and a subject with equal content, and what was done to both.
pub struct Pair<S: Subject> {
    /// The file system under test.
    pub subject: S,
    model_fs: Arc<ModelFs>,
    model: Session<ModelFs>,
    session: Session<S::Fs>,
    profile: Profile,
    ticks: Ticks,
    /// Real time before and after each operation, for subjects that stamp real time.
    brackets: Vec<(Timestamp, Timestamp)>,
    scans: Vec<Option<Scan>>,
    /// What inodes are chosen by, and how many of them had a key before this operation.
    keys: Vec<u64>,
    named: usize,
    steps: usize,
    /// After how many operations the whole trees are compared.
    pub audit_every: usize,
}

impl<S: Subject> fmt::Debug for Pair<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl<S: Subject> Pair<S> {
    /// Starts with a subject that holds what the model holds. The model's clock is `ticks`.
    pub fn new(subject: S, model: ModelFs, ticks: Ticks, profile: Profile) -> Self {
        let model_fs = Arc::new(model);
        Self {
            model: Session::new(Arc::clone(&model_fs)),
            session: Session::new(subject.fs()),
            model_fs,
            subject,
            profile,
            ticks,
            brackets: vec![bracket(|| {}).1],
            scans: (0..Op::SCAN_SLOTS).map(|_| None).collect(),
            keys: vec![0],
            named: 1,
            steps: 0,
            audit_every: 32,
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<ModelFs> {
        &self.model_fs
    }

    /// The model's number of the file that is open in a slot.
    pub fn model_ino_in(&self, slot: usize) -> Option<Ino> {
        self.model.node_in(slot).map(|node| self.model.ino(node))
    }

    /// Says what an operation would call now.
    pub fn describe(&self, op: &Op) -> String {
        match resolve(op, &self.world()) {
            Call::Nothing => format!("{op:?}"),
            call => format!("{call:?}"),
        }
    }

    /// Does one operation on both and compares. Returns how it came out, for statistics.
    pub fn step(&mut self, op: &Op) -> Result<Outcome, Failure> {
        self.ticks.advance();
        let mut call = resolve(op, &self.world());
        if call.subjects().iter().any(|node| self.is_lost(*node)) {
            call = Call::Nothing;
        }
        let result = self.step_call(op, &call);
        let step = self.steps;
        self.steps += 1;
        self.name_keys(op);
        let result = result.and_then(|outcome| {
            if self.steps.is_multiple_of(self.audit_every) {
                self.audit()?;
            }
            Ok(outcome)
        });
        result.map_err(|message| Failure { step, op: *op, call: format!("{call:?}"), message })
    }

    fn step_call(&mut self, op: &Op, call: &Call) -> Result<Outcome, String> {
        let before = self.subjects(call);
        let (outcome, times) = match *op {
            Op::Control(control) => bracket(|| self.control(control)),
            Op::ScanStart { slot, dir, entries } => {
                bracket(|| self.scan_start(slot.into(), dir, entries.into()))
            }
            Op::ScanNext { slot, entries } => {
                bracket(|| self.scan_next(slot.into(), entries.into()))
            }
            _ => {
                let (found, times) = bracket(|| self.session.call(call));
                let expected = self.model.call(call);
                self.brackets.push(times);
                self.compare(call, &expected, &found)?;
                let before: Vec<_> =
                    before.into_iter().filter(|node| !self.is_lost(*node)).collect();
                self.compare_subjects(call, &before, &expected)?;
                self.update_scans();
                return Ok(expected);
            }
        };
        self.brackets.push(times);
        self.update_scans();
        outcome
    }

    /// Whether an inode is gone and the subject cannot tell.
    fn is_lost(&self, node: Known) -> bool {
        let gone = self.model_fs.peek(self.model.ino(node)).is_none();
        gone && !self.subject.knows_gone(self.session.ino(node))
    }

    /// Everything whose attributes a call may change: what it names, and what the names stand for.
    fn subjects(&mut self, call: &Call) -> Vec<Known> {
        let mut nodes = call.subjects();
        let named = match call {
            Call::Remove { dir, name, .. } => vec![(*dir, name)],
            Call::Rename { from, to, .. } => vec![(from.0, &from.1), (to.0, &to.1)],
            _ => Vec::new(),
        };
        for (dir, name) in named {
            let found = self.model_fs.lookup(self.model.ino(dir), name.as_name());
            nodes.extend(found.ok().and_then(|attr| self.model.met_as(attr.ino)));
        }
        if let Call::Read { slot, .. }
        | Call::Write { slot, .. }
        | Call::Allocate { slot, .. }
        | Call::Seek { slot, .. } = call
        {
            nodes.extend(self.model.node_in(*slot));
        }
        nodes
    }

    fn compare(&self, call: &Call, expected: &Outcome, found: &Outcome) -> Result<(), String> {
        let equal = match (call, expected, found) {
            (Call::Seek { slot, offset, what }, Outcome::Offset(_) | Outcome::Failed(_), _) => {
                return self.check_seek(*slot, *offset, *what, expected, found);
            }
            (_, Outcome::Inode(model), Outcome::Inode(subject)) => {
                let mut subject = **subject;
                if self.times_agree(model.file_type, &model.times, &subject.times) {
                    subject.times = model.times;
                }
                **model == subject
            }
            // Where two things are wrong, one of them that the inode is gone, either may be said.
            (
                Call::Rename { .. } | Call::Link { .. } | Call::SetXattr { .. },
                Outcome::Failed(model),
                Outcome::Failed(subject),
            ) => model == subject || model.name == "Stale" || subject.name == "Stale",
            _ => expected == found,
        };
        if equal || self.subject.allows(call, expected, found).is_some() {
            return Ok(());
        }
        let at = match (expected, found) {
            (Outcome::Bytes(model), Outcome::Bytes(subject)) => {
                first_difference(&model.0, &subject.0)
            }
            _ => None,
        };
        let at = at.map_or(String::new(), |at| format!("\n  first difference at {at}"));
        Err(format!("expected {expected:?}\n  found    {found:?}{at}"))
    }

    /// What a seek finds depends on how content is kept; it is right when no byte of data lies in
    /// what it passes over as a hole.
    fn check_seek(
        &self,
        slot: usize,
        offset: u64,
        what: Seek,
        expected: &Outcome,
        found: &Outcome,
    ) -> Result<(), String> {
        let node = self.model.node_in(slot).ok_or("a seek without a file")?;
        let content = self.model_content(node)?;
        let size = content.len() as u64;
        let no_data = |from: u64, to: u64| content[from as usize..to as usize].iter().all(is_zero);
        let right = match found {
            _ if offset >= size => found == expected,
            Outcome::Offset(at) if !(offset..=size).contains(at) => false,
            Outcome::Offset(at) if what == Seek::Data => *at < size && no_data(offset, *at),
            Outcome::Offset(at) => *at == size || no_data(*at, *at + 1),
            Outcome::Failed(failed) if what == Seek::Data => {
                failed.name == "NoSuchAddress" && no_data(offset, size)
            }
            _ => false,
        };
        if right {
            return Ok(());
        }
        Err(format!("{what:?} from {offset} in {size} bytes found {found:?}"))
    }

    fn model_content(&self, node: Known) -> Result<Vec<u8>, String> {
        let ino = self.model.ino(node);
        let read = || {
            let size = self.model_fs.getattr(ino)?.size;
            let file = self.model_fs.open(ino, spfs_vfs::api::Access::Read)?;
            let mut content = vec![0; usize::try_from(size).map_err(|_| Error::FileTooLarge)?];
            file.read_at(0, &mut content)?;
            Ok(content)
        };
        read().map_err(|error: Error| format!("the model's content: {error}"))
    }

    fn compare_subjects(
        &mut self,
        call: &Call,
        subjects: &[Known],
        outcome: &Outcome,
    ) -> Result<(), String> {
        let result = match outcome {
            Outcome::Inode(seen) => Some(seen.node),
            _ => None,
        };
        for &node in subjects.iter().chain(&result) {
            self.compare_attr(call, node)?;
        }
        Ok(())
    }

    fn compare_attr(&mut self, call: &Call, node: Known) -> Result<(), String> {
        let outcome = |result: Result<_, _>| match result {
            Ok(seen) => Outcome::Inode(Box::new(seen)),
            Err(failed) => Outcome::Failed(failed),
        };
        let expected = outcome(self.model.attr(node));
        let found = outcome(self.session.attr(node));
        self.compare(call, &expected, &found)
            .map_err(|reason| format!("afterwards, attributes of {node:?}: {reason}"))
    }

    fn times_agree(&self, file_type: FileType, model: &Times, subject: &Times) -> bool {
        let mut subject = *subject;
        self.subject.excuse_times(file_type, model, &mut subject);
        self.time_agrees(model.atime, subject.atime)
            && self.time_agrees(model.mtime, subject.mtime)
            && self.time_agrees(model.ctime, subject.ctime)
            && self.time_agrees(model.crtime, subject.crtime)
    }

    /// A tick agrees with any real time while that operation ran.
    fn time_agrees(&self, model: Timestamp, subject: Timestamp) -> bool {
        if model == subject {
            return true;
        }
        let tick = model.secs.checked_sub(TICKS_START).and_then(|tick| usize::try_from(tick).ok());
        let bracket = tick.and_then(|tick| self.brackets.get(tick));
        bracket.is_some_and(|(before, after)| (*before..=*after).contains(&subject))
    }

    fn control(&mut self, control: Control) -> Result<Outcome, String> {
        let steered = match control {
            Control::Reopen => Steered::Reopen,
            Control::Commit => Steered::Commit,
            Control::Edit(on) => Steered::Edit(on),
            Control::Reset(None) => Steered::ResetAll,
            Control::Reset(Some(pick)) => {
                let world = self.world();
                let ino = self.model.ino(world.node(pick));
                let path = self.model_fs.paths().into_iter().find(|(_, other)| *other == ino);
                let Some((path, _)) = path else { return Ok(Outcome::Skipped) };
                Steered::Reset { path, pick }
            }
        };
        if steered == Steered::Reopen {
            self.scans.fill_with(|| None);
            self.model.release();
            self.session.release();
            self.session.detach();
        }
        let controlled = self.subject.control(&steered, &self.model_fs)?;
        match controlled {
            Controlled::Nothing => {
                self.session.attach(self.subject.fs());
                Ok(Outcome::Skipped)
            }
            Controlled::Done => {
                self.session.attach(self.subject.fs());
                self.audit().map(|()| Outcome::Done)
            }
            Controlled::Renumbered => {
                self.scans.fill_with(|| None);
                self.model = Session::new(Arc::clone(&self.model_fs));
                self.session = Session::new(self.subject.fs());
                self.keys.truncate(1);
                self.named = 1;
                self.audit().map(|()| Outcome::Done)
            }
        }
    }

    /// Compares everything.
    pub fn audit(&mut self) -> Result<(), String> {
        self.watch(Self::compare_all)
    }

    /// Looks at the subject, which does not fail meanwhile.
    fn watch<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        self.subject.set_watched(true);
        let seen = look(self);
        self.subject.set_watched(false);
        seen
    }

    fn compare_all(&mut self) -> Result<(), String> {
        self.model_fs.check_invariants().map_err(|reason| format!("the model: {reason}"))?;
        self.subject.check().map_err(|reason| format!("invariants: {reason}"))?;
        let model = Image::read(&self.model_fs).map_err(|reason| format!("the model: {reason}"))?;
        let subject = Image::read(&self.subject.fs())?;
        let audit = Call::Nothing;
        let times = |node: &ImageNode, other: &ImageNode| {
            self.times_agree(node.file_type, &node.times, &other.times)
        };
        if let Some(difference) = model.difference(&subject, &times) {
            return Err(format!("the trees differ at {difference}"));
        }
        // Also what has no name any more, and what is stale.
        let gone =
            |node: &Known| !matches!(self.model_fs.peek(self.model.ino(*node)), Some((_, true)));
        let unnamed: Vec<_> = self.model.met().filter(gone).collect();
        let lost: Vec<_> = unnamed.iter().copied().filter(|node| self.is_lost(*node)).collect();
        for node in unnamed.into_iter().filter(|node| !lost.contains(node)) {
            self.compare_attr(&audit, node)?;
        }
        for slot in 0..usize::from(Op::FILE_SLOTS) {
            let Some(node) = self.model.node_in(slot) else { continue };
            let len = self.model_content(node)?.len() + 1;
            let read = Call::Read { slot, offset: 0, len };
            let (expected, found) = (self.model.call(&read), self.session.call(&read));
            self.compare(&read, &expected, &found)?;
        }
        Ok(())
    }

    fn world(&self) -> World<'_> {
        World::new(&self.profile, &self.model_fs, &self.model, &self.keys)
    }

    /// Gives the inodes that an operation has met for the first time keys of their own.
    fn name_keys(&mut self, op: &Op) {
        while self.keys.len() < self.model.met().len() {
            let text = format!("{op:?} {}", self.keys.len() - self.named);
            self.keys.push(key_of(text.as_bytes()));
        }
        self.named = self.keys.len();
    }

    fn directory(&self, pick: u16) -> Known {
        self.world().dir(pick)
    }

    /// Whether an inode of the model is a directory with a name.
    fn is_listed_directory(&self, node: Known) -> bool {
        let peek = self.model_fs.peek(self.model.ino(node));
        peek == Some((FileType::Directory, true))
    }
}

fn is_zero(byte: &u8) -> bool {
    *byte == 0
}

/// Runs something and tells between which times it ran.
fn bracket<T>(run: impl FnOnce() -> T) -> (T, (Timestamp, Timestamp)) {
    let stamp = |now: spfs_sys::clock::Now| Timestamp { secs: now.secs, nanos: now.nanos };
    let before = stamp(spfs_sys::clock::now());
    let result = run();
    (result, (before, stamp(spfs_sys::clock::precise())))
}

/// A directory's entries by name, as the model has them.
type Listing = std::collections::BTreeMap<Vec<u8>, Ino>;
