//! Many objects and payloads at once, with one sync for all of them.
//!
//! What a crash can leave decides the order. A rename may reach the disk before the content of the
//! renamed file does (ext4, XFS and others allocate late), and after a power loss the final name
//! then stands for an empty or short file. Readers of the format, upstream's and ours, take an
//! object that has its name for complete, so that such a file would be a hole in every later layer
//! that shares the content. Therefore nothing gets its final name before its content is on disk:
//!
//! 1. everything is written to work files;
//! 2. one sync of the volume (or of each file, when there are few) brings the content to disk;
//! 3. the files are renamed: payloads before their blobs, blobs before the other objects;
//! 4. a second sync, of names only, brings that to disk before a caller can write a tag.
//!
//! Short files that another program left under a final name count as absent and are replaced. A
//! payload without its blob is written again as well: cleaning may be about to remove it.
//!
//! A sync waits for the disk while processors idle, so one is begun in the background every now and
//! then, which leaves little to wait for at the end.
//!
//! A rename after the sync costs nearly as much as making the file did. A repository that is new
//! lacks most of the 1024 folders for digests, so files that belong into such a folder are written
//! into one like it, and the folder as a whole is renamed.

mod side;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rayon::prelude::*;
use spfs_model::{Digest, Hasher, Object};
use spfs_sys::{files, reflink};

use super::hash_dir::{FOLDERS, folder_number};
use super::objects::encode_object;
use super::{FILE_MODE, Repository};
use crate::copy::{self, BUFFER_BYTES};
use crate::error::Context;
use crate::repository::{AnyRepository, Batch, Stored};
use crate::{RepoError, Result};
use side::{Side, Work};

/// Files up to this size are read into memory whole, so that nothing is written for what is there.
const SMALL_BYTES: u64 = 1 << 20;

/// Up to so many files are synced one by one: a sync of the volume waits for everybody's data.
const FEW: usize = 16;

/// After so many new blobs a sync is begun in the background.
const BLOBS_PER_SYNC: usize = 4096;

/// Work folders that threads share out among them, since a folder takes one new file at a time.
const WORK_FOLDERS: usize = 16;

/// Parts of the set of digests, each with its own lock.
const SEEN_PARTS: usize = 64;

#[derive(Debug)]
pub(super) struct FsBatch<'r> {
    repository: &'r Repository,
    payloads: Side<'r>,
    objects: Side<'r>,
    seen: Vec<Mutex<HashSet<Digest>>>,
    /// Of each folder for digests, whether both sides lack it; not known before it is needed.
    fresh: Vec<OnceLock<bool>>,
    /// Held while that is found out.
    making: Mutex<()>,
    blobs: Mutex<Vec<NewBlob>>,
    others: Mutex<Vec<(Digest, Work)>>,
    /// The last large file was there already: hash the next one before writing it.
    expect_present: AtomicBool,
    /// The volume has not refused to clone a file so far.
    may_clone: AtomicBool,
    bytes: AtomicU64,
    /// The sync that runs in the background.
    early_sync: Mutex<Option<JoinHandle<io::Result<()>>>>,
    /// Something that callers may take for stored could not be.
    failed: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct NewBlob {
    digest: Digest,
    payload: Work,
    object: Work,
}

