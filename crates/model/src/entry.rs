//! What stands in a directory of a manifest.

use crate::Digest;

/// Bits of `st_mode` as the format stores them.
pub mod mode {
    /// The bits that hold the file type.
    pub const TYPE: u32 = 0o170_000;
    /// The type of a directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// The type of a regular file.
    pub const REGULAR: u32 = 0o100_000;
    /// The type of a symbolic link.
    pub const SYMLINK: u32 = 0o120_000;
    /// The mode written for a mask: that of the kernel's whiteout.
    pub const MASK: u32 = 0o020_000;
    /// The bits besides the type: permissions, setuid, setgid and sticky.
    pub const PERMISSIONS: u32 = 0o007_777;
    /// The mode of the root directory, which no manifest stores.
    pub const ROOT: u32 = DIRECTORY | 0o777;
}

/// The kind of an entry in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A payload: a regular file or a symbolic link.
    Blob,
    /// A directory.
    Tree,
    /// Removes what lies below at the same path.
    Mask,
}

/// What a manifest says of a file or symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobEntry {
    /// The whole `st_mode`; a symbolic link is told by its type bits.
    pub mode: u32,
    /// The size in bytes.
    pub size: u64,
    /// The payload: content, or target of the link.
    pub object: Digest,
}

/// What a node of a merged tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

impl NodeKind {
    /// The kind that a blob with this mode shows as: whatever is not a link is a regular file.
    pub const fn of_blob(mode: u32) -> Self {
        if mode & mode::TYPE == mode::SYMLINK { Self::Symlink } else { Self::File }
    }

    /// The type bits of this kind.
    pub const fn type_bits(self) -> u32 {
        match self {
            Self::Directory => mode::DIRECTORY,
            Self::File => mode::REGULAR,
            Self::Symlink => mode::SYMLINK,
        }
    }
}

/// The mode of a blob with type bits that agree with what it shows as.
///
/// Writers other than ours may leave the type bits out; nobody above should have to care.
pub(crate) const fn blob_mode(mode: u32) -> u32 {
    NodeKind::of_blob(mode).type_bits() | mode & mode::PERMISSIONS
}

/// The mode of a directory with the type bits of one.
pub(crate) const fn directory_mode(mode: u32) -> u32 {
    mode::DIRECTORY | mode & mode::PERMISSIONS
}
