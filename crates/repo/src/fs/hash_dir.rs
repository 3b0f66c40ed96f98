//! A folder of files named by digests, spread over folders named by the first two characters.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use data_encoding::BASE32;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use spfs_model::{Digest, PartialDigest};
use spfs_sys::publish::{self, Draft, Durability};

use super::{FOLDER_MODE, is_absent};
use crate::error::Context;
use crate::repository::Found;
use crate::traits::Digests;
use crate::{RepoError, Result};

/// What is older is renewed before it is relied upon; far less than what cleaning leaves alone.
const RENEW_AFTER_SECS: i64 = 5 * 60;

/// Characters of the names of folders.
const FOLDER_LEN: usize = 2;

/// Folders that there can be: two characters of five bits.
pub(super) const FOLDERS: usize = 1 << 10;

/// The characters of digests in the order of their values, which is not that of ASCII.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A folder of files named by digests.
///
/// All access goes through one descriptor of the folder: short lookups, and the folder stays the
/// same one when another is put in its place.
#[derive(Debug)]
pub(super) struct HashDir {
    path: PathBuf,
    dir: OwnedFd,
    /// Folders that are known to be there.
    made: Box<[AtomicBool]>,
}

/// Characters of a digest's text form.
const TEXT_LEN: usize = 56;

/// `XX/REST` and NUL.
pub(super) struct Place([u8; TEXT_LEN + 2]);

impl Place {
    pub(super) fn of(digest: &Digest) -> Self {
        let mut text = [0; TEXT_LEN];
        BASE32.encode_mut(digest.as_bytes(), &mut text);
        let mut place = [0; TEXT_LEN + 2];
        place[..FOLDER_LEN].copy_from_slice(&text[..FOLDER_LEN]);
        place[FOLDER_LEN] = b'/';
        place[FOLDER_LEN + 1..=TEXT_LEN].copy_from_slice(&text[FOLDER_LEN..]);
        Self(place)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        // a NUL stands at the end and nowhere before
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }

    pub(super) fn as_str(&self) -> &str {
        self.as_c_str().to_str().unwrap_or_default()
    }

    /// `XX`
    pub(super) fn folder(&self) -> &str {
        &self.as_str()[..FOLDER_LEN]
    }

    /// `REST`
    fn file(&self) -> &str {
        &self.as_str()[FOLDER_LEN + 1..]
    }
}

/// An error when a link stands in place of a folder in which something is to be removed.
pub(super) fn refuse_link(folder: &Path) -> Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(found) if found.is_symlink() => {
            Err(RepoError::Link { path: folder.to_owned(), refused: "nothing is removed" })
        }
        _ => Ok(()),
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

