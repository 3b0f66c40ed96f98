//! The mount of a service, what it shows to those without a view, and what an earlier one left.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spfs_fuse::RootMode;
use spfs_model::MergedTree;
use spfs_runtime::enter::MOUNT_SOURCE;
use spfs_sys::lock::Lock;
use spfs_sys::mount;
use spfs_vfs::api::Owner;
use spfs_vfs::{Payloads, View, ViewOptions};

use super::RoutedError;
use crate::router::Router;
use crate::volume::ServedVolume;

/// Layers of the default view: none.
struct NoPayloads;

impl Payloads for NoPayloads {
    fn open(&self, _digest: &spfs_model::Digest) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What everybody sees who has no view.
pub(super) fn default_view() -> Arc<View> {
    let owner = Owner { uid: spfs_sys::ids::euid(), gid: spfs_sys::ids::egid() };
    let options = ViewOptions::new(owner);
    View::read_only(Arc::new(MergedTree::empty()), Arc::new(NoPayloads), options)
}

/// Mounts and serves.
pub(super) fn mount(
    mountpoint: &Path,
    router: Router<View>,
    root: RootMode,
) -> Result<ServedVolume<Router<View>>, RoutedError> {
    let options = spfs_fuse::Options { root, ..spfs_fuse::Options::default() };
    ServedVolume::new(mountpoint, false, |device| spfs_fuse::serve_views(router, device, options))
        .map_err(|source| RoutedError::Mount { mountpoint: mountpoint.to_owned(), source })
}

/// A user as people know him.
fn user(uid: u32) -> String {
    match spfs_sys::ids::user_name(uid) {
        Some(name) => format!("{} (uid {uid})", name.display()),
        None => format!("uid {uid}"),
    }
}

/// How long a service waits for another one that is starting beside it.
const STARTING_MAX: Duration = Duration::from_secs(10);

/// Keeps other services from looking at a mount point, or taking away what is there, until this one
/// has mounted on it. The folder above is what they lock: the mount point itself may be a dead mount.
pub(super) fn claim(mountpoint: &Path) -> Result<Option<Lock>, RoutedError> {
    let above = mountpoint.parent().unwrap_or(mountpoint);
    match File::open(above).and_then(|folder| Lock::exclusive_within(folder, STARTING_MAX)) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(RoutedError::Claimed { mountpoint: mountpoint.to_owned() }),
        // Where it cannot be locked, two that start in the same moment are not told apart.
        Err(_) => Ok(None),
    }
}

/// Takes away what a service that was killed has left at the mount point, and refuses one that
/// lives.
pub(super) fn release(mountpoint: &Path) -> Result<(), RoutedError> {
    let table = |source| RoutedError::Table { source };
    for stale in mount::stale_mounts(MOUNT_SOURCE).map_err(table)? {
        if stale.target == mountpoint {
            tracing::warn!("taking away what an earlier service left at {}", mountpoint.display());
            mount::force_unmount(mountpoint).map_err(table)?;
        }
    }
    match std::fs::create_dir(mountpoint) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let hint = if mount::HAS_NAMESPACES {
                ""
            } else {
                ": the line 'spfs' in /etc/synthetic.conf makes it at the next start of the machine"
            };
            let mountpoint = mountpoint.to_owned();
            return Err(RoutedError::Mountpoint { mountpoint, hint, source: error });
        }
        _ => {}
    }
    match mount::mount_at(mountpoint).map_err(table)? {
        Some(entry) if entry.is_fuse() => Err(RoutedError::Mounted {
            mountpoint: mountpoint.to_owned(),
            owner: entry.owner.map_or_else(|| "somebody".to_owned(), user),
        }),
        _ => Ok(()),
    }
}
