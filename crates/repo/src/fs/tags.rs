//! Tag streams in files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::OFlags;
use spfs_model::{Digest, Tag, TagError, TagName, TagStream};
use spfs_sys::publish;

use super::tag_lock::TagLock;
use super::{FILE_MODE, FOLDER_MODE, is_absent};
use crate::error::Context;
use crate::traits::{TagListing, TagNamespace, Tags};
use crate::{RepoError, Result};

/// What the file names of tags end in.
const SUFFIX: &str = ".tag";

/// What the folder names of tag namespaces end in; no tag can.
const NAMESPACE_SUFFIX: &str = "#ns";

/// The longest tag file that is read: millions of versions.
const BYTES_MAX: u64 = 1 << 29;

/// How often a change begins anew when the folder or the lock was taken away meanwhile.
const ATTEMPTS: usize = 100;

/// Tags of one namespace, or outside all of them.
#[derive(Debug)]
pub(super) struct FsTags {
    root: PathBuf,
    namespace: Option<TagNamespace>,
}

impl FsTags {
    /// The tags below the folder `tags` of a repository.
    pub(super) fn new(tags: PathBuf, namespace: Option<TagNamespace>) -> Self {
        let root = match &namespace {
            Some(namespace) => tags.join(format!("{namespace}{NAMESPACE_SUFFIX}")),
            None => tags,
        };
        Self { root, namespace }
    }

