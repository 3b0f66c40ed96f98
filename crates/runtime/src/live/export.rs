//! Saving what a runtime holds as plain files, in whatever state the runtime is.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use spfs_model::{Change, ChangeKind, Name, NameBuf};
use spfs_repo::{Folder, Place, RepoError, TargetDir};
use spfs_vfs::api::{Access, Attr, Cookie, Error, File, FileType, Ino, Owner, Vfs};
use spfs_vfs::{OpenError, View, ViewOptions};

use super::layers::NoContent;
use super::sources::Sources;
use super::stack::LiveStack;
use super::{Kernel, LiveError, LiveRuntime};
use crate::control::{ExportOptions, Exported};
use crate::error::RuntimeError;
use crate::name::RuntimeName;
use crate::record::RuntimeRecord;
use crate::runtimes::Runtimes;

/// What is read at a time; a part that is all zeros becomes a hole.
const PART_BYTES: usize = 256 << 10;

impl LiveRuntime {
    /// Saves what the runtime holds now. Everything that was written before the call is in it.
    pub fn export(
        &self,
        options: &ExportOptions,
        kernel: &dyn Kernel,
    ) -> Result<Exported, LiveError> {
        let state = self.begin_change()?;
        self.write_back(kernel)?;
        let target = open_target(&self.name, options)?;
        let changes = match options.changes_only {
            true => Some(self.changes(&state, &NoContent)?),
            false => None,
        };
        Export::new(&self.view, &target)
            .run(changes.as_deref())
            .map_err(|source| failed(&self.name, source))
    }
}

/// Saves what a runtime that nothing serves holds, or what can still be read of it. Nothing of the
/// runtime is changed.
pub(crate) fn export_stopped(
    runtimes: &Runtimes,
    name: &RuntimeName,
    options: &ExportOptions,
) -> Result<Exported, LiveError> {
    let folder = runtimes.folder(name);
    let record = match runtimes.read(name) {
        // The changes are worth saving without their record, too.
        Err(RuntimeError::Unknown { .. } | RuntimeError::Record(_)) if folder.has_changes() => None,
        other => Some(other?),
    };
    let _lock = match folder.exists() {
        true => {
            Some(folder.lock_soon()?.ok_or_else(|| RuntimeError::InUse { name: name.clone() })?)
        }
        false => None,
    };
    let scratch = |source| LiveError::Scratch { name: name.clone(), source };
    let layers = |source| LiveError::Layers { name: name.clone(), source };
    let sources = Arc::new(Sources::new(runtimes, record.as_ref()));
    let owner = Owner { uid: spfs_sys::ids::euid(), gid: spfs_sys::ids::egid() };
    let view_options = ViewOptions::new(owner);
    let (stack, view, damage) = if folder.has_changes() {
        let damage = match View::recorded_stack(folder.path()) {
            Err(error @ OpenError::Damaged { .. }) => Some(error.to_string()),
            _ => None,
        };
        let found = View::salvageable_stack(folder.path()).map_err(scratch)?;
        let stack = LiveStack::of(&sources, found.base, &found.committed).map_err(layers)?;
        let payloads = Arc::clone(&sources);
        let view = View::salvage(folder.path(), Arc::clone(&stack.base), payloads, view_options);
        (stack, view.map_err(scratch)?, damage)
    } else {
        let layers_of = record.as_ref().map(RuntimeRecord::stack).unwrap_or_default();
        let stack = LiveStack::of(&sources, layers_of, &[]).map_err(layers)?;
        let payloads = Arc::clone(&sources);
        let view = View::read_only(Arc::clone(&stack.base), payloads, view_options);
        (stack, view, None)
    };
    let changes = match options.changes_only {
        true => Some(changes_of(name, &stack, &view)?),
        false => None,
    };
    let target = open_target(name, options)?;
    let exported = Export::new(&view, &target).run(changes.as_deref());
    Ok(Exported { damage, ..exported.map_err(|source| failed(name, source))? })
}

