//! What a file system is to everybody above the core: names, inodes and bytes in values of our own.
//!
//! Neither protocol numbers (errno, node ids, handles, cache times) nor paths occur here. A front
//! end translates its protocol into these calls and counts its protocol's references; it keeps an
//! inode alive that has no name any more by holding a [`Pin`].

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use spfs_model::{Name, NameBuf};

mod error;
pub use error::{Error, Result};

/// The number of an inode in one view.
///
/// A number names the same file or directory from its creation to the end of the view: renaming,
/// writing and committing do not change it, and it is never given to another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of every view.
    pub const ROOT: Self = Self(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time: seconds since the epoch (negative before it) and nanoseconds (0..1e9).
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds within the second, 0..1_000_000_000.
    pub nanos: u32,
}

/// The type of an inode; it never changes in the inode's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Who owns an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What stat(2) tells of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub ino: Ino,
    /// Its type.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky: 0..=0o7777.
    pub perm: u16,
    /// Number of names; for a directory 2 + its sub-directories; 0 when unlinked but open.
    pub nlink: u32,
    /// Owner.
    pub owner: Owner,
    /// Device number of a device node as in `st_rdev`, else 0.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation (macOS birth time).
    pub crtime: Timestamp,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// This time.
    At(Timestamp),
}

/// Changes of attributes, all in one step; `None` leaves the attribute as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New permission bits (0..=0o7777).
    pub perm: Option<u16>,
    /// New user id.
    pub uid: Option<u32>,
    /// New group id.
    pub gid: Option<u32>,
    /// New size in bytes: truncate(2).
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
    /// New change time; only a kernel that keeps times itself (writeback cache) sends one.
    pub ctime: Option<Timestamp>,
    /// New creation time (macOS).
    pub crtime: Option<Timestamp>,
    /// The caller lacks CAP_FSETID: a change of size or owner clears setuid, and setgid where
    /// group execution is allowed, and drops `security.capability`.
    pub kill_privileges: bool,
}

/// The kind of inode that [`Vfs::create`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKind<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link with this target (any bytes but NUL, at most 4095).
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with this number.
    CharDevice(u64),
    /// A block device with this number.
    BlockDevice(u64),
}

/// A new inode. A set-group-id parent passes its group on, and to directories the bit as well
/// (inode_init_owner in the kernel, which FUSE leaves to the file system).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New<'a> {
    /// What to make.
    pub kind: NewKind<'a>,
    /// Permission bits, the umask already applied.
    pub perm: u16,
    /// The caller.
    pub owner: Owner,
}

/// What [`Vfs::remove`] is to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// unlink(2): anything but a directory.
    File,
    /// rmdir(2): an empty directory.
    Directory,
}

/// What [`Vfs::rename`] does with an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It is replaced, as rename(2) says.
    Allow,
    /// It is an error (RENAME_NOREPLACE).
    Refuse,
    /// Both change places (RENAME_EXCHANGE).
    Exchange,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only to read.
    Read,
    /// To write, or to read and write.
    Write,
}

/// A position in a directory that stays valid while entries come and go: reading goes on after the
/// entry that carried it. [`Cookie::START`] stands before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Before the first entry.
    pub const START: Self = Self(0);
}

/// One entry of a directory; `.` and `..` are the front end's.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// The inode it names.
    pub ino: Ino,
    /// The type of that inode.
    pub file_type: FileType,
    /// Where to go on after this entry.
    pub cookie: Cookie,
}

/// Figures for statfs(2), in units of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Unit of the block counts, in bytes.
    pub block_size: u32,
    /// All blocks of the volume that holds the scratch area.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// How [`File::allocate`] changes a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve space; the file grows to the end of the range.
    Extend,
    /// Reserve space; the size stays.
    KeepSize,
    /// The range reads as zeros and its space is given back; the size stays.
    PunchHole,
    /// The range reads as zeros; the file grows to the end of the range.
    ZeroRange,
    /// The range reads as zeros; the size stays.
    ZeroRangeKeepSize,
}

/// What [`File::seek`] looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next offset that holds data.
    Data,
    /// The next offset inside a hole; the end of the file counts as one.
    Hole,
}

/// How [`Vfs::setxattr`] treats an attribute that exists or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Set,
    /// It must not exist (XATTR_CREATE).
    Create,
    /// It must exist (XATTR_REPLACE).
    Replace,
}

