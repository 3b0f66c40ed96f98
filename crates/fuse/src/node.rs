//! Node ids, and the nodes the kernel knows.
//!
//! A node id is what the kernel calls an inode: the view in the upper 24 bits, the number of the
//! inode in that view in the lower 40. Neither half is ever given twice in the life of a mount, so
//! the kernel never mistakes a new file for an old one and generations stay 0.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use fuser::INodeNo;
use parking_lot::Mutex;
use spfs_vfs::api::{Ino, Pin, Vfs};

use crate::links::LinkId;
use crate::views::ViewId;

const INO_BITS: u32 = 40;
const INO_MASK: u64 = (1 << INO_BITS) - 1;

/// A node id taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// The root of the mount (FUSE_ROOT_ID), which belongs to the view of whoever asks.
    Root,
    /// Everything else that is in a view.
    Of(ViewId, Ino),
    /// The folder that leads to the roots of the views, in a root of links.
    Folder,
    /// A name in a root of links.
    Link(LinkId),
}

/// The upper half of the mount's own nodes.
const OWN: u64 = (ViewId::COUNT as u64) << INO_BITS;
/// Their lower halves: 1 is the folder, numbers with this bit the roots of views, others links.
const ROOT_OF_VIEW: u64 = 1 << (INO_BITS - 1);
const FOLDER: u64 = 1;
const FIRST_LINK: u64 = 2;

impl Node {
    /// Takes a node id of the kernel apart.
    pub(crate) fn from_id(id: INodeNo) -> Self {
        if id == INodeNo::ROOT {
            return Self::Root;
        }
        let low = id.0 & INO_MASK;
        match ViewId::new((id.0 >> INO_BITS) as u32) {
            Some(view) => Self::Of(view, Ino(low)),
            None => Self::own(low),
        }
    }

    fn own(low: u64) -> Self {
        if low & ROOT_OF_VIEW != 0 {
            let view = ViewId::new((low & !ROOT_OF_VIEW) as u32).unwrap_or(ViewId::FIRST);
            return Self::Of(view, Ino::ROOT);
        }
        // Links have 32 bits.
        low.checked_sub(FIRST_LINK).map_or(Self::Folder, |link| Self::Link(LinkId(link as u32)))
    }

    /// The node id of the folder of the views.
    pub(crate) const FOLDER_ID: INodeNo = INodeNo(OWN | FOLDER);

    /// The node id of the root of a view, as it is found in that folder.
    pub(crate) fn root_id(view: ViewId) -> INodeNo {
        INodeNo(OWN | ROOT_OF_VIEW | u64::from(view.number()))
    }

    /// The node id of a link.
    pub(crate) fn link_id(link: LinkId) -> INodeNo {
        INodeNo(OWN | (u64::from(link.0) + FIRST_LINK))
    }

    /// The node id of an inode; all roots have the id of the mount's root. `None` when the inode's
    /// number is too large, or 0, which means "no entry" to the kernel.
    pub(crate) fn id(view: ViewId, ino: Ino) -> Option<INodeNo> {
        if ino == Ino::ROOT {
            return Some(INodeNo::ROOT);
        }
        (ino.0 != 0 && ino.0 <= INO_MASK)
            .then(|| INodeNo(u64::from(view.number()) << INO_BITS | ino.0))
    }
}

/// A `forget` for more lookups than there were: the kernel and the table disagree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Underflow {
    /// How many lookups the table had counted.
    pub(crate) counted: u64,
}

/// The nodes that the kernel knows, with its number of lookups for each and one [`Pin`], which
/// keeps an inode without names from going while the kernel can still ask for it.
///
/// A count rises before the reply that tells the kernel of the node is sent: so a `forget` can
/// never overtake it. Pins are dropped after the lock was released, as the core may have work then.
pub(crate) struct Nodes<V: Vfs> {
    shards: Box<[Shard<V>]>,
}

// A line of its own for each lock, or neighbours would pull it from each other's caches.
#[repr(align(64))]
struct Shard<V: Vfs>(Mutex<HashMap<u64, Known<V>, BuildHasherDefault<IdHasher>>>);

struct Known<V: Vfs> {
    lookups: u64,
    pin: Pin<V>,
}

const SHARDS: usize = 64;

impl<V: Vfs> Nodes<V> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard(Mutex::default())).collect() }
    }

    /// Counts one more lookup of a node.
    pub(crate) fn remember(&self, vfs: &Arc<V>, ino: Ino, id: INodeNo) {
        if id == INodeNo::ROOT {
            // The root is known without a lookup and never forgotten.
            return;
        }
        let mut shard = self.shard(id).0.lock();
        shard
            .entry(id.0)
            .or_insert_with(|| Known { lookups: 0, pin: Pin::new(vfs, ino) })
            .lookups += 1;
    }

    /// Takes `count` lookups of a node back.
    pub(crate) fn forget(&self, id: INodeNo, count: u64) -> Result<(), Underflow> {
        if id == INodeNo::ROOT || count == 0 {
            return Ok(());
        }
        let mut shard = self.shard(id).0.lock();
        let Some(known) = shard.get_mut(&id.0) else { return Err(Underflow { counted: 0 }) };
        let counted = known.lookups;
        if counted > count {
            known.lookups -= count;
            return Ok(());
        }
        let gone = shard.remove(&id.0);
        drop(shard);
        drop(gone.map(|known| known.pin));
        if counted < count { Err(Underflow { counted }) } else { Ok(()) }
    }

    /// Forgets the nodes of a view that is gone: what was held for them is given back.
    pub(crate) fn forget_view(&self, view: ViewId) {
        let is_of_view =
            |id: u64| matches!(Node::from_id(INodeNo(id)), Node::Of(v, _) if v == view);
        for shard in &self.shards {
            let mut nodes = shard.0.lock();
            let ids: Vec<u64> = nodes.keys().copied().filter(|id| is_of_view(*id)).collect();
            let gone: Vec<_> = ids.iter().filter_map(|id| nodes.remove(id)).collect();
            drop(nodes);
            drop(gone);
        }
    }

    /// The number of nodes that the kernel knows, without the root.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// Forgets all nodes: the kernel is gone, and it does not say so for each.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let gone = std::mem::take(&mut *shard.0.lock());
            drop(gone);
        }
    }

    fn shard(&self, id: INodeNo) -> &Shard<V> {
        &self.shards[(spread(id.0) >> 58) as usize % SHARDS]
    }
}

