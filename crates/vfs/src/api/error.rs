//! What can go wrong in the core: a closed list. The front end maps it to its protocol, once.

use std::io;

use spfs_model::Digest;

/// The result of a file system call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file system call failed. The condition that POSIX names for it stands behind each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ENOENT
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST
    #[error("file exists")]
    Exists,
    /// ENOTDIR
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR
    #[error("is a directory")]
    IsDirectory,
    /// ENOTEMPTY
    #[error("directory not empty")]
    NotEmpty,
    /// EROFS
    #[error("read-only file system")]
    ReadOnly,
    /// ENOSPC: the volume of the scratch area is full.
    #[error("no space left for scratch data")]
    NoSpace,
    /// EDQUOT
    #[error("disk quota exceeded for scratch data")]
    QuotaExceeded,
    /// EIO: the kernel took bytes from a program and could not hand them on. Who wrote them was told at
    /// close(2) or fsync(2), or not at all if it did not look.
    #[error(
        "bytes that were written to it are lost, since the volume of the scratch area was full or failing; write it anew or remove it"
    )]
    Lost,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// EPERM
    #[error("operation not permitted")]
    NotPermitted,
    /// EMLINK
    #[error("too many links")]
    TooManyLinks,
    /// ENAMETOOLONG
    #[error("name too long")]
    NameTooLong,
    /// ENODATA (ENOATTR on macOS)
    #[error("no such extended attribute")]
    NoAttribute,
    /// E2BIG: more than the kernel takes for one value.
    #[error("extended attribute too large")]
    AttributeTooLarge,
    /// EFBIG
    #[error("file too large")]
    FileTooLarge,
    /// ENXIO: lseek(2) beyond the end, or no more data.
    #[error("no such address")]
    NoSuchAddress,
    /// EOPNOTSUPP
    #[error("operation not supported")]
    NotSupported,
    /// ESTALE: the inode is gone.
    #[error("stale inode")]
    Stale,
    /// EIO: content of the immutable layers could not be read.
    #[error("cannot read payload {digest} of the layers")]
    Payload {
        /// The payload.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// EIO: the scratch area failed; `doing` says at what.
    #[error("scratch area: {doing}")]
    Scratch {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Sorts an error of the scratch area: a full disk or quota is told apart.
    pub fn scratch(doing: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull => Self::NoSpace,
            io::ErrorKind::QuotaExceeded => Self::QuotaExceeded,
            io::ErrorKind::FileTooLarge => Self::FileTooLarge,
            _ => Self::Scratch { doing, source },
        }
    }
}
