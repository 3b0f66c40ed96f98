//! A volume of its own for each run, always in the same state.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::run::{check, output};

/// Space on the volume; its image has holes where nothing was written.
const SIZE: &str = "8G";

/// How long a volume may stay busy after a run: a daemon that ends still has files open.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(60);

/// An ext4 image, and where it and its copies are mounted.
pub(super) struct Volume {
    original: PathBuf,
    copy: PathBuf,
    mounted: PathBuf,
}

impl Volume {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let volume = Self {
            original: dir.join("volume.img"),
            copy: dir.join("copy.img"),
            mounted: dir.join("volume"),
        };
        fs::create_dir(&volume.mounted)?;
        check(Command::new("truncate").args(["-s", SIZE]).arg(&volume.original))?;
        check(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&volume.original))?;
        Ok(volume)
    }

    /// Where it is mounted while a [`Mounted`] lives.
    pub(super) fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// Mounts the volume itself, to fill it.
    pub(super) fn mount_original(&self) -> Result<Mounted<'_>> {
        Mounted::new(&self.original, &self.mounted)
    }

    /// Mounts a fresh copy.
    pub(super) fn mount_copy(&self) -> Result<Mounted<'_>> {
        let mut copy = Command::new("cp");
        check(copy.arg("--sparse=always").arg(&self.original).arg(&self.copy))?;
        Mounted::new(&self.copy, &self.mounted)
    }
}

/// A mounted image; unmounted when dropped.
pub(super) struct Mounted<'a> {
    at: &'a Path,
    device: String,
}

impl<'a> Mounted<'a> {
    /// Through a loop device that does not cache once more what the volume caches.
    fn new(image: &Path, at: &'a Path) -> Result<Self> {
        let mut losetup = Command::new("losetup");
        let device = output(losetup.args(["--find", "--show", "--direct-io=on"]).arg(image))?;
        let mounted = Self { at, device: device.trim().to_owned() };
        check(Command::new("mount").arg(&mounted.device).arg(at))?;
        Ok(mounted)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let deadline = Instant::now() + UNMOUNT_LIMIT;
        let unmount = || output(Command::new("umount").arg("--quiet").arg(self.at)).is_ok();
        while !unmount() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Err(error) = check(Command::new("losetup").arg("--detach").arg(&self.device)) {
            eprintln!("{} stays: {error}", self.device);
        }
    }
}