/// Ids are dense and never chosen by an attacker, so one multiplication (Fibonacci hashing) does.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // The table takes its position from the low bits and its tag from the high ones; the
        // shard has used up the highest six.
        self.0 = spread(self.0 ^ id).rotate_left(32);
    }
}

fn spread(id: u64) -> u64 {
    id.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use spfs_testkit::ModelFs;
    use spfs_vfs::api::{Name, New, NewKind, Owner, Remove};

    use super::*;

    #[test]
    fn node_ids_hold_view_and_inode() {
        let last = ViewId::new(ViewId::COUNT - 1).unwrap();
        for view in [ViewId::FIRST, ViewId::new(1).unwrap(), last] {
            for ino in [Ino(2), Ino(3), Ino(INO_MASK)] {
                let id = Node::id(view, ino).unwrap();
                assert_eq!(Node::from_id(id), Node::Of(view, ino));
            }
            assert_eq!(Node::id(view, Ino::ROOT), Some(INodeNo::ROOT));
            assert_eq!(Node::id(view, Ino(INO_MASK + 1)), None);
            assert_eq!(Node::id(view, Ino(0)), None);
        }
        assert_eq!(Node::from_id(INodeNo::ROOT), Node::Root);
        assert_eq!(Node::from_id(Node::FOLDER_ID), Node::Folder);
        for view in [ViewId::FIRST, ViewId::new(1).unwrap(), last] {
            assert_eq!(Node::from_id(Node::root_id(view)), Node::Of(view, Ino::ROOT));
        }
        for link in [LinkId(0), LinkId(1), LinkId(u32::MAX)] {
            assert_eq!(Node::from_id(Node::link_id(link)), Node::Link(link));
        }
        assert_eq!(
            Node::id(ViewId::FIRST, Ino(77)),
            Some(INodeNo(77)),
            "one view: the same number"
        );
        assert_eq!(ViewId::new(ViewId::COUNT), None);
    }

    fn unnamed_file(fs: &Arc<ModelFs>) -> (Ino, INodeNo) {
        let new = New { kind: NewKind::Regular, perm: 0o644, owner: Owner { uid: 0, gid: 0 } };
        let name = Name::new(b"file").unwrap();
        let ino = fs.create(Ino::ROOT, name, new).unwrap().ino;
        let id = Node::id(ViewId::FIRST, ino).unwrap();
        (ino, id)
    }

    #[test]
    fn a_node_is_pinned_once_from_the_first_lookup_to_the_last_forget() {
        let fs = Arc::new(ModelFs::with_system_clock());
        let nodes = Nodes::new();
        let (ino, id) = unnamed_file(&fs);
        for _ in 0..5 {
            nodes.remember(&fs, ino, id);
        }
        fs.remove(Ino::ROOT, Name::new(b"file").unwrap(), Remove::File).unwrap();
        assert_eq!(nodes.forget(id, 2), Ok(()));
        assert!(fs.peek(ino).is_some());
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes.forget(id, 3), Ok(()));
        assert!(fs.peek(ino).is_none());
        assert_eq!(nodes.len(), 0);
    }

    #[test]
    fn forgetting_more_than_was_looked_up_is_reported_and_lets_the_node_go() {
        let fs = Arc::new(ModelFs::with_system_clock());
        let nodes = Nodes::new();
        let (ino, id) = unnamed_file(&fs);
        assert_eq!(nodes.forget(id, 1), Err(Underflow { counted: 0 }));
        nodes.remember(&fs, ino, id);
        assert_eq!(nodes.forget(id, 2), Err(Underflow { counted: 1 }));
        assert_eq!(nodes.len(), 0);
        assert_eq!(nodes.forget(INodeNo::ROOT, 1), Ok(()), "the root has no count");
    }

    #[test]
    fn the_end_of_the_kernel_gives_all_nodes_back() {
        let fs = Arc::new(ModelFs::with_system_clock());
        let nodes = Nodes::new();
        let (ino, id) = unnamed_file(&fs);
        nodes.remember(&fs, ino, id);
        fs.remove(Ino::ROOT, Name::new(b"file").unwrap(), Remove::File).unwrap();
        nodes.clear();
        assert_eq!(nodes.len(), 0);
        assert!(fs.peek(ino).is_none());
    }
}
