//! All runtimes of one storage root: their records in the repository, their folders beside it.
//!
//! A record is two tag streams of the repository, outside all tag namespaces:
//! `spfs/runtimes/meta/NAME` leads to a blob with the document, `spfs/runtimes/data/NAME` to a
//! platform of the stack, which keeps the layers from being cleaned away. A record has one writer
//! at a time: whoever holds the lock on the runtime's folder.
//!
//! Saving a record waits for the disk several times, and a start should take no longer than the
//! command itself: so what a start writes stands in the runtime's folder at first, where it counts
//! for more than what was saved, and the daemon saves it when the command runs.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use spfs_model::Digest;
use spfs_repo::{LiveLayer, Repository};

use crate::backend::{Capability, MountBackend};
use crate::control::{ExportOptions, Exported};
use crate::error::RuntimeError;
use crate::folder::{FolderLock, RuntimeFolder, in_a_moment};
use crate::live::LiveError;
use crate::mount_points::LiveShown;
use crate::name::RuntimeName;
use crate::record::{Author, RecordConfig, RecordStatus, RuntimeRecord, Unknown};
use crate::status::{RuntimeStatus, Surroundings};

mod documents;
mod member;

pub use member::Member;

/// The runtimes of one storage root.
#[derive(Debug, Clone)]
pub struct Runtimes {
    repository: Arc<Repository>,
    user: String,
    host: String,
}

/// A runtime to make.
#[derive(Debug, Clone)]
pub struct NewRuntime {
    /// Its name; a random one when absent.
    pub name: Option<RuntimeName>,
    /// Its layers, bottom first.
    pub stack: Vec<Digest>,
    /// What it shows of the host, above all layers.
    pub live: Vec<LiveLayer>,
    /// How it shows that.
    pub live_shown: LiveShown,
    /// How it is mounted.
    pub backend: MountBackend,
    /// Whether files may be changed.
    pub editable: bool,
    /// Whether it is kept when its last process ends.
    pub durable: bool,
    /// What is started in it; empty for an interactive shell.
    pub command: Vec<String>,
    /// Addresses of repositories that are asked for what the local one lacks.
    pub secondary_repositories: Vec<String>,
    /// Whether tags are looked up in them as well.
    pub include_secondary_tags: bool,
}

/// How an existing runtime is started again.
#[derive(Debug, Clone, Copy)]
pub struct Rerun<'a> {
    /// Edit mode, if it is to be another than it was.
    pub editable: Option<bool>,
    /// What is started in it; empty for an interactive shell.
    pub command: &'a [String],
}

/// One line of the list of runtimes.
#[derive(Debug)]
pub struct Listed {
    /// The runtime.
    pub name: String,
    /// Its record.
    pub record: RuntimeRecord,
    /// Its state.
    pub status: RuntimeStatus,
}

/// What the removal of a runtime may overlook.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// That it belongs to another user.
    pub other_user: bool,
    /// That it lives on another host.
    pub other_host: bool,
    /// That another program's record says it is running.
    pub running: bool,
    /// That it is durable.
    pub durable: bool,
}

/// Which runtimes are pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneStrategy {
    /// Those that have ended or crashed.
    Dead,
    /// Those of them that were made before this time, such as that of the boot.
    CreatedBefore(Timestamp),
}

/// What became of a runtime that was chosen to be removed.
pub type Pruned = (RuntimeName, Result<(), RuntimeError>);

impl Runtimes {
    /// The runtimes of the storage root that `repository` is.
    pub fn new(repository: Arc<Repository>, user: String, host: String) -> Self {
        Self { repository, user, host }
    }

    /// The storage root.
    pub fn root(&self) -> &Path {
        self.repository.root()
    }

    /// The repository of the storage root.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The folder of a runtime, whether it is there or not.
    pub fn folder(&self, name: &RuntimeName) -> RuntimeFolder {
        RuntimeFolder::new(self.root(), name)
    }