    fn path(&self, tag: &TagName) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(tag.components());
        with_suffix(&path, SUFFIX)
    }

    /// Refuses to write through a link below the folder of all tags: it may lead anywhere, and what
    /// is behind it is not listed either.
    fn refuse_links(&self, folder: &Path) -> Result<()> {
        let is_link = |path: &&Path| path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        let below = folder.ancestors().take_while(|path| *path != self.root);
        match below.into_iter().find(is_link) {
            Some(path) => {
                Err(RepoError::Link { path: path.to_owned(), refused: "tags are not written" })
            }
            None => Ok(()),
        }
    }

    /// Does something under the lock of a tag, again when the lock was lost meanwhile (`None`).
    fn locked<T>(
        &self,
        tag: &TagName,
        mut work: impl FnMut(&Path, &TagLock) -> Result<Option<T>>,
    ) -> Result<T> {
        let path = self.path(tag);
        let folder = path.parent().unwrap_or(&self.root);
        self.refuse_links(folder)?;
        let lock_path = with_suffix(&path, ".lock");
        for _ in 0..ATTEMPTS {
            publish::mkdir_all_mode(folder, FOLDER_MODE).at("create", folder)?;
            let lock = match TagLock::acquire(&lock_path, tag) {
                // somebody removed the empty folder
                Err(RepoError::Io { source, .. }) if is_absent(&source) => continue,
                result => result?,
            };
            if let Some(result) = work(&path, &lock)? {
                return Ok(result);
            }
        }
        Err(RepoError::TagLocked { tag: tag.to_string(), lock: lock_path, held: Duration::ZERO })
    }

    /// Changes a stream under its lock. The stream is written when `change` says so, and its file
    /// removed when no record is left.
    fn change<T>(
        &self,
        tag: &TagName,
        mut change: impl FnMut(&mut TagStream) -> Result<(T, bool)>,
    ) -> Result<T> {
        self.locked(tag, |path, lock| {
            let mut stream = read(path)?;
            let is_new = stream.is_empty();
            let (result, changed) = change(&mut stream)?;
            let done = match (changed, stream.is_empty()) {
                (false, _) => true,
                (true, true) => remove(path, lock)?,
                (true, false) => {
                    let refuse = |source| RepoError::EncodeTag { tag: tag.to_string(), source };
                    let written = write(path, &stream.encode().map_err(refuse)?, lock)?;
                    if written && is_new {
                        self.sync_folders(path)?;
                    }
                    written
                }
            };
            Ok(done.then_some(result))
        })
    }

    /// Brings the names of the folders above a new tag to disk, which may be new as well.
    fn sync_folders(&self, path: &Path) -> Result<()> {
        let above = path.ancestors().skip(2).take_while(|folder| folder.starts_with(&self.root));
        for folder in above.chain(self.root.parent()) {
            publish::sync_dir(folder).at("sync", folder)?;
        }
        Ok(())
    }

    /// Removes the folders above a tag that have nothing left in them.
    fn prune(&self, path: &Path) {
        let above = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
        for folder in above {
            // the first one that still holds something ends it
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    fn folder_path(&self, folder: &str) -> Result<PathBuf> {
        let mut path = self.root.clone();
        for part in folder.split('/').filter(|part| !matches!(*part, "" | ".")) {
            // what could be the folder of a tag is the name of a tag as well
            if part.parse::<TagName>().is_err() {
                return Err(RepoError::BadTagFolder { folder: folder.to_owned() });
            }
            path.push(part);
        }
        Ok(path)
    }
}

impl Tags for FsTags {
    fn namespace(&self) -> Option<&TagNamespace> {
        self.namespace.as_ref()
    }

    fn stream(&self, tag: &TagName) -> Result<TagStream> {
        read(&self.path(tag))
    }

    fn insert(&self, tag: Tag) -> Result<bool> {
        let name = name_of(&tag)?;
        self.change(&name, |stream| {
            let is_new = stream.insert(tag.clone());
            Ok((is_new, is_new))
        })
    }

    fn push(
        &self,
        name: &TagName,
        target: Digest,
        user: &str,
        time: Timestamp,
    ) -> Result<(Tag, bool)> {
        self.change(name, |stream| {
            let before = stream.tags().len();
            let pushed = push(stream, name, target, user, time)?;
            let is_new = stream.tags().len() > before;
            Ok(((pushed, is_new), is_new))
        })
    }

    fn remove_version(&self, tag: &TagName, record: &Tag) -> Result<bool> {
        if read(&self.path(tag))?.is_empty() {
            return Ok(false);
        }
        self.change(tag, |stream| {
            let removed = stream.remove(record);
            Ok((removed, removed))
        })
    }

    fn remove_stream(&self, tag: &TagName) -> Result<bool> {
        let path = self.path(tag);
        if !path.exists() {
            return Ok(false);
        }
        // what cannot be read can be removed all the same
        self.locked(tag, |path, lock| Ok(remove(path, lock)?.then_some(())))?;
        self.prune(&path);
        Ok(true)
    }

    fn list(&self, folder: &str) -> Result<Vec<TagListing>> {
        let mut listing = list(&self.folder_path(folder)?)?;
        listing.sort();
        Ok(listing)
    }

    fn names(&self) -> Result<Vec<TagName>> {
        let mut names: Vec<TagName> = Vec::new();
        let mut pending = vec![String::new()];
        while let Some(folder) = pending.pop() {
            for entry in list(&self.root.join(&folder))? {
                let path = match folder.as_str() {
                    "" => entry.name().to_owned(),
                    _ => format!("{folder}/{}", entry.name()),
                };
                match entry {
                    TagListing::Folder(_) => pending.push(path),
                    TagListing::Tag(_) => names.extend(path.parse().ok()),
                }
            }
        }
        names.sort_by_cached_key(ToString::to_string);
        Ok(names)
    }
}

/// The namespaces below the folder `tags`.
pub(super) fn namespaces(tags: &Path) -> Result<Vec<TagNamespace>> {
    let mut namespaces: Vec<TagNamespace> = Vec::new();
    for (name, is_folder) in entries(tags)? {
        if is_folder && let Some(namespace) = name.strip_suffix(NAMESPACE_SUFFIX) {
            namespaces.extend(namespace.parse().ok());
        }
    }
    namespaces.sort();
    Ok(namespaces)
}

/// Tags and folders; other names are passed over, those of namespaces too.
fn list(folder: &Path) -> Result<Vec<TagListing>> {
    let is_name = |name: &str| name.parse::<TagName>().is_ok_and(|tag| tag.org().is_none());
    let listing = entries(folder)?.into_iter().filter_map(|(name, is_folder)| {
        if is_folder {
            return is_name(&name).then_some(TagListing::Folder(name));
        }
        let name = name.strip_suffix(SUFFIX).filter(|name| is_name(name))?;
        Some(TagListing::Tag(name.to_owned()))
    });
    Ok(listing.collect())
}

/// Names that are UTF-8, and whether they are folders.
fn entries(folder: &Path) -> Result<Vec<(String, bool)>> {
    let reader = match fs::read_dir(folder) {
        Ok(reader) => reader,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(RepoError::io("list", folder, error)),
    };
    let mut entries = Vec::new();
    for entry in reader {
        let entry = entry.at("list", folder)?;
        let kind = entry.file_type().at("list", folder)?;
        if let Ok(name) = entry.file_name().into_string()
            && (kind.is_dir() || kind.is_file())
        {
            entries.push((name, kind.is_dir()));
        }
    }
    Ok(entries)
}

fn read(path: &Path) -> Result<TagStream> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if is_absent(&error) => return Ok(TagStream::default()),
        Err(error) => return Err(RepoError::io("read", path, error)),
    };
    let damaged = |source| RepoError::DamagedTag { path: path.to_owned(), source };
    if bytes.is_empty() {
        // What a crash leaves of a file that was not synced; a tag without versions has no file.
        return Err(damaged(TagError::Empty));
    }
    TagStream::decode(&bytes).map_err(damaged)
}

