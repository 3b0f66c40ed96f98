//! A runtime while it is served: its view, its record, and what can be done with them.
//!
//! This is where repository and core meet. The kernel, which remembers much of what the view holds,
//! is reached through [`Kernel`]: nothing is mounted here.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use spfs_model::{Change, Digest, EnvSpec};
use spfs_repo::{LiveEntry, RepoError};
use spfs_vfs::api::{Ino, Owner, Vfs};
use spfs_vfs::{CommitError, Invalidation, LayerStore, Offer, View, ViewOptions};

use crate::backend::{Capability, MountBackend};
use crate::control::{EditMode, LiveStatus};
use crate::error::RuntimeError;
use crate::folder::{FolderLock, RuntimeFolder};
use crate::name::RuntimeName;
use crate::record::RuntimeRecord;
use crate::runtimes::Runtimes;

mod commit;
mod error;
mod export;
mod layers;
mod reset;
mod sources;
mod stack;

pub use error::LiveError;
pub(crate) use export::export_stopped;
use layers::DigestsOnly;
use sources::Sources;
pub use sources::check_address;
use stack::LiveStack;
pub(crate) use stack::{changes_in, mount_points_on};

/// The kernel's side of the mount of a runtime. Calls may wait for requests that the kernel makes
/// to the view, so they must not come from a thread that answers these.
pub trait Kernel: Send + Sync {
    /// Makes the kernel hand over what was written to these files and is still in its memory.
    fn write_back(&self, inodes: &[Ino]) -> io::Result<()>;

    /// Has files given their content back where they are, so that the kernel knows their size
    /// ([`Offer`] says why). Returns those of which it knows now; the others get new inodes.
    fn give_back(&self, offers: &[Offer]) -> HashSet<Ino> {
        let _ = offers;
        HashSet::new()
    }

    /// Tells the kernel what changed behind its back.
    fn invalidate(&self, what: Vec<Invalidation>) -> io::Result<()>;

    /// Shows again what the runtime shows of the host, where that was lost with the name it stood
    /// on. A kernel that is told nothing about live layers has nothing to do.
    fn show_live(&self, read_only: bool) -> io::Result<()> {
        let _ = read_only;
        Ok(())
    }

    /// Makes the mount refuse writing, or allow it.
    fn set_read_only(&self, read_only: bool) -> Result<(), ModeError>;
}

/// Why a mount did not become read-only or writable.
#[derive(Debug, thiserror::Error)]
pub enum ModeError {
    /// Files are open for writing.
    #[error("files are open for writing")]
    Busy,
    /// Anything else.
    #[error("the mount of the runtime cannot be changed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A runtime being served.
#[derive(Debug)]
pub struct LiveRuntime {
    runtimes: Runtimes,
    name: RuntimeName,
    folder: RuntimeFolder,
    backend: MountBackend,
    sources: Arc<Sources>,
    view: Arc<View>,
    /// One change at a time. Commits take long, so those who only look use `seen`.
    state: Mutex<State>,
    /// A copy of the record.
    seen: Mutex<RuntimeRecord>,
}

#[derive(Debug)]
struct State {
    record: RuntimeRecord,
    stack: LiveStack,
    /// Payloads that the view believes to be stored although the commit they were taken for failed.
    unstored: HashSet<Digest>,
    /// The end has been noted: a record that is saved now would outlive its runtime.
    ended: bool,
}

/// Returns the layers of an environment, bottom first, from the repository of the storage root and
/// those at these addresses.
///
/// # Errors
/// When a reference is unknown or a repository fails.
pub fn resolve(
    runtimes: &Runtimes,
    secondary: &[String],
    spec: &EnvSpec,
) -> Result<Vec<Digest>, RepoError> {
    Sources::of(runtimes, secondary).resolve(spec)
}

/// Opens a view of layers, bottom first, that nobody can change; it is no runtime. Everything in it
/// belongs to `owner`.
///
/// # Errors
/// When a layer cannot be read.
pub fn view_of_layers(
    runtimes: &Runtimes,
    secondary: &[String],
    stack: &[Digest],
    owner: Owner,
) -> Result<Arc<View>, RepoError> {
    let sources = Arc::new(Sources::of(runtimes, secondary));
    let lower = sources.merge(stack)?;
    Ok(View::read_only(lower, sources, ViewOptions::new(owner)))
}

impl LiveRuntime {
    /// Opens the view of a runtime whose folder's lock the caller holds. What an earlier daemon
    /// left in the scratch area is replayed.
    pub fn open(runtimes: Runtimes, name: RuntimeName) -> Result<Self, LiveError> {
        let mut record = runtimes.read(&name)?;
        let backend = record.backend().map_err(RuntimeError::from)?;
        let folder = runtimes.folder(&name);
        let sources = Arc::new(Sources::new(&runtimes, Some(&record)));
        let stack = LiveStack::load(&name, &folder, &sources, backend, &record)?;
        let owner = Owner { uid: spfs_sys::ids::euid(), gid: spfs_sys::ids::egid() };
        let options = ViewOptions::new(owner);
        let lower = Arc::clone(&stack.base);
        let payloads = Arc::clone(&sources);
        let view = if backend.supports_editable() {
            View::open(folder.path(), &stack.base_layers, lower, payloads, options)
                .map_err(|source| LiveError::scratch(&name, source))?
        } else {
            record.status.editable = false;
            View::read_only(lower, payloads, options)
        };
        record.set_stack(&stack.shown_by(&record.stack()));
        let editable = record.status.editable;
        let live = Self {
            runtimes,
            name,
            folder,
            backend,
            sources,
            view,
            seen: Mutex::new(record.clone()),
            state: Mutex::new(State { record, stack, unstored: HashSet::new(), ended: false }),
        };
        live.set_view_editable(editable)?;
        Ok(live)
    }

