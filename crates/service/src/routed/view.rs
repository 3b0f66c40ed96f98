//! A runtime among others in one mount.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use spfs_fuse::{Session, ViewId};
use spfs_model::Change;
use spfs_runtime::control::{
    CommitOptions, CommitProgress, Committed, EditMode, ExportOptions, Exported, LiveStatus,
    ResetOptions,
};
use spfs_runtime::{FolderLock, Kernel, LiveRuntime, ModeError};
use spfs_vfs::api::Ino;
use spfs_vfs::{Invalidation, Offer, View};

use crate::failure::{Failure, chain};
use crate::give_back::{Place, give_back};
use crate::mounted::told;
use crate::router::Router;
use crate::serve::Control;

/// A runtime among others in one mount.
#[derive(Debug)]
pub(super) struct RoutedView {
    pub(super) live: Arc<LiveRuntime>,
    pub(super) id: ViewId,
    kernel: KernelOfView,
    /// Given back when the runtime ends; held while it does.
    lock: Mutex<Option<FolderLock>>,
}

/// The kernel's side of a view.
#[derive(Debug)]
struct KernelOfView {
    session: Arc<Session<Router<View>>>,
    id: ViewId,
    router: Router<View>,
    mountpoint: PathBuf,
}

impl RoutedView {
    pub(super) fn new(
        live: Arc<LiveRuntime>,
        id: ViewId,
        session: Arc<Session<Router<View>>>,
        router: Router<View>,
        mountpoint: PathBuf,
        lock: FolderLock,
    ) -> Self {
        let kernel = KernelOfView { session, id, router, mountpoint };
        Self { live, id, kernel, lock: Mutex::new(Some(lock)) }
    }

    /// Takes the view from everybody and ends the runtime: a transient one is removed. When it
    /// returns the runtime has ended, also when somebody else was at it.
    pub(super) fn end(&self) {
        let mut held = self.lock.lock();
        let Some(lock) = held.take() else { return };
        if let Err(error) = self.live.quiesce(&self.kernel) {
            tracing::warn!("{}", chain(&error));
        }
        self.kernel.router.remove(self.id);
        if let Err(error) = self.kernel.session.forget_view(self.id).wait() {
            tracing::warn!(%error, "the kernel may remember a view that is gone");
        }
        if let Err(error) = self.live.end(lock) {
            tracing::error!("{}", chain(&error));
        }
    }
}

impl Control for RoutedView {
    fn status(&self) -> Result<LiveStatus, Failure> {
        Ok(LiveStatus {
            roots: self.kernel.router.roots(self.id),
            members: self.kernel.router.members(self.id) as u64,
            ..self.live.status()
        })
    }

    fn commit(
        &self,
        options: &CommitOptions,
        progress: &mut (dyn FnMut(CommitProgress) + Send),
    ) -> Result<Committed, Failure> {
        Ok(self.live.commit(options, &self.kernel, progress)?)
    }

    fn set_editable(&self, editable: bool, keep_runtime: bool) -> Result<EditMode, Failure> {
        Ok(self.live.set_editable(editable, keep_runtime, &self.kernel)?)
    }

    fn reset(&self, options: &ResetOptions) -> Result<u64, Failure> {
        Ok(self.live.reset(options, &self.kernel)?)
    }

    fn diff(&self) -> Result<Vec<Change>, Failure> {
        Ok(self.live.diff(&self.kernel)?)
    }

    fn export(&self, options: &ExportOptions) -> Result<Exported, Failure> {
        Ok(self.live.export(options, &self.kernel)?)
    }
}

impl Kernel for KernelOfView {
    fn write_back(&self, inodes: &[Ino]) -> io::Result<()> {
        // The kernel writes the pages of an inode before it forgets them.
        let what = inodes.iter().copied().map(spfs_fuse::Invalidation::Inode).collect();
        self.session.notifier().send(self.id, what).wait()
    }

    fn give_back(&self, offers: &[Offer]) -> HashSet<Ino> {
        // Where the kernel caches no writes of ours, as on macOS, nothing helps it to a size.
        if !spfs_sys::mount::HAS_NAMESPACES {
            return HashSet::new();
        }
        let (path, joins) = match self.session.root_of(self.id) {
            Some(root) => (self.mountpoint.join(root), false),
            None => (self.mountpoint.clone(), true),
        };
        let known = |pid| match joins {
            true => self.router.join(pid, self.id).map_err(io::Error::other),
            false => Ok(()),
        };
        give_back(&Place::Directory(&path, &known), self.id, offers)
    }

    fn invalidate(&self, what: Vec<Invalidation>) -> io::Result<()> {
        let what = what.into_iter().map(told).collect();
        self.session.notifier().send(self.id, what).wait()
    }

    /// The one mount has no flag for one of its views: the view itself refuses. Files that are open
    /// for writing are in the way, as they are for a mount.
    fn set_read_only(&self, read_only: bool) -> Result<(), ModeError> {
        if read_only && !self.session.write_handles(self.id).is_empty() {
            return Err(ModeError::Busy);
        }
        Ok(())
    }
}
