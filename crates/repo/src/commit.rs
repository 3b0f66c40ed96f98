//! A directory becomes a layer.
//!
//! First the whole hierarchy is listed, so that what the format cannot hold is refused before
//! anything is written. Then all files are stored, several at a time, each read once; at last the
//! manifest and the layer join the same batch, which makes everything visible.

mod scan;
mod store;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use spfs_model::{Content, Digest, Manifest, ManifestBuilder, ManifestError, NewEntry};

use crate::layer::stage_layer;
use crate::progress::{NoProgress, Progress};
use crate::repository::{AnyRepository, Stored};
use crate::{ANNOTATION_INLINE_MAX, RepoError, Result};
use scan::{Folder, Scanned};

/// How a directory is committed.
pub struct CommitOptions<'a> {
    /// Threads to use; as many as seem good when not given.
    pub jobs: Option<NonZeroUsize>,
    /// Whether a directory without entries makes a layer, too.
    pub allow_empty: bool,
    /// What is said about the layer, by key.
    pub annotations: &'a [(String, String)],
    /// Values up to so many bytes are stored in the layer, longer ones in blobs.
    pub annotation_inline_max: usize,
    /// Asked for each path below the directory whether it belongs to the layer.
    pub filter: Option<&'a (dyn Fn(&Path) -> bool + Sync)>,
    /// Told how far it has come.
    pub progress: &'a dyn Progress,
}

impl Default for CommitOptions<'_> {
    fn default() -> Self {
        Self {
            jobs: None,
            allow_empty: false,
            annotations: &[],
            annotation_inline_max: ANNOTATION_INLINE_MAX,
            filter: None,
            progress: &NoProgress,
        }
    }
}

impl fmt::Debug for CommitOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitOptions")
            .field("jobs", &self.jobs)
            .field("allow_empty", &self.allow_empty)
            .field("annotations", &self.annotations)
            .finish_non_exhaustive()
    }
}

/// What a commit made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The layer.
    pub layer: Digest,
    /// Its manifest.
    pub manifest: Digest,
    /// Files and symbolic links in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was not in the repository before.
    pub stored: Stored,
}

/// Stores a directory as a layer.
///
/// When this returns everything is on disk, and a tag may be written. When it fails nothing of it
/// is visible.
pub fn commit_path(
    repository: &dyn AnyRepository,
    path: &Path,
    options: &CommitOptions<'_>,
) -> Result<Committed> {
    let jobs = options.jobs.map_or_else(default_jobs, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let pool = pool.map_err(|source| RepoError::Threads { jobs, source })?;
    pool.install(|| commit(repository, path, options))
}

/// Some threads more than cores, since they wait for disks and servers.
fn default_jobs() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (2 * cores).clamp(4, 32)
}

fn commit(
    repository: &dyn AnyRepository,
    path: &Path,
    options: &CommitOptions<'_>,
) -> Result<Committed> {
    let mut folders = scan::scan(path, options.filter)?;
    if folders.first().is_none_or(|root| root.entries.is_empty()) && !options.allow_empty {
        return Err(RepoError::NothingToCommit { path: path.to_owned() });
    }
    let files = folders.iter().flat_map(|folder| &folder.entries).filter(|e| e.is_file()).count();
    options.progress.found(files as u64, 0);
    let batch = repository.batch()?;
    let bytes = store::store(&*batch, path, &mut folders, options.progress)?;
    let manifest = build(folders, path)?;
    let layer =
        stage_layer(&*batch, Some(manifest), options.annotations, options.annotation_inline_max)?;
    let stored = batch.finish()?;
    // the manifest was given, so it has a digest
    let manifest = layer.manifest.unwrap_or(Digest::NULL);
    Ok(Committed { layer: layer.layer, manifest, files: files as u64, bytes, stored })
}

/// Folders stand before those inside them, so that going backwards meets children first. What was
/// listed is given up piece by piece: a million entries are not held twice.
fn build(mut folders: Vec<Folder>, path: &Path) -> Result<Manifest> {
    let refuse = |source: ManifestError| RepoError::Manifest { path: path.to_owned(), source };
    let mut builder = ManifestBuilder::new();
    let mut trees = vec![None; folders.len()];
    for number in (0..folders.len()).rev() {
        let entries = std::mem::take(&mut folders[number].entries);
        let entries = entries.into_iter().filter_map(|entry| {
            let content = match entry.what {
                Scanned::Folder(child) => {
                    Content::Directory { mode: folders[child].mode, tree: trees[child]? }
                }
                Scanned::File(None) => return None,
                Scanned::File(Some(blob)) | Scanned::Link(blob) => Content::Blob(blob),
                Scanned::Mask { mode } => Content::Mask { mode },
            };
            Some(NewEntry { name: entry.name, content })
        });
        trees[number] = Some(builder.directory(entries.collect()).map_err(refuse)?);
    }
    let root = trees.first().copied().flatten().ok_or(ManifestError::NoRoot).map_err(refuse)?;
    builder.finish(root).map_err(refuse)
}
