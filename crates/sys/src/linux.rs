//! What is done in Linux's own way.

pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod limits;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod reflink;
pub(crate) mod socket;
pub(crate) mod watch;
