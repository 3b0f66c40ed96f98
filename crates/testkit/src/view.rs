//! The view as a subject: over layers of a test, with commit, reset and the end of the process.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use spfs_model::{DigestStrategy, Live, Manifest, MergedTree, Stack, diff};
use spfs_vfs::api::{Access, Allocate, Error, File, FileType, Ino, Owner, SetAttr, Vfs};
use spfs_vfs::{
    Changes, Commit, CommitError, LAYER_TIME, LayerStore, Offer, OpenError, Payloads, ResetReport,
    UpperFiles, View, ViewOptions, WHOLE_FILE,
};
use tempfile::TempDir;

use crate::ModelFs;
use crate::drive::Times;
use crate::environment::memory_directory;
use crate::faults::{Faults, FaultyPayloads, FaultyScratch, faulty_log, set_log_faults};
use crate::layers::{BaseStack, PayloadStore, Tree, tree_of_merged, tree_of_vfs};
use crate::pair::{Controlled, Steered, Subject, Ticks};
use crate::power::{PowerDisk, PowerScratch, power_log, set_log_disk};

mod reset;

/// A scratch area on a stack of layers, and the view that is open on it.
#[derive(Debug)]
pub struct ViewSubject {
    view: Option<Arc<View>>,
    base: Arc<BaseStack>,
    /// Layers committed from the view, bottom first.
    committed: Vec<Manifest>,
    time: Time,
    ticks: Ticks,
    disk: Disk,
    dir: TempDir,
}

/// What the scratch area is on.
#[derive(Debug, Clone)]
enum Disk {
    Sound,
    /// Calls may fail.
    Failing(Arc<Faults>),
    /// The power may go.
    Forgetful(Arc<PowerDisk>),
}

/// Who owns the layers of tests; neither root nor one of the owners that operations give.
pub const LAYER_OWNER: Owner = Owner { uid: 500, gid: 600 };

/// The options of views in tests.
pub fn options(time: Time, ticks: &Ticks) -> ViewOptions {
    let options = ViewOptions::new(LAYER_OWNER);
    match time {
        Time::Machine => options,
        Time::Ticks => ViewOptions { clock: Arc::new(ticks.clone()), ..options },
    }
}

/// Opens the scratch area in a folder on a stack.
pub fn open_view(
    base: &BaseStack,
    dir: &Path,
    options: ViewOptions,
) -> Result<Arc<View>, OpenError> {
    let payloads: Arc<dyn Payloads> = Arc::<PayloadStore>::clone(&base.payloads);
    View::open(dir, &base.layers, Arc::clone(&base.merged), payloads, options)
}

impl ViewSubject {
    /// A new scratch area on a stack.
    pub fn new(base: BaseStack, time: Time, ticks: Ticks) -> Self {
        Self::build(base, time, ticks, Disk::Sound)
    }

    /// A new scratch area whose calls may fail. Times are not compared then: what an operation that
    /// failed has left of them is not promised.
    pub fn with_faults(base: BaseStack, ticks: Ticks, faults: &Arc<Faults>) -> Self {
        Self::build(base, Time::Ticks, ticks, Disk::Failing(Arc::clone(faults)))
    }

    /// A new scratch area on a disk that forgets.
    pub fn with_power(base: BaseStack, ticks: Ticks, disk: &Arc<PowerDisk>) -> Self {
        Self::build(base, Time::Ticks, ticks, Disk::Forgetful(Arc::clone(disk)))
    }

    fn build(base: BaseStack, time: Time, ticks: Ticks, disk: Disk) -> Self {
        let dir = memory_directory().expect("tests can make temporary directories");
        let (view, base, committed) = (None, Arc::new(base), Vec::new());
        let mut subject = Self { view, base, committed, time, ticks, disk, dir };
        subject.open().unwrap_or_else(|reason| panic!("{reason}"));
        subject
    }

    /// A model that begins like the view of a stack.
    pub fn model_of(base: &BaseStack, ticks: &Ticks) -> ModelFs {
        base.model(ticks.clock(), LAYER_OWNER, LAYER_TIME)
    }

