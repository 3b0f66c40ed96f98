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

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rayon::prelude::*;
use spfs_model::{Digest, Hasher, Object};
use spfs_sys::{files, publish, reflink};

use super::hash_dir::HashDir;
use super::objects::encode_object;
use super::work::{WorkFolder, WorkName};
use super::{FILE_MODE, Repository};
use crate::copy::{self, BUFFER_BYTES};
use crate::error::Context;
use crate::repository::{AnyRepository, Batch, Stored};
use crate::{RepoError, Result};

/// Files up to this size are read into memory whole, so that nothing is written for what is there.
const SMALL_BYTES: u64 = 1 << 20;

/// Up to so many files are synced one by one: a sync of the volume waits for everybody's data.
const FEW: usize = 16;

/// Work folders that threads share out among them, since a folder takes one new file at a time.
const WORK_FOLDERS: usize = 16;

/// Parts of the set of digests, each with its own lock.
const SEEN_PARTS: usize = 64;

/// Renames that one thread does at a stretch.
const RENAME_CHUNK: usize = 256;

#[derive(Debug)]
pub(super) struct FsBatch<'r> {
    repository: &'r Repository,
    payloads: Side<'r>,
    objects: Side<'r>,
    seen: Vec<Mutex<HashSet<Digest>>>,
    blobs: Mutex<Vec<NewBlob>>,
    others: Mutex<Vec<(Digest, Work)>>,
    /// The last large file was there already: hash the next one before writing it.
    expect_present: AtomicBool,
    /// The volume has not refused to clone a file so far.
    may_clone: AtomicBool,
    bytes: AtomicU64,
}

/// One of the two folders of files named by digests, and the work files for it.
#[derive(Debug)]
struct Side<'r> {
    store: &'r HashDir,
    folders: Vec<OnceLock<WorkFolder>>,
}

/// A finished work file.
#[derive(Debug, Clone, Copy)]
struct Work {
    folder: u8,
    name: WorkName,
}

#[derive(Debug, Clone, Copy)]
struct NewBlob {
    digest: Digest,
    payload: Work,
    object: Work,
}

impl<'r> Side<'r> {
    fn new(store: &'r HashDir) -> Self {
        Self { store, folders: (0..WORK_FOLDERS).map(|_| OnceLock::new()).collect() }
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

    fn create(&self) -> Result<(Work, File)> {
        let (number, folder) = self.folder()?;
        let (name, file) = folder.create()?;
        Ok((Work { folder: number, name }, file))
    }

    fn write(&self, bytes: &[u8]) -> Result<Work> {
        let (work, mut file) = self.create()?;
        file.write_all(bytes).at("write", self.path(work))?;
        Ok(work)
    }

    fn of(&self, work: Work) -> Option<&WorkFolder> {
        self.folders[usize::from(work.folder)].get()
    }

    fn path(&self, work: Work) -> PathBuf {
        self.of(work).map_or_else(PathBuf::new, |folder| folder.file_path(work.name))
    }

    fn remove(&self, work: Work) -> Result<()> {
        self.of(work).map_or(Ok(()), |folder| folder.remove(work.name))
    }

    fn publish(&self, work: Work, digest: &Digest) -> Result<()> {
        self.of(work).map_or(Ok(()), |folder| folder.publish(work.name, self.store, digest))
    }

    fn sync(&self, work: Work) -> Result<()> {
        let path = self.path(work);
        let file = File::open(&path).at("sync", &path)?;
        files::sync_all(&file).at("sync", &path)
    }

    fn sync_volume(&self) -> Result<()> {
        let file = File::open(self.store.path()).at("sync", self.store.path())?;
        files::syncfs(&file).at("sync the volume of", self.store.path())
    }

    /// Brings the names of these digests to disk.
    fn sync_names<'d>(&self, digests: impl Iterator<Item = &'d Digest>) -> Result<()> {
        let mut folders: BTreeSet<PathBuf> =
            digests.map(|digest| self.store.folder_path(digest)).collect();
        if !folders.is_empty() {
            folders.insert(self.store.path().to_owned());
        }
        folders.iter().try_for_each(|folder| publish::sync_dir(folder).at("sync", folder))
    }
}

impl<'r> FsBatch<'r> {
    pub(super) fn new(repository: &'r Repository) -> Result<Self> {
        let batch = Self {
            repository,
            payloads: Side::new(repository.payloads.store()),
            objects: Side::new(repository.objects.store()),
            seen: (0..SEEN_PARTS).map(|_| Mutex::default()).collect(),
            blobs: Mutex::default(),
            others: Mutex::default(),
            expect_present: AtomicBool::new(false),
            may_clone: AtomicBool::new(true),
            bytes: AtomicU64::new(0),
        };
        // Fails early, before anything is read, where nothing can be written.
        batch.payloads.folder()?;
        batch.objects.folder()?;
        Ok(batch)
    }

    /// Says whether this digest is met for the first time.
    fn is_first(&self, digest: &Digest) -> bool {
        let part = usize::from(digest.as_bytes()[31]) % SEEN_PARTS;
        self.seen[part].lock().insert(*digest)
    }