impl<'r> FsBatch<'r> {
    pub(super) fn new(repository: &'r Repository) -> Result<Self> {
        // Fails early, before anything is read, where nothing can be written.
        Ok(Self {
            repository,
            payloads: Side::new(repository.payloads.store())?,
            objects: Side::new(repository.objects.store())?,
            fresh: (0..FOLDERS).map(|_| OnceLock::new()).collect(),
            making: Mutex::default(),
            seen: (0..SEEN_PARTS).map(|_| Mutex::default()).collect(),
            blobs: Mutex::default(),
            others: Mutex::default(),
            expect_present: AtomicBool::new(false),
            may_clone: AtomicBool::new(true),
            bytes: AtomicU64::new(0),
            early_sync: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    /// Whether a blob belongs into a folder that the store does not have yet.
    fn is_fresh(&self, digest: &Digest) -> Result<bool> {
        let cell = &self.fresh[folder_number(digest)];
        if let Some(fresh) = cell.get() {
            return Ok(*fresh);
        }
        let _one_at_a_time = self.making.lock();
        if let Some(fresh) = cell.get() {
            return Ok(*fresh);
        }
        let fresh = self.payloads.lacks_folder(digest)? && self.objects.lacks_folder(digest)?;
        if fresh {
            self.payloads.make_fresh_folder(digest)?;
            self.objects.make_fresh_folder(digest)?;
        }
        Ok(*cell.get_or_init(|| fresh))
    }

    /// Says whether this digest is met for the first time.
    fn is_first(&self, digest: &Digest) -> bool {
        let part = usize::from(digest.as_bytes()[31]) % SEEN_PARTS;
        self.seen[part].lock().insert(*digest)
    }

    /// Stores what was met for the first time. Nobody else is going to do that, so a failure is one
    /// of the whole batch.
    fn store_first<T>(&self, store: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = store();
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Adds a blob whose payload has been written.
    fn add_blob(&self, digest: Digest, size: u64, payload: Work) -> Result<()> {
        let fresh = self.is_fresh(&digest)?;
        let payload = self.payloads.settle(payload, &digest, fresh)?;
        let blob = Object::Blob { payload: digest, size };
        let (_, bytes) = encode_object(&blob, self.repository.encoding())?;
        let object = self.objects.write(&digest, &bytes, fresh)?;
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let mut blobs = self.blobs.lock();
        blobs.push(NewBlob { digest, payload, object });
        let sync = blobs.len().is_multiple_of(BLOBS_PER_SYNC);
        drop(blobs);
        if sync { self.sync_early() } else { Ok(()) }
    }

    /// Begins a sync in the background, unless one is running.
    fn sync_early(&self) -> Result<()> {
        let mut running = self.early_sync.lock();
        if running.as_ref().is_some_and(|sync| !sync.is_finished()) {
            return Ok(());
        }
        self.wait_for_sync(running.take())?;
        let volume = self.objects.volume().at("sync", self.objects.store.path())?;
        *running = Some(std::thread::spawn(move || files::syncfs(&volume)));
        Ok(())
    }

    /// Whatever it could not write is reported to nobody else.
    fn wait_for_sync(&self, running: Option<JoinHandle<io::Result<()>>>) -> Result<()> {
        let result = running.map_or(Ok(Ok(())), JoinHandle::join);
        let result = result.unwrap_or_else(|_| Err(io::Error::other("the sync panicked")));
        result.at("sync the volume of", self.objects.store.path())
    }

    /// Keeps a payload that was written to find out its digest, if it is new.
    fn keep_or_remove(&self, digest: Digest, size: u64, payload: Work) -> Result<()> {
        let is_first = self.is_first(&digest);
        self.store_first(|| {
            let is_new = is_first && !self.has_blob(&digest, size)?;
            self.expect_present.store(!is_new, Ordering::Relaxed);
            if is_new {
                self.add_blob(digest, size, payload)
            } else {
                self.payloads.remove(payload)
            }
        })
    }

    fn large_file(&self, source: &File, path: &Path) -> Result<(Digest, u64)> {
        if self.may_clone.load(Ordering::Relaxed)
            && let Some(done) = self.clone_large(source, path)?
        {
            return Ok(done);
        }
        if self.expect_present.load(Ordering::Relaxed) {
            let (digest, size) = copy::hash(&mut ReadAt::new(source)).at("read", path)?;
            if self.has_blob(&digest, size)? {
                return Ok((digest, size));
            }
        }
        let (work, file) = self.payloads.create()?;
        let (digest, size) = self.copy(source, path, &file, work)?;
        self.keep_or_remove(digest, size, work)?;
        Ok((digest, size))
    }

    /// Clones the file and hashes the clone, which nobody else can change; `None` where the volume
    /// cannot clone.
    fn clone_large(&self, source: &File, path: &Path) -> Result<Option<(Digest, u64)>> {
        let (work, file) = self.payloads.create()?;
        if let Err(error) = reflink::clone_file(source, &file) {
            self.payloads.remove(work)?;
            if !reflink::is_unsupported(&error) {
                return Err(RepoError::io("clone", path, error));
            }
            self.may_clone.store(false, Ordering::Relaxed);
            return Ok(None);
        }
        let (digest, size) = copy::hash(&mut ReadAt::new(&file)).at("read", path)?;
        self.keep_or_remove(digest, size, work)?;
        Ok(Some((digest, size)))
    }

    /// Copies and hashes. Errors of reading name the source, those of writing the work file.
    fn copy(&self, source: &File, path: &Path, to: &File, work: Work) -> Result<(Digest, u64)> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut hasher, mut size) = (Hasher::new(), 0);
        loop {
            let len = read_at(source, &mut buffer, size).at("read", path)?;
            if len == 0 {
                return Ok((hasher.finish(), size));
            }
            hasher.update(&buffer[..len]);
            let written = to.write_all_at(&buffer[..len], size);
            written.map_err(|error| {
                RepoError::io("write", self.payloads.path(work, &Digest::NULL), error)
            })?;
            size += len as u64;
        }
    }

    /// Stores a file that nobody writes to any more.
    fn link_or_copy(&self, source: &File, path: &Path, digest: Digest, size: u64) -> Result<()> {
        if self.has_blob(&digest, size)? {
            return Ok(());
        }
        let fresh = self.is_fresh(&digest)?;
        let (payload, link) = self.payloads.reserve(&digest, fresh)?;
        if std::fs::hard_link(path, &link).is_ok() {
            let mode = rustix::fs::Mode::from_raw_mode(FILE_MODE as _);
            rustix::fs::fchmod(source, mode).at("change the mode of", path)?;
            return self.add_blob(digest, size, payload);
        }
        let (payload, file) = self.payloads.create()?;
        if self.copy(source, path, &file, payload)? != (digest, size) {
            return Err(RepoError::Changing { path: path.to_owned() });
        }
        self.add_blob(digest, size, payload)
    }

    /// Brings the content of all work files to disk.
    fn sync_content(&self, blobs: &[NewBlob], others: &[(Digest, Work)], few: bool) -> Result<()> {
        self.wait_for_sync(self.early_sync.lock().take())?;
        if !few {
            return self.sync_volumes();
        }
        for blob in blobs {
            self.payloads.sync(blob.payload, &blob.digest)?;
            self.objects.sync(blob.object, &blob.digest)?;
        }
        others.iter().try_for_each(|(digest, work)| self.objects.sync(*work, digest))
    }

    fn sync_volumes(&self) -> Result<()> {
        self.objects.sync_volume()?;
        let device = |side: &Side<'_>| rustix::fs::fstat(side.store.dir()).map(|stat| stat.st_dev);
        match (device(&self.objects), device(&self.payloads)) {
            (Ok(objects), Ok(payloads)) if objects == payloads => Ok(()),
            _ => self.payloads.sync_volume(),
        }
    }

    /// Gives everything its name; `blobs` are sorted.
    fn publish(&self, blobs: &[NewBlob], others: &[(Digest, Work)]) -> Result<()> {
        let folder = |blob: &NewBlob| folder_number(&blob.digest);
        let folders: Vec<_> = blobs.chunk_by(|a, b| folder(a) == folder(b)).collect();
        folders.par_iter().try_for_each(|blobs| self.publish_folder(blobs))?;
        others.iter().try_for_each(|(digest, work)| self.objects.publish(*work, digest))
    }

    /// Gives the blobs of one folder their names, those of payloads first.
    fn publish_folder(&self, blobs: &[NewBlob]) -> Result<()> {
        let Some(first) = blobs.first() else { return Ok(()) };
        let mut left = [true, true];
        if self.is_fresh(&first.digest)? {
            left[0] = !self.payloads.publish_folder(&first.digest)?;
            if !left[0] {
                left[1] = !self.objects.publish_folder(&first.digest)?;
            }
        }
        for blob in blobs {
            if left[0] {
                self.payloads.publish(blob.payload, &blob.digest)?;
            }
            if left[1] {
                self.objects.publish(blob.object, &blob.digest)?;
            }
        }
        Ok(())
    }
}

impl Batch for FsBatch<'_> {
    /// Both files have to be as long as they should be.
    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        if self.is_fresh(digest)? {
            return Ok(false);
        }
        let Some(object) = self.objects.store.find(digest)? else { return Ok(false) };
        let payload = self.payloads.store.find(digest)?;
        if payload.is_none_or(|payload| payload.size != size) {
            return Ok(false);
        }
        if !blob_lengths(size).contains(&object.size)
            && !self.repository.objects.is_readable(digest)?
        {
            return Ok(false);
        }
        self.objects.store.renew(digest, &object);
        Ok(true)
    }