    /// The view.
    pub fn view(&self) -> &Arc<View> {
        self.view.as_ref().expect("the view is closed only while it is opened anew")
    }

    /// The folder of the scratch area.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The layers.
    pub fn base(&self) -> &Arc<BaseStack> {
        &self.base
    }

    fn open(&mut self) -> Result<(), String> {
        self.view = None;
        let opened = match self.try_open() {
            // What failed once must leave everything so that it can be done again.
            Err(_) if self.end_faults() => self.try_open(),
            other => other,
        };
        self.view = Some(opened.map_err(|error| format!("cannot open: {error}"))?);
        Ok(())
    }

    fn try_open(&self) -> Result<Arc<View>, OpenError> {
        let dir = self.dir.path();
        let (layers, merged) = (&self.base.layers, Arc::clone(&self.base.merged));
        let options = options(self.time, &self.ticks);
        let mut payloads: Arc<dyn Payloads> = Arc::<PayloadStore>::clone(&self.base.payloads);
        let files = UpperFiles::in_dir(dir)?;
        let files = match &self.disk {
            Disk::Sound => return View::open(dir, layers, merged, payloads, options),
            Disk::Failing(faults) => {
                set_log_faults(faults);
                payloads = Arc::new(FaultyPayloads::new(&self.base.payloads, faults));
                let scratch = Arc::new(FaultyScratch::new(files.scratch, faults));
                UpperFiles { scratch, log: faulty_log, ..files }
            }
            Disk::Forgetful(disk) => {
                set_log_disk(disk);
                let scratch = Arc::new(PowerScratch::new(files.scratch, disk));
                UpperFiles { scratch, log: power_log, ..files }
            }
        };
        View::open_with(files, Some(dir), layers, merged, payloads, options)
    }

    /// Whether something failed because it was told to; from now on nothing does.
    fn end_faults(&self) -> bool {
        matches!(&self.disk, Disk::Failing(faults) if faults.disarm())
    }

