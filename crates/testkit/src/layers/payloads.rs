//! Payloads in a temporary directory, for reading by a view and for committing into.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spfs_model::Digest;
use spfs_vfs::{LayerStore, Payloads, StoredFile};
use tempfile::TempDir;

/// Payloads by digest, one file each.
#[derive(Debug)]
pub struct PayloadStore {
    dir: TempDir,
    /// Whether a committed file becomes the payload itself instead of being copied.
    links: AtomicBool,
    opened: AtomicU64,
    /// Files on their way into `dir`, numbered.
    new: TempDir,
    written: AtomicU64,
}

impl Default for PayloadStore {
    fn default() -> Self {
        Self::new()
    }
}

impl PayloadStore {
    /// An empty store.
    pub fn new() -> Self {
        let dir = || {
            crate::environment::memory_directory().expect("tests can make temporary directories")
        };
        let (links, opened, written) = Default::default();
        Self { dir: dir(), new: dir(), links, opened, written }
    }

    /// From now on committed scratch files are linked, not copied, or the other way round.
    pub fn set_links(&self, links: bool) {
        self.links.store(links, Ordering::Relaxed);
    }

    /// How often a payload was opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Stores bytes; long runs of zeros become holes.
    pub fn put(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let path = self.path(&digest);
        if !path.exists() {
            // Several threads may store the same content.
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let new = self.new.path().join(number.to_string());
            write_sparse(&new, content)
                .and_then(|()| fs::rename(&new, &path))
                .expect("tests can write temporary files");
        }
        digest
    }

    /// Reads a payload whole.
    pub fn get(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        fs::read(self.path(digest))
    }

    /// Checks that every payload still is what its name says.
    pub fn verify(&self) -> Result<(), String> {
        let failed = |error: io::Error| format!("the payloads: {error}");
        for entry in fs::read_dir(self.dir.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let content = fs::read(entry.path()).map_err(failed)?;
            if entry.file_name() != *Digest::of(&content).to_string() {
                return Err(format!("payload {} was overwritten", entry.path().display()));
            }
        }
        Ok(())
    }

    /// Where a payload is.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join(digest.to_string())
    }
}

fn write_sparse(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const PAGE: usize = 4096;
    let file = File::create_new(path)?;
    file.set_len(content.len() as u64)?;
    for (number, page) in content.chunks(PAGE).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, (number * PAGE) as u64)?;
        }
    }
    // Who writes to a payload has found a bug.
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions)
}

impl Payloads for PayloadStore {
    fn open(&self, digest: &Digest) -> io::Result<File> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        File::open(self.path(digest))
    }
}

impl LayerStore for PayloadStore {
    fn store_file(&self, path: &Path, size: u64, _perm: u16) -> io::Result<StoredFile> {
        let content = fs::read(path)?;
        if content.len() as u64 != size {
            return Err(io::Error::other(format!("{} bytes, told {size}", content.len())));
        }
        let digest = Digest::of(&content);
        let payload = self.path(&digest);
        let mut shared = false;
        if self.links.load(Ordering::Relaxed) && !payload.exists() {
            shared = fs::hard_link(path, &payload).is_ok();
        }
        if !shared {
            self.put(&content);
        }
        Ok(StoredFile { digest, shared })
    }

    fn store_stream(&self, content: &mut dyn Read, size: u64, _perm: u16) -> io::Result<Digest> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(io::Error::other(format!("{} bytes, told {size}", bytes.len())));
        }
        Ok(self.put(&bytes))
    }

    fn keeps(&self) -> bool {
        true
    }
}
