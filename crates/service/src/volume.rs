//! A mount of this process, for as long as it is served.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use spfs_fuse::{Session, Views, Volume};

use crate::daemon::start_thread;
use crate::failure::chain;

/// How long a mount may take to be there.
const MOUNT_WAIT: Duration = Duration::from_secs(30);

/// How long the end waits for the kernel to let go of the mount.
const UNMOUNT_WAIT: Duration = Duration::from_secs(2);

/// The mount, which goes with the value.
#[derive(Debug)]
pub(crate) struct ServedVolume<W: Views> {
    volume: Volume,
    pub(crate) session: Arc<Session<W>>,
    mountpoint: PathBuf,
}

impl<W: Views> ServedVolume<W> {
    /// Mounts, `read_only` for all of its life or not, and lets `serve` serve the device.
    pub(crate) fn new(
        mountpoint: &Path,
        read_only: bool,
        serve: impl FnOnce(OwnedFd) -> io::Result<Session<W>>,
    ) -> io::Result<Self> {
        let (volume, device) = Volume::mount(mountpoint, read_only)?;
        let session = match serve(device) {
            Ok(session) => Arc::new(session),
            Err(error) => {
                drop(volume.unmount(true));
                return Err(error);
            }
        };
        let served = Self { volume, session, mountpoint: mountpoint.to_owned() };
        served.volume.wait_until_mounted(MOUNT_WAIT)?;
        Ok(served)
    }
}

impl<W: Views> Drop for ServedVolume<W> {
    fn drop(&mut self) {
        if self.session.is_ended() {
            return;
        }
        let gone = self.volume.unmount(false).or_else(|_| self.volume.unmount(true));
        if let Err(error) = gone {
            tracing::error!("cannot unmount {}: {}", self.mountpoint.display(), chain(&error));
            return;
        }
        // Who still uses it holds the session; for them it ends with this process.
        let (ended, wait) = mpsc::channel();
        let session = Arc::clone(&self.session);
        let waiting = start_thread("spfs-unmount", move || {
            drop(session.wait());
            let _ = ended.send(());
        });
        if waiting.is_ok() {
            let _ = wait.recv_timeout(UNMOUNT_WAIT);
        }
    }
}