fn changes_of(
    name: &RuntimeName,
    stack: &LiveStack,
    view: &View,
) -> Result<Vec<Change>, LiveError> {
    let live = view
        .changes(&NoContent)
        .map_err(|source| LiveError::Commit { name: name.clone(), source })?;
    spfs_model::changes(&stack.as_stack(), &live)
        .map_err(|source| LiveError::Difference { name: name.clone(), source })
}

fn open_target(name: &RuntimeName, options: &ExportOptions) -> Result<TargetDir, LiveError> {
    TargetDir::open(&options.directory, false).map_err(|source| failed(name, source))
}

fn failed(name: &RuntimeName, source: RepoError) -> LiveError {
    LiveError::Export { name: name.clone(), source }
}

struct Export<'a> {
    view: &'a Arc<View>,
    target: &'a TargetDir,
    done: Exported,
    /// Directories, to be given their modes when they are filled.
    folders: Vec<(Vec<u8>, NameBuf, u16)>,
    /// Where files that have more names were saved first: folder and name.
    linked: HashMap<Ino, (Vec<u8>, NameBuf)>,
}

impl<'a> Export<'a> {
    fn new(view: &'a Arc<View>, target: &'a TargetDir) -> Self {
        Self {
            view,
            target,
            done: Exported::default(),
            folders: Vec::new(),
            linked: HashMap::new(),
        }
    }

    fn run(mut self, changes: Option<&[Change]>) -> Result<Exported, RepoError> {
        match changes {
            Some(changes) => self.changed(changes)?,
            None => self.everything()?,
        }
        for (parent, name, perm) in self.folders.iter().rev() {
            let folder = self.target.folder_at(parent)?;
            folder.set_folder_mode(name.as_name(), u32::from(*perm))?;
        }
        Ok(self.done)
    }

    fn everything(&mut self) -> Result<(), RepoError> {
        let mut pending = vec![(Ino::ROOT, Vec::new())];
        while let Some((dir, path)) = pending.pop() {
            let mut entries: Vec<(NameBuf, Ino)> = Vec::new();
            let listed = self.view.readdir(dir, Cookie::START, &mut |entry| {
                entries.push((entry.name.into(), entry.ino));
                ControlFlow::Continue(())
            });
            if let Err(error) = listed {
                self.skip(&path, &error);
                continue;
            }
            let folder = self.target.folder_at(&path)?;
            for (name, ino) in entries {
                if self.entry(&folder, &path, name.as_name(), ino)? {
                    pending.push((ino, join(&path, name.as_name())));
                }
            }
        }
        Ok(())
    }

    fn changed(&mut self, changes: &[Change]) -> Result<(), RepoError> {
        for change in changes {
            if let ChangeKind::Removed(_) = change.kind {
                self.done.removed.push(change.path.clone());
                continue;
            }
            let (parent, name) = split(&change.path);
            let Ok(name) = Name::new(name) else { continue };
            match find(self.view, &change.path) {
                Ok(ino) => {
                    let folder = self.target.folder_at(parent)?;
                    self.entry(&folder, parent, name, ino)?;
                }
                Err(error) => self.skip(&change.path, &error),
            }
        }
        Ok(())
    }

    /// Saves one entry; says whether it is a directory, whose entries have to follow.
    fn entry(
        &mut self,
        folder: &Folder,
        parent: &[u8],
        name: Name<'_>,
        ino: Ino,
    ) -> Result<bool, RepoError> {
        let attr = match self.view.getattr(ino) {
            Ok(attr) => attr,
            Err(error) => {
                self.skip(&join(parent, name), &error);
                return Ok(false);
            }
        };
        match attr.file_type {
            FileType::Directory => {
                folder.make_folder(name)?;
                self.folders.push((parent.to_vec(), name.into(), attr.perm));
                self.done.directories += 1;
                return Ok(true);
            }
            FileType::Regular => self.file(folder, parent, name, &attr)?,
            FileType::Symlink => match self.view.readlink(ino) {
                Ok(target) => {
                    folder.make_link(name, &target)?;
                    self.done.links += 1;
                }
                Err(error) => self.skip(&join(parent, name), &error),
            },
            FileType::Fifo | FileType::Socket | FileType::CharDevice | FileType::BlockDevice => {
                self.skip(&join(parent, name), &"it is no file, directory or link");
            }
        }
        Ok(false)
    }

