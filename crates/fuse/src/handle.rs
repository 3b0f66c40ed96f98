//! Open files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuser::FileHandle;
use parking_lot::RwLock;
use spfs_vfs::api::{Access, Ino};

use crate::views::ViewId;

/// An open file: it belongs to the view that opened it, whoever reads or writes through it.
#[derive(Debug)]
pub(crate) struct Handle<F> {
    pub(crate) view: ViewId,
    pub(crate) ino: Ino,
    pub(crate) access: Access,
    pub(crate) file: F,
}

/// The open files of a mount by the number the kernel has for them.
///
/// A number is (generation, slot, shard): a slot that is used again gives another number, so a
/// stale number is refused and never reaches somebody else's file.
#[derive(Debug)]
pub(crate) struct Handles<F> {
    shards: Box<[Shard<F>]>,
    turn: AtomicUsize,
}

#[derive(Debug)]
#[repr(align(64))]
struct Shard<F>(RwLock<Slots<F>>);

#[derive(Debug)]
struct Slots<F> {
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<F> {
    generation: u32,
    handle: Option<Arc<Handle<F>>>,
}

const SHARD_BITS: u32 = 4;
const SHARDS: usize = 1 << SHARD_BITS;
/// Slots in a shard: 2^28, which no limit on open files reaches.
const SLOT_BITS: u32 = 28;

impl<F> Handles<F> {
    pub(crate) fn new() -> Self {
        let empty = || Shard(RwLock::new(Slots { slots: Vec::new(), free: Vec::new() }));
        Self { shards: (0..SHARDS).map(|_| empty()).collect(), turn: AtomicUsize::new(0) }
    }

    /// Adds an open file; `None` when there is no number left for it.
    pub(crate) fn insert(&self, handle: Handle<F>) -> Option<FileHandle> {
        let shard = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut slots = self.shards[shard].0.write();
        let slot = match slots.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(slots.slots.len()).ok()?;
                if slot >= 1 << SLOT_BITS {
                    return None;
                }
                slots.slots.push(Slot { generation: 0, handle: None });
                slot
            }
        };
        let place = &mut slots.slots[slot as usize];
        place.handle = Some(Arc::new(handle));
        Some(FileHandle(
            u64::from(place.generation) << (SLOT_BITS + SHARD_BITS)
                | u64::from(slot) << SHARD_BITS
                | shard as u64,
        ))
    }

    /// Returns an open file.
    pub(crate) fn get(&self, fh: FileHandle) -> Option<Arc<Handle<F>>> {
        let (shard, slot, generation) = split(fh);
        let slots = self.shards[shard].0.read();
        let place = slots.slots.get(slot).filter(|place| place.generation == generation)?;
        place.handle.clone()
    }

    /// Takes an open file out; it closes when the last request that uses it is done.
    pub(crate) fn remove(&self, fh: FileHandle) -> Option<Arc<Handle<F>>> {
        let (shard, slot, generation) = split(fh);
        let mut slots = self.shards[shard].0.write();
        let place = slots.slots.get_mut(slot).filter(|place| place.generation == generation)?;
        let handle = place.handle.take()?;
        place.generation = place.generation.wrapping_add(1);
        // `slot` came out of 28 bits.
        slots.free.push(slot as u32);
        Some(handle)
    }

    /// Returns the inodes of a view that are open for writing: the only ones of which the kernel
    /// may hold written pages that did not come here yet.
    pub(crate) fn writers(&self, view: ViewId) -> Vec<Ino> {
        let mut inodes = Vec::new();
        for shard in &self.shards {
            let slots = shard.0.read();
            let open = slots.slots.iter().filter_map(|slot| slot.handle.as_deref());
            inodes.extend(
                open.filter(|handle| handle.view == view && handle.access == Access::Write)
                    .map(|handle| handle.ino),
            );
        }
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    }

    /// Whether an inode is open for writing.
    pub(crate) fn is_written(&self, view: ViewId, ino: Ino) -> bool {
        let writes = |handle: &Handle<F>| {
            handle.access == Access::Write && handle.ino == ino && handle.view == view
        };
        self.shards.iter().any(|shard| {
            let slots = shard.0.read();
            slots.slots.iter().any(|slot| slot.handle.as_deref().is_some_and(writes))
        })
    }

    /// The number of open files.
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let slots = shard.0.read();
                slots.slots.len() - slots.free.len()
            })
            .sum()
    }

    /// Closes all files: the kernel is gone.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut slots = shard.0.write();
            let gone =
                std::mem::replace(&mut *slots, Slots { slots: Vec::new(), free: Vec::new() });
            drop(slots);
            drop(gone);
        }
    }
}

fn split(fh: FileHandle) -> (usize, usize, u32) {
    let shard = fh.0 as usize % SHARDS;
    let slot = (fh.0 >> SHARD_BITS) as usize & ((1 << SLOT_BITS) - 1);
    let generation = (fh.0 >> (SLOT_BITS + SHARD_BITS)) as u32;
    (shard, slot, generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(ino: u64, access: Access) -> Handle<u64> {
        Handle { view: ViewId::FIRST, ino: Ino(ino), access, file: ino }
    }

    #[test]
    fn a_released_number_is_refused_also_when_its_slot_is_used_again() {
        let handles = Handles::new();
        let old = handles.insert(open(2, Access::Read)).unwrap();
        assert_eq!(handles.get(old).unwrap().file, 2);
        assert_eq!(handles.remove(old).unwrap().ino, Ino(2));
        for ino in 10..10 + 2 * SHARDS as u64 {
            let new = handles.insert(open(ino, Access::Read)).unwrap();
            assert_ne!(new, old);
            assert_eq!(handles.get(new).unwrap().file, ino);
        }
        assert!(handles.get(old).is_none());
        assert!(handles.remove(old).is_none());
        assert_eq!(handles.len(), 2 * SHARDS);
        handles.clear();
        assert_eq!(handles.len(), 0);
    }

    #[test]
    fn writers_are_the_inodes_open_for_writing_each_once() {
        let handles = Handles::new();
        let other = Handle { view: ViewId::new(7).unwrap(), ..open(9, Access::Write) };
        let first = handles.insert(open(5, Access::Write)).unwrap();
        for handle in [open(5, Access::Write), open(3, Access::Write), open(4, Access::Read), other]
        {
            handles.insert(handle).unwrap();
        }
        assert_eq!(handles.writers(ViewId::FIRST), [Ino(3), Ino(5)]);
        assert!(handles.is_written(ViewId::FIRST, Ino(3)));
        assert!(!handles.is_written(ViewId::FIRST, Ino(4)));
        assert!(!handles.is_written(ViewId::FIRST, Ino(9)));
        handles.remove(first);
        assert_eq!(handles.writers(ViewId::FIRST), [Ino(3), Ino(5)]);
    }

    #[test]
    fn a_reader_keeps_its_file_while_it_is_released() {
        let handles = Handles::new();
        let fh = handles.insert(open(2, Access::Read)).unwrap();
        let reading = handles.get(fh).unwrap();
        handles.remove(fh);
        assert_eq!(reading.file, 2);
    }
}
