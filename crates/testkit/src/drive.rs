//! Running operations on any file system, with results that can be compared.
//!
//! A [`Session`] numbers the inodes it meets in the order of meeting. Two file systems that answer
//! alike number alike, so the correspondence of their inodes is one to one by construction: a number
//! that changes, or that is given to two files, shows as a difference.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use spfs_vfs::api::{
    Access, Attr, Cookie, Error, File, FileType, Ino, NameBuf, New, NewKind, Owner, Pin, Result,
    Timestamp, Vfs,
};

use crate::ops::{Bytes, Call, Kind, Known, Op};

/// Ticks, which stand for the times of operations, lie far beyond every time that is set.
pub(crate) const TICKS_START: i64 = 1 << 40;

/// A front end of a file system under test: what it has met, pinned and opened.
pub struct Session<V: Vfs> {
    /// `None` only while the file system is opened anew.
    vfs: Option<Arc<V>>,
    met: Vec<Ino>,
    by_ino: HashMap<Ino, Known>,
    pins: HashMap<Known, Pin<V>>,
    files: Vec<Option<OpenFile<V>>>,
}

struct OpenFile<V: Vfs> {
    node: Known,
    access: Access,
    file: V::File,
}

/// The attributes of an inode without its number.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Attr")]
pub struct Seen {
    pub node: Known,
    pub file_type: FileType,
    pub perm: u16,
    pub nlink: u32,
    pub owner: Owner,
    pub rdev: u64,
    /// 0 for directories, whose size means nothing.
    pub size: u64,
    pub times: Times,
}

/// The times of an inode.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Attr")]
pub struct Times {
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub crtime: Timestamp,
}

/// What a call came to.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to call.
    Skipped,
    /// It succeeded and returned nothing.
    Done,
    /// Attributes.
    Inode(Box<Seen>),
    /// An inode.
    Node(Known),
    /// An offset.
    Offset(u64),
    /// Content, or a value.
    Bytes(Bytes),
    /// A directory's entries by name.
    Entries(Vec<(NameBuf, Known, FileType)>),
    /// It failed.
    Failed(Failed),
}

/// An error of the interface; equal when the variants are.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The variant's name.
    pub name: &'static str,
    /// Everything the error says.
    pub detail: String,
}

impl PartialEq for Failed {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Failed {}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { name: error_name(&error), detail: format!("{error:?}") }
    }
}

/// Returns the name of an error's variant.
pub fn error_name(error: &Error) -> &'static str {
    match error {
        Error::NotFound => "NotFound",
        Error::Exists => "Exists",
        Error::NotDirectory => "NotDirectory",
        Error::IsDirectory => "IsDirectory",
        Error::NotEmpty => "NotEmpty",
        Error::ReadOnly => "ReadOnly",
        Error::NoSpace => "NoSpace",
        Error::QuotaExceeded => "QuotaExceeded",
        Error::Invalid => "Invalid",
        Error::NotPermitted => "NotPermitted",
        Error::TooManyLinks => "TooManyLinks",
        Error::NameTooLong => "NameTooLong",
        Error::NoAttribute => "NoAttribute",
        Error::AttributeTooLarge => "AttributeTooLarge",
        Error::FileTooLarge => "FileTooLarge",
        Error::NoSuchAddress => "NoSuchAddress",
        Error::NotSupported => "NotSupported",
        Error::Stale => "Stale",
        Error::Lost => "Lost",
        Error::Payload { .. } => "Payload",
        Error::Scratch { .. } => "Scratch",
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, file_type, perm, nlink, owner: Owner { uid, gid }, .. } = self;
        write!(f, "{node:?} {file_type:?} {perm:04o} x{nlink} {uid}:{gid} size {}", self.size)?;
        if self.rdev != 0 {
            write!(f, " rdev {:#x}", self.rdev)?;
        }
        write!(f, " {:?}", self.times)
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = [('a', self.atime), ('m', self.mtime), ('c', self.ctime), ('b', self.crtime)];
        for (letter, Timestamp { secs, nanos }) in each {
            match secs.checked_sub(TICKS_START) {
                Some(tick @ 0..) => write!(f, " {letter}:tick {tick}")?,
                _ => write!(f, " {letter}:{secs}.{nanos:09}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped => f.write_str("Skipped"),
            Self::Done => f.write_str("Done"),
            Self::Inode(seen) => seen.fmt(f),
            Self::Node(node) => node.fmt(f),
            Self::Offset(offset) => write!(f, "Offset({offset})"),
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Entries(entries) => entries.fmt(f),
            Self::Failed(failed) => write!(f, "Failed({}: {})", failed.name, failed.detail),
        }
    }
}

impl<V: Vfs> fmt::Debug for Session<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("met", &self.met.len()).finish_non_exhaustive()
    }
}

