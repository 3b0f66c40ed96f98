//! Renders that are kept in a repository: `renders/USER/XX/REST`, and the files that they link to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use spfs_model::Digest;
use spfs_sys::publish::{self, Draft, Durability};
use spfs_sys::{files, ids};

use super::{Made, fill};
use crate::error::Context;
use crate::fs::Repository;
use crate::{RepoError, Result};

/// Mode of the folders, as everywhere in a repository.
const FOLDER_MODE: u32 = 0o777;

/// The renders of one user in a repository.
#[derive(Debug, Clone)]
pub struct RenderStore {
    root: PathBuf,
    share: bool,
}

/// A render that is being built; it goes unless it is published.
#[derive(Debug)]
pub(super) struct Work(PathBuf);

impl Work {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        remove_tree(&self.0);
    }
}

/// Removes a render. Its directories may be closed to their owner.
fn remove_tree(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    let mut pending = vec![path.to_owned()];
    while let Some(folder) = pending.pop() {
        drop(fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        pending.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    // What stays is found by `clean`.
    drop(fs::remove_dir_all(path));
}

/// What cleaning found among renders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanedRenders {
    /// Renders that were looked at.
    pub renders: u64,
    /// Renders that were removed, or would be.
    pub renders_removed: u64,
    /// Files for links that were looked at.
    pub proxies: u64,
    /// Files for links that were removed, or would be.
    pub proxies_removed: u64,
}

impl RenderStore {
    /// The renders of this user. With `share`, payloads of other users are linked to as well.
    pub fn new(repository: &Repository, share: bool) -> Self {
        let user = ids::user_name(ids::euid()).unwrap_or_else(|| ids::euid().to_string().into());
        Self { root: repository.root().join("renders").join(user), share }
    }

    /// Where the render of a manifest is, or would be. One that is there is complete.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        place(&self.root, digest)
    }

    pub(super) fn work(&self) -> Result<Work> {
        let path = self.root.join("work").join(uuid::Uuid::new_v4().to_string());
        publish::mkdir_all_mode(&path, FOLDER_MODE).at("create", &path)?;
        Ok(Work(path))
    }

    pub(super) fn publish(&self, work: Work, digest: &Digest) -> Result<()> {
        let place = self.place(digest);
        // What is there counts as complete, also after the machine went down.
        files::syncfs(&File::open(&work.0).at("open", &work.0)?).at("sync", &work.0)?;
        if let Some(folder) = place.parent() {
            publish::mkdir_all_mode(folder, FOLDER_MODE).at("create", folder)?;
        }
        match fs::rename(&work.0, &place) {
            // Somebody else was faster.
            Err(_) if place.is_dir() => Ok(()),
            renamed => renamed.at("rename to", place),
        }
    }

    /// A file with the content of a payload and this mode, to be linked to; it is made when it is
    /// missing.
    pub(super) fn proxy(
        &self,
        digest: &Digest,
        mode: u32,
        payload: &Path,
    ) -> Result<(PathBuf, Made)> {
        let folder = place(&self.root.join("proxy"), digest);
        let proxy = folder.join(mode.to_string());
        if fs::symlink_metadata(&proxy).is_ok() {
            return Ok((proxy, Made::Linked));
        }
        publish::mkdir_all_mode(&folder, FOLDER_MODE).at("create", &folder)?;
        let found = fs::metadata(payload).at("look at", payload)?;
        let permissions = mode & 0o7777;
        let made = if found.mode() & 0o7777 != permissions {
            Made::CopiedForMode
        } else if found.uid() != ids::euid() && !(self.share && permissions & 0o004 != 0) {
            Made::CopiedForOwner
        } else {
            match fs::hard_link(payload, &proxy) {
                Ok(()) => return Ok((proxy, Made::Linked)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok((proxy, Made::Linked));
                }
                Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                    Made::CopiedForLinkLimit
                }
                // The system may forbid links to files of others (fs.protected_hardlinks).
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Made::CopiedForOwner
                }
                Err(error) => return Err(RepoError::io("link to", proxy, error)),
            }
        };
        let draft = Draft::create_in(&folder).at("write in", &folder)?;
        let mut from = File::open(payload).at("read", payload)?;
        fill(&mut from, draft.file()).at("write", &proxy)?;
        draft.set_mode(permissions).at("write", &proxy)?;
        draft.replace(&proxy, Durability::Later).at("write", &proxy)?;
        Ok((proxy, made))
    }
}

