//! Turning the changes of a view into objects and payloads of the repository.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;

use parking_lot::Mutex;
use spfs_model::{Digest, Hasher};
use spfs_repo::{Batch, RepoError};
use spfs_vfs::{LayerStore, StoredFile};

use crate::control::CommitProgress;

/// Told how far a commit is.
type OnProgress<'p> = dyn FnMut(CommitProgress) + Send + 'p;

/// Takes the content of changed files into a batch of the repository.
pub(super) struct CommitStore<'b, 'p> {
    batch: &'b (dyn Batch + 'b),
    progress: Mutex<(CommitProgress, &'p mut OnProgress<'p>)>,
    /// What the view believes to be stored, and is not before the batch is finished.
    taken: Mutex<HashSet<Digest>>,
    /// What went wrong in the repository; the view knows I/O errors only.
    failed: Mutex<Option<RepoError>>,
}

impl<'b, 'p> CommitStore<'b, 'p> {
    pub(super) fn new(batch: &'b (dyn Batch + 'b), progress: &'p mut OnProgress<'p>) -> Self {
        let progress = Mutex::new((CommitProgress::default(), progress));
        Self { batch, progress, taken: Mutex::default(), failed: Mutex::default() }
    }

    /// What was taken, and what failed if something did.
    pub(super) fn close(self) -> (CommitProgress, HashSet<Digest>, Option<RepoError>) {
        (self.progress.into_inner().0, self.taken.into_inner(), self.failed.into_inner())
    }

    fn took(&self, taken: Result<(Digest, u64), RepoError>) -> io::Result<Digest> {
        match taken {
            Ok((digest, size)) => {
                self.taken.lock().insert(digest);
                let mut progress = self.progress.lock();
                progress.0.files += 1;
                progress.0.bytes += size;
                let now = progress.0;
                (progress.1)(now);
                Ok(digest)
            }
            Err(error) => {
                let said = io::Error::other(error.to_string());
                // The first error is the cause of the others.
                self.failed.lock().get_or_insert(error);
                Err(said)
            }
        }
    }
}

impl LayerStore for CommitStore<'_, '_> {
    fn store_file(&self, path: &Path, _size: u64, _perm: u16) -> io::Result<StoredFile> {
        let digest = self.took(self.batch.adopt(path))?;
        // The batch does not say whether it linked the file or had the payload already.
        Ok(StoredFile { digest, shared: true })
    }

    fn store_stream(&self, content: &mut dyn Read, _size: u64, _perm: u16) -> io::Result<Digest> {
        self.took(self.batch.blob_from_reader(content))
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// Tells the digests of changed files and stores nothing.
pub(super) struct DigestsOnly;

impl LayerStore for DigestsOnly {
    fn store_file(&self, path: &Path, _size: u64, _perm: u16) -> io::Result<StoredFile> {
        let digest = digest_of(&mut std::fs::File::open(path)?)?;
        Ok(StoredFile { digest, shared: false })
    }

    fn store_stream(&self, content: &mut dyn Read, _size: u64, _perm: u16) -> io::Result<Digest> {
        digest_of(content)
    }

    fn keeps(&self) -> bool {
        false
    }
}

/// Calls all changed files different, without reading them.
pub(super) struct NoContent;

impl LayerStore for NoContent {
    fn store_file(&self, _path: &Path, _size: u64, _perm: u16) -> io::Result<StoredFile> {
        Ok(StoredFile { digest: Digest::NULL, shared: false })
    }

    fn store_stream(&self, _content: &mut dyn Read, _size: u64, _perm: u16) -> io::Result<Digest> {
        Ok(Digest::NULL)
    }

    fn keeps(&self) -> bool {
        false
    }
}

fn digest_of(content: &mut dyn Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    io::copy(content, &mut hasher)?;
    Ok(hasher.finish())
}