impl<V: Vfs> Session<V> {
    /// Starts with the root met and pinned.
    pub fn new(vfs: Arc<V>) -> Self {
        let mut session = Self {
            vfs: Some(vfs),
            met: Vec::new(),
            by_ino: HashMap::new(),
            pins: HashMap::new(),
            files: (0..Op::FILE_SLOTS).map(|_| None).collect(),
        };
        session.meet(Ino::ROOT, true);
        session
    }

    /// The file system.
    pub fn vfs(&self) -> &Arc<V> {
        self.vfs.as_ref().expect("a detached session makes no calls")
    }

    /// Everything met so far.
    pub fn met(&self) -> impl ExactSizeIterator<Item = Known> + use<V> {
        (0..self.met.len()).map(Known)
    }

    /// The number that the file system gave an inode.
    pub fn ino(&self, node: Known) -> Ino {
        self.met[node.0]
    }

    /// Whether an inode of this number has been met.
    pub fn has_met(&self, node: Known) -> bool {
        node.0 < self.met.len()
    }

    /// The inode of the file that is open in a slot.
    pub fn node_in(&self, slot: usize) -> Option<Known> {
        self.files.get(slot)?.as_ref().map(|open| open.node)
    }

    /// Closes all files and drops all pins, as the end of the front end does.
    pub fn release(&mut self) {
        self.files.iter_mut().for_each(|slot| *slot = None);
        self.pins.clear();
    }

    /// Lets go of the file system, so that it can end.
    pub fn detach(&mut self) {
        self.release();
        self.vfs = None;
    }

    /// Goes on with the same file system or another instance of it, in which inodes have kept
    /// their numbers.
    pub fn attach(&mut self, vfs: Arc<V>) {
        self.vfs = Some(vfs);
    }

    /// Under which number an inode was met.
    pub fn met_as(&self, ino: Ino) -> Option<Known> {
        self.by_ino.get(&ino).copied()
    }

    /// Numbers an inode.
    pub fn meet(&mut self, ino: Ino, pin: bool) -> Known {
        let next = Known(self.met.len());
        let node = *self.by_ino.entry(ino).or_insert(next);
        if node == next {
            self.met.push(ino);
        }
        if pin {
            let vfs = self.vfs.as_ref().expect("a detached session makes no calls");
            self.pins.entry(node).or_insert_with(|| Pin::new(vfs, ino));
        }
        node
    }

    /// The names in a directory, sorted; none when it cannot be read.
    pub fn names_in(&self, dir: Known) -> Vec<NameBuf> {
        let entries = self.entries(dir).unwrap_or_default();
        entries.into_iter().map(|(name, _, _)| name).collect()
    }

