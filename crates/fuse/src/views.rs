//! Which view an operation belongs to.
//!
//! One mount may carry several views. Only operations on the root node ask who the caller is; every
//! deeper node id and every handle already belongs to a view, so requests the kernel makes on its
//! own account (writeback, read-ahead: pid 0) need no caller at all.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use spfs_vfs::api::{Ino, Vfs};

use crate::node::Node;

/// The number of a view in one mount, given once and never to another view of that mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(u32);

impl ViewId {
    /// The only view of a mount with one view, and the default view of a routed one.
    pub const FIRST: Self = Self(0);

    /// Views that a mount can have in its life: node ids leave 24 bits for them, and the last of
    /// these numbers is that of the mount's own nodes.
    pub const COUNT: u32 = (1 << 24) - 1;

    /// Numbers a view; `None` when the mount has used up its numbers.
    pub const fn new(number: u32) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// What stat(2) shows as the number of an inode of this view below its root; `None` when that is
    /// too large.
    pub fn inode_number(self, ino: Ino) -> Option<u64> {
        Node::id(self, ino).map(|id| id.0)
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The process that asks. The kernel's own requests carry pid 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Caller {
    /// The kernel, on nobody's behalf.
    pub(crate) const KERNEL: Self = Self { pid: 0, uid: 0, gid: 0 };
}

/// The views of a mount.
pub trait Views: Send + Sync + 'static {
    /// The file system behind every view.
    type Vfs: Vfs;

    /// Access to one view: a plain reference where nothing can remove it, a counted one elsewhere.
    type Ref<'a>: Borrow<Arc<Self::Vfs>>;

    /// Whether two callers may see different roots. The kernel then may not remember anything
    /// about names in the root, and asks for each.
    const ROUTED: bool;

    /// The view whose root this caller sees.
    fn of_caller(&self, caller: Caller) -> ViewId;

    /// A view by its number; `None` when it is gone.
    fn view(&self, id: ViewId) -> Option<Self::Ref<'_>>;
}

/// One view for everybody.
#[derive(Debug)]
pub struct Single<V>(Arc<V>);

impl<V: Vfs> Single<V> {
    /// Serves `vfs` to everybody.
    pub fn new(vfs: Arc<V>) -> Self {
        Self(vfs)
    }
}

impl<V: Vfs> Views for Single<V> {
    type Vfs = V;
    type Ref<'a> = &'a Arc<V>;

    const ROUTED: bool = false;

    fn of_caller(&self, _caller: Caller) -> ViewId {
        ViewId::FIRST
    }

    fn view(&self, id: ViewId) -> Option<&Arc<V>> {
        (id == ViewId::FIRST).then_some(&self.0)
    }
}