    /// Makes a runtime, to be started by this process.
    pub fn create(&self, new: NewRuntime) -> Result<RuntimeRecord, RuntimeError> {
        if new.editable {
            new.backend.require(Capability::Edit)?;
        }
        let name = new.name.clone().unwrap_or_else(RuntimeName::random);
        let folder = self.folder(&name);
        if self.has(&name)? && !self.goes_in_a_moment(&name)? {
            return Err(RuntimeError::Exists { name });
        }
        let Some(lock) = folder.create_locked()? else {
            return Err(RuntimeError::Exists { name });
        };
        // Somebody may have been faster. Changes without a record are those of a runtime whose
        // record was lost.
        if self.has(&name)? || folder.has_changes() {
            return Err(RuntimeError::Exists { name });
        }
        let record = self
            .new_record(&name, &folder, new)
            .and_then(|record| self.save_later(&record).map(|()| record));
        if record.is_err() {
            // The first error is the one to report; what is left is cleaned later.
            drop(folder.remove(lock));
        }
        record
    }

    /// Whether a runtime is gone after a moment: one that leaves nothing behind may be just ending.
    fn goes_in_a_moment(&self, name: &RuntimeName) -> Result<bool, RuntimeError> {
        let gone = in_a_moment(|| {
            Ok(match self.read(name) {
                Ok(record) if !record.config.durable && record.is_ours() => None,
                Err(RuntimeError::Unknown { .. }) => Some(true),
                Ok(_) | Err(_) => Some(false),
            })
        })?;
        Ok(gone.unwrap_or(false))
    }

    fn new_record(
        &self,
        name: &RuntimeName,
        folder: &RuntimeFolder,
        new: NewRuntime,
    ) -> Result<RuntimeRecord, RuntimeError> {
        let created = time_text(now());
        let mut record = RuntimeRecord {
            name: name.to_string(),
            author: Author {
                user_name: self.user.clone(),
                host_name: self.host.clone(),
                created: created.clone(),
                unknown: Unknown::new(),
            },
            status: RecordStatus {
                editable: new.editable,
                owner: Some(std::process::id()),
                command: command_text(&new.command),
                started: Some(created),
                ..RecordStatus::default()
            },
            config: RecordConfig {
                secondary_repositories: new.secondary_repositories,
                include_secondary_tags: new.include_secondary_tags,
                durable: new.durable,
                live_shown: new.live_shown,
                ..RecordConfig::default()
            },
            unknown: Unknown::new(),
        };
        record.set_stack(&new.stack);
        record.set_backend(new.backend);
        record.set_folder(folder.path());
        if !new.live.is_empty() {
            self.add_live_layers(&mut record, &new.live)?;
        }
        Ok(record)
    }

    fn add_live_layers(
        &self,
        record: &mut RuntimeRecord,
        live: &[LiveLayer],
    ) -> Result<(), RuntimeError> {
        let failed = |source| RuntimeError::LiveLayers { name: record.name.clone(), source };
        let layer = crate::live::mount_points_on(self, record, live).map_err(failed)?;
        record.push_layer(layer);
        record.config.mount_points = Some(layer);
        let value = |layer| serde_json::to_value(layer).expect("paths from texts are texts");
        record.config.live_layers = live.iter().map(value).collect();
        Ok(())
    }

    /// Prepares a runtime that has ended or crashed to be started again by this process.
    pub fn rerun(&self, name: &RuntimeName, how: Rerun<'_>) -> Result<RuntimeRecord, RuntimeError> {
        let mut record = self.read(name)?;
        if !record.is_ours() {
            let backend = record.config.mount_backend;
            return Err(RuntimeError::NotOurs { name: name.clone(), backend });
        }
        self.refuse_others(name, &record)?;
        if how.editable == Some(true) {
            record.backend()?.require(Capability::Edit)?;
        }
        let folder = self.folder(name);
        if !folder.exists() {
            let folder = folder.path().to_owned();
            return Err(RuntimeError::Gone { name: name.clone(), folder });
        }
        folder.create()?;
        let Some(_lock) = folder.lock_soon()? else {
            return Err(RuntimeError::InUse { name: name.clone() });
        };
        // A crashed runtime stays one until it is served: this start may fail.
        record.status.editable = how.editable.unwrap_or(record.status.editable);
        record.status.owner = Some(std::process::id());
        record.status.monitor = None;
        record.status.command = command_text(how.command);
        record.status.started = Some(time_text(now()));
        self.save_later(&record)?;
        Ok(record)
    }