    /// The view to serve.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The runtime's name.
    pub fn name(&self) -> &RuntimeName {
        &self.name
    }

    /// How the runtime is mounted.
    pub fn backend(&self) -> MountBackend {
        self.backend
    }

    /// The runtime's folder.
    pub fn folder(&self) -> &RuntimeFolder {
        &self.folder
    }

    /// Returns the record.
    pub fn record(&self) -> RuntimeRecord {
        self.seen.lock().clone()
    }

    /// Notes that the runtime runs now, in its folder: for which process, and in which mount
    /// namespace, when it has one of its own. [`LiveRuntime::save`] follows, when there is
    /// time for it.
    pub fn started(&self, owner: u32, namespace: Option<&str>) -> Result<(), LiveError> {
        let mut state = self.state.lock();
        state.record.status.running = true;
        state.record.status.owner = Some(owner);
        state.record.status.monitor = Some(std::process::id());
        state.record.config.mount_namespace = namespace.map(str::to_owned);
        self.runtimes.save_later(&state.record)?;
        *self.seen.lock() = state.record.clone();
        Ok(())
    }

    /// Saves the record, unless the runtime has ended.
    pub fn save(&self) -> Result<(), LiveError> {
        let state = self.state.lock();
        if state.ended {
            return Ok(());
        }
        Ok(self.runtimes.save(&state.record)?)
    }

    /// Ends the runtime when its mount is gone: a durable one is noted as ended, another one is
    /// removed with all it changed. Waits for a commit under way.
    pub fn end(&self, lock: FolderLock) -> Result<(), LiveError> {
        let mut state = self.state.lock();
        if !state.record.config.durable {
            self.view.close();
            state.ended = true;
            return Ok(self.runtimes.delete(&self.name, lock)?);
        }
        self.view.sync().map_err(|source| self.view_failed("save", source))?;
        self.view.remove_leftovers();
        self.view.close();
        self.folder.remove_socket()?;
        self.update(&mut state, |record| {
            record.status.running = false;
            record.status.owner = None;
            record.status.monitor = None;
            record.config.mount_namespace = None;
        })?;
        state.ended = true;
        Ok(())
    }

    /// Takes no more changes, after what was written before: the runtime is about to end while
    /// processes are using it.
    pub fn quiesce(&self, kernel: &dyn Kernel) -> Result<(), LiveError> {
        let _state = self.begin_change()?;
        self.write_back(kernel)?;
        self.set_view_editable(false)
    }

    /// What is known of the runtime now.
    pub fn status(&self) -> LiveStatus {
        let record = self.record();
        LiveStatus {
            name: record.name.clone(),
            backend: self.backend.name().to_owned(),
            editable: self.view.is_editable(),
            durable: record.config.durable,
            stack: record.stack(),
            changes: self.view.change_count() as u64,
            open_for_writing: self.view.open_for_writing(),
            mount_namespace: record.config.mount_namespace,
            roots: Vec::new(),
            members: 0,
        }
    }
}

impl LiveRuntime {
    /// Turns edit mode on or off. With `keep` the runtime is durable from now on.
    pub fn set_editable(
        &self,
        editable: bool,
        keep: bool,
        kernel: &dyn Kernel,
    ) -> Result<EditMode, LiveError> {
        if editable {
            self.backend.require(Capability::Edit)?;
        }
        let mut state = self.begin_change()?;
        let changed = self.view.is_editable() != editable;
        match (changed, editable) {
            (true, true) => self.enter_edit_mode(&mut state, kernel)?,
            (true, false) => self.leave_edit_mode(&mut state, kernel)?,
            (false, _) => {}
        }
        if keep && !state.record.config.durable {
            self.update(&mut state, |record| record.config.durable = true)?;
        }
        Ok(EditMode { changed, durable: state.record.config.durable })
    }