    /// Whether a blob is there with its payload, both as long as they have to be.
    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let Some(object) = self.objects.store.find(digest)? else { return Ok(false) };
        let payload = self.payloads.store.find(digest)?;
        if payload.is_none_or(|payload| payload.size != size) {
            return Ok(false);
        }
        Ok(blob_lengths(size).contains(&object.size)
            || self.repository.objects.is_readable(digest)?)
    }

    fn add_blob(&self, digest: Digest, size: u64, payload: Work) -> Result<()> {
        let blob = Object::Blob { payload: digest, size };
        let (_, bytes) = encode_object(&blob, self.repository.encoding())?;
        let object = self.objects.write(&bytes)?;
        self.blobs.lock().push(NewBlob { digest, payload, object });
        self.bytes.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps a payload that was written to find out its digest, if it is new.
    fn keep_or_remove(&self, digest: Digest, size: u64, payload: Work) -> Result<()> {
        let is_new = self.is_first(&digest) && !self.has_blob(&digest, size)?;
        self.expect_present.store(!is_new, Ordering::Relaxed);
        if is_new { self.add_blob(digest, size, payload) } else { self.payloads.remove(payload) }
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
            to.write_all_at(&buffer[..len], size).at("write", self.payloads.path(work))?;
            size += len as u64;
        }
    }

    /// Brings the content of all work files to disk.
    fn sync_content(&self, blobs: &[NewBlob], others: &[(Digest, Work)], few: bool) -> Result<()> {
        if !few {
            return self.sync_volumes();
        }
        for blob in blobs {
            self.payloads.sync(blob.payload)?;
            self.objects.sync(blob.object)?;
        }
        others.iter().try_for_each(|(_, work)| self.objects.sync(*work))
    }

    fn sync_volumes(&self) -> Result<()> {
        self.objects.sync_volume()?;
        let device = |side: &Side<'_>| rustix::fs::fstat(side.store.dir()).map(|stat| stat.st_dev);
        match (device(&self.objects), device(&self.payloads)) {
            (Ok(objects), Ok(payloads)) if objects == payloads => Ok(()),
            _ => self.payloads.sync_volume(),
        }
    }

    fn publish(&self, blobs: &[NewBlob], others: &[(Digest, Work)]) -> Result<()> {
        blobs.par_chunks(RENAME_CHUNK).try_for_each(|chunk| {
            chunk.iter().try_for_each(|blob| {
                self.payloads.publish(blob.payload, &blob.digest)?;
                self.objects.publish(blob.object, &blob.digest)
            })
        })?;
        others.iter().try_for_each(|(digest, work)| self.objects.publish(*work, digest))
    }
}

impl Batch for FsBatch<'_> {
    fn blob(&self, data: &[u8]) -> Result<Digest> {
        let digest = Digest::of(data);
        let size = data.len() as u64;
        if self.is_first(&digest) && !self.has_blob(&digest, size)? {
            let payload = self.payloads.write(data)?;
            self.add_blob(digest, size, payload)?;
        }
        Ok(digest)
    }

    fn blob_from_reader(&self, reader: &mut dyn Read) -> Result<(Digest, u64)> {
        let (work, mut file) = self.payloads.create()?;
        let path = self.payloads.path(work);
        let (digest, size) = copy::hash_while_copying(reader, &mut file).at("write", path)?;
        self.keep_or_remove(digest, size, work)?;
        Ok((digest, size))
    }

    fn blob_from_file(&self, file: &File, path: &Path) -> Result<(Digest, u64)> {
        let size = file.metadata().at("look at", path)?.len();
        if size > SMALL_BYTES {
            return self.large_file(file, path);
        }
        with_buffer(|buffer| match read_small(file, size, buffer).at("read", path)? {
            // it has grown meanwhile
            None => self.large_file(file, path),
            Some(data) => Ok((self.blob(data)?, data.len() as u64)),
        })
    }

    fn adopt(&self, path: &Path) -> Result<(Digest, u64)> {
        let source = File::open(path).at("read", path)?;
        let (digest, size) = copy::hash(&mut ReadAt::new(&source)).at("read", path)?;
        if !self.is_first(&digest) || self.has_blob(&digest, size)? {
            return Ok((digest, size));
        }
        let (number, folder) = self.payloads.folder()?;
        let (name, link) = folder.reserve();
        let payload = Work { folder: number, name };
        if std::fs::hard_link(path, &link).is_ok() {
            let mode = rustix::fs::Mode::from_raw_mode(FILE_MODE as _);
            rustix::fs::fchmod(&source, mode).at("change the mode of", path)?;
            self.add_blob(digest, size, payload)?;
            return Ok((digest, size));
        }
        let (payload, file) = self.payloads.create()?;
        let copied = self.copy(&source, path, &file, payload)?;
        if copied != (digest, size) {
            return Err(RepoError::Changing { path: path.to_owned() });
        }
        self.add_blob(digest, size, payload)?;
        Ok(copied)
    }

    fn object(&self, object: &Object) -> Result<Digest> {
        let (digest, bytes) = encode_object(object, self.repository.encoding())?;
        self.object_raw(&digest, &bytes)?;
        Ok(digest)
    }

    fn object_raw(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if !self.repository.objects.is_readable(digest)? {
            let work = self.objects.write(bytes)?;
            self.others.lock().push((*digest, work));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Stored> {
        let blobs = std::mem::take(&mut *self.blobs.lock());
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

/// Reads a file that should be `size` bytes long; `None` when it turns out not to be small.
fn read_small<'b>(file: &File, size: u64, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
    // one byte more shows the end of the file in the same call
    let room = usize::try_from(size.max(4095) + 1).unwrap_or(usize::MAX);
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let mut len = 0;
    loop {
        let want = buffer.len() - len;
        let got = read_at(file, &mut buffer[len..], len as u64)?;
        len += got;
        if got == 0 || (got < want && len as u64 == size) {
            return Ok(Some(&buffer[..len]));
        }
        if len as u64 > SMALL_BYTES {
            return Ok(None);
        }
        if len == buffer.len() {
            buffer.resize(2 * len, 0);
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
