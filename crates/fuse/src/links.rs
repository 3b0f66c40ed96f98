//! The nodes of a mount whose root shows links: one for each name that the kernel knows in the
//! root, whatever view it was looked up in.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The folder in the root that leads to the roots of the views, by their numbers. It is not listed.
pub(crate) const FOLDER: &[u8] = b".rt";

/// The number of a name in the root; never given to another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) u32);

/// The names that the kernel knows in the root, with its number of lookups of each.
#[derive(Debug, Default)]
pub(crate) struct Links {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Arc<[u8]>, LinkId>,
    by_id: HashMap<LinkId, Known>,
    last: u32,
}

#[derive(Debug)]
struct Known {
    name: Arc<[u8]>,
    lookups: u64,
}

impl Links {
    /// The number of a name, with one more lookup counted; `None` when there are no numbers left.
    pub(crate) fn remember(&self, name: &[u8]) -> Option<LinkId> {
        let mut table = self.table.lock();
        if let Some(id) = table.by_name.get(name).copied() {
            if let Some(known) = table.by_id.get_mut(&id) {
                known.lookups += 1;
            }
            return Some(id);
        }
        let id = LinkId(table.last.checked_add(1)?);
        table.last = id.0;
        let name: Arc<[u8]> = name.into();
        table.by_name.insert(Arc::clone(&name), id);
        table.by_id.insert(id, Known { name, lookups: 1 });
        Some(id)
    }

    /// The number of a name that the kernel knows.
    pub(crate) fn number(&self, name: &[u8]) -> Option<LinkId> {
        self.table.lock().by_name.get(name).copied()
    }

    /// The name behind a number.
    pub(crate) fn name(&self, id: LinkId) -> Option<Arc<[u8]>> {
        self.table.lock().by_id.get(&id).map(|known| Arc::clone(&known.name))
    }

    /// Takes lookups back; returns how many there were when these are fewer.
    pub(crate) fn forget(&self, id: LinkId, count: u64) -> Result<(), u64> {
        let mut table = self.table.lock();
        let Some(known) = table.by_id.get_mut(&id) else { return Err(0) };
        let counted = known.lookups;
        if counted > count {
            known.lookups -= count;
            return Ok(());
        }
        if let Some(known) = table.by_id.remove(&id) {
            table.by_name.remove(&known.name);
        }
        if counted < count { Err(counted) } else { Ok(()) }
    }

    /// Forgets all: the kernel is gone.
    pub(crate) fn clear(&self) {
        let mut table = self.table.lock();
        table.by_name.clear();
        table.by_id.clear();
    }

    /// How many names the kernel knows.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_until_the_kernel_has_forgotten_it() {
        let links = Links::default();
        let bin = links.remember(b"bin").unwrap();
        assert_eq!(links.remember(b"bin"), Some(bin));
        let lib = links.remember(b"lib").unwrap();
        assert_ne!(bin, lib);
        assert_eq!(links.name(bin).as_deref(), Some(&b"bin"[..]));
        assert_eq!(links.forget(bin, 1), Ok(()));
        assert_eq!(links.number(b"bin"), Some(bin));
        assert_eq!(links.forget(bin, 1), Ok(()));
        assert_eq!((links.number(b"bin"), links.name(bin), links.len()), (None, None, 1));
        assert_ne!(links.remember(b"bin"), Some(bin), "numbers are never used again");
        assert_eq!(links.forget(lib, 2), Err(1));
        assert_eq!(links.forget(lib, 1), Err(0));
    }
}
