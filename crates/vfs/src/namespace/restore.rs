//! Bringing names back to what the layers have.

use std::sync::Arc;

use spfs_model::{MergedTree, Name};

use crate::api::{Error, FileType, Ino, New, NewKind, Owner, Result, Timestamp};

use super::{Body, Directory, Entries, Namespace, Target};

impl Namespace {
    /// Tells whether a lower inode can go back to its own place: nothing leads to it, its name is
    /// free there, and its directory is where the name belongs.
    pub(crate) fn can_restore(&self, ino: Ino, dir: Ino) -> bool {
        self.lower.parent(ino) == Some(dir)
            && self.nodes.get(&ino).is_none_or(super::Node::is_orphan)
    }

    /// Puts a lower inode back at its own place, as the lower tree has it. A directory gets
    /// everything back that is below it there (`whole`), or is empty. Returns how many inodes came
    /// back below it.
    pub(crate) fn restore_lower(&mut self, ino: Ino, whole: bool, now: Timestamp) -> Result<usize> {
        let dir = self.lower.parent(ino).ok_or(Error::Stale)?;
        let lower = self.lower.node(ino).ok_or(Error::Stale)?;
        let (name, file_type) = (Box::<[u8]>::from(lower.name), lower.file_type);
        let found = self.find(dir, Name::new(&name).map_err(|_| Error::Invalid)?)?;
        if found.is_some() {
            return Err(Error::Exists);
        }
        self.nodes.remove(&ino);
        self.orphans.remove(&ino);
        self.gone.remove(&ino);
        self.changed.remove(&ino);
        let mut revived = 0;
        if whole && file_type == FileType::Directory {
            revived = self.revive_below(ino);
        }
        if file_type == FileType::Directory && !whole {
            let node = self.touch(ino)?;
            if let Body::Directory(Directory { entries, .. }) = &mut node.body {
                *entries = Some(Entries::new());
            }
        }
        self.listing_mut(dir)?.0.insert(&name, ino, file_type);
        self.listing_changed(dir, now)?;
        Ok(revived)
    }

    /// What was removed below a lower directory is there again, as the lower tree has it. Costs what
    /// was removed and the depth of the tree. Returns how many inodes that were.
    fn revive_below(&mut self, dir: Ino) -> usize {
        let mut revived = 0;
        for level in self.lower.levels_below(dir) {
            let level = Ino(level.start)..Ino(level.end);
            revived += self.gone.extract_if(level.clone(), |_| true).count();
            for ino in self.orphans.extract_if(level, |_| true) {
                self.nodes.remove(&ino);
                self.changed.remove(&ino);
                revived += 1;
            }
        }
        revived
    }

    /// Makes a link whose target is a payload of the layers.
    pub(crate) fn create_layer_symlink(
        &mut self,
        dir: Ino,
        name: Name<'_>,
        payload: Target,
        owner: Owner,
        now: Timestamp,
    ) -> Result<Ino> {
        let new = New { kind: NewKind::Symlink(b"?"), perm: 0o777, owner };
        let ino = self.create(dir, name, new, now)?;
        if let Body::Symlink { target, .. } = &mut self.touch(ino)?.body {
            *target = payload;
        }
        Ok(ino)
    }

    /// Stands on another tree from now on, without any change. Numbers are not used again; what the
    /// kernel still holds of the old tree stays readable as it was.
    pub(crate) fn exchange_lower(&mut self, tree: Arc<MergedTree>, oldest: Option<Ino>) {
        self.nodes.clear();
        self.orphans.clear();
        self.gone.clear();
        self.changed.clear();
        self.next = self.lower.push(self.next, tree);
        self.lower.forget_before(oldest.unwrap_or(Ino(u64::MAX)));
        self.generation += 1;
        self.committed = self.generation - 1;
    }
}
