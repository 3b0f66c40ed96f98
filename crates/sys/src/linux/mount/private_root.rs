//! A root directory of one's own: everything that the old one holds, and one more directory.
//!
//! A user who may not make `/spfs` may still make a whole root in a namespace: a small tmpfs, in
//! which each entry of the old root appears by a recursive bind mount. Recursive, because the
//! kernel does not let an unprivileged namespace uncover what lies below a mount; and because such
//! copies of shared mounts go on receiving what is mounted outside.
//!
//! What the new root lacks: entries that are made in the old one later, and its owner and mode.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind_recursive};
use rustix::process::pivot_root;

use crate::mount::MountError;

/// Where the running system keeps what it cannot do without.
const STAGES: [&str; 5] = ["/tmp", "/usr", "/var", "/proc", "/dev"];

/// Moves this process into a new root directory that has an empty directory `extra`.
pub(super) fn build(extra: &Path) -> Result<(), MountError> {
    let cwd = std::env::current_dir();
    let stage = stage()?;
    let size = c"mode=0755,size=1m";
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", &stage, "tmpfs", flags, size)
        .map_err(|e| failed("mount a tmpfs on", &stage)(e.into()))?;
    // Until everything has been moved over, the old root stands where the new directory will be:
    // a name that the old root is known not to have.
    let name = extra.strip_prefix("/").unwrap_or(extra);
    let old = stage.join(name);
    make_dir(&old)?;
    pivot_root(&stage, &old).map_err(|e| failed("pivot_root to", &stage)(e.into()))?;
    for entry in fs::read_dir(extra).map_err(failed("list", extra))? {
        bring_over(extra, &entry.map_err(failed("list", extra))?)?;
    }
    super::detach(extra)?;
    // The user owns the tmpfs. Writing into the root directory was not allowed before either.
    super::set_read_only(Path::new("/"), true)?;
    if let Ok(cwd) = cwd {
        // Else it was deleted, or cannot be reached from the root by this user: it stays what it
        // is, in the old tree, which lives as long as somebody stands in it.
        drop(std::env::set_current_dir(cwd));
    }
    Ok(())
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> MountError + 'a {
    move |source| MountError::PrivateRoot { step, path: path.to_owned(), source }
}

/// Any directory will do: it is covered for two system calls.
fn stage() -> Result<PathBuf, MountError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = STAGES.iter().find(|path| rustix::fs::open(**path, flags, Mode::empty()).is_ok());
    found.map(PathBuf::from).ok_or_else(|| {
        failed("find a directory in", Path::new("/"))(io::ErrorKind::NotFound.into())
    })
}

fn bring_over(old: &Path, entry: &DirEntry) -> Result<(), MountError> {
    let source = entry.path();
    let target = Path::new("/").join(entry.file_name());
    // Answered from the directory itself: asking the entry could wait for a dead network mount.
    let kind = entry.file_type().map_err(failed("look at", &source))?;
    if kind.is_symlink() {
        let points_to = fs::read_link(&source).map_err(failed("read the link", &source))?;
        return symlink(points_to, &target).map_err(failed("make the link", &target));
    }
    if kind.is_dir() {
        make_dir(&target)?;
    } else {
        File::create_new(&target).map_err(failed("make the file", &target))?;
    }
    match bind(old, &source, &target) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::INVAL) => {
            // Made unbindable by the administrator: the name is there, the content is not.
            tracing::warn!(path = %target.display(), "cannot be carried into the private root");
            Ok(())
        }
        Err(error) => Err(failed("mount the old", &target)(error.into())),
    }
}

/// Binds by descriptor where the old root has a /proc: a path would trigger automounts.
fn bind(old: &Path, source: &Path, target: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(source, flags, Mode::empty())?;
    let link = old.join("proc/self/fd").join(OsStr::new(&opened.as_raw_fd().to_string()));
    if fs::symlink_metadata(&link).is_ok() {
        mount_bind_recursive(&link, target)
    } else {
        mount_bind_recursive(source, target)
    }
}

fn make_dir(path: &Path) -> Result<(), MountError> {
    crate::publish::mkdir_mode(path, 0o755).map_err(failed("make the directory", path))
}