    /// The stack as it is now: the base and what was committed.
    pub fn stack(&self) -> Stack<'_> {
        Stack::on(&self.base.merged, self.committed.iter().collect())
    }

    /// What the stack shows now.
    pub fn shown(&self) -> Result<Tree, String> {
        let merged: MergedTree = self.stack().merge();
        tree_of_merged(&merged, &self.base.payloads)
    }

    /// Ends the view, which nobody may hold any more, and opens its scratch area again.
    pub fn restart(&mut self) -> Result<(), String> {
        let view = self.view.take();
        if let Some(holders) = view.map(|view| Arc::strong_count(&view)).filter(|n| *n > 1) {
            return Err(format!("{holders} hold the view: files or pins of a test"));
        }
        self.open()
    }

    fn reopen(&mut self, model: &ModelFs) -> Result<Controlled, String> {
        self.restart()?;
        model.set_editable(true);
        reset::take_file_times(&Arc::new(model.clone()), self.view())?;
        let paths = model.paths().len();
        if self.scratch_files()? > paths {
            // What the durable part of the journal may need goes with a sync.
            self.hold_faults(true);
            self.view().sync().map_err(|error| format!("sync: {error}"))?;
            self.view().remove_leftovers();
            self.hold_faults(false);
        }
        match self.scratch_files()? {
            files if files > paths => {
                Err(format!("{files} scratch files are left for {paths} names"))
            }
            _ => Ok(Controlled::Done),
        }
    }

    fn scratch_files(&self) -> Result<usize, String> {
        let scratch = fs::read_dir(self.dir.path().join("scratch"));
        Ok(scratch.map_err(|error| format!("scratch: {error}"))?.count())
    }

    fn hold_faults(&self, held: bool) {
        if let Disk::Failing(faults) = &self.disk {
            faults.set_held(held);
        }
    }

    fn commit(&mut self, model: &ModelFs) -> Result<Controlled, String> {
        let wanted = tree_of_vfs(&Arc::new(model.clone()));
        match (self.try_commit(wanted.is_ok()), &wanted) {
            (Ok(()), Ok(_)) => {}
            (Err(CommitFailed::Refused(_)), Err(_)) => return Ok(Controlled::Done),
            (Err(CommitFailed::Refused(reason)), Ok(_)) => return Err(reason),
            (Ok(()), Err(reason)) => return Err(format!("commit took {reason}")),
            (Err(CommitFailed::Failed(reason)), _) => {
                if !self.end_faults() {
                    return Err(reason);
                }
                return self.commit(model);
            }
        }
        self.base.payloads.verify()?;
        let shown = self.shown()?;
        let wanted = wanted.unwrap_or_default();
        if shown != wanted {
            return Err(format!("the stack shows {shown:#?}\n  instead of {wanted:#?}"));
        }
        Ok(Controlled::Done)
    }

    /// Takes note of a layer that was committed from the view by other means than this.
    pub fn note_committed(&mut self, layer: Manifest) {
        self.committed.push(layer);
    }

    /// Commits what changed as a layer on top of the stack, if anything did.
    pub fn commit_all(&mut self) -> Result<(), String> {
        self.try_commit(true).map_err(|failed| match failed {
            CommitFailed::Refused(reason) | CommitFailed::Failed(reason) => reason,
        })
    }

    /// Puts paths back to what the stack has.
    pub fn reset_paths(&self, paths: &[&str]) -> Result<ResetReport, Error> {
        let paths: Vec<_> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        self.view().reset(&paths, &self.stack())
    }

    /// As a kernel helps: it asks for all of each file that is offered, and sets its size.
    pub fn reset_in_place(&self, paths: &[Vec<u8>]) -> Result<ResetReport, Error> {
        let offers = self.view().offer_in_place(paths, &self.stack());
        let mut settled = HashSet::new();
        if self.view().is_editable() {
            for offer in offers.files() {
                give_back(self.view(), offer)?;
                settled.insert(offer.ino);
            }
        }
        self.view().reset_rest(paths, &self.stack(), &offers.end(&settled))
    }

    fn try_commit(&mut self, possible: bool) -> Result<(), CommitFailed> {
        let view = Arc::clone(self.view());
        let store: Arc<dyn LayerStore> = match &self.disk {
            Disk::Failing(faults) => Arc::new(FaultyPayloads::new(&self.base.payloads, faults)),
            _ => Arc::<PayloadStore>::clone(&self.base.payloads),
        };
        let looked = view.changes(&*store);
        let (changes, commit) = view.begin_commit(&*store)?;
        if !possible {
            return Ok(());
        }
        let looked = looked?;
        if looked != changes.live {
            let reason = format!("changes says {looked:?}, commit {:?}", changes.live);
            return Err(CommitFailed::Failed(reason));
        }
        self.finish_commit(&view, &changes, commit)
    }

    fn finish_commit(
        &mut self,
        view: &View,
        changes: &Changes,
        commit: Commit<'_>,
    ) -> Result<(), CommitFailed> {
        let manifest = diff(&self.stack(), &changes.live);
        let manifest = manifest.map_err(|e| CommitFailed::Failed(format!("diff: {e}")))?;
        let Some(manifest) = manifest else { return Ok(()) };
        let layer = manifest.digest(DigestStrategy::WithKindAndSalt);
        let finished = commit.finish(layer);
        if view.committed().len() > self.committed.len() {
            self.committed.push(manifest);
        }
        if finished.is_ok() {
            self.must_be_unchanged("after a commit").map_err(CommitFailed::Failed)?;
        }
        finished.map_err(|error| CommitFailed::Failed(format!("finish: {error}")))
    }

    fn must_be_unchanged(&self, when: &str) -> Result<(), String> {
        let count = self.view().change_count();
        let live = self.view().changes(&*self.base.payloads).map_err(|e| e.to_string())?;
        if live == Live::Same && count == 0 {
            return Ok(());
        }
        Err(format!("{when} {count} changes are left: {live:?}"))
    }

    fn set_editable(&self, editable: bool, model: &ModelFs) -> Result<Controlled, String> {
        self.view().set_editable(editable).map_err(|error| format!("edit: {error}"))?;
        model.set_editable(editable);
        Ok(Controlled::Done)
    }

    fn reset(&mut self, path: &[u8], model: &ModelFs) -> Result<Controlled, String> {
        // With the kernel's help and without.
        let result = match self.view().change_count() % 2 {
            0 => self.view().reset(&[path.to_vec()], &self.stack()),
            _ => self.reset_in_place(&[path.to_vec()]),
        };
        match result {
            Err(Error::ReadOnly) if !model.editable() => return Ok(Controlled::Done),
            Err(error) => return Err(format!("reset of {}: {error}", path.escape_ascii())),
            Ok(ResetReport { failed: Some(error), .. }) => {
                return Err(format!("reset of {}: {error}", path.escape_ascii()));
            }
            Ok(_) if !model.editable() => return Err("a reset although read-only".to_owned()),
            Ok(_) => {}
        }
        let model = Arc::new(model.clone());
        reset::reset(&model, path, &self.shown()?, LAYER_OWNER)
            .map_err(|error| format!("the model's reset: {error}"))?;
        reset::take_times(&model, self.view())?;
        if path.is_empty() {
            self.must_be_unchanged("after a reset")?;
        }
        Ok(Controlled::Renumbered)
    }
}

