//! Operations on a file system, made at random so that they meet.
//!
//! An operation names its subjects by choice, not by number: a choice is looked up among what exists
//! when the operation runs ([`resolve`](resolve::resolve)). So a sequence keeps its meaning when operations are taken
//! out of it, which is what shrinking does. Names come from a tiny alphabet, offsets from the edges
//! of pages, so that names collide and ranges overlap.
//!
//! The `Debug` form of an operation is Rust: a failure prints a test.

use proptest::strategy::{Strategy, ValueTree};
use spfs_vfs::api::{Allocate, Owner, Replace, Seek, Timestamp};

mod random;
pub(crate) mod resolve;

/// Everything that the printed form of operations uses.
pub mod code {
    pub use super::Control::*;
    pub use super::Kind::*;
    pub use super::Op::*;
    pub use spfs_vfs::api::Allocate::*;
    pub use spfs_vfs::api::Replace::*;
    pub use spfs_vfs::api::Seek::*;
}

pub use random::Rng;
pub use resolve::{Bytes, Call, Known, XattrName};

/// Chooses an inode; see [`resolve`](resolve::resolve).
pub type Pick = u16;

/// Chooses a name: below 128 one of [`Profile::names`], else one that the directory has.
pub type NamePick = u8;

/// Chooses an offset: below 2^31 itself, else counted from 128 bytes before the end of the file.
pub type Offset = u32;

/// What [`Op::Make`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    NewFile,
    /// A directory.
    NewDir,
    /// A symbolic link whose target has this many bytes.
    NewSymlink(u16),
    /// A named pipe.
    NewPipe,
    /// A socket.
    NewSocket,
    /// A character device with this number.
    NewChar(u64),
    /// A block device with this number.
    NewBlock(u64),
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are choices, numbers and names as the variant says")]
pub enum Op {
    /// Looks a name up and pins what it finds.
    Lookup { dir: Pick, name: NamePick },
    /// Drops all pins of an inode.
    Forget { node: Pick },
    /// Makes an inode and pins it.
    Make { dir: Pick, name: NamePick, kind: Kind, perm: u16, owner: u8 },
    /// link(2)
    Link { node: Pick, dir: Pick, name: NamePick },
    /// unlink(2)
    Unlink { dir: Pick, name: NamePick },
    /// rmdir(2)
    Rmdir { dir: Pick, name: NamePick },
    /// renameat2(2)
    Rename { from: (Pick, NamePick), to: (Pick, NamePick), replace: Replace },
    /// chmod(2)
    Chmod { node: Pick, perm: u16 },
    /// chown(2)
    Chown { node: Pick, uid: Option<u8>, gid: Option<u8>, kill: bool },
    /// truncate(2)
    Truncate { node: Pick, size: Offset, kill: bool },
    /// utimensat(2); 0 is now, others choose from [`Op::TIMES`].
    Utimens { node: Pick, atime: Option<u8>, mtime: Option<u8> },
    /// Sets the time of creation.
    SetBirth { node: Pick, time: u8 },
    /// setxattr(2); names from 128 on stand for an attribute that is there, and the mode is 0 set, 1 create, 2 replace.
    SetXattr { node: Pick, name: u8, len: u32, fill: u64, mode: u8 },
    /// getxattr(2); names as in [`Op::SetXattr`].
    GetXattr { node: Pick, name: u8 },
    /// removexattr(2)
    RemoveXattr { node: Pick, name: u8 },
    /// readlink(2)
    Readlink { node: Pick },
    /// The directory above.
    Parent { dir: Pick },
    /// Reads a whole directory.
    List { dir: Pick },
    /// Begins to read a directory and stops after some entries.
    ScanStart { slot: u8, dir: Pick, entries: u8 },
    /// Goes on reading where the last step stopped.
    ScanNext { slot: u8, entries: u8 },
    /// Opens a file and keeps it open in a slot.
    Open { slot: u8, node: Pick, write: bool },
    /// Closes the file in a slot.
    Close { slot: u8 },
    /// pread(2)
    ReadAt { slot: u8, offset: Offset, len: u32 },
    /// pwrite(2)
    WriteAt { slot: u8, offset: Offset, len: u32, fill: u8, kill: bool },
    /// fallocate(2)
    Fallocate { slot: u8, offset: Offset, len: u32, how: Allocate, kill: bool },
    /// lseek(2) with SEEK_DATA or SEEK_HOLE
    SeekTo { slot: u8, offset: Offset, what: Seek },
    /// fsync(2)
    SyncFile { slot: u8 },
    /// Makes everything durable.
    SyncAll,
    /// Something that only some file systems can do.
    Control(Control),
}

/// What happens to a file system from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The serving process ends and another one opens the same files again.
    Reopen,
    /// The changes become a layer.
    Commit,
    /// Changes are allowed or not.
    Edit(bool),
    /// Changes are dropped: everywhere, or at a path, which is that of a chosen inode or one that
    /// the subject chooses.
    Reset(Option<Pick>),
}

