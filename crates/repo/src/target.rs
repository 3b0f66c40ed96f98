//! Plain files in a directory outside of any repository.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use spfs_model::{Name, NameBuf};

use crate::error::Context;
use crate::{RepoError, Result};

/// Mode of a directory while it is being filled.
const FILLING: u32 = 0o700;

/// A directory into which files are written, and nothing outside of it.
///
/// Every name is made relative to an opened directory, and no symbolic link is followed on the
/// way: neither one that was there before nor one that was written.
#[derive(Debug)]
pub struct TargetDir {
    path: PathBuf,
    root: OwnedFd,
}

/// A directory in a [`TargetDir`].
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

/// What was found in place of a new file.
#[derive(Debug)]
pub enum Place {
    /// Nothing; this is the new file.
    New(File),
    /// A regular file, opened for reading.
    Existing(File),
}

impl TargetDir {
    /// Opens a directory, and makes it when it is missing.
    ///
    /// # Errors
    /// [`RepoError::NotEmpty`] when something is in it and that is not allowed.
    pub fn open(path: &Path, allow_existing: bool) -> Result<Self> {
        fs::create_dir_all(path).at("create", path)?;
        if !allow_existing && fs::read_dir(path).at("list", path)?.next().is_some() {
            return Err(RepoError::NotEmpty { path: path.to_owned() });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        Ok(Self { path: path.to_owned(), root })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory in it by the names on the way.
    pub fn folder<'n>(&self, names: impl IntoIterator<Item = Name<'n>>) -> Result<Folder> {
        let fd = self.root.try_clone().at("open", &self.path)?;
        let mut folder = Folder { path: self.path.clone(), fd };
        for name in names {
            folder = folder.folder(name)?;
        }
        Ok(folder)
    }

    /// As [`TargetDir::folder`], by a path with slashes.
    pub fn folder_at(&self, path: &[u8]) -> Result<Folder> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let names: Vec<NameBuf> =
            parts.map(NameBuf::new).collect::<Result<_, _>>().map_err(|error| {
                RepoError::io("open", self.path.join(path_of(path)), io::Error::other(error))
            })?;
        self.folder(names.iter().map(NameBuf::as_name))
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

fn c_name(name: Name<'_>) -> CString {
    // A name holds no NUL.
    CString::new(name.as_bytes()).unwrap_or_default()
}

impl Folder {
    fn at(&self, name: Name<'_>) -> PathBuf {
        self.path.join(path_of(name.as_bytes()))
    }

    fn folder(&self, name: Name<'_>) -> Result<Self> {
        let path = self.at(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(&self.fd, c_name(name), flags, Mode::empty()).at("open", &path)?;
        Ok(Self { path, fd })
    }

    /// Makes a directory, or takes one that is there. [`Folder::set_folder_mode`] gives it its mode
    /// when it is filled.
    pub fn make_folder(&self, name: Name<'_>) -> Result<()> {
        let mode = Mode::from_raw_mode(FILLING as _);
        match rustix::fs::mkdirat(&self.fd, c_name(name), mode) {
            Err(rustix::io::Errno::EXIST) => {
                let there = self.folder(name)?;
                let metadata = rustix::fs::fstat(&there.fd).at("look at", &there.path)?;
                let mode = Mode::from_raw_mode(metadata.st_mode | FILLING as rustix::fs::RawMode);
                rustix::fs::fchmod(&there.fd, mode).at("change the mode of", &there.path)
            }
            made => made.at("create", self.at(name)),
        }
    }

    /// Gives a directory in it its mode.
    pub fn set_folder_mode(&self, name: Name<'_>, mode: u32) -> Result<()> {
        let folder = self.folder(name)?;
        let mode = Mode::from_raw_mode((mode & 0o7777) as _);
        rustix::fs::fchmod(&folder.fd, mode).at("change the mode of", &folder.path)
    }

    /// Makes an empty file that only we can use for now. A symbolic link or special file in its
    /// place is removed, a regular one returned.
    pub fn make_file(&self, name: Name<'_>) -> Result<Place> {
        let (path, name) = (self.at(name), c_name(name));
        loop {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            match rustix::fs::openat(&self.fd, &name, flags, mode) {
                Ok(fd) => return Ok(Place::New(fd.into())),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(RepoError::io("create", path, error.into())),
            }
            let found = rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
            let found = found.at("look at", &path)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let fd = rustix::fs::openat(&self.fd, &name, flags, Mode::empty());
                return Ok(Place::Existing(fd.at("open", &path)?.into()));
            }
            // A directory is not removed by this, and reported.
            rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()).at("replace", &path)?;
        }
    }

    /// Removes a file.
    pub fn remove_file(&self, name: Name<'_>) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, c_name(name), AtFlags::empty()).at("remove", self.at(name))
    }

    /// Gives a file its final mode.
    pub fn set_file_mode(&self, name: Name<'_>, file: &File, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode((mode & 0o7777) as _);
        rustix::fs::fchmod(file.as_fd(), mode).at("change the mode of", self.at(name))
    }

    /// Makes a symbolic link in place of any other one or of a file.
    pub fn make_link(&self, name: Name<'_>, target: &[u8]) -> Result<()> {
        let (path, name) = (self.at(name), c_name(name));
        let target = CString::new(target).at("make the link", &path)?;
        match rustix::fs::symlinkat(&target, &self.fd, &name) {
            Err(rustix::io::Errno::EXIST) => {
                rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()).at("replace", &path)?;
                rustix::fs::symlinkat(&target, &self.fd, &name).at("make the link", &path)
            }
            made => made.at("make the link", &path),
        }
    }

    /// Gives a file a second name here; `false` when the name is taken.
    pub fn link(&self, name: Name<'_>, from: &Path) -> io::Result<bool> {
        match rustix::fs::linkat(rustix::fs::CWD, from, &self.fd, c_name(name), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file `from_name` of another folder a second name here; a symbolic link is not
    /// followed but linked itself.
    ///
    /// # Errors
    /// When the name is taken, or the volume has no such links or no more of them.
    pub fn link_from(&self, name: Name<'_>, from: &Self, from_name: Name<'_>) -> io::Result<()> {
        let (from_name, name) = (c_name(from_name), c_name(name));
        Ok(rustix::fs::linkat(&from.fd, from_name, &self.fd, name, AtFlags::empty())?)
    }

    /// Where a name in it is, for messages.
    pub fn shown(&self, name: Name<'_>) -> PathBuf {
        self.at(name)
    }
}
