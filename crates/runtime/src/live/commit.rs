//! Making a layer or a platform of a live runtime.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use spfs_model::{Digest, EntryKind, Manifest, Name, Object, Platform, TreeIndex, mode};
use spfs_repo::{ANNOTATION_INLINE_MAX, AnyRepository, Batch, RepoError, stage_layer};
use spfs_vfs::View;
use spfs_vfs::api::{Access, Error, File, Ino, Vfs};

use super::layers::CommitStore;
use super::{Kernel, LiveError, LiveRuntime, State};
use crate::backend::Capability;
use crate::control::{CommitKind, CommitOptions, CommitProgress, Committed};
use crate::record::push_on_top;

impl LiveRuntime {
    /// Makes a layer of the changes, or a platform of the whole stack. Everything that was written
    /// before the call is in it.
    pub fn commit(
        &self,
        options: &CommitOptions,
        kernel: &dyn Kernel,
        progress: &mut (dyn FnMut(CommitProgress) + Send),
    ) -> Result<Committed, LiveError> {
        self.backend.require(Capability::Commit)?;
        let mut state = self.begin_change()?;
        self.write_back(kernel)?;
        let mut committed = self.commit_changes(&mut state, options, progress)?;
        if !options.keep_editing && self.view.is_editable() {
            match self.leave_edit_mode(&mut state, kernel) {
                // What was asked for is done, and it says why it still can be edited.
                Err(LiveError::Busy { paths, .. }) => committed.busy.extend(paths),
                other => other?,
            }
        }
        committed.busy.sort();
        committed.busy.dedup();
        committed.editable = self.view.is_editable();
        Ok(committed)
    }

    fn commit_changes(
        &self,
        state: &mut State,
        options: &CommitOptions,
        progress: &mut (dyn FnMut(CommitProgress) + Send),
    ) -> Result<Committed, LiveError> {
        let repository = self.runtimes.repository();
        let batch = repository.batch().map_err(|source| self.store_failed(source))?;
        let store = CommitStore::new(&*batch, progress);
        let leave_out = |name: Name<'_>| options.macos_files.leaves_out(name.as_bytes());
        let begun = self.view.begin_commit_without(&store, &leave_out);
        let (stored, taken, failed) = store.close();
        state.unstored.extend(&taken);
        if let Some(source) = failed {
            return Err(self.store_failed(source));
        }
        let (changes, commit) = begun.map_err(|source| self.commit_failed(source))?;
        let manifest = spfs_model::diff(&state.stack.as_stack(), &changes.live)
            .map_err(|source| LiveError::Difference { name: self.name.clone(), source })?;
        let manifest = match (manifest, options.kind) {
            (None, CommitKind::Layer) if options.allow_empty => Some(Manifest::empty()),
            (None, CommitKind::Layer) if changes.left_out > 0 => {
                let (name, count) = (self.name.clone(), changes.left_out as u64);
                return Err(LiveError::OnlyLeftOut { name, count });
            }
            (None, CommitKind::Layer) => return Err(self.nothing_to_commit()),
            (manifest, _) => manifest,
        };
        let made = self
            .write_objects(state, batch, manifest, &taken, options)
            .map_err(|source| self.store_failed(source))?;
        let (busy, left_out) = (changes.busy, changes.left_out as u64);
        let Some((layer, manifest)) = made.layer else {
            state.unstored.retain(|digest| !made.stored.contains(digest));
            let digest = made.digest;
            return Ok(Committed { digest, layer: None, stored, editable: false, busy, left_out });
        };
        // Record before journal: after a crash in between, the layer is on the stack and its
        // changes still are in scratch, which shows the same files. The other way round the stack
        // would lack a layer.
        self.update(state, |record| record.push_layer(layer))?;
        // Until now cleaning could have removed them.
        state.unstored.retain(|digest| !made.stored.contains(digest));
        let noted = commit.finish(layer);
        // Where it failed early the view stands on what it stood on before, with its changes on top.
        if self.view.committed().len() > state.stack.committed.len() {
            state.stack.push(layer, manifest);
        }
        noted.map_err(|source| self.view_failed("note the commit of", source))?;
        let digest = made.digest;
        Ok(Committed { digest, layer: Some(layer), stored, editable: false, busy, left_out })
    }