/// The bytes of a regular file that is not too long; a pipe is not waited for.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    if !metadata.is_file() {
        return refuse("it is no regular file");
    }
    if metadata.len() > BYTES_MAX {
        return refuse("it is longer than the versions of any tag");
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces the file of a stream; `false` when the lock was lost, and nothing happened.
fn write(path: &Path, bytes: &[u8], lock: &TagLock) -> Result<bool> {
    let work = with_suffix(path, ".work");
    let mut file = File::create_new(&work);
    if file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        // What a crash left, or a link that somebody put there: neither is written to.
        fs::remove_file(&work).at("remove", &work)?;
        file = File::create_new(&work);
    }
    let mut file = file.at("write", &work)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(FILE_MODE)))
        .and_then(|()| spfs_sys::files::sync_all(&file));
    if let Err(error) = written {
        drop(fs::remove_file(&work));
        return Err(RepoError::io("write", path, error));
    }
    if !lock.is_held()? {
        return Ok(false);
    }
    fs::rename(&work, path).at("write", path)?;
    publish::sync_parent(path).at("write", path)?;
    Ok(true)
}

/// Removes the file of a stream; `false` when the lock was lost, and nothing happened.
fn remove(path: &Path, lock: &TagLock) -> Result<bool> {
    if !lock.is_held()? {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(RepoError::io("remove", path, error)),
        _ => Ok(true),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

/// Points a tag at something.
///
/// Records are kept in order of time, and the clocks of those who share a repository differ: a new
/// record is never older than the head, or it would have no effect.
pub(crate) fn push(
    stream: &mut TagStream,
    name: &TagName,
    target: Digest,
    user: &str,
    time: Timestamp,
) -> Result<Tag> {
    let after_head = stream.tags().last().map(|head| head.time + Duration::from_micros(1));
    let time = after_head.map_or(time, |after| after.max(time));
    let tag = Tag::new(name, target, user.to_owned(), time);
    let refuse = |source| RepoError::EncodeTag { tag: name.to_string(), source };
    Ok(stream.push(tag).map_err(refuse)?.clone())
}

/// The name under which a record is kept.
pub(crate) fn name_of(tag: &Tag) -> Result<TagName> {
    let text = match &tag.org {
        Some(org) => format!("{org}/{}", tag.name),
        None => tag.name.clone(),
    };
    text.parse().map_err(|source| RepoError::BadReference {
        reference: text,
        source: spfs_model::ParseEnvError::Item { source },
    })
}
