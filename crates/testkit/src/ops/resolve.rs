//! From choices to subjects: what an operation means among what exists when it runs.
//!
//! Among candidates the one wins whose key, mixed with the choice, is the largest. Keys come from
//! the operations that made the candidates, so a choice stays the same when other candidates come
//! or go.

use std::fmt;

use spfs_vfs::api::{
    Access, Allocate, FileType, Ino, Name, NameBuf, Owner, Remove, Replace, Seek, SetAttr, SetTime,
    Timestamp, Vfs, XattrMode,
};

use super::{Kind, NamePick, Offset, Op, Pick, Profile};
use crate::ModelFs;
use crate::drive::Session;

/// An inode that a test has met, by the order of meeting; the same in all file systems that saw
/// the same operations with the same results.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Known(pub usize);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl Known {
    /// The root directory, which is met first.
    pub const ROOT: Self = Self(0);
}

/// Bytes that print short.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &self.0[..self.0.len().min(12)];
        write!(f, "{} bytes {head:02x?}", self.0.len())
    }
}

/// The name of an extended attribute, which prints as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct XattrName(pub &'static [u8]);

impl fmt::Debug for XattrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// An operation with its subjects: one call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are the arguments of the interface's methods")]
pub enum Call {
    /// Nothing to call: the operation has no subject.
    Nothing,
    /// `lookup`, and a pin on the result
    Lookup { dir: Known, name: NameBuf },
    /// The end of all pins
    Forget { node: Known },
    /// `create`, and a pin on the result
    Create { dir: Known, name: NameBuf, kind: Kind, perm: u16, owner: Owner },
    /// `link`
    Link { node: Known, dir: Known, name: NameBuf },
    /// `remove`
    Remove { dir: Known, name: NameBuf, what: Remove },
    /// `rename`
    Rename { from: (Known, NameBuf), to: (Known, NameBuf), replace: Replace },
    /// `setattr`
    SetAttr { node: Known, set: SetAttr },
    /// `setxattr`
    SetXattr { node: Known, name: XattrName, value: Bytes, mode: XattrMode },
    /// `getxattr`
    GetXattr { node: Known, name: XattrName },
    /// `removexattr`
    RemoveXattr { node: Known, name: XattrName },
    /// `readlink`
    Readlink { node: Known },
    /// `parent`
    Parent { dir: Known },
    /// `readdir` of everything
    List { dir: Known },
    /// `open`; what the slot held is closed
    Open { slot: usize, node: Known, access: Access },
    /// The end of an open file
    Close { slot: usize },
    /// `read_at`
    Read { slot: usize, offset: u64, len: usize },
    /// `write_at`
    Write { slot: usize, offset: u64, data: Bytes, kill_privileges: bool },
    /// `allocate`
    Allocate { slot: usize, offset: u64, len: u64, how: Allocate, kill_privileges: bool },
    /// `seek`
    Seek { slot: usize, offset: u64, what: Seek },
    /// `sync` of a file
    SyncFile { slot: usize },
    /// `sync` of everything
    Sync,
}

impl Call {
    /// The inodes whose attributes the call may change.
    pub fn subjects(&self) -> Vec<Known> {
        match *self {
            Self::Lookup { dir, .. } | Self::Create { dir, .. } | Self::Remove { dir, .. } => {
                vec![dir]
            }
            Self::Link { node, dir, .. } => vec![node, dir],
            Self::Rename { from: (from, _), to: (to, _), .. } => vec![from, to],
            Self::Forget { node }
            | Self::SetAttr { node, .. }
            | Self::SetXattr { node, .. }
            | Self::GetXattr { node, .. }
            | Self::RemoveXattr { node, .. }
            | Self::Readlink { node }
            | Self::Open { node, .. } => vec![node],
            Self::Parent { dir } | Self::List { dir } => vec![dir],
            _ => Vec::new(),
        }
    }
}

