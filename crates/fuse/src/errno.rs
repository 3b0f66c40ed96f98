//! The one place where errors become numbers of the protocol.

use fuser::Errno;
use spfs_model::{NameError, NameErrorReason};
use spfs_vfs::api::Error;

/// The errno of an error of the core. What the user cannot have caused is logged, with `doing`.
pub(crate) fn of(error: &Error) -> Errno {
    match error {
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::ReadOnly => Errno::EROFS,
        Error::NoSpace => Errno::ENOSPC,
        Error::QuotaExceeded => Errno::EDQUOT,
        Error::Invalid => Errno::EINVAL,
        Error::NotPermitted => Errno::EPERM,
        Error::TooManyLinks => Errno::EMLINK,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::NoAttribute => Errno::NO_XATTR,
        Error::AttributeTooLarge => Errno::E2BIG,
        Error::FileTooLarge => Errno::EFBIG,
        Error::NoSuchAddress => Errno::ENXIO,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::Stale => Errno::ESTALE,
        Error::Payload { .. } | Error::Scratch { .. } => Errno::EIO,
    }
}

/// The errno of bytes that cannot be a name.
pub(crate) fn of_name(error: &NameError) -> Errno {
    match error.reason {
        NameErrorReason::TooLong => Errno::ENAMETOOLONG,
        NameErrorReason::Empty => Errno::ENOENT,
        NameErrorReason::Reserved | NameErrorReason::Slash | NameErrorReason::Nul => Errno::EINVAL,
        NameErrorReason::NotUtf8 => Errno::EILSEQ,
    }
}
