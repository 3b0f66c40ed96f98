//! The error that says that there is no attribute.

use rustix::io::Errno;

/// What the kernel says when a file lacks the attribute.
pub(crate) const NO_ATTRIBUTE: Errno = Errno::NODATA;