/// What a test knows of the state of a file system, to choose subjects.
pub(crate) struct World<'a> {
    profile: &'a Profile,
    model: &'a ModelFs,
    session: &'a Session<ModelFs>,
    keys: &'a [u64],
    /// Directories with a name.
    dirs: Vec<Known>,
    /// Inodes that exist.
    nodes: Vec<Known>,
    /// Regular files that exist.
    files: Vec<Known>,
    /// Symbolic links that exist.
    links: Vec<Known>,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        profile: &'a Profile,
        model: &'a ModelFs,
        session: &'a Session<ModelFs>,
        keys: &'a [u64],
    ) -> Self {
        let (dirs, nodes, files, links) = (vec![], vec![], vec![], vec![]);
        let mut world = Self { profile, model, session, keys, dirs, nodes, files, links };
        for known in session.met() {
            let Some((file_type, named)) = model.peek(session.ino(known)) else { continue };
            world.nodes.push(known);
            match file_type {
                FileType::Directory if named => world.dirs.push(known),
                FileType::Regular => world.files.push(known),
                FileType::Symlink => world.links.push(known),
                _ => {}
            }
        }
        world
    }

    /// One choice in sixteen is any inode that was ever met: gone, or of another type.
    fn among(&self, from: &[Known], pick: Pick) -> Known {
        let all;
        let from = if pick & 0xf == 0 || from.is_empty() {
            all = self.session.met().collect::<Vec<_>>();
            &all
        } else {
            from
        };
        let rank = |node: &&Known| mix(self.keys[node.0], pick.into());
        from.iter().max_by_key(rank).copied().unwrap_or(Known::ROOT)
    }

    pub(crate) fn dir(&self, pick: Pick) -> Known {
        self.among(&self.dirs, pick)
    }

    pub(crate) fn node(&self, pick: Pick) -> Known {
        self.among(&self.nodes, pick)
    }

    fn file(&self, pick: Pick) -> Known {
        self.among(&self.files, pick)
    }

    fn ino(&self, known: Known) -> Ino {
        self.session.ino(known)
    }

    fn file_type(&self, known: Known) -> Option<FileType> {
        self.model.peek(self.ino(known)).map(|(file_type, _)| file_type)
    }

    fn name(&self, dir: Known, pick: NamePick) -> NameBuf {
        let at = usize::from(pick & 0x7f);
        if pick & 0x80 != 0 {
            let rank = |name: &NameBuf| mix(key_of(name.as_bytes()), pick.into());
            if let Some(name) = self.session.names_in(dir).into_iter().max_by_key(rank) {
                return name;
            }
        }
        let names = &self.profile.names;
        let name = Name::new(&names[at % names.len()]).expect("profiles hold names only");
        NameBuf::from(name)
    }

    fn owner(&self, pick: u8) -> Owner {
        self.profile.owners[usize::from(pick) % self.profile.owners.len()]
    }

    /// Counts an offset from the end of the file where it says so.
    fn offset(&self, node: Option<Known>, offset: Offset) -> u64 {
        let Some(back) = offset.checked_sub(1 << 31) else { return u64::from(offset) };
        let size = node
            .and_then(|node| self.model.getattr(self.ino(node)).ok())
            .map_or(0, |attr| attr.size.min(u64::from(self.profile.file_size_max)));
        (size + u64::from(back)).saturating_sub(128)
    }

    fn can_hold_xattrs(&self, node: Known) -> bool {
        self.profile.xattrs_on_everything
            || !matches!(self.file_type(node), Some(t) if !is_file_or_directory(t))
    }
}

fn is_file_or_directory(file_type: FileType) -> bool {
    matches!(file_type, FileType::Regular | FileType::Directory)
}

/// Spreads two numbers over one: the finishing steps of splitmix64.
fn mix(key: u64, pick: u64) -> u64 {
    crate::ops::Rng::new(key ^ pick.rotate_left(40)).next_u64()
}

