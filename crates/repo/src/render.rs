//! Rendering: what layers hold becomes plain files and directories.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;
use serde::Serialize;
use spfs_model::{Digest, Manifest, MergedNode, MergedTree, Name, NodeKind, Position, merge};
use spfs_sys::reflink;

use crate::error::Context;
use crate::progress::Progress;
use crate::repository::AnyRepository;
use crate::target::{Folder, Place, TargetDir};
use crate::{RepoError, Result, copy};

mod store;

pub(crate) use store::clean;
pub use store::{CleanedRenders, RenderStore};

/// Entries of one directory that one thread makes in one go.
const ENTRIES_PER_JOB: usize = 256;

/// The longest symbolic link of any file system.
const LINK_LEN_MAX: usize = 4095;

/// How the content of files gets to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Every file is a copy of its own.
    Copy,
    /// Files are hard links to files that have the right mode, owner and content.
    HardLink,
    /// Files are hard links to payloads; modes are not set.
    HardLinkNoProxy,
}

/// What was made, in the words of upstream's summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RenderSummary {
    /// Files and links that were there already.
    pub already_existed_count: u64,
    /// Files that were copied as asked for.
    pub copy_count: u64,
    /// Files that were copied because they could have no more links.
    pub copy_link_limit_count: u64,
    /// Files that were copied because the payload has another mode.
    pub copy_wrong_mode_count: u64,
    /// Files that were copied because the payload belongs to somebody else.
    pub copy_wrong_owner_count: u64,
    /// All entries.
    pub entry_count: u64,
    /// Files that were linked.
    pub link_count: u64,
    /// Symbolic links that were made.
    pub symlink_count: u64,
    /// Bytes of what was there already.
    pub total_bytes_already_existed: u64,
    /// Bytes of what was copied.
    pub total_bytes_copied: u64,
    /// Bytes of what was copied because of the number of links.
    pub total_bytes_copied_link_limit: u64,
    /// Bytes of what was copied because of the mode.
    pub total_bytes_copied_wrong_mode: u64,
    /// Bytes of what was copied because of the owner.
    pub total_bytes_copied_wrong_owner: u64,
    /// Bytes of what was linked.
    pub total_bytes_linked: u64,
}

impl std::ops::AddAssign for RenderSummary {
    fn add_assign(&mut self, more: Self) {
        self.already_existed_count += more.already_existed_count;
        self.copy_count += more.copy_count;
        self.copy_link_limit_count += more.copy_link_limit_count;
        self.copy_wrong_mode_count += more.copy_wrong_mode_count;
        self.copy_wrong_owner_count += more.copy_wrong_owner_count;
        self.entry_count += more.entry_count;
        self.link_count += more.link_count;
        self.symlink_count += more.symlink_count;
        add(&mut self.total_bytes_already_existed, more.total_bytes_already_existed);
        add(&mut self.total_bytes_copied, more.total_bytes_copied);
        add(&mut self.total_bytes_copied_link_limit, more.total_bytes_copied_link_limit);
        add(&mut self.total_bytes_copied_wrong_mode, more.total_bytes_copied_wrong_mode);
        add(&mut self.total_bytes_copied_wrong_owner, more.total_bytes_copied_wrong_owner);
        add(&mut self.total_bytes_linked, more.total_bytes_linked);
    }
}

/// Sizes are what a manifest says, which may be anything.
fn add(sum: &mut u64, size: u64) {
    *sum = sum.saturating_add(size);
}

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Existed,
    Copied,
    CopiedForLinkLimit,
    CopiedForMode,
    CopiedForOwner,
    Linked,
    Symlink,
}

impl RenderSummary {
    fn count(&mut self, made: Made, size: u64) {
        let (count, bytes) = match made {
            Made::Existed => {
                (&mut self.already_existed_count, &mut self.total_bytes_already_existed)
            }
            Made::Copied => (&mut self.copy_count, &mut self.total_bytes_copied),
            Made::CopiedForLinkLimit => {
                (&mut self.copy_link_limit_count, &mut self.total_bytes_copied_link_limit)
            }
            Made::CopiedForMode => {
                (&mut self.copy_wrong_mode_count, &mut self.total_bytes_copied_wrong_mode)
            }
            Made::CopiedForOwner => {
                (&mut self.copy_wrong_owner_count, &mut self.total_bytes_copied_wrong_owner)
            }
            Made::Linked => (&mut self.link_count, &mut self.total_bytes_linked),
            Made::Symlink => {
                self.symlink_count += 1;
                return;
            }
        };
        *count += 1;
        add(bytes, size);
    }
}

