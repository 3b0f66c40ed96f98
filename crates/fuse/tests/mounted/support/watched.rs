//! The model file system under observation: counts pins, fails or panics on demand.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use spfs_testkit::ModelFs;
use spfs_testkit::model_fs::ModelFile;
use spfs_vfs::api::{
    Access, Allocate, Attr, Cookie, DirEntry, Error, File, Ino, Name, New, Remove, Replace, Result,
    Seek, SetAttr, Statfs, Vfs, XattrMode,
};

/// What goes wrong with every read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The scratch area fails.
    Scratch,
    /// The inode is gone.
    Stale,
    /// There is a bug.
    Panic,
}

/// A [`ModelFs`] that is looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    model: Arc<ModelFs>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    pins: Mutex<HashMap<Ino, u64>>,
    fault: Mutex<Option<Fault>>,
    syncs: Mutex<Syncs>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Syncs {
    held: bool,
    waiting: usize,
    done: usize,
}

impl Watched {
    pub(crate) fn new(model: ModelFs) -> Self {
        Self { model: Arc::new(model), state: Arc::default() }
    }

    /// The model behind.
    pub(crate) fn model(&self) -> &ModelFs {
        &self.model
    }

    /// How many inodes are pinned, and how many pins they have.
    pub(crate) fn pins(&self) -> (usize, u64) {
        let pins = self.state.pins.lock();
        (pins.len(), pins.values().sum())
    }

    /// Makes every read from now on fail.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *self.state.fault.lock() = fault;
    }

    /// Lets every sync wait, or go on.
    pub(crate) fn hold_syncs(&self, held: bool) {
        self.state.syncs.lock().held = held;
        self.state.changed.notify_all();
    }

    /// How many syncs wait, and how many are done.
    pub(crate) fn syncs(&self) -> (usize, usize) {
        let syncs = self.state.syncs.lock();
        (syncs.waiting, syncs.done)
    }
}

impl State {
    fn sync(&self) {
        let mut syncs = self.syncs.lock();
        syncs.waiting += 1;
        while syncs.held {
            self.changed.wait(&mut syncs);
        }
        syncs.waiting -= 1;
        syncs.done += 1;
    }
}

impl Vfs for Watched {
    type File = WatchedFile;

    fn statfs(&self) -> Result<Statfs> {
        self.model.statfs()
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.model.getattr(ino)
    }

    fn setattr(&self, ino: Ino, set: &SetAttr) -> Result<Attr> {
        self.model.setattr(ino, set)
    }

    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        self.model.getxattr(ino, name)
    }

    fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.model.setxattr(ino, name, value, mode)
    }

    fn listxattr(&self, ino: Ino) -> Result<Vec<Box<[u8]>>> {
        self.model.listxattr(ino)
    }

    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.model.removexattr(ino, name)
    }

    fn lookup(&self, dir: Ino, name: Name<'_>) -> Result<Attr> {
        self.model.lookup(dir, name)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        self.model.parent(dir)
    }

    fn readdir(
        &self,
        dir: Ino,
        after: Cookie,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.model.readdir(dir, after, each)
    }

    fn create(&self, dir: Ino, name: Name<'_>, new: New<'_>) -> Result<Attr> {
        self.model.create(dir, name, new)
    }

    fn link(&self, ino: Ino, dir: Ino, name: Name<'_>) -> Result<Attr> {
        self.model.link(ino, dir, name)
    }

    fn remove(&self, dir: Ino, name: Name<'_>, what: Remove) -> Result<()> {
        self.model.remove(dir, name, what)
    }

    fn rename(&self, from: (Ino, Name<'_>), to: (Ino, Name<'_>), replace: Replace) -> Result<()> {
        self.model.rename(from, to, replace)
    }

    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        self.model.readlink(ino)
    }

    fn open(self: &Arc<Self>, ino: Ino, access: Access) -> Result<WatchedFile> {
        Ok(WatchedFile { file: self.model.open(ino, access)?, state: Arc::clone(&self.state) })
    }

    fn sync(&self) -> Result<()> {
        self.state.sync();
        self.model.sync()
    }

    fn sync_names(&self) -> Result<()> {
        self.state.sync();
        self.model.sync_names()
    }

    fn pin(&self, ino: Ino) {
        *self.state.pins.lock().entry(ino).or_default() += 1;
        self.model.pin(ino);
    }

    fn unpin(&self, ino: Ino) {
        let mut pins = self.state.pins.lock();
        let count = pins.get_mut(&ino).expect("unpinned more often than pinned");
        *count -= 1;
        if *count == 0 {
            pins.remove(&ino);
        }
        self.model.unpin(ino);
    }
}

/// An open file of [`Watched`].
#[derive(Debug)]
pub(crate) struct WatchedFile {
    file: ModelFile,
    state: Arc<State>,
}

impl File for WatchedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        match *self.state.fault.lock() {
            Some(Fault::Scratch) => {
                return Err(Error::Scratch {
                    doing: "reading, on purpose",
                    source: io::Error::other("broken for the test"),
                });
            }
            Some(Fault::Stale) => return Err(Error::Stale),
            Some(Fault::Panic) => panic!("on purpose"),
            None => {}
        }
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], kill_privileges: bool) -> Result<()> {
        self.file.write_at(offset, data, kill_privileges)
    }

    fn write_back(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_back(offset, data)
    }

    fn allocate(&self, offset: u64, len: u64, how: Allocate, kill_privileges: bool) -> Result<()> {
        self.file.allocate(offset, len, how, kill_privileges)
    }

    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        self.file.seek(offset, what)
    }

    fn sync(&self) -> Result<()> {
        self.state.sync();
        self.file.sync()
    }
}