/// A number for some bytes, the same in every run: FNV-1a.
pub(crate) fn key_of(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The value that choice 0 means is now.
fn time(pick: u8) -> SetTime {
    match usize::from(pick) {
        0 => SetTime::Now,
        at => SetTime::At(birth(at)),
    }
}

fn birth(at: usize) -> Timestamp {
    Op::TIMES[at % Op::TIMES.len()]
}

/// Content that tells from which write it is and that no shift leaves as it is.
pub(crate) fn pattern(fill: u8, len: u32) -> Vec<u8> {
    (0..len).map(|at| fill.wrapping_add((at % 251) as u8) | 1).collect()
}

/// Finds the subjects of an operation; scans and controls have none.
pub(crate) fn resolve(op: &Op, world: &World<'_>) -> Call {
    match *op {
        Op::Lookup { dir, name } => {
            let dir = world.dir(dir);
            Call::Lookup { dir, name: world.name(dir, name) }
        }
        Op::Make { dir, name, kind, perm, owner } => {
            let dir = world.dir(dir);
            let name = world.name(dir, name);
            Call::Create { dir, name, kind, perm, owner: world.owner(owner) }
        }
        Op::Link { node, dir, name } => {
            let dir = world.dir(dir);
            Call::Link { node: world.node(node), dir, name: world.name(dir, name) }
        }
        Op::Unlink { dir, name } => remove(world, dir, name, Remove::File),
        Op::Rmdir { dir, name } => remove(world, dir, name, Remove::Directory),
        Op::Rename { from, to, replace } => {
            let (from_dir, to_dir) = (world.dir(from.0), world.dir(to.0));
            let from = (from_dir, world.name(from_dir, from.1));
            Call::Rename { from, to: (to_dir, world.name(to_dir, to.1)), replace }
        }
        Op::Forget { node } => Call::Forget { node: world.node(node) },
        Op::Readlink { node } => Call::Readlink { node: world.among(&world.links, node) },
        Op::Parent { dir } => Call::Parent { dir: world.dir(dir) },
        Op::List { dir } => Call::List { dir: world.dir(dir) },
        Op::SyncAll => Call::Sync,
        Op::ScanStart { .. } | Op::ScanNext { .. } | Op::Control(_) => Call::Nothing,
        _ => resolve_attributes(op, world).unwrap_or_else(|| resolve_file(op, world)),
    }
}

fn remove(world: &World<'_>, dir: Pick, name: NamePick, what: Remove) -> Call {
    let dir = world.dir(dir);
    Call::Remove { dir, name: world.name(dir, name), what }
}

fn resolve_attributes(op: &Op, world: &World<'_>) -> Option<Call> {
    let (node, set) = match *op {
        // The kernel refuses to change the mode of a symbolic link.
        Op::Chmod { node, .. } if world.file_type(world.node(node)) == Some(FileType::Symlink) => {
            return Some(Call::Nothing);
        }
        Op::Chmod { node, perm } => (node, SetAttr { perm: Some(perm), ..SetAttr::default() }),
        Op::Chown { node, uid, gid, kill } => {
            let uid = uid.map(|pick| world.owner(pick).uid);
            let gid = gid.map(|pick| world.owner(pick).gid);
            (node, SetAttr { uid, gid, kill_privileges: kill, ..SetAttr::default() })
        }
        Op::Truncate { node, size, kill } => {
            let known = world.file(node);
            let size = Some(world.offset(Some(known), size));
            let set = SetAttr { size, kill_privileges: kill, ..SetAttr::default() };
            return Some(Call::SetAttr { node: known, set });
        }
        Op::Utimens { node, atime, mtime } => {
            let (atime, mtime) = (atime.map(time), mtime.map(time));
            (node, SetAttr { atime, mtime, ..SetAttr::default() })
        }
        Op::SetBirth { node, time } => {
            (node, SetAttr { crtime: Some(birth(time.into())), ..SetAttr::default() })
        }
        Op::SetXattr { node, .. } | Op::GetXattr { node, .. } | Op::RemoveXattr { node, .. } => {
            return Some(resolve_xattr(op, world.node(node), world));
        }
        _ => return None,
    };
    Some(Call::SetAttr { node: world.node(node), set })
}

fn resolve_xattr(op: &Op, node: Known, world: &World<'_>) -> Call {
    let named = |name: u8| {
        let there = world.model.listxattr(world.ino(node)).unwrap_or_default();
        let mut known = Op::XATTRS.into_iter().filter(|name| there.iter().any(|t| **t == **name));
        let existing = if name & 0x80 != 0 { known.next() } else { None };
        existing.unwrap_or(Op::XATTRS[usize::from(name % world.profile.xattrs)])
    };
    if !world.can_hold_xattrs(node) {
        return Call::Nothing;
    }
    match *op {
        Op::SetXattr { name, len, fill, mode, .. } => {
            let mode = match mode {
                0 => XattrMode::Set,
                1 => XattrMode::Create,
                _ => XattrMode::Replace,
            };
            let mut value = pattern(name, len);
            let head = value.len().min(8);
            value[..head].copy_from_slice(&fill.to_le_bytes()[..head]);
            Call::SetXattr { node, name: XattrName(named(name)), value: Bytes(value), mode }
        }
        Op::GetXattr { name, .. } => Call::GetXattr { node, name: XattrName(named(name)) },
        Op::RemoveXattr { name, .. } => Call::RemoveXattr { node, name: XattrName(named(name)) },
        _ => Call::Nothing,
    }
}

fn resolve_file(op: &Op, world: &World<'_>) -> Call {
    let at = |slot: u8| usize::from(slot);
    let place = |slot: u8, offset| world.offset(world.session.node_in(slot.into()), offset);
    match *op {
        Op::Open { slot, node, write } => {
            let access = if write { Access::Write } else { Access::Read };
            Call::Open { slot: at(slot), node: world.file(node), access }
        }
        Op::Close { slot } => Call::Close { slot: at(slot) },
        Op::ReadAt { slot, offset, len } => {
            Call::Read { slot: at(slot), offset: place(slot, offset), len: len as usize }
        }
        Op::WriteAt { slot, offset, len, fill, kill } => Call::Write {
            slot: at(slot),
            offset: place(slot, offset),
            data: Bytes(pattern(fill, len)),
            kill_privileges: kill,
        },
        Op::Fallocate { slot, offset, len, how, kill } => Call::Allocate {
            slot: at(slot),
            offset: place(slot, offset),
            len: len.into(),
            how,
            kill_privileges: kill,
        },
        Op::SeekTo { slot, offset, what } => {
            Call::Seek { slot: at(slot), offset: place(slot, offset), what }
        }
        Op::SyncFile { slot } => Call::SyncFile { slot: at(slot) },
        _ => Call::Nothing,
    }
}