    fn enter_edit_mode(&self, state: &mut State, kernel: &dyn Kernel) -> Result<(), LiveError> {
        // The view first: a mount that allows what the view refuses would look broken.
        self.set_view_editable(true)?;
        if let Err(error) = kernel.set_read_only(false) {
            self.set_view_editable(false)?;
            return Err(LiveError::Mode { name: self.name.clone(), source: error });
        }
        self.update(state, |record| record.status.editable = true)
    }

    fn leave_edit_mode(&self, state: &mut State, kernel: &dyn Kernel) -> Result<(), LiveError> {
        // The mount first: it refuses when files are open for writing, and nothing has changed.
        match kernel.set_read_only(true) {
            Ok(()) => {}
            Err(ModeError::Busy) => {
                let mut paths = self.view.open_for_writing();
                if paths.is_empty() {
                    // Then they are the host's, of which the view knows nothing.
                    paths = live_places(&state.record);
                }
                return Err(LiveError::Busy { name: self.name.clone(), paths });
            }
            Err(source) => return Err(LiveError::Mode { name: self.name.clone(), source }),
        }
        // Pages that were written before are still accepted by a view that refuses changes, but
        // here they arrive while the caller waits, so that an error is told to somebody.
        self.write_back(kernel)?;
        self.set_view_editable(false)?;
        self.update(state, |record| record.status.editable = false)
    }

    fn set_view_editable(&self, editable: bool) -> Result<(), LiveError> {
        if self.view.is_editable() == editable {
            return Ok(());
        }
        self.view
            .set_editable(editable)
            .map_err(|source| self.view_failed("change the edit mode of", source))
    }

    /// Lists what differs from the stack, sorted by path.
    pub fn diff(&self, kernel: &dyn Kernel) -> Result<Vec<Change>, LiveError> {
        let state = self.begin_change()?;
        self.write_back(kernel)?;
        self.changes(&state, &DigestsOnly)
    }

    /// `content` may tell other digests than the true ones, but then files differ that do not.
    fn changes(&self, state: &State, content: &dyn LayerStore) -> Result<Vec<Change>, LiveError> {
        if self.view.change_count() == 0 {
            return Ok(Vec::new());
        }
        let live = self.view.changes(content).map_err(|source| self.commit_failed(source))?;
        spfs_model::changes(&state.stack.as_stack(), &live)
            .map_err(|source| LiveError::Difference { name: self.name.clone(), source })
    }

    /// Keeps other changes out. A request that has waited for its turn until the end comes too late.
    fn begin_change(&self) -> Result<MutexGuard<'_, State>, LiveError> {
        let state = self.state.lock();
        if state.ended { Err(LiveError::Ended { name: self.name.clone() }) } else { Ok(state) }
    }

    fn write_back(&self, kernel: &dyn Kernel) -> Result<(), LiveError> {
        kernel.write_back(&self.view.written_inodes()).map_err(|source| LiveError::Kernel {
            doing: "write back what was written in",
            name: self.name.clone(),
            source,
        })
    }

    /// Changes the record, in the repository and here; nowhere when the repository fails.
    fn update(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut RuntimeRecord),
    ) -> Result<(), LiveError> {
        let before = state.record.clone();
        change(&mut state.record);
        if state.record == before {
            return Ok(());
        }
        if let Err(error) = self.runtimes.save(&state.record) {
            state.record = before;
            return Err(error.into());
        }
        *self.seen.lock() = state.record.clone();
        Ok(())
    }

    fn view_failed(&self, doing: &'static str, source: spfs_vfs::api::Error) -> LiveError {
        LiveError::View { doing, name: self.name.clone(), source }
    }

    fn commit_failed(&self, source: CommitError) -> LiveError {
        LiveError::Commit { name: self.name.clone(), source }
    }

    fn store_failed(&self, source: RepoError) -> LiveError {
        LiveError::Store { name: self.name.clone(), source }
    }
}

/// Where the live layers of a runtime are shown, relative to the root of the view.
fn live_places(record: &RuntimeRecord) -> Vec<Vec<u8>> {
    let layers = record.live_layers().unwrap_or_default();
    let place = |entry: &LiveEntry| entry.dest.as_path().as_os_str().as_encoded_bytes().to_vec();
    layers.iter().flat_map(|layer| &layer.contents).map(place).collect()
}

#[cfg(test)]
mod tests;