    fn entries(&self, dir: Known) -> Result<Vec<(NameBuf, Ino, FileType)>> {
        let mut entries = Vec::new();
        self.vfs().readdir(self.ino(dir), Cookie::START, &mut |entry| {
            entries.push((NameBuf::from(entry.name), entry.ino, entry.file_type));
            ControlFlow::Continue(())
        })?;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// Asks for the attributes of an inode.
    pub fn attr(&mut self, node: Known) -> Result<Seen, Failed> {
        let attr = self.vfs().getattr(self.ino(node))?;
        Ok(self.see(attr, false))
    }

    pub(crate) fn see(&mut self, attr: Attr, pin: bool) -> Seen {
        Seen {
            node: self.meet(attr.ino, pin),
            file_type: attr.file_type,
            perm: attr.perm,
            nlink: attr.nlink,
            owner: attr.owner,
            rdev: attr.rdev,
            size: if attr.file_type == FileType::Directory { 0 } else { attr.size },
            times: Times {
                atime: attr.atime,
                mtime: attr.mtime,
                ctime: attr.ctime,
                crtime: attr.crtime,
            },
        }
    }

    /// Makes a call.
    pub fn call(&mut self, call: &Call) -> Outcome {
        let result = match call {
            Call::Nothing => Ok(Outcome::Skipped),
            Call::Sync => self.vfs().sync().map(|()| Outcome::Done),
            Call::Open { .. }
            | Call::Close { .. }
            | Call::Read { .. }
            | Call::Write { .. }
            | Call::Allocate { .. }
            | Call::Seek { .. }
            | Call::SyncFile { .. } => self.call_file(call),
            Call::SetAttr { .. }
            | Call::SetXattr { .. }
            | Call::GetXattr { .. }
            | Call::RemoveXattr { .. } => self.call_attributes(call),
            _ => self.call_names(call),
        };
        result.unwrap_or_else(|error| Outcome::Failed(error.into()))
    }

    fn call_names(&mut self, call: &Call) -> Result<Outcome> {
        let vfs = self.vfs();
        Ok(match call {
            Call::Lookup { dir, name } => {
                let attr = vfs.lookup(self.ino(*dir), name.as_name())?;
                Outcome::Inode(Box::new(self.see(attr, true)))
            }
            Call::Forget { node } => {
                self.pins.remove(node);
                Outcome::Done
            }
            Call::Create { dir, name, kind, perm, owner } => {
                let target = target_of(*kind);
                let new = New { kind: new_kind(*kind, &target), perm: *perm, owner: *owner };
                let attr = vfs.create(self.ino(*dir), name.as_name(), new)?;
                Outcome::Inode(Box::new(self.see(attr, true)))
            }
            Call::Link { node, dir, name } => {
                let attr = vfs.link(self.ino(*node), self.ino(*dir), name.as_name())?;
                Outcome::Inode(Box::new(self.see(attr, true)))
            }
            Call::Remove { dir, name, what } => {
                vfs.remove(self.ino(*dir), name.as_name(), *what)?;
                Outcome::Done
            }
            Call::Rename { from, to, replace } => {
                let from = (self.ino(from.0), from.1.as_name());
                let to = (self.ino(to.0), to.1.as_name());
                vfs.rename(from, to, *replace)?;
                Outcome::Done
            }
            Call::Readlink { node } => Outcome::Bytes(Bytes(vfs.readlink(self.ino(*node))?.into())),
            Call::Parent { dir } => {
                let parent = vfs.parent(self.ino(*dir))?;
                Outcome::Node(self.meet(parent, false))
            }
            Call::List { dir } => {
                let entries = self.entries(*dir)?;
                let met = entries.into_iter().map(|(name, ino, file_type)| {
                    let node = self.meet(ino, false);
                    (name, node, file_type)
                });
                Outcome::Entries(met.collect())
            }
            _ => Outcome::Skipped,
        })
    }

    fn call_attributes(&mut self, call: &Call) -> Result<Outcome> {
        let vfs = self.vfs();
        Ok(match call {
            Call::SetAttr { node, set } => {
                let attr = vfs.setattr(self.ino(*node), set)?;
                Outcome::Inode(Box::new(self.see(attr, false)))
            }
            Call::SetXattr { node, name, value, mode } => {
                vfs.setxattr(self.ino(*node), name.0, &value.0, *mode)?;
                Outcome::Done
            }
            Call::GetXattr { node, name } => {
                Outcome::Bytes(Bytes(vfs.getxattr(self.ino(*node), name.0)?.into()))
            }
            Call::RemoveXattr { node, name } => {
                vfs.removexattr(self.ino(*node), name.0)?;
                Outcome::Done
            }
            _ => Outcome::Skipped,
        })
    }

    fn call_file(&mut self, call: &Call) -> Result<Outcome> {
        match *call {
            Call::Open { slot, node, access } => {
                let file = self.vfs().open(self.ino(node), access)?;
                self.files[slot] = Some(OpenFile { node, access, file });
                return Ok(Outcome::Done);
            }
            Call::Close { slot } => {
                self.files[slot] = None;
                return Ok(Outcome::Done);
            }
            _ => {}
        }
        let (Call::Read { slot, .. }
        | Call::Write { slot, .. }
        | Call::Allocate { slot, .. }
        | Call::Seek { slot, .. }
        | Call::SyncFile { slot }) = *call
        else {
            return Ok(Outcome::Skipped);
        };
        match &self.files[slot] {
            Some(open) => use_file(call, open),
            None => Ok(Outcome::Skipped),
        }
    }
}

/// Reads, writes and so on; the kernel refuses to change a file through a read-only descriptor
/// before a file system sees it.
fn use_file<V: Vfs>(call: &Call, OpenFile { access, file, .. }: &OpenFile<V>) -> Result<Outcome> {
    match call {
        Call::Read { offset, len, .. } => {
            let mut content = vec![0xee; *len];
            let read = file.read_at(*offset, &mut content)?;
            content.truncate(read);
            Ok(Outcome::Bytes(Bytes(content)))
        }
        Call::Seek { offset, what, .. } => Ok(Outcome::Offset(file.seek(*offset, *what)?)),
        Call::SyncFile { .. } => file.sync().map(|()| Outcome::Done),
        _ if *access == Access::Read => Ok(Outcome::Skipped),
        Call::Write { offset, data, kill_privileges, .. } => {
            file.write_at(*offset, &data.0, *kill_privileges).map(|()| Outcome::Done)
        }
        Call::Allocate { offset, len, how, kill_privileges, .. } => {
            file.allocate(*offset, *len, *how, *kill_privileges).map(|()| Outcome::Done)
        }
        _ => Ok(Outcome::Skipped),
    }
}

/// A target that leads nowhere, for kinds that have one.
fn target_of(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::NewSymlink(len) => (0..len).map(|at| b'a' + (at % 26) as u8).collect(),
        _ => Vec::new(),
    }
}

fn new_kind(kind: Kind, target: &[u8]) -> NewKind<'_> {
    match kind {
        Kind::NewFile => NewKind::Regular,
        Kind::NewDir => NewKind::Directory,
        Kind::NewSymlink(_) => NewKind::Symlink(target),
        Kind::NewPipe => NewKind::Fifo,
        Kind::NewSocket => NewKind::Socket,
        Kind::NewChar(rdev) => NewKind::CharDevice(rdev),
        Kind::NewBlock(rdev) => NewKind::BlockDevice(rdev),
    }
}