impl Op {
    /// Times that [`Op::Utimens`] sets: before the epoch, at it, with all nanoseconds.
    pub const TIMES: [Timestamp; 4] = [
        Timestamp { secs: -1, nanos: 5 },
        Timestamp { secs: 0, nanos: 0 },
        Timestamp { secs: 1_000_000_000, nanos: 123_456_789 },
        Timestamp { secs: 4_102_444_800, nanos: 999_999_999 },
    ];

    /// Extended attributes that operations use.
    pub const XATTRS: [&'static [u8]; 5] = [
        b"user.a",
        b"user.overlay.whiteout",
        b"user.\xff\xfe",
        b"trusted.overlay.opaque",
        b"security.capability",
    ];

    /// Open files that operations use.
    pub const FILE_SLOTS: u8 = 6;

    /// Directories that are read at the same time.
    pub const SCAN_SLOTS: u8 = 2;

    /// The name of the variant.
    pub fn title(&self) -> String {
        let text = format!("{self:?}");
        let end = text.find([' ', '{']).unwrap_or(text.len());
        text[..end].to_owned()
    }
}

/// What operations may do.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Names to make and look up.
    pub names: Vec<Vec<u8>>,
    /// Owners to give; [`Op::Make`] and [`Op::Chown`] choose among them.
    pub owners: Vec<Owner>,
    /// Extended attributes to use, from the start of [`Op::XATTRS`].
    pub xattrs: u8,
    /// Whether they are set on other things than files and directories too.
    pub xattrs_on_everything: bool,
    /// The shortest and the longest value of an attribute.
    pub xattr_len: (u32, u32),
    /// Whether pipes and sockets are made.
    pub specials: bool,
    /// Whether devices are made.
    pub devices: bool,
    /// Whether a caller may keep set-user-id bits when it writes, and ignores permissions.
    pub privileged: bool,
    /// Whether times of creation are set.
    pub birth_times: bool,
    /// Whether setgid may stand without group execution.
    pub bare_setgid: bool,
    /// The largest offset to write at.
    pub file_size_max: u32,
    /// Of 1000 operations, how many are [`Control`]s.
    pub controls: u32,
}

impl Profile {
    /// All names that can be made of one to three bytes `a` and `-`, and some that a careless file
    /// system treats specially. All are UTF-8.
    pub fn tame_names() -> Vec<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for len in 1..=3 {
            for bits in 0..1_u32 << len {
                let byte = |at: u32| if bits >> at & 1 == 0 { b'a' } else { b'-' };
                names.push((0..len).map(byte).collect());
            }
        }
        let special: [&[u8]; 5] =
            [b".wh.a", b".wh..wh..opq", b"A", "\u{e9}".as_bytes(), "e\u{301}".as_bytes()];
        names.extend(special.map(<[u8]>::to_vec));
        names
    }

    /// The tame names, names of any bytes and one of 255 bytes.
    pub fn wild_names() -> Vec<Vec<u8>> {
        let mut names = Self::tame_names();
        let wild: [&[u8]; 3] = [b"\xff", b"a\n\"\\", &[b'n'; 255]];
        names.extend(wild.map(<[u8]>::to_vec));
        names
    }

    /// Everything that the interface of the core allows.
    pub fn core() -> Self {
        Self {
            names: Self::wild_names(),
            owners: [(0, 0), (1000, 1000), (1000, 7), (65534, 65534)]
                .map(|(uid, gid)| Owner { uid, gid })
                .to_vec(),
            xattrs: 5,
            xattrs_on_everything: true,
            xattr_len: (0, 70_000),
            specials: true,
            devices: true,
            privileged: true,
            birth_times: true,
            bare_setgid: true,
            file_size_max: 300 << 10,
            controls: 0,
        }
    }

    /// What can be done to a real directory as this user.
    pub fn host(privileged: bool, user: Owner) -> Self {
        let core = Self::core();
        Self {
            owners: if privileged { core.owners.clone() } else { vec![user] },
            // trusted.* is root's, and security.capability goes with every write, whoever writes.
            xattrs: if privileged { 4 } else { 3 },
            xattrs_on_everything: false,
            // A value has to fit into a block of ext4; and what is set again to the value that it
            // has leaves no trace there, so values must be long enough not to repeat.
            xattr_len: (8, 800),
            devices: privileged,
            privileged,
            birth_times: false,
            // The kernel also asks whether the caller is in the file's group.
            bare_setgid: false,
            ..core
        }
    }
}

/// Sequences of operations for proptest; what shrinks is the number of operations.
pub fn sequences(profile: Profile, len_max: usize) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(proptest::num::u64::ANY, 1..=len_max).prop_map(move |seeds| {
        seeds.into_iter().map(|seed| Op::random(&mut Rng::new(seed), &profile)).collect()
    })
}

/// Draws one sequence from [`sequences`], to look at.
pub fn sample(profile: Profile, len_max: usize) -> Option<Vec<Op>> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    sequences(profile, len_max).new_tree(&mut runner).ok().map(|tree| tree.current())
}
