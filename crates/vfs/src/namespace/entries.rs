//! The listing of a touched directory: a plain map without whiteouts.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::api::{FileType, Ino};
use crate::lower::Lower;

/// A directory's entries, found by name and read in the order of their cookies.
///
/// The entries that the lower tree gave keep the cookies they had there, 1 and up in name order;
/// each later one takes the next number. So a reader's position stays right whatever is taken away
/// or added, also when the directory is first touched in the middle of a listing.
#[derive(Debug)]
pub(crate) struct Entries {
    by_cookie: BTreeMap<u64, Dentry>,
    by_name: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    next_cookie: u64,
    subdirectories: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    cookie: u64,
}

/// One name in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Dentry {
    label: Label,
    pub(crate) ino: Ino,
    pub(crate) file_type: FileType,
}

/// A name; one that the lower tree has for the inode is not stored again.
#[derive(Debug, Clone)]
enum Label {
    Lower,
    Own(Box<[u8]>),
}

impl Dentry {
    pub(crate) fn name<'a>(&'a self, lower: &'a Lower) -> &'a [u8] {
        match &self.label {
            Label::Own(name) => name,
            Label::Lower => lower.node(self.ino).map_or(b"", |node| node.name),
        }
    }
}

impl Entries {
    /// An empty listing.
    pub(crate) fn new() -> Self {
        Self {
            by_cookie: BTreeMap::new(),
            by_name: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            next_cookie: 1,
            subdirectories: 0,
        }
    }

    /// The listing that a lower directory has.
    pub(crate) fn of_lower(lower: &Lower, dir: Ino) -> Self {
        let mut entries = Self::new();
        let children = lower.children(dir);
        entries.by_name = HashTable::with_capacity((children.end - children.start) as usize);
        entries.by_cookie = children
            .clone()
            .filter_map(|number| {
                let ino = Ino(number);
                let node = lower.node(ino)?;
                let cookie = number - children.start + 1;
                let slot = Slot { hash: entries.hasher.hash_one(node.name), cookie };
                entries.by_name.insert_unique(slot.hash, slot, |slot| slot.hash);
                Some((cookie, Dentry { label: Label::Lower, ino, file_type: node.file_type }))
            })
            .collect();
        entries.next_cookie = children.end - children.start + 1;
        entries.subdirectories = lower.subdirectories(dir);
        entries
    }

    /// A listing with given cookies.
    pub(crate) fn restore(
        entries: impl IntoIterator<Item = (u64, Box<[u8]>, Ino, FileType)>,
    ) -> Self {
        let mut restored = Self::new();
        for (cookie, name, ino, file_type) in entries {
            let slot = Slot { hash: restored.hasher.hash_one(&*name), cookie };
            restored.by_name.insert_unique(slot.hash, slot, |slot| slot.hash);
            restored.by_cookie.insert(cookie, Dentry { label: Label::Own(name), ino, file_type });
            restored.subdirectories += u32::from(file_type == FileType::Directory);
            restored.next_cookie = restored.next_cookie.max(cookie + 1);
        }
        restored
    }

    pub(crate) fn len(&self) -> usize {
        self.by_cookie.len()
    }

    pub(crate) fn subdirectories(&self) -> u32 {
        self.subdirectories
    }

    pub(crate) fn get(&self, lower: &Lower, name: &[u8]) -> Option<&Dentry> {
        let hash = self.hasher.hash_one(name);
        let slot = self.by_name.find(hash, |slot| self.is_named(lower, slot, hash, name))?;
        self.by_cookie.get(&slot.cookie)
    }

    fn is_named(&self, lower: &Lower, slot: &Slot, hash: u64, name: &[u8]) -> bool {
        slot.hash == hash
            && self.by_cookie.get(&slot.cookie).is_some_and(|dentry| dentry.name(lower) == name)
    }

    /// Adds a name that is not there yet.
    pub(crate) fn insert(&mut self, name: &[u8], ino: Ino, file_type: FileType) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let slot = Slot { hash: self.hasher.hash_one(name), cookie };
        self.by_name.insert_unique(slot.hash, slot, |slot| slot.hash);
        self.by_cookie.insert(cookie, Dentry { label: Label::Own(name.into()), ino, file_type });
        self.subdirectories += u32::from(file_type == FileType::Directory);
    }

    /// Takes a name away.
    pub(crate) fn remove(&mut self, lower: &Lower, name: &[u8]) -> Option<Dentry> {
        let hash = self.hasher.hash_one(name);
        let by_cookie = &self.by_cookie;
        let found = self.by_name.find_entry(hash, |slot| {
            slot.hash == hash
                && by_cookie.get(&slot.cookie).is_some_and(|dentry| dentry.name(lower) == name)
        });
        let (slot, _) = found.ok()?.remove();
        let dentry = self.by_cookie.remove(&slot.cookie)?;
        self.subdirectories -= u32::from(dentry.file_type == FileType::Directory);
        Some(dentry)
    }

    /// Lets a name that is there lead to another inode; its cookie stays.
    pub(crate) fn replace(&mut self, lower: &Lower, name: &[u8], ino: Ino, file_type: FileType) {
        let hash = self.hasher.hash_one(name);
        let slot = self.by_name.find(hash, |slot| self.is_named(lower, slot, hash, name)).copied();
        let Some(dentry) = slot.and_then(|slot| self.by_cookie.get_mut(&slot.cookie)) else {
            return;
        };
        self.subdirectories -= u32::from(dentry.file_type == FileType::Directory);
        self.subdirectories += u32::from(file_type == FileType::Directory);
        *dentry = Dentry { label: Label::Own(name.into()), ino, file_type };
    }

    /// The entries whose cookies are above `after`, in their order.
    pub(crate) fn after(&self, after: u64) -> impl Iterator<Item = (u64, &Dentry)> {
        self.by_cookie
            .range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded))
            .map(|(cookie, dentry)| (*cookie, dentry))
    }
}
