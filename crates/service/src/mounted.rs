//! A runtime with its mount: what the control protocol asks is done here, and what that needs of
//! the kernel.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use spfs_fuse::{Session, Single, ViewId};
use spfs_model::{Change, DiffError};
use spfs_repo::RepoError;
use spfs_runtime::control::{
    CommitOptions, CommitProgress, Committed, EditMode, ExportOptions, Exported, LiveStatus,
    ResetOptions,
};
use spfs_runtime::enter::LiveMount;
use spfs_runtime::{Kernel, LiveError, LiveRuntime, ModeError, RuntimeError};
use spfs_vfs::api::{Error, Ino};
use spfs_vfs::{CommitError, Invalidation, Offer, View};
use tokio::sync::Notify;

use crate::failure::{Failure, FailureCode, chain};
use crate::give_back::{Place, give_back};
use crate::remount::{self, RemountError};
use crate::serve::{Control, Host, check_name};

/// Where a runtime is mounted.
#[derive(Debug)]
pub(crate) struct Mount {
    /// The mount namespace.
    pub(crate) namespace: String,
    /// The first process in it.
    pub(crate) pid: u32,
    /// What is shown of the host in it.
    pub(crate) live: Vec<LiveMount>,
}

/// A runtime with its mount.
#[derive(Debug)]
pub(crate) struct MountedRuntime {
    live: Arc<LiveRuntime>,
    mount: MountOfView,
    end: Notify,
}

/// The kernel's side.
#[derive(Debug)]
struct MountOfView {
    session: Session<Single<View>>,
    mount: Mount,
}

impl MountedRuntime {
    pub(crate) fn new(
        live: Arc<LiveRuntime>,
        session: Session<Single<View>>,
        mount: Mount,
    ) -> Self {
        Self { live, mount: MountOfView { session, mount }, end: Notify::new() }
    }

    pub(crate) fn live(&self) -> &Arc<LiveRuntime> {
        &self.live
    }

    /// Waits for the end of the mount.
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.mount.session.wait()
    }

    /// Ready when a request has asked for the end.
    pub(crate) async fn asked_to_end(&self) {
        self.end.notified().await;
    }

    /// Prepares for an end while processes are using the runtime.
    pub(crate) fn quiesce(&self) {
        if let Err(error) = self.live.quiesce(&self.mount) {
            tracing::warn!("{}", chain(&error));
        }
    }
}

impl Control for MountedRuntime {
    fn status(&self) -> Result<LiveStatus, Failure> {
        Ok(self.live.status())
    }

    fn commit(
        &self,
        options: &CommitOptions,
        progress: &mut (dyn FnMut(CommitProgress) + Send),
    ) -> Result<Committed, Failure> {
        Ok(self.live.commit(options, &self.mount, progress)?)
    }

    fn set_editable(&self, editable: bool, keep_runtime: bool) -> Result<EditMode, Failure> {
        Ok(self.live.set_editable(editable, keep_runtime, &self.mount)?)
    }

    fn reset(&self, options: &ResetOptions) -> Result<u64, Failure> {
        Ok(self.live.reset(options, &self.mount)?)
    }

    fn diff(&self) -> Result<Vec<Change>, Failure> {
        Ok(self.live.diff(&self.mount)?)
    }

    fn export(&self, options: &ExportOptions) -> Result<Exported, Failure> {
        Ok(self.live.export(options, &self.mount)?)
    }
}

impl Host for MountedRuntime {
    type View = Self;

    fn view(self: &Arc<Self>, name: &str) -> Result<Arc<Self>, Failure> {
        check_name(self.live.name().as_str(), name)?;
        Ok(Arc::clone(self))
    }

    fn views(self: &Arc<Self>) -> Vec<Arc<Self>> {
        vec![Arc::clone(self)]
    }

    fn shutdown(&self, force: bool) -> Result<(), Failure> {
        let namespace = &self.mount.mount.namespace;
        let using = spfs_sys::mount::processes_in_mount_namespace(namespace).unwrap_or_default();
        if !force && !using.is_empty() {
            let text = format!("{} processes are using runtime {}", using.len(), self.live.name());
            return Err(Failure::new(FailureCode::Busy, text));
        }
        self.end.notify_one();
        Ok(())
    }
}