/// Asks for all of an offered file as a kernel does, and sets its size.
pub fn give_back(view: &Arc<View>, offer: &Offer) -> Result<(), Error> {
    let grows = view.getattr(offer.ino)?.size < offer.size;
    let file = view.open(offer.ino, Access::Write)?;
    match grows {
        true => file.allocate(0, offer.size.next_multiple_of(4096), Allocate::ZeroRange, false)?,
        false => file.allocate(0, WHOLE_FILE, Allocate::PunchHole, false)?,
    }
    let size = Some(offer.size);
    view.setattr(offer.ino, &SetAttr { size, ..SetAttr::default() }).map(drop)
}

/// Why a commit did not happen.
enum CommitFailed {
    /// Because of what the view holds.
    Refused(String),
    /// Because something failed, or is wrong.
    Failed(String),
}

impl From<CommitError> for CommitFailed {
    fn from(error: CommitError) -> Self {
        let reason = format!("commit: {error}: {error:?}");
        match error {
            CommitError::FileType { .. } | CommitError::NotUtf8 { .. } => Self::Refused(reason),
            _ => Self::Failed(reason),
        }
    }
}

/// What tells a view the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// The number of the operation: times are compared exactly.
    Ticks,
    /// The clock of the machine, which also stamps scratch files: where a restart takes a time
    /// from there.
    Machine,
}

impl Subject for ViewSubject {
    type Fs = View;

    /// The number of a file of the layers is its place in them, and once nobody holds the inode
    /// any more nothing remembers that it was removed.
    fn knows_gone(&self, ino: Ino) -> bool {
        ino.0 > self.base.merged.len() as u64
    }

    fn fs(&self) -> Arc<View> {
        Arc::clone(self.view())
    }

    fn set_watched(&self, watched: bool) {
        self.hold_faults(watched);
    }

    fn excuse_times(&self, _: FileType, model: &Times, view: &mut Times) {
        if let Disk::Failing(_) = self.disk {
            *view = *model;
        }
    }

    fn control(&mut self, control: &Steered, model: &ModelFs) -> Result<Controlled, String> {
        match control {
            Steered::Reopen => self.reopen(model),
            Steered::Commit => self.commit(model),
            Steered::Edit(editable) => self.set_editable(*editable, model),
            Steered::ResetAll => self.reset(b"", model),
            // Half of the time something that the stack has, be it there or not.
            Steered::Reset { pick, path } => match pick % 2 {
                0 => self.reset(path, model),
                _ => {
                    let paths = reset::paths(&self.shown()?);
                    match paths.get(usize::from(pick >> 1) % paths.len().max(1)) {
                        Some(path) => self.reset(&path.clone(), model),
                        None => Ok(Controlled::Nothing),
                    }
                }
            },
        }
    }
}
