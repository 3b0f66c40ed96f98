//! Folders that belong to one user alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::ids;

/// Why a folder is not private; found inside the [`io::Error`] that [`private_dir`] returns.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// A symbolic link or a file stands where the folder should be.
    #[error("{} is not a directory (symbolic links are not followed here)", path.display())]
    NotDirectory {
        /// Where.
        path: PathBuf,
    },
    /// The folder belongs to somebody else, who could change what is in it.
    #[error("{} belongs to user {owner}, not to user {user}", path.display())]
    ForeignOwner {
        /// Where.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who should.
        user: u32,
    },
}

/// Makes sure that `path` is a directory of the calling user which nobody else can enter (0700).
/// It is made when missing (its parent must exist), tightened when too open, and refused when it is
/// a symbolic link or belongs to another user.
///
/// # Errors
/// A [`NotPrivate`] inside the error says what is wrong with an existing path.
pub fn private_dir(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                NotPrivate::NotDirectory { path: path.to_owned() },
            ));
        }
        // A directory of our own without the read bit cannot be opened; one of somebody else's
        // says so here as well. Which of the two it is tells lstat.
        Err(Errno::ACCESS) => return refuse_or_open_up(path),
        Err(error) => return Err(error.into()),
    };
    let dir = File::from(dir);
    let metadata = dir.metadata()?;
    check_owner(path, metadata.uid())?;
    if metadata.mode() & 0o7777 != 0o700 {
        rustix::fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(())
}

fn refuse_or_open_up(path: &Path) -> io::Result<()> {
    let stat = rustix::fs::lstat(path)?;
    check_owner(path, stat.st_uid)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            NotPrivate::NotDirectory { path: path.to_owned() },
        ));
    }
    rustix::fs::chmod(path, Mode::RWXU)?;
    Ok(())
}

fn check_owner(path: &Path, owner: u32) -> io::Result<()> {
    let user = ids::euid();
    if owner == user {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        NotPrivate::ForeignOwner { path: path.to_owned(), owner, user },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn reason(error: &io::Error) -> &NotPrivate {
        error.get_ref().and_then(|e| e.downcast_ref()).expect("a NotPrivate inside")
    }

    #[test]
    fn a_missing_folder_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn an_open_folder_is_tightened_and_its_content_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("scratch"), "bytes").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_to_string(path.join("scratch")).unwrap(), "bytes");
    }

    #[test]
    fn a_symlink_is_refused_even_to_an_own_folder() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        private_dir(&real).unwrap();
        let link = dir.path().join("link");
        symlink(&real, &link).unwrap();
        let error = private_dir(&link).unwrap_err();
        assert!(matches!(reason(&error), NotPrivate::NotDirectory { path } if *path == link));
    }

    #[test]
    fn a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let error = private_dir(&path).unwrap_err();
        assert!(matches!(reason(&error), NotPrivate::NotDirectory { .. }));
    }

    #[test]
    fn a_folder_of_another_user_is_refused_and_left_alone() {
        // Root may give files away; anybody else finds a foreign folder in the root directory.
        let dir = tempfile::tempdir().unwrap();
        let (path, owner) = if ids::euid() == 0 {
            let path = dir.path().join("foreign");
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&path, Some(4321), Some(4321)).unwrap();
            (path, 4321)
        } else {
            (PathBuf::from("/usr"), fs::metadata("/usr").unwrap().uid())
        };
        let before = fs::metadata(&path).unwrap().mode();
        let error = private_dir(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(matches!(reason(&error), NotPrivate::ForeignOwner { owner: o, .. } if *o == owner));
        assert_eq!(fs::metadata(&path).unwrap().mode(), before);
    }
}