    /// Stores the layer, and the platform if one is wanted, with all that was taken before.
    fn write_objects(
        &self,
        state: &State,
        batch: Box<dyn Batch + '_>,
        manifest: Option<Manifest>,
        taken: &HashSet<Digest>,
        options: &CommitOptions,
    ) -> Result<Made, RepoError> {
        let mut stack = state.record.stored_stack();
        let mut stored = taken.clone();
        let layer = match manifest {
            Some(manifest) => {
                stored.extend(self.store_again(&*batch, &manifest, &state.unstored, taken)?);
                let copy = Some(manifest.clone());
                let written =
                    stage_layer(&*batch, copy, &options.annotations, ANNOTATION_INLINE_MAX)?;
                push_on_top(&mut stack, written.layer);
                Some((written.layer, manifest))
            }
            None => None,
        };
        let digest = match (&layer, options.kind) {
            (Some((layer, _)), CommitKind::Layer) => *layer,
            _ if stack.is_empty() && !options.allow_empty => return Err(RepoError::EmptyPlatform),
            _ => {
                self.sources.bring(&state.record.stored_stack())?;
                batch.object(&Object::Platform(Platform { stack }))?
            }
        };
        batch.finish()?;
        Ok(Made { digest, layer, stored })
    }

    /// Stores what an earlier commit took and failed to store: the view does not offer it again.
    fn store_again(
        &self,
        batch: &dyn Batch,
        manifest: &Manifest,
        unstored: &HashSet<Digest>,
        taken: &HashSet<Digest>,
    ) -> Result<HashSet<Digest>, RepoError> {
        let mut again = HashSet::new();
        if unstored.len() == taken.len() {
            return Ok(again);
        }
        let mut pending: Vec<(Vec<u8>, TreeIndex)> = vec![(Vec::new(), manifest.root())];
        while let Some((folder, tree)) = pending.pop() {
            for entry in manifest.entries(tree) {
                let path = [folder.as_slice(), entry.name.as_bytes()].join(&b'/');
                if let Some(tree) = entry.tree {
                    pending.push((path, tree));
                    continue;
                }
                let lost = entry.kind == EntryKind::Blob
                    && entry.mode & mode::TYPE == mode::REGULAR
                    && unstored.contains(&entry.object)
                    && !taken.contains(&entry.object)
                    && !self.runtimes.repository().payloads().has(&entry.object)?;
                if lost && again.insert(entry.object) {
                    self.store_file_again(batch, &path, &entry.object)?;
                }
            }
        }
        Ok(again)
    }

    fn store_file_again(
        &self,
        batch: &dyn Batch,
        path: &[u8],
        expected: &Digest,
    ) -> Result<(), RepoError> {
        let shown = std::path::PathBuf::from(format!("/spfs/{}", path.escape_ascii()));
        let opened = open(&self.view, path).map_err(|source| RepoError::Io {
            action: "read",
            path: shown.clone(),
            source: io::Error::other(source),
        })?;
        let (found, _) = batch.blob_from_reader(&mut ViewReader { file: opened, at: 0 })?;
        if found == *expected { Ok(()) } else { Err(RepoError::Changing { path: shown }) }
    }

    fn nothing_to_commit(&self) -> LiveError {
        let name = self.name.clone();
        if self.view.is_editable() {
            LiveError::NothingToCommit { name }
        } else {
            LiveError::NotEditable { name }
        }
    }
}

/// What a commit stored.
struct Made {
    digest: Digest,
    layer: Option<(Digest, Manifest)>,
    /// The payloads that are in the repository now.
    stored: HashSet<Digest>,
}

type OpenFile = <View as Vfs>::File;

fn open(view: &Arc<View>, path: &[u8]) -> Result<OpenFile, Error> {
    let mut at = Ino::ROOT;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let name = Name::new(name).map_err(|_| Error::NotFound)?;
        at = view.lookup(at, name)?.ino;
    }
    view.open(at, Access::Read)
}

struct ViewReader {
    file: OpenFile,
    at: u64,
}

impl Read for ViewReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.at, buffer).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}
