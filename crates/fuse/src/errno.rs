//! The one place where errors become numbers of the protocol.

use fuser::Errno;
use spfs_model::{NameError, NameErrorReason};
use spfs_vfs::api::Error;

/// The errno of an error of the core.
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
        Error::Lost | Error::Payload { .. } | Error::Scratch { .. } => Errno::EIO,
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

#[cfg(test)]
mod tests {
    use std::io;

    use spfs_model::{Digest, Name};

    use super::*;

    #[test]
    fn what_failed_on_our_side_is_an_input_output_error() {
        let source = || io::Error::other("broken");
        let payload = Error::Payload { digest: Digest::NULL, source: source() };
        assert_eq!(of(&payload), Errno::EIO);
        assert_eq!(of(&Error::scratch("writing", source())), Errno::EIO);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(of(&Error::scratch("writing", full)), Errno::ENOSPC);
    }

    #[test]
    fn a_name_that_cannot_be_says_why() {
        let errno = |name: &[u8]| of_name(&Name::new(name).unwrap_err());
        assert_eq!(errno(&[b'n'; 256]), Errno::ENAMETOOLONG);
        assert_eq!(errno(b""), Errno::ENOENT);
        assert_eq!(errno(b".."), Errno::EINVAL);
        assert_eq!(errno(b"a/b"), Errno::EINVAL);
        assert_eq!(errno(b"a\0b"), Errno::EINVAL);
    }
}