impl HashDir {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        let made = std::iter::repeat_with(AtomicBool::default).take(FOLDERS).collect();
        Ok(Self { path: path.to_owned(), dir, made })
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Where the file of a digest stands.
    pub(super) fn file_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(Place::of(digest).as_str())
    }

    pub(super) fn find(&self, digest: &Digest) -> Result<Option<Found>> {
        let place = Place::of(digest);
        let stat = match rustix::fs::statat(&self.dir, place.as_c_str(), AtFlags::empty()) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => {
                return Err(RepoError::io("look at", self.file_path(digest), error.into()));
            }
        };
        if !is_regular(&stat) {
            return Ok(None);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
        let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
        let modified = Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(Found { size, modified }))
    }

    /// Opens the file of a digest for reading. What is no regular file counts as absent, and a pipe
    /// that nobody writes to is not waited for.
    pub(super) fn open_file(&self, digest: &Digest) -> Result<Option<File>> {
        let place = Place::of(digest);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.dir, place.as_c_str(), flags, Mode::empty()) {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file).at("look at", self.file_path(digest))?;
                Ok(is_regular(&stat).then(|| file.into()))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(RepoError::io("open", self.file_path(digest), error.into())),
        }
    }

    /// Makes the file of a digest young again, because somebody is going to rely on it: cleaning,
    /// upstream's and ours, removes what is older than a quarter of an hour and not referred to yet.
    pub(super) fn renew(&self, digest: &Digest, found: &Found) {
        let now = spfs_sys::clock::now().secs;
        if now - found.modified.as_second() < RENEW_AFTER_SECS {
            return;
        }
        let stamp = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps {
            last_access: stamp(rustix::fs::UTIME_OMIT),
            last_modification: stamp(rustix::fs::UTIME_NOW),
        };
        let place = Place::of(digest);
        let flags = AtFlags::empty();
        if let Err(error) = rustix::fs::utimensat(&self.dir, place.as_c_str(), &times, flags) {
            // somebody else's file, or a repository that can only be read
            tracing::debug!(%digest, %error, "cannot renew the time of an object");
        }
    }

    /// Gives a finished work file its name, replacing what has that name now.
    pub(super) fn publish(&self, from: impl AsFd, name: &CStr, digest: &Digest) -> Result<()> {
        let place = Place::of(digest);
        self.make_folder(digest)?;
        let from = from.as_fd();
        let rename = || rustix::fs::renameat(from, name, &self.dir, place.as_c_str());
        match rename() {
            // somebody removed the empty folder
            Err(Errno::NOENT) => {
                self.forget_folder(digest);
                self.make_folder(digest)?;
                rename().at("write", self.file_path(digest))
            }
            result => result.at("write", self.file_path(digest)),
        }
    }

    /// Gives a finished draft its name, durably, replacing what has that name now.
    pub(super) fn publish_now(&self, draft: Draft, digest: &Digest) -> Result<()> {
        let target = self.file_path(digest);
        let is_new = self.make_folder(digest)?;
        draft.replace(&target, Durability::Now).at("write", &target)?;
        if is_new { publish::sync_dir(&self.path).at("sync", &self.path) } else { Ok(()) }
    }

    /// Makes the folder that a digest's file belongs into; says whether it was not there.
    fn make_folder(&self, digest: &Digest) -> Result<bool> {
        let known = &self.made[folder_number(digest)];
        if known.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let path = self.folder_path(digest);
        let is_new = match publish::mkdir_mode(&path, FOLDER_MODE) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(RepoError::io("create", path, error)),
        };
        known.store(true, Ordering::Relaxed);
        Ok(is_new)
    }

    /// Whether the folder that a digest's file belongs into is there.
    pub(super) fn has_folder(&self, digest: &Digest) -> Result<bool> {
        if self.made[folder_number(digest)].load(Ordering::Relaxed) {
            return Ok(true);
        }
        let place = Place::of(digest);
        match rustix::fs::statat(&self.dir, place.folder(), AtFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).at("look at", self.folder_path(digest)),
        }
    }

    fn forget_folder(&self, digest: &Digest) {
        self.made[folder_number(digest)].store(false, Ordering::Relaxed);
    }

    /// The folder that a digest's file belongs into.
    pub(super) fn folder_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(Place::of(digest).folder())
    }

    /// Removes the file of a digest; says whether it was there. A link in place of its folder may
    /// lead to what others need under other names: nothing is removed through it.
    pub(super) fn remove(&self, digest: &Digest) -> Result<bool> {
        let place = Place::of(digest);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(&self.dir, place.folder(), flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return refuse_link(&self.folder_path(digest)).map(|()| false);
            }
            Err(error) => return Err(error).at("open", self.folder_path(digest)),
        };
        match rustix::fs::unlinkat(&folder, place.file(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(RepoError::io("remove", self.file_path(digest), error.into())),
        }
    }

    /// The digests that are there, in order of their bytes; other names are passed over. With a
    /// prefix of two characters or more only one folder is read.
    pub(super) fn iterate(&self, prefix: Option<&PartialDigest>) -> Result<Digests<'_>> {
        let prefix = prefix.cloned();
        let text = prefix.as_ref().map_or("", PartialDigest::as_str);
        let start = text[..text.len().min(FOLDER_LEN)].to_owned();
        let folders: Vec<String> = if start.len() == FOLDER_LEN {
            vec![start]
        } else {
            self.folders()?.into_iter().filter(|name| name.starts_with(&start)).collect()
        };
        Ok(Box::new(folders.into_iter().flat_map(move |folder| {
            let (mut digests, error) = match self.list(&folder) {
                Ok(digests) => (digests, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            if let Some(prefix) = &prefix {
                digests.retain(|digest| prefix.matches(digest));
            }
            digests.into_iter().map(Ok).chain(error)
        })))
    }

    fn folders(&self) -> Result<Vec<String>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.path).at("list", &self.path)? {
            let name = entry.at("list", &self.path)?.file_name();
            let bytes = name.as_encoded_bytes();
            if bytes.len() == FOLDER_LEN && bytes.iter().all(|byte| ALPHABET.contains(byte)) {
                folders.push(String::from_utf8_lossy(bytes).into_owned());
            }
        }
        folders.sort_by_key(|folder| folder.bytes().map(value).collect::<Vec<_>>());
        Ok(folders)
    }

    /// The digests of one folder.
    fn list(&self, folder: &str) -> Result<Vec<Digest>> {
        let path = self.path.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(RepoError::io("list", &path, error)),
        };
        let mut digests: Vec<Digest> = Vec::new();
        for entry in entries {
            let name = entry.at("list", &path)?.file_name();
            let rest = name.to_str().unwrap_or_default();
            digests.extend(format!("{folder}{rest}").parse::<Digest>().ok());
        }
        digests.sort_unstable();
        Ok(digests)
    }
}

/// The number of the folder that a digest belongs into.
pub(super) fn folder_number(digest: &Digest) -> usize {
    let [first, second, ..] = *digest.as_bytes();
    usize::from(u16::from_be_bytes([first, second]) >> 6)
}

fn value(character: u8) -> u8 {
    match character {
        b'2'..=b'7' => character - b'2' + 26,
        _ => character.wrapping_sub(b'A'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_has_a_folder_among_those_that_there_can_be() {
        for bytes in [[0; 32], [0xff; 32], *Digest::EMPTY.as_bytes()] {
            let digest = Digest::from_bytes(bytes);
            let place = Place::of(&digest);
            assert_eq!(place.as_str().replace('/', ""), digest.to_string());
            let number = folder_number(&digest);
            let text = place.as_str().as_bytes();
            assert_eq!(number, usize::from(value(text[0])) * 32 + usize::from(value(text[1])));
        }
    }

    #[test]
    fn values_follow_the_alphabet() {
        let values: Vec<u8> = ALPHABET.iter().copied().map(value).collect();
        assert_eq!(values, (0..32).collect::<Vec<u8>>());
    }
}
