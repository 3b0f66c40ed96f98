//! Extended attributes, and the protocol's question for their size.

use fuser::{Errno, INodeNo};
use spfs_vfs::api::{Vfs, XattrMode};

use super::{At, Edge, Failure, Result};
use crate::views::{Caller, Views};

/// Attributes that are not ours to keep. ACLs are the kernel's, which enforces them only for a file
/// system that asks for that (FUSE_POSIX_ACL); labels are the security module's, which answers
/// itself where it is active. To keep one as a plain attribute would be to promise what nobody
/// does. "Not supported" also lets ls(1) ask once and not for each file.
const FOREIGN: [&[u8]; 2] = [b"system.posix_acl_", b"security.selinux"];

/// Attributes of which only root knows (xattr(7)). The kernel sees to reading and setting them, but not to
/// their names in a list.
const TRUSTED: &[u8] = b"trusted.";

/// The answer to a read of a value or of the list of names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Xattr {
    /// How large it is.
    Size(u32),
    /// It.
    Data(Box<[u8]>),
}

impl Xattr {
    /// A caller whose buffer has length 0 asks for the size.
    fn answer(data: Box<[u8]>, room: u32) -> Result<Self> {
        let size = u32::try_from(data.len()).map_err(|_| Errno::E2BIG)?;
        match room {
            0 => Ok(Self::Size(size)),
            room if room < size => Err(Errno::ERANGE.into()),
            _ => Ok(Self::Data(data)),
        }
    }
}

impl<W: Views> Edge<W> {
    pub(crate) fn getxattr(
        &self,
        caller: Caller,
        id: INodeNo,
        name: &[u8],
        room: u32,
    ) -> Result<Xattr> {
        let at = self.attributed(caller, id, name)?;
        Xattr::answer(at.vfs().getxattr(at.ino, name)?, room)
    }

    pub(crate) fn setxattr(
        &self,
        caller: Caller,
        id: INodeNo,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        let at = self.attributed(caller, id, name)?;
        let mode = match flags & (libc::XATTR_CREATE | libc::XATTR_REPLACE) {
            0 => XattrMode::Set,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Errno::EINVAL.into()),
        };
        Ok(at.vfs().setxattr(at.ino, name, value, mode)?)
    }

    pub(crate) fn listxattr(&self, caller: Caller, id: INodeNo, room: u32) -> Result<Xattr> {
        let at = self.at(caller, id)?;
        let mut names = at.vfs().listxattr(at.ino)?;
        if caller.uid != 0 {
            names.retain(|name| !name.starts_with(TRUSTED));
        }
        let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Xattr::answer(list.into_boxed_slice(), room)
    }

    pub(crate) fn removexattr(&self, caller: Caller, id: INodeNo, name: &[u8]) -> Result<()> {
        let at = self.attributed(caller, id, name)?;
        Ok(at.vfs().removexattr(at.ino, name)?)
    }

    /// The inode whose attribute `name` is asked for.
    fn attributed(&self, caller: Caller, id: INodeNo, name: &[u8]) -> Result<At<'_, W>> {
        if FOREIGN.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(Failure::Protocol(Errno::EOPNOTSUPP));
        }
        self.at(caller, id)
    }
}