    fn blob(&self, data: &[u8]) -> Result<Digest> {
        let digest = Digest::of(data);
        let size = data.len() as u64;
        if self.is_first(&digest) {
            self.store_first(|| {
                if self.has_blob(&digest, size)? {
                    return Ok(());
                }
                let fresh = self.is_fresh(&digest)?;
                let payload = self.payloads.write(&digest, data, fresh)?;
                self.add_blob(digest, size, payload)
            })?;
        }
        Ok(digest)
    }

    fn blob_from_reader(&self, reader: &mut dyn Read) -> Result<(Digest, u64)> {
        let (work, mut file) = self.payloads.create()?;
        let path = self.payloads.path(work, &Digest::NULL);
        let (digest, size) = copy::hash_while_copying(reader, &mut file).at("write", path)?;
        self.keep_or_remove(digest, size, work)?;
        Ok((digest, size))
    }

    fn blob_from_file(&self, file: &File, path: &Path) -> Result<(Digest, u64)> {
        with_buffer(|buffer| match read_small(file, buffer).at("read", path)? {
            Some(data) => Ok((self.blob(data)?, data.len() as u64)),
            None => self.large_file(file, path),
        })
    }

    fn adopt(&self, path: &Path) -> Result<(Digest, u64)> {
        let source = File::open(path).at("read", path)?;
        let (digest, size) = copy::hash(&mut ReadAt::new(&source)).at("read", path)?;
        if self.is_first(&digest) {
            self.store_first(|| self.link_or_copy(&source, path, digest, size))?;
        }
        Ok((digest, size))
    }