/// Renders a tree into a directory, which must be empty unless `allow_existing`.
///
/// # Errors
/// What was made before an error stays.
pub fn render(
    source: &dyn AnyRepository,
    tree: &MergedTree,
    target: &Path,
    strategy: Strategy,
    allow_existing: bool,
    store: &RenderStore,
    progress: &dyn Progress,
) -> Result<RenderSummary> {
    let target = TargetDir::open(target, allow_existing)?;
    let summary = Mutex::default();
    Rendering { source, tree, target: &target, strategy, store, summary, progress }.run()
}

/// Renders a single manifest into the render store, unless it is there; returns where it is.
pub fn render_manifest(
    source: &dyn AnyRepository,
    digest: &Digest,
    manifest: &Manifest,
    strategy: Strategy,
    store: &RenderStore,
    progress: &dyn Progress,
) -> Result<(PathBuf, RenderSummary)> {
    let place = store.place(digest);
    if place.is_dir() {
        return Ok((place, RenderSummary::default()));
    }
    let work = store.work()?;
    let tree = merge(&[manifest]);
    let summary = render(source, &tree, work.path(), strategy, false, store, progress)?;
    store.publish(work, digest)?;
    Ok((place, summary))
}

struct Rendering<'a> {
    source: &'a dyn AnyRepository,
    tree: &'a MergedTree,
    target: &'a TargetDir,
    strategy: Strategy,
    store: &'a RenderStore,
    summary: Mutex<RenderSummary>,
    progress: &'a dyn Progress,
}