    /// Takes back what [`Runtimes::create`] made, when the runtime could not be started.
    pub fn discard(&self, name: &RuntimeName) -> Result<(), RuntimeError> {
        let folder = self.folder(name);
        let Some(lock) = folder.lock_soon()? else {
            return Err(RuntimeError::InUse { name: name.clone() });
        };
        self.delete(name, lock)
    }

    /// Removes record and folder; the lock shows that nobody uses them.
    pub fn delete(&self, name: &RuntimeName, lock: FolderLock) -> Result<(), RuntimeError> {
        self.delete_documents(name)?;
        self.folder(name).remove(lock)
    }

    /// Lists all runtimes, sorted by name. One that cannot be read is an error of its own.
    pub fn list(&self) -> Result<Vec<Result<Listed, RuntimeError>>, RuntimeError> {
        Ok(self
            .names()?
            .into_iter()
            .filter_map(|name| match self.look_up(&name) {
                // It ended between the listing and now.
                Err(RuntimeError::Unknown { .. }) => None,
                other => Some(other),
            })
            .collect())
    }

    fn look_up(&self, name: &RuntimeName) -> Result<Listed, RuntimeError> {
        let record = self.read(name)?;
        let status = self.status(&record)?;
        Ok(Listed { name: name.to_string(), record, status })
    }

    /// Tells the state of a runtime.
    pub fn status(&self, record: &RuntimeRecord) -> Result<RuntimeStatus, RuntimeError> {
        let name: RuntimeName = record.name.parse()?;
        let surroundings = Surroundings {
            host: &self.host,
            now: now(),
            is_alive: &is_alive,
            changes: &|record| crate::live::changes_in(self, record),
        };
        surroundings.status(record, &self.folder(&name))
    }

    /// Saves what a runtime that nothing serves holds as plain files, as far as it can be read.
    pub fn export(
        &self,
        name: &RuntimeName,
        options: &ExportOptions,
    ) -> Result<Exported, LiveError> {
        crate::live::export_stopped(self, name, options)
    }

    /// Removes a runtime that nobody uses.
    pub fn remove(&self, name: &RuntimeName, options: RemoveOptions) -> Result<(), RuntimeError> {
        let folder = self.folder(name);
        let record = match self.read(name) {
            // Whatever it says, its user wants it gone.
            Err(RuntimeError::Record(_)) => None,
            Err(RuntimeError::Unknown { .. }) if folder.exists() => None,
            other => Some(other?),
        };
        if let Some(record) = &record {
            self.check_removal(name, record, options)?;
        }
        if !folder.exists() {
            return self.delete_documents(name);
        }
        let Some(lock) = folder.lock_soon()? else {
            return Err(RuntimeError::InUse { name: name.clone() });
        };
        self.delete(name, lock)
    }

    fn check_removal(
        &self,
        name: &RuntimeName,
        record: &RuntimeRecord,
        options: RemoveOptions,
    ) -> Result<(), RuntimeError> {
        match self.refuse_others(name, record) {
            Err(RuntimeError::OtherUser { .. }) if options.other_user => {}
            Err(RuntimeError::OtherHost { .. }) if options.other_host => {}
            other => other?,
        }
        if record.config.durable && !options.durable {
            return Err(RuntimeError::Durable { name: name.clone() });
        }
        match self.status_in_a_moment(record)? {
            // Asked for above.
            RuntimeStatus::Elsewhere { .. } => Ok(()),
            // Whether one of ours is running is known for sure: there is nothing to overlook.
            RuntimeStatus::Foreign(_) if options.running => Ok(()),
            status if status.is_live() => Err(RuntimeError::InUse { name: name.clone() }),
            _ => Ok(()),
        }
    }