    fn object(&self, object: &Object) -> Result<Digest> {
        let (digest, bytes) = encode_object(object, self.repository.encoding())?;
        self.object_raw(&digest, &bytes)?;
        Ok(digest)
    }

    fn object_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if !self.repository.objects.is_readable(digest)? {
            // not among the fresh ones, which become visible before the others
            let work = self.objects.write(digest, bytes, false)?;
            self.others.lock().push((*digest, work));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Stored> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(RepoError::IncompleteBatch { repository: self.repository.location() });
        }
        let mut blobs = std::mem::take(&mut *self.blobs.lock());
        blobs.sort_unstable_by_key(|blob| blob.digest);
        let others = std::mem::take(&mut *self.others.lock());
        let few = 2 * blobs.len() + others.len() <= FEW;
        if !(blobs.is_empty() && others.is_empty()) {
            self.sync_content(&blobs, &others, few)?;
            self.publish(&blobs, &others)?;
            if few {
                self.payloads.sync_names(blobs.iter().map(|blob| &blob.digest))?;
                let others = others.iter().map(|(digest, _)| digest);
                self.objects.sync_names(blobs.iter().map(|blob| &blob.digest).chain(others))?;
            } else {
                self.sync_volumes()?;
            }
        }
        Ok(Stored {
            objects: (blobs.len() + others.len()) as u64,
            payloads: blobs.len() as u64,
            bytes: self.bytes.load(Ordering::Relaxed),
        })
    }
}

/// The lengths of the files that a blob of this size can have, as far as writers are known.
///
/// A length among them saves reading the object; another one is not wrong by itself.
fn blob_lengths(size: u64) -> [u64; 2] {
    const LEGACY: u64 = 17 + 32 + 8;
    [if size == 0 { 85 } else { 97 }, LEGACY]
}

/// Reads a whole file; `None` when it is not small.
fn read_small<'b>(file: &File, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
    let mut len = 0;
    loop {
        if len == buffer.len() {
            buffer.resize((4 * len).max(BUFFER_BYTES), 0);
        }
        let got = read_at(file, &mut buffer[len..], len as u64)?;
        len += got;
        if got == 0 {
            return Ok(Some(&buffer[..len]));
        }
        if len as u64 > SMALL_BYTES {
            return Ok(None);
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Lends this thread's buffer.
fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with(|cell| match cell.try_borrow_mut() {
        Ok(mut buffer) => work(&mut buffer),
        // the thread took up another file while it waited in the middle of this one
        Err(_) => work(&mut Vec::new()),
    })
}

/// Reads a file from its beginning without moving its position, which others may use.
struct ReadAt<'f> {
    file: &'f File,
    offset: u64,
}

impl<'f> ReadAt<'f> {
    const fn new(file: &'f File) -> Self {
        Self { file, offset: 0 }
    }
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}
