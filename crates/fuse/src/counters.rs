//! How often the kernel asked for what: the figure that says whether its caches work.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A kind of request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Op {
            $($(#[$doc])* $variant,)*
        }

        impl Op {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in the protocol.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    /// Find a name.
    Lookup = "LOOKUP",
    /// Give lookups back (BATCH_FORGET counts each node).
    Forget = "FORGET",
    /// Ask for attributes.
    Getattr = "GETATTR",
    /// Change attributes.
    Setattr = "SETATTR",
    /// Read a symbolic link.
    Readlink = "READLINK",
    /// Make a file that is not opened, a device, a pipe or a socket.
    Mknod = "MKNOD",
    /// Make a directory.
    Mkdir = "MKDIR",
    /// Remove a name.
    Unlink = "UNLINK",
    /// Remove a directory.
    Rmdir = "RMDIR",
    /// Make a symbolic link.
    Symlink = "SYMLINK",
    /// Move a name.
    Rename = "RENAME",
    /// Give an inode another name.
    Link = "LINK",
    /// Open a file.
    Open = "OPEN",
    /// Read a file.
    Read = "READ",
    /// Write a file.
    Write = "WRITE",
    /// A descriptor was closed.
    Flush = "FLUSH",
    /// An open file is no longer used.
    Release = "RELEASE",
    /// Make a file durable.
    Fsync = "FSYNC",
    /// Open a directory.
    Opendir = "OPENDIR",
    /// List a directory.
    Readdir = "READDIR",
    /// List a directory with attributes.
    Readdirplus = "READDIRPLUS",
    /// A directory is no longer used.
    Releasedir = "RELEASEDIR",
    /// Make a directory durable.
    Fsyncdir = "FSYNCDIR",
    /// Ask for the figures of the volume.
    Statfs = "STATFS",
    /// Set an extended attribute.
    Setxattr = "SETXATTR",
    /// Read an extended attribute.
    Getxattr = "GETXATTR",
    /// List extended attributes.
    Listxattr = "LISTXATTR",
    /// Remove an extended attribute.
    Removexattr = "REMOVEXATTR",
    /// Check permissions.
    Access = "ACCESS",
    /// Make and open a file.
    Create = "CREATE",
    /// Test a lock.
    Getlk = "GETLK",
    /// Set a lock.
    Setlk = "SETLK",
    /// Map a block.
    Bmap = "BMAP",
    /// Control a device.
    Ioctl = "IOCTL",
    /// Wait for a file.
    Poll = "POLL",
    /// Reserve or free space.
    Fallocate = "FALLOCATE",
    /// Find data or a hole.
    Lseek = "LSEEK",
    /// Copy between files.
    CopyFileRange = "COPY_FILE_RANGE",
    /// Rename the volume (macOS).
    Setvolname = "SETVOLNAME",
    /// Exchange the content of two files (macOS).
    Exchange = "EXCHANGE",
    /// Ask for backup and creation time (macOS).
    Getxtimes = "GETXTIMES",
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Requests counted so far, by kind.
#[derive(Clone, PartialEq, Eq)]
pub struct Requests([u64; Op::ALL.len()]);

impl Requests {
    /// Requests of one kind.
    pub fn of(&self, op: Op) -> u64 {
        self.0[op as usize]
    }

    /// All requests for which somebody waited: all but FORGET and RELEASE.
    pub fn waited_for(&self) -> u64 {
        let silent = [Op::Forget, Op::Release, Op::Releasedir];
        Op::ALL.iter().filter(|op| !silent.contains(op)).map(|&op| self.of(op)).sum()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was counted after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|op| self.0[op].saturating_sub(earlier.0[op])))
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = Op::ALL.iter().filter(|&&op| self.of(op) > 0);
        f.debug_map().entries(counted.map(|&op| (op, self.of(op)))).finish()
    }
}

#[derive(Debug)]
pub(crate) struct Counters([AtomicU64; Op::ALL.len()]);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(crate) fn add(&self, op: Op, count: u64) {
        // Nothing is ordered by these numbers.
        self.0[op as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Requests {
        Requests(std::array::from_fn(|op| self.0[op].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_compared() {
        let counters = Counters::new();
        counters.add(Op::Lookup, 1);
        let before = counters.read();
        counters.add(Op::Lookup, 1);
        counters.add(Op::Forget, 3);
        let new = counters.read().since(&before);
        assert_eq!((new.of(Op::Lookup), new.of(Op::Forget), new.of(Op::Read)), (1, 3, 0));
        assert_eq!(new.waited_for(), 1);
        assert_eq!(format!("{new:?}"), "{Lookup: 1, Forget: 3}");
        assert_eq!(Op::CopyFileRange.to_string(), "COPY_FILE_RANGE");
    }
}