/// A mounted tree of files: the one interface between front ends and the core.
///
/// Every method may be called from any thread and waits at most for local disk and, for payloads
/// that are not here, for the repository. A method that returned has handed its change to the
/// operating system: the end of the process loses nothing; [`File::sync`] and [`Vfs::sync`] make
/// it survive a power loss.
///
/// A name that does not exist in a directory is [`Error::NotFound`]; an `Ino` that no longer exists
/// is [`Error::Stale`]; a directory operation on something else is [`Error::NotDirectory`].
/// Permissions are not checked: that is the kernel's work (`default_permissions`).
pub trait Vfs: Send + Sync + 'static {
    /// An open file; dropping it closes it.
    type File: File;

    /// Returns the figures of the volume that holds the scratch area.
    fn statfs(&self) -> Result<Statfs>;

    /// Returns the attributes of an inode.
    fn getattr(&self, ino: Ino) -> Result<Attr>;

    /// Changes attributes and returns the new ones.
    fn setattr(&self, ino: Ino, set: &SetAttr) -> Result<Attr>;

    /// Returns the value of an extended attribute; [`Error::NoAttribute`] when there is none.
    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>>;

    /// Sets an extended attribute.
    fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()>;

    /// Returns the names of all extended attributes, in a fixed order.
    fn listxattr(&self, ino: Ino) -> Result<Vec<Box<[u8]>>>;

    /// Removes an extended attribute; [`Error::NoAttribute`] when there is none.
    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()>;

    /// Finds a name in a directory.
    fn lookup(&self, dir: Ino, name: Name<'_>) -> Result<Attr>;

    /// Returns the directory that contains this directory; the root's is the root.
    fn parent(&self, dir: Ino) -> Result<Ino>;

    /// Calls `each` for the entries after `after` until it breaks or the directory ends. No entry
    /// that is there all the time is skipped or repeated, whatever happens to the others. `each`
    /// must not call the file system.
    fn readdir(
        &self,
        dir: Ino,
        after: Cookie,
        each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Makes a new inode under a name that must not exist yet.
    fn create(&self, dir: Ino, name: Name<'_>, new: New<'_>) -> Result<Attr>;

    /// Gives an inode that is no directory another name.
    fn link(&self, ino: Ino, dir: Ino, name: Name<'_>) -> Result<Attr>;

    /// Removes a name.
    fn remove(&self, dir: Ino, name: Name<'_>, what: Remove) -> Result<()>;

    /// Moves a name, as renameat2(2).
    fn rename(&self, from: (Ino, Name<'_>), to: (Ino, Name<'_>), replace: Replace) -> Result<()>;

    /// Returns the target of a symbolic link.
    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>>;

    /// Opens a regular file. Truncation on open is a `setattr` of the size.
    fn open(self: &Arc<Self>, ino: Ino, access: Access) -> Result<Self::File>;

    /// Makes everything this file system holds durable.
    fn sync(&self) -> Result<()>;

    /// Makes names and attributes durable, as fsync(2) of a directory asks: a new file is there after a
    /// power loss then, its bytes only if they were synced as well.
    fn sync_names(&self) -> Result<()>;

    /// Counts one more reason to keep the inode when its last name goes. Use [`Pin::new`].
    fn pin(&self, ino: Ino);

    /// Takes one such reason back; an inode without names, pins and open files is gone.
    fn unpin(&self, ino: Ino);
}

/// An open regular file. It follows the inode: content written through any other handle, before or
/// after a copy-up or a commit, is what it reads.
pub trait File: Send + Sync + 'static {
    /// Reads at `offset` into `buf` and returns the number of bytes; less than `buf.len()` only at
    /// the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Reads as [`File::read_at`] does, but only what is at hand; `None` when it might have to wait
    /// for a disk or another machine.
    fn read_now(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>> {
        let _ = (offset, buf);
        Ok(None)
    }

    /// Writes all of `data` at `offset`. `kill_privileges`: see [`SetAttr::kill_privileges`].
    fn write_at(&self, offset: u64, data: &[u8], kill_privileges: bool) -> Result<()>;

    /// Writes all of `data` at `offset` and leaves the times alone: pages that a kernel collected
    /// while it kept the times itself, which it tells by a `setattr` of their own.
    fn write_back(&self, offset: u64, data: &[u8]) -> Result<()>;

    /// Reserves, punches or zeroes `len` bytes at `offset`. `kill_privileges`: see
    /// [`SetAttr::kill_privileges`].
    fn allocate(&self, offset: u64, len: u64, how: Allocate, kill_privileges: bool) -> Result<()>;

    /// Returns the next offset at or after `offset` with data or a hole;
    /// [`Error::NoSuchAddress`] beyond the end, or when no data follows.
    fn seek(&self, offset: u64, what: Seek) -> Result<u64>;

    /// Makes content, attributes and names of this file durable.
    fn sync(&self) -> Result<()>;
}

/// Keeps an inode that has lost its last name: the front end holds one for each node that its
/// protocol's peer knows.
pub struct Pin<V: Vfs> {
    vfs: Arc<V>,
    ino: Ino,
}

impl<V: Vfs> Pin<V> {
    /// Pins `ino` until the value is dropped.
    pub fn new(vfs: &Arc<V>, ino: Ino) -> Self {
        vfs.pin(ino);
        Self::of_pinned(vfs, ino)
    }

    /// Takes over a reason that has been counted.
    pub(crate) fn of_pinned(vfs: &Arc<V>, ino: Ino) -> Self {
        Self { vfs: Arc::clone(vfs), ino }
    }
}

impl<V: Vfs> fmt::Debug for Pin<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({})", self.ino)
    }
}

impl<V: Vfs> Drop for Pin<V> {
    fn drop(&mut self) {
        self.vfs.unpin(self.ino);
    }
}
