//! Where the work files of a batch stand, for objects or for payloads.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::io::Errno;
use spfs_model::Digest;
use spfs_sys::{files, publish};

use super::WORK_FOLDERS;
use crate::Result;
use crate::error::Context;
use crate::fs::hash_dir::{HashDir, Place};
use crate::fs::work::{WorkFolder, WorkName};

/// One of the two folders of files named by digests, and the work files for it.
#[derive(Debug)]
pub(super) struct Side<'r> {
    pub(super) store: &'r HashDir,
    /// One for each thread, more or less.
    folders: Vec<OnceLock<WorkFolder>>,
    /// What becomes folders of the store as they are.
    fresh: WorkFolder,
    /// The volume is synced through this. It was opened before anything was written, so that it
    /// reports what the kernel failed to write by itself in between.
    volume: File,
}

/// Where a finished file stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// In one of the work folders.
    Numbered {
        /// Which one.
        folder: u8,
        /// The name in it.
        name: WorkName,
    },
    /// In a folder like the one it is going to have, under its final name.
    Fresh,
}

impl<'r> Side<'r> {
    pub(super) fn new(store: &'r HashDir) -> Result<Self> {
        let folders = (0..WORK_FOLDERS).map(|_| OnceLock::new()).collect();
        let volume = File::open(store.path()).at("open", store.path())?;
        Ok(Self { store, folders, fresh: WorkFolder::create_in(store)?, volume })
    }

    /// The work folder of this thread.
    fn folder(&self) -> Result<(u8, &WorkFolder)> {
        let number = rayon::current_thread_index().unwrap_or(0) % WORK_FOLDERS;
        let cell = &self.folders[number];
        let folder = match cell.get() {
            Some(folder) => folder,
            // the loser of a race removes its folder again
            None => {
                let folder = WorkFolder::create_in(self.store)?;
                cell.get_or_init(|| folder)
            }
        };
        Ok((number as u8, folder))
    }

    /// Makes a file whose digest is not known yet.
    pub(super) fn create(&self) -> Result<(Work, File)> {
        let (folder, work) = self.folder()?;
        let (name, file) = work.create()?;
        Ok((Work::Numbered { folder, name }, file))
    }

    /// Makes the file of a digest.
    pub(super) fn create_for(&self, digest: &Digest, fresh: bool) -> Result<(Work, File)> {
        if !fresh {
            return self.create();
        }
        let file = self.fresh.create_at(Place::of(digest).as_c_str())?;
        Ok((Work::Fresh, file))
    }

    /// Writes the file of a digest.
    pub(super) fn write(&self, digest: &Digest, bytes: &[u8], fresh: bool) -> Result<Work> {
        let (work, mut file) = self.create_for(digest, fresh)?;
        match file.write_all(bytes) {
            Ok(()) => Ok(work),
            Err(error) => Err(error).at("write", self.path(work, digest)),
        }
    }

    /// A path for a file that is put there otherwise.
    pub(super) fn reserve(&self, digest: &Digest, fresh: bool) -> Result<(Work, PathBuf)> {
        if fresh {
            return Ok((Work::Fresh, self.path(Work::Fresh, digest)));
        }
        let (folder, work) = self.folder()?;
        let (name, path) = work.reserve();
        Ok((Work::Numbered { folder, name }, path))
    }

    /// Puts a file whose digest has become known where it is to stand until it is published.
    pub(super) fn settle(&self, work: Work, digest: &Digest, fresh: bool) -> Result<Work> {
        match (self.numbered(work), fresh) {
            (Some((folder, name)), true) => {
                let place = Place::of(digest);
                folder.rename(name, &self.fresh, place.as_c_str())?;
                Ok(Work::Fresh)
            }
            _ => Ok(work),
        }
    }

    fn numbered(&self, work: Work) -> Option<(&WorkFolder, WorkName)> {
        match work {
            Work::Numbered { folder, name } => {
                self.folders[usize::from(folder)].get().map(|folder| (folder, name))
            }
            Work::Fresh => None,
        }
    }

    pub(super) fn path(&self, work: Work, digest: &Digest) -> PathBuf {
        match self.numbered(work) {
            Some((folder, name)) => folder.file_path(name),
            None => self.fresh.path().join(Place::of(digest).as_str()),
        }
    }

    /// Removes a file whose content turned out to be there already.
    pub(super) fn remove(&self, work: Work) -> Result<()> {
        self.numbered(work).map_or(Ok(()), |(folder, name)| folder.remove(name))
    }

    /// Gives a file its name in the store.
    pub(super) fn publish(&self, work: Work, digest: &Digest) -> Result<()> {
        match self.numbered(work) {
            Some((folder, name)) => self.store.publish(folder.dir(), &name.as_c_string(), digest),
            None => self.store.publish(self.fresh.dir(), Place::of(digest).as_c_str(), digest),
        }
    }

    /// Whether the store lacks the folder that a digest belongs into.
    pub(super) fn lacks_folder(&self, digest: &Digest) -> Result<bool> {
        Ok(!self.store.has_folder(digest)?)
    }

    /// Makes a folder that is to become one of the store.
    pub(super) fn make_fresh_folder(&self, digest: &Digest) -> Result<()> {
        let place = Place::of(digest);
        let path = self.fresh.path().join(place.folder());
        publish::mkdir_mode(&path, crate::fs::FOLDER_MODE).at("create", path)
    }

    /// Moves a whole folder into the store; `false` when the store has got one meanwhile.
    pub(super) fn publish_folder(&self, digest: &Digest) -> Result<bool> {
        let place = Place::of(digest);
        let folder = place.folder();
        match rustix::fs::renameat(self.fresh.dir(), folder, self.store.dir(), folder) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error).at("write", self.store.folder_path(digest)),
        }
    }

    /// Brings the content of a work file to disk.
    pub(super) fn sync(&self, work: Work, digest: &Digest) -> Result<()> {
        let path = self.path(work, digest);
        let file = File::open(&path).at("sync", &path)?;
        files::sync_all(&file).at("sync", &path)
    }

    pub(super) fn sync_volume(&self) -> Result<()> {
        files::syncfs(&self.volume).at("sync the volume of", self.store.path())
    }

    /// What the volume can be synced through elsewhere.
    pub(super) fn volume(&self) -> std::io::Result<File> {
        self.volume.try_clone()
    }

    /// Brings the names of these digests to disk.
    pub(super) fn sync_names<'d>(&self, digests: impl Iterator<Item = &'d Digest>) -> Result<()> {
        let mut folders: BTreeSet<PathBuf> =
            digests.map(|digest| self.store.folder_path(digest)).collect();
        if !folders.is_empty() {
            folders.insert(self.store.path().to_owned());
        }
        folders.iter().try_for_each(|folder| publish::sync_dir(folder).at("sync", folder))
    }
}
