//! What the journal says. Changing the meaning or order of a variant is a new version of the magic.

use serde::{Deserialize, Serialize};
use spfs_model::Digest;

use crate::api::{Owner, Timestamp};
use crate::namespace::AttrChange;
use crate::scratch::ScratchId;

use super::{FRAME_HEAD, RECORD_LEN_MAX};

/// One change, or one piece of a compacted state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// What the journal is about; the first record.
    Header(Header),
    /// The journal was opened in this boot of the machine (its boot id).
    Opened { boot: String },
    /// An inode was made under a name.
    Create {
        dir: u64,
        name: Vec<u8>,
        ino: u64,
        kind: CreateKind,
        perm: u16,
        owner: Owner,
        time: Timestamp,
    },
    /// An inode got another name.
    Link { ino: u64, dir: u64, name: Vec<u8>, time: Timestamp },
    /// A name was taken away.
    Remove { dir: u64, name: Vec<u8>, directory: bool, time: Timestamp },
    /// A name was moved.
    Rename {
        from_dir: u64,
        from_name: Vec<u8>,
        to_dir: u64,
        to_name: Vec<u8>,
        exchange: bool,
        time: Timestamp,
    },
    /// Attributes changed.
    Attributes { ino: u64, change: AttrChange },
    /// An extended attribute was set, or removed where there is no value.
    Xattr { ino: u64, name: Vec<u8>, value: Option<Vec<u8>>, time: Timestamp },
    /// A file's bytes come from here now.
    Content { ino: u64, content: ContentRecord },
    /// These bytes of a partial copy are in scratch.
    Extent { ino: u64, start: u64, end: u64 },
    /// A partial copy was cut to this size.
    Truncate { ino: u64, size: u64 },
    /// What the records before say of this file's content is on the disk.
    Synced { ino: u64 },
    /// A commit began: what follows belongs to the next generation.
    Sealed { generation: u64 },
    /// The content differs from what the layers hold.
    Changed { ino: u64 },
    /// The changes up to this generation are in a layer on top of the stack.
    Committed { layer: Digest, generation: u64 },
    /// Everything up to this generation is as the stack has it.
    Unchanged { generation: u64 },
    /// A lower inode is at its own place again and as the lower tree has it; a directory with all
    /// that is below it there (`whole`), or empty.
    Restore { ino: u64, whole: bool, time: Timestamp },
    /// The state of one inode, in a compacted journal.
    Node(Box<NodeRecord>),
    /// The counters, at the end of a compacted state.
    Counters { next_ino: u64, next_scratch: u64, generation: u64, committed: u64 },
    /// A commit leaves out what stands under the name of this inode: it stays changed.
    LeftOut { ino: u64 },
    /// Bytes that were written to a file are lost, until it is written anew from nothing.
    Lost { ino: u64 },
}

/// What a journal is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// How inode numbers follow from the stack; 1: positions in the breadth-first merged tree.
    pub(crate) numbering: u32,
    /// The layers whose merged tree gives the lower inodes their numbers, bottom first.
    pub(crate) base: Vec<Digest>,
    /// The inode number of position 0; the root is always 1.
    pub(crate) first: u64,
    /// The number of inodes in that tree.
    pub(crate) base_len: u64,
    /// Layers that were committed from this journal since, bottom first.
    pub(crate) committed: Vec<Digest>,
}

/// The kind of a new inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CreateKind {
    Regular,
    Directory,
    Symlink(Vec<u8>),
    Special(SpecialKind, u64),
    /// A link whose target is a payload of the layers.
    LayerSymlink {
        digest: Digest,
        size: u64,
    },
}

/// Inodes that are only a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SpecialKind {
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Where a file's bytes are. The size of a file with scratch data is that of the scratch file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContentRecord {
    Payload { digest: Digest, size: u64 },
    Zeros { size: u64 },
    Whole { id: ScratchId },
    Partial { id: ScratchId, base: Digest, base_end: u64, extents: Vec<(u64, u64)> },
}

/// One touched inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) ino: u64,
    pub(crate) perm: u16,
    pub(crate) owner: Owner,
    pub(crate) rdev: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) crtime: Timestamp,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) changed: u64,
    pub(crate) placed: u64,
    pub(crate) body: BodyRecord,
}

/// What a touched inode is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BodyRecord {
    File { content: ContentRecord, names: Vec<(u64, Vec<u8>)> },
    Directory { parent: u64, name: Vec<u8>, entries: Option<Vec<EntryRecord>> },
    Symlink { target: TargetRecord, names: Vec<(u64, Vec<u8>)> },
    Special { kind: SpecialKind, names: Vec<(u64, Vec<u8>)> },
}

/// Where a link's target comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TargetRecord {
    Payload { digest: Digest, size: u64 },
    Text(Vec<u8>),
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    pub(crate) cookie: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) ino: u64,
    pub(crate) file_type: crate::api::FileType,
}

impl Record {
    /// The inode, or the directory, that a change is about.
    pub(crate) fn subject(&self) -> Option<u64> {
        match self {
            Self::Create { dir: ino, .. }
            | Self::Link { ino, .. }
            | Self::Remove { dir: ino, .. }
            | Self::Rename { from_dir: ino, .. }
            | Self::Attributes { ino, .. }
            | Self::Xattr { ino, .. }
            | Self::Content { ino, .. }
            | Self::Extent { ino, .. }
            | Self::Truncate { ino, .. }
            | Self::Synced { ino }
            | Self::Changed { ino }
            | Self::Restore { ino, .. }
            | Self::LeftOut { ino }
            | Self::Lost { ino } => Some(*ino),
            Self::Header(_)
            | Self::Opened { .. }
            | Self::Sealed { .. }
            | Self::Committed { .. }
            | Self::Unchanged { .. }
            | Self::Node(_)
            | Self::Counters { .. } => None,
        }
    }
}

/// Appends a record's frame.
pub(super) fn frame(bytes: &mut Vec<u8>, number: u64, record: &Record) {
    let start = bytes.len();
    bytes.resize(start + FRAME_HEAD, 0);
    bytes[start + 8..start + 16].copy_from_slice(&number.to_le_bytes());
    let taken = std::mem::take(bytes);
    *bytes = match postcard::to_extend(record, taken) {
        Ok(bytes) => bytes,
        // Serialising plain data into memory has no way to fail.
        Err(error) => unreachable!("a journal record cannot be encoded: {error}"),
    };
    let len = bytes.len() - start - FRAME_HEAD;
    debug_assert!(len <= RECORD_LEN_MAX, "a record of {len} bytes");
    bytes[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[start + 8..]);
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the record at the beginning of `bytes`, with its number and the length of its frame.
pub(super) fn unframe(bytes: &[u8]) -> Option<(u64, Record, usize)> {
    let head = bytes.get(..FRAME_HEAD)?;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?))
    };
    let len = word(0)? as usize;
    if len > RECORD_LEN_MAX {
        return None;
    }
    let body = bytes.get(8..FRAME_HEAD + len)?;
    if crc32c::crc32c(body) != word(4)? {
        return None;
    }
    let number = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
    let record = postcard::from_bytes(&body[8..]).ok()?;
    Some((number, record, FRAME_HEAD + len))
}