    fn file(
        &mut self,
        folder: &Folder,
        parent: &[u8],
        name: Name<'_>,
        attr: &Attr,
    ) -> Result<(), RepoError> {
        if attr.nlink > 1 && self.link(folder, name, attr.ino)? {
            self.done.files += 1;
            return Ok(());
        }
        let Place::New(to) = folder.make_file(name)? else {
            return Err(RepoError::Changing { path: folder.shown(name) });
        };
        let from = self.view.open(attr.ino, Access::Read);
        let copied = match from {
            Ok(from) => copy(&from, &to),
            Err(error) => Err(CopyError::Read(error)),
        };
        match copied {
            Ok(bytes) => {
                self.done.files += 1;
                self.done.bytes += bytes;
            }
            // Half a file is worse than none: it looks whole.
            Err(CopyError::Read(error)) => {
                folder.remove_file(name)?;
                self.skip(&join(parent, name), &error);
                return Ok(());
            }
            Err(CopyError::Write(source)) => {
                return Err(RepoError::Io { action: "write", path: folder.shown(name), source });
            }
        }
        if attr.nlink > 1 {
            self.linked.entry(attr.ino).or_insert_with(|| (parent.to_vec(), name.into()));
        }
        // A time that the volume cannot hold is no reason to fail.
        drop(to.set_modified(time(attr)));
        folder.set_file_mode(name, &to, u32::from(attr.perm))
    }

    /// Gives a file that was saved under another name this one, too; `false` when it was not, or
    /// when the volume does not link it: it is copied again then.
    fn link(&self, folder: &Folder, name: Name<'_>, ino: Ino) -> Result<bool, RepoError> {
        let Some((parent, first)) = self.linked.get(&ino) else { return Ok(false) };
        let from = self.target.folder_at(parent)?;
        match folder.link_from(name, &from, first.as_name()) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::debug!("{} is a copy: {error}", folder.shown(name).display());
                Ok(false)
            }
        }
    }

    fn skip(&mut self, path: &[u8], reason: &dyn std::fmt::Display) {
        self.done.skipped.push((path.to_vec(), reason.to_string()));
    }
}

enum CopyError {
    Read(Error),
    Write(std::io::Error),
}

fn copy(from: &impl File, to: &std::fs::File) -> Result<u64, CopyError> {
    use std::os::unix::fs::FileExt;
    let mut part = vec![0; PART_BYTES];
    let mut at = 0;
    loop {
        let len = from.read_at(at, &mut part).map_err(CopyError::Read)?;
        if len == 0 {
            to.set_len(at).map_err(CopyError::Write)?;
            return Ok(at);
        }
        if part[..len].iter().any(|byte| *byte != 0) {
            to.write_all_at(&part[..len], at).map_err(CopyError::Write)?;
        }
        at += len as u64;
    }
}

fn time(attr: &Attr) -> SystemTime {
    let seconds = Duration::from_secs(attr.mtime.secs.unsigned_abs());
    let nanos = Duration::from_nanos(u64::from(attr.mtime.nanos));
    let whole = match attr.mtime.secs < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        false => SystemTime::UNIX_EPOCH.checked_add(seconds),
    };
    whole.and_then(|time| time.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn join(parent: &[u8], name: Name<'_>) -> Vec<u8> {
    match parent.is_empty() {
        true => name.as_bytes().to_vec(),
        false => [parent, name.as_bytes()].join(&b'/'),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn find(view: &View, path: &[u8]) -> Result<Ino, Error> {
    let mut at = Ino::ROOT;
    for name in path.split(|byte| *byte == b'/') {
        let name = Name::new(name).map_err(|_| Error::NotFound)?;
        at = view.lookup(at, name)?.ino;
    }
    Ok(at)
}
