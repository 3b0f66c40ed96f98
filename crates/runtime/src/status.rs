//! What state a runtime is in, as far as can be told from outside.

use std::fmt;
use std::io;

use crate::error::RuntimeError;
use crate::folder::RuntimeFolder;
use crate::record::RuntimeRecord;

/// The state of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeStatus {
    /// It is being started.
    Starting,
    /// It is being served.
    Running,
    /// It has ended; what is left can be removed.
    Stopped,
    /// It has ended and is kept.
    Saved,
    /// What served it was killed, or the machine went down. It can be run again.
    Crashed {
        /// Number of changed inodes in its scratch area; `None` when that cannot be read.
        changes: Option<u64>,
    },
    /// It cannot be looked at from here: it lives on another host or belongs to another user.
    Elsewhere {
        /// What the record says.
        running: bool,
    },
    /// Another program made it; this is what that program would say.
    Foreign(ForeignStatus),
}

/// The state of a runtime of upstream's program, from its record and its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignStatus {
    /// Its processes and its monitor live.
    Running,
    /// Its processes live, its monitor does not.
    Unmonitored,
    /// Its monitor is cleaning up.
    Stopping,
    /// It should be running, but nothing of it lives.
    Zombie,
    /// It has ended and is kept.
    Saved,
    /// It has ended.
    Stopped,
    /// It never started.
    Unknown,
}

/// A start takes much less; a record that is older belongs to one that was cut off.
const START_SECONDS_MAX: i64 = 60;

/// What the state of a runtime depends on beside its record.
pub(crate) struct Surroundings<'a> {
    pub(crate) host: &'a str,
    pub(crate) now: jiff::Timestamp,
    pub(crate) is_alive: &'a dyn Fn(u32) -> bool,
    pub(crate) changes: &'a dyn Fn(&RuntimeRecord) -> Option<u64>,
}

impl Surroundings<'_> {
    pub(crate) fn status(
        &self,
        record: &RuntimeRecord,
        folder: &RuntimeFolder,
    ) -> Result<RuntimeStatus, RuntimeError> {
        if record.author.host_name != self.host {
            return Ok(RuntimeStatus::Elsewhere { running: record.status.running });
        }
        if !record.is_ours() {
            return Ok(RuntimeStatus::Foreign(self.foreign(record)));
        }
        match folder.is_locked() {
            Ok(true) => return Ok(RuntimeStatus::Running),
            Ok(false) => {}
            Err(RuntimeError::Folder { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Ok(RuntimeStatus::Elsewhere { running: record.status.running });
            }
            Err(error) => return Err(error),
        }
        // Whoever serves it has noted that in the record, and the end of that as well.
        let status = &record.status;
        let age = record.started().map(|at| self.now.duration_since(at).as_secs());
        let starting = status.monitor.is_none()
            && status.owner.is_some_and(self.is_alive)
            && age.is_some_and(|age| age < START_SECONDS_MAX);
        Ok(match (starting, status.running, record.config.durable) {
            (true, ..) => RuntimeStatus::Starting,
            (false, true, _) => RuntimeStatus::Crashed { changes: (self.changes)(record) },
            (false, false, true) => RuntimeStatus::Saved,
            (false, false, false) => RuntimeStatus::Stopped,
        })
    }

    fn foreign(&self, record: &RuntimeRecord) -> ForeignStatus {
        let status = &record.status;
        let owner = status.owner.is_some_and(self.is_alive);
        let monitor = status.monitor.is_some_and(self.is_alive);
        match (status.running, owner, monitor) {
            (true, true, true) => ForeignStatus::Running,
            (true, true, false) => ForeignStatus::Unmonitored,
            (_, false, true) | (false, true, true) => ForeignStatus::Stopping,
            (true, false, false) => ForeignStatus::Zombie,
            (false, _, false) if record.config.durable => ForeignStatus::Saved,
            (false, _, false) if status.owner.is_some() => ForeignStatus::Stopped,
            (false, _, false) => ForeignStatus::Unknown,
        }
    }
}

impl RuntimeStatus {
    /// The state in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Saved => "saved",
            Self::Crashed { .. } => "crashed",
            Self::Elsewhere { running: true } => "running elsewhere",
            Self::Elsewhere { running: false } => "stopped elsewhere",
            Self::Foreign(status) => match status {
                ForeignStatus::Running => "running",
                ForeignStatus::Unmonitored => "unmonitored",
                ForeignStatus::Stopping => "stopping",
                ForeignStatus::Zombie => "zombie",
                ForeignStatus::Saved => "saved",
                ForeignStatus::Stopped => "stopped",
                ForeignStatus::Unknown => "unknown",
            },
        }
    }

    /// Whether processes may be using the runtime now.
    pub const fn is_live(self) -> bool {
        matches!(
            self,
            Self::Starting
                | Self::Running
                | Self::Elsewhere { running: true }
                | Self::Foreign(
                    ForeignStatus::Running | ForeignStatus::Unmonitored | ForeignStatus::Stopping
                )
        )
    }
}

impl fmt::Display for RuntimeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed { changes: Some(1) } => f.pad("crashed (1 change)"),
            Self::Crashed { changes: Some(n) } => f.pad(&format!("crashed ({n} changes)")),
            other => f.pad(other.word()),
        }
    }
}
