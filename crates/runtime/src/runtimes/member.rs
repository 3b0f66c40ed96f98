//! A process of a runtime that runs: where it is, others can go.

use super::Runtimes;
use crate::error::{OutOfReach, RuntimeError};
use crate::folder::in_a_moment;
use crate::name::RuntimeName;

/// A process of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The process.
    pub pid: u32,
    /// The mount namespace of the runtime, which the process is in.
    pub namespace: String,
}

impl Runtimes {
    /// Finds a process of a runtime that has a mount of its own. Of one that is just starting it is
    /// there after a moment.
    ///
    /// # Errors
    /// [`RuntimeError::NotRunning`]; [`RuntimeError::OutOfReach`] when it runs and none of its
    /// processes can be looked at from here.
    pub fn member(&self, name: &RuntimeName) -> Result<Member, RuntimeError> {
        let found = in_a_moment(|| {
            let record = self.read(name)?;
            if !self.status(&record)?.is_live() {
                return Err(RuntimeError::NotRunning { name: name.clone() });
            }
            if let Some(namespace) = &record.config.mount_namespace
                && let Some(pid) = self.process_in(namespace, name)?
            {
                return Ok(Some(Member { pid, namespace: namespace.clone() }));
            }
            // Waiting changes nothing about these.
            match self.refuse_others(name, &record) {
                Err(RuntimeError::OtherUser { user, .. }) => Err(OutOfReach::OtherUser { user }),
                Err(RuntimeError::OtherHost { host, .. }) => Err(OutOfReach::OtherHost { host }),
                _ => Ok(None),
            }
            .map_err(|source| RuntimeError::OutOfReach { name: name.clone(), source })
        })?;
        found.ok_or_else(|| RuntimeError::OutOfReach {
            name: name.clone(),
            source: OutOfReach::Hidden,
        })
    }

    fn process_in(&self, namespace: &str, name: &RuntimeName) -> Result<Option<u32>, RuntimeError> {
        let pids = spfs_sys::mount::processes_in_mount_namespace(namespace)
            .map_err(|source| RuntimeError::Processes { name: name.clone(), source })?;
        Ok(pids.first().copied())
    }
}