    /// The state of a runtime; of one of ours that is live, what it is after a moment: it is served a
    /// little longer than its last process lives.
    fn status_in_a_moment(&self, record: &RuntimeRecord) -> Result<RuntimeStatus, RuntimeError> {
        let ended = in_a_moment(|| {
            let status = self.status(record)?;
            Ok((!status.is_live() || !record.is_ours()).then_some(status))
        })?;
        ended.map_or_else(|| self.status(record), Ok)
    }

    fn refuse_others(
        &self,
        name: &RuntimeName,
        record: &RuntimeRecord,
    ) -> Result<(), RuntimeError> {
        let author = &record.author;
        if author.user_name != self.user {
            let user = author.user_name.clone();
            return Err(RuntimeError::OtherUser { name: name.clone(), user });
        }
        if author.host_name != self.host {
            let host = author.host_name.clone();
            return Err(RuntimeError::OtherHost { name: name.clone(), host });
        }
        Ok(())
    }

    /// Removes runtimes that have ended, and returns what became of each that was chosen.
    pub fn prune(
        &self,
        strategy: PruneStrategy,
        options: RemoveOptions,
    ) -> Result<Vec<Pruned>, RuntimeError> {
        let mut pruned = Vec::new();
        for listed in self.list()?.into_iter().flatten() {
            let old = match strategy {
                PruneStrategy::Dead => true,
                PruneStrategy::CreatedBefore(time) => {
                    listed.record.created().is_some_and(|created| created < time)
                }
            };
            if !old || listed.status.is_live() || listed.record.config.durable {
                continue;
            }
            let name: RuntimeName = listed.name.parse()?;
            let done = self.remove(&name, options);
            pruned.push((name, done));
        }
        Ok(pruned)
    }

    /// Removes what starts and ends that were cut off have left: folders without a record, and
    /// transient runtimes of this user that are not running and hold no changes.
    pub fn clean_leftovers(&self) -> Result<(), RuntimeError> {
        RuntimeFolder::remove_gone(self.root());
        for name in self.folders() {
            // Those of others cannot be locked, and are theirs to clean.
            if let Ok(Some(lock)) = self.folder(&name).lock()
                && self.is_leftover(&name)?
            {
                tracing::info!(%name, "removing what an earlier runtime left");
                self.delete(&name, lock)?;
            }
        }
        Ok(())
    }

    /// For a folder whose lock is held by the caller.
    fn is_leftover(&self, name: &RuntimeName) -> Result<bool, RuntimeError> {
        let record = match self.read(name) {
            Err(RuntimeError::Unknown { .. }) => return Ok(!self.folder(name).has_changes()),
            // Somebody may want to look at it.
            Err(RuntimeError::Record(_)) => return Ok(false),
            other => other?,
        };
        let kept = !record.is_ours()
            || record.config.durable
            || record.status.running
            || record.status.owner.is_some_and(is_alive)
            || self.refuse_others(name, &record).is_err();
        Ok(!kept && crate::live::changes_in(self, &record) == Some(0))
    }
}

fn is_alive(pid: u32) -> bool {
    spfs_sys::process::identify(pid).is_ok()
}

fn command_text(command: &[String]) -> Vec<String> {
    if command.is_empty() { vec![String::new()] } else { command.to_vec() }
}

pub(crate) fn now() -> Timestamp {
    let now = spfs_sys::clock::precise();
    Timestamp::new(now.secs, now.nanos.cast_signed()).unwrap_or_default()
}

/// Upstream writes nanoseconds, always.
fn time_text(time: Timestamp) -> String {
    format!("{time:.9}")
}

#[cfg(test)]
mod tests;