impl Kernel for MountOfView {
    fn write_back(&self, inodes: &[Ino]) -> io::Result<()> {
        // The kernel writes the pages of an inode before it forgets them.
        let what = inodes.iter().copied().map(spfs_fuse::Invalidation::Inode).collect();
        self.session.notifier().send(ViewId::FIRST, what).wait()
    }

    fn give_back(&self, offers: &[Offer]) -> HashSet<Ino> {
        let Mount { namespace, pid, .. } = &self.mount;
        give_back(&Place::Namespace(namespace, *pid), ViewId::FIRST, offers)
    }

    fn invalidate(&self, what: Vec<Invalidation>) -> io::Result<()> {
        let what = what.into_iter().map(told).collect();
        self.session.notifier().send(ViewId::FIRST, what).wait()
    }

    fn show_live(&self, read_only: bool) -> io::Result<()> {
        let Mount { namespace, pid, live } = &self.mount;
        if live.is_empty() {
            return Ok(());
        }
        remount::show_again(namespace, *pid, live, read_only).map_err(io::Error::other)
    }

    fn set_read_only(&self, read_only: bool) -> Result<(), ModeError> {
        let Mount { namespace, pid, live } = &self.mount;
        remount::set_read_only(namespace, *pid, live, read_only).map_err(|error| match error {
            RemountError::Busy => ModeError::Busy,
            other => ModeError::Failed(Box::new(other)),
        })
    }
}

pub(crate) fn told(invalidation: Invalidation) -> spfs_fuse::Invalidation {
    match invalidation {
        Invalidation::Inode(ino) => spfs_fuse::Invalidation::Inode(ino),
        Invalidation::Entry { dir, name } => spfs_fuse::Invalidation::Entry { parent: dir, name },
        Invalidation::Removed { dir, child, name } => {
            spfs_fuse::Invalidation::Deleted { parent: dir, child, name }
        }
    }
}

impl From<LiveError> for Failure {
    fn from(error: LiveError) -> Self {
        let message = chain(&error);
        let (code, paths) = match error {
            LiveError::Backend(_) => (FailureCode::Unsupported, Vec::new()),
            LiveError::Pattern(_) => (FailureCode::Invalid, Vec::new()),
            LiveError::NothingToCommit { .. } => (FailureCode::NothingToCommit, Vec::new()),
            LiveError::OnlyLeftOut { .. } => (FailureCode::OnlyLeftOut, Vec::new()),
            LiveError::NotEditable { .. } => (FailureCode::NotEditable, Vec::new()),
            LiveError::Busy { paths, .. } => (FailureCode::Busy, paths),
            LiveError::Commit { source, .. } => commit_code(source),
            LiveError::Difference { source: DiffError::Entry { path, .. }, .. } => {
                (FailureCode::NotRepresentable, vec![path.into_bytes()])
            }
            LiveError::Store { source: RepoError::NoSpace { .. }, .. }
            | LiveError::Export { source: RepoError::NoSpace { .. }, .. }
            | LiveError::View { source: Error::NoSpace | Error::QuotaExceeded, .. }
            | LiveError::Runtime(RuntimeError::Repository {
                source: RepoError::NoSpace { .. },
                ..
            }) => (FailureCode::NoSpace, Vec::new()),
            _ => (FailureCode::Other, Vec::new()),
        };
        Self { code, message, paths }
    }
}

fn commit_code(error: CommitError) -> (FailureCode, Vec<Vec<u8>>) {
    match error {
        CommitError::FileType { path, .. } | CommitError::NotUtf8 { path, .. } => {
            (FailureCode::NotRepresentable, vec![path])
        }
        CommitError::Content { path, source: Error::NoSpace | Error::QuotaExceeded } => {
            (FailureCode::NoSpace, vec![path])
        }
        CommitError::Content { path, .. } => (FailureCode::Other, vec![path]),
        CommitError::ReadOnly | CommitError::Internal(_) => (FailureCode::Other, Vec::new()),
    }
}