impl Rendering<'_> {
    fn run(self) -> Result<RenderSummary> {
        let all = || (1..self.tree.len() as u32).map(Position);
        let is_folder = |at: &Position| self.tree.kind(*at) == NodeKind::Directory;
        let bytes = all().map(|at| self.tree.node(at).size).fold(0, u64::saturating_add);
        self.progress.found(self.tree.len() as u64 - 1, bytes);
        // Breadth first, so that every directory comes after the one it is in.
        let folders: Vec<Position> = all().filter(is_folder).collect();
        for at in &folders {
            self.folder(self.tree.parent(*at))?.make_folder(self.tree.name(*at))?;
        }
        self.jobs(&folders).par_iter().try_for_each(|(at, entries)| self.fill(*at, entries))?;
        for at in folders.iter().rev() {
            let folder = self.folder(self.tree.parent(*at))?;
            folder.set_folder_mode(self.tree.name(*at), self.tree.node(*at).mode)?;
        }
        let mut summary = self.summary.into_inner().unwrap_or_else(|error| error.into_inner());
        summary.entry_count = self.tree.len() as u64 - 1;
        Ok(summary)
    }

    fn folder(&self, at: Position) -> Result<Folder> {
        let mut up = Vec::new();
        let mut next = at;
        while next != Position::ROOT {
            up.push(self.tree.name(next));
            next = self.tree.parent(next);
        }
        self.target.folder(up.into_iter().rev())
    }

    /// What is no directory, in parts of which each belongs to one directory.
    fn jobs(&self, folders: &[Position]) -> Vec<(Position, Vec<Position>)> {
        let mut jobs = Vec::new();
        for folder in std::iter::once(&Position::ROOT).chain(folders) {
            let entries = self.tree.children(*folder).map(Position);
            let files: Vec<Position> =
                entries.filter(|at| self.tree.kind(*at) != NodeKind::Directory).collect();
            jobs.extend(files.chunks(ENTRIES_PER_JOB).map(|part| (*folder, part.to_vec())));
        }
        jobs
    }

    fn fill(&self, at: Position, entries: &[Position]) -> Result<()> {
        let folder = self.folder(at)?;
        let mut part = Vec::with_capacity(entries.len());
        for at in entries {
            let node = self.tree.node(*at);
            let made = match node.kind {
                NodeKind::Symlink => self.symlink(&folder, &node)?,
                NodeKind::File | NodeKind::Directory => self.file(&folder, &node)?,
            };
            self.progress.done(1, node.size);
            part.push((made, node.size));
        }
        let mut summary = self.summary.lock().unwrap_or_else(|error| error.into_inner());
        part.into_iter().for_each(|(made, size)| summary.count(made, size));
        Ok(())
    }

    fn symlink(&self, folder: &Folder, node: &MergedNode<'_>) -> Result<Made> {
        let target = self.source.payloads().read_short(&node.object, LINK_LEN_MAX)?;
        folder.make_link(node.name, &target)?;
        Ok(Made::Symlink)
    }

    fn file(&self, folder: &Folder, node: &MergedNode<'_>) -> Result<Made> {
        match self.strategy {
            Strategy::Copy => self.copy(folder, node, Made::Copied),
            Strategy::HardLinkNoProxy => match self.payload_path(node)? {
                Some(payload) => self.link(folder, node, &payload, Made::Linked),
                None => self.copy(folder, node, Made::Copied),
            },
            Strategy::HardLink => match self.payload_path(node)? {
                Some(payload) => {
                    let (proxy, made) = self.store.proxy(&node.object, node.mode, &payload)?;
                    self.link(folder, node, &proxy, made)
                }
                None => self.copy(folder, node, Made::Copied),
            },
        }
    }

    /// The file of a payload, when it is one of its own.
    fn payload_path(&self, node: &MergedNode<'_>) -> Result<Option<PathBuf>> {
        // Where the repository repairs itself by reading, the file may come to be by this.
        drop(self.source.payloads().open(&node.object)?);
        Ok(self.source.payloads().path(&node.object))
    }

    fn link(
        &self,
        folder: &Folder,
        node: &MergedNode<'_>,
        from: &Path,
        made: Made,
    ) -> Result<Made> {
        match folder.link(node.name, from) {
            Ok(true) => Ok(made),
            Ok(false) if is_same(&folder.shown(node.name), from) => Ok(Made::Existed),
            Ok(false) => {
                folder.remove_file(node.name)?;
                match folder.link(node.name, from) {
                    Ok(true) => Ok(made),
                    Ok(false) => Err(RepoError::Changing { path: folder.shown(node.name) }),
                    Err(error) => self.cannot_link(folder, node, error),
                }
            }
            Err(error) => self.cannot_link(folder, node, error),
        }
    }

    fn cannot_link(
        &self,
        folder: &Folder,
        node: &MergedNode<'_>,
        error: io::Error,
    ) -> Result<Made> {
        match error.kind() {
            io::ErrorKind::TooManyLinks => self.copy(folder, node, Made::CopiedForLinkLimit),
            _ => Err(RepoError::io("link a payload to", folder.shown(node.name), error)),
        }
    }

    fn copy(&self, folder: &Folder, node: &MergedNode<'_>, made: Made) -> Result<Made> {
        let mut place = folder.make_file(node.name)?;
        if let Place::Existing(file) = &mut place {
            let metadata = file.metadata().at("look at", folder.shown(node.name))?;
            let is_equal = metadata.len() == node.size && {
                let (found, _) = copy::hash(file).at("read", folder.shown(node.name))?;
                found == node.object
            };
            if is_equal {
                folder.set_file_mode(node.name, file, node.mode)?;
                return Ok(Made::Existed);
            }
            folder.remove_file(node.name)?;
            place = folder.make_file(node.name)?;
        }
        let Place::New(file) = place else {
            return Err(RepoError::Changing { path: folder.shown(node.name) });
        };
        copy_payload(self.source, &node.object, node.size, &file, folder, node.name)?;
        folder.set_file_mode(node.name, &file, node.mode)?;
        Ok(made)
    }
}

fn copy_payload(
    source: &dyn AnyRepository,
    digest: &Digest,
    size: u64,
    to: &File,
    folder: &Folder,
    name: Name<'_>,
) -> Result<()> {
    let mut from = source.payloads().open(digest)?;
    fill(&mut from, to).at("write", folder.shown(name))?;
    let written = to.metadata().at("look at", folder.shown(name))?.len();
    if written == size {
        return Ok(());
    }
    let mut from = source.payloads().open(digest)?;
    let (found, _) = copy::hash(&mut from).at("read", digest.to_string())?;
    Err(RepoError::WrongPayload { digest: *digest, found })
}

/// Makes a file hold what another one does, sharing it where the volume can.
fn fill(from: &mut File, mut to: &File) -> io::Result<()> {
    match reflink::clone_file(from, to) {
        Err(error) if reflink::is_unsupported(&error) => io::copy(from, &mut to).map(drop),
        shared => shared,
    }
}

/// Whether both are names of one file.
fn is_same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| {
        fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    };
    identity(a).is_some_and(|found| Some(found) == identity(b))
}