fn place(root: &Path, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    root.join(&text[..2]).join(&text[2..])
}

/// Removes renders of manifests that are gone, and files for links that nothing links to. Those of
/// other users are left to them, except by root.
pub(crate) fn clean(
    repository: &Path,
    is_gone: &dyn Fn(&Digest) -> Result<bool>,
    keep_proxies: bool,
    dry_run: bool,
) -> Result<CleanedRenders> {
    let mut cleaned = CleanedRenders::default();
    let own = ids::user_name(ids::euid()).unwrap_or_else(|| ids::euid().to_string().into());
    for user in entries_behind(&repository.join("renders"))? {
        if ids::euid() == 0 || user.file_name() == Some(own.as_os_str()) {
            clean_user(repository, &user, is_gone, keep_proxies, dry_run, &mut cleaned)?;
        }
    }
    Ok(cleaned)
}

fn clean_user(
    repository: &Path,
    user: &Path,
    is_gone: &dyn Fn(&Digest) -> Result<bool>,
    keep_proxies: bool,
    dry_run: bool,
    cleaned: &mut CleanedRenders,
) -> Result<()> {
    let work = user.join("work");
    for (render, digest) in digests_in(user)? {
        cleaned.renders += 1;
        if !is_gone(&digest)? {
            continue;
        }
        cleaned.renders_removed += 1;
        if !dry_run {
            publish::mkdir_all_mode(&work, FOLDER_MODE).at("create", &work)?;
            let away = work.join(uuid::Uuid::new_v4().to_string());
            // A render that is there is complete: it goes as a whole.
            fs::rename(&render, &away).at("remove", &render)?;
            remove_tree(&away);
        }
    }
    for (folder, digest) in digests_in(&user.join("proxy"))? {
        let payload = place(&repository.join("payloads"), &digest);
        for proxy in entries(&folder)? {
            cleaned.proxies += 1;
            if keep_proxies || !is_unused(&proxy, &payload) {
                continue;
            }
            cleaned.proxies_removed += 1;
            if !dry_run {
                fs::remove_file(&proxy).at("remove", &proxy)?;
            }
        }
        if !dry_run {
            // It stays while something is in it.
            drop(fs::remove_dir(&folder));
        }
    }
    Ok(())
}

/// Whether no render links to it: the payload may be the same file.
fn is_unused(proxy: &Path, payload: &Path) -> bool {
    let Ok(found) = fs::symlink_metadata(proxy) else { return false };
    let links = if super::is_same(proxy, payload) { 2 } else { 1 };
    found.nlink() <= links
}

fn digests_in(root: &Path) -> Result<Vec<(PathBuf, Digest)>> {
    let mut found = Vec::new();
    for folder in entries(root)? {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(start) = name(&folder).filter(|start| start.len() == 2) else { continue };
        for path in entries(&folder)? {
            let rest = name(&path).unwrap_or_default();
            if let Ok(digest) = format!("{start}{rest}").parse() {
                found.push((path, digest));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What is in a folder. Below the folder of all users anybody may put a link to what is not theirs,
/// such as the payloads of another repository: there is nothing in it that is to be removed.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::symlink_metadata(folder) {
        Ok(found) if found.is_symlink() => Ok(Vec::new()),
        _ => entries_behind(folder),
    }
}

fn entries_behind(folder: &Path) -> Result<Vec<PathBuf>> {
    let reader = match fs::read_dir(folder) {
        Ok(reader) => reader,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(RepoError::io("list", folder, error)),
    };
    reader.map(|entry| Ok(entry.at("list", folder)?.path())).collect()
}
