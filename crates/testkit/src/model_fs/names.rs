//! The operations on names: what may be made, removed and moved, and in which order errors win.

use spfs_vfs::api::{Error, Ino, Name, Remove, Replace, Result, Timestamp};

use super::state::State;

impl State {
    /// Whether a new name may be made (filename_create and may_create in fs/namei.c).
    pub(super) fn may_create(&self, dir: Ino, name: Name<'_>) -> Result<()> {
        match self.child(dir, name) {
            Ok(_) => Err(Error::Exists),
            Err(Error::NotFound) => self.may_hold_entries(dir),
            Err(error) => Err(error),
        }
    }

    /// A removed directory that is still open takes no new entries (IS_DEADDIR).
    fn may_hold_entries(&self, dir: Ino) -> Result<()> {
        if self.node(dir)?.is_named() { Ok(()) } else { Err(Error::NotFound) }
    }

    pub(super) fn remove(
        &mut self,
        dir: Ino,
        name: Name<'_>,
        what: Remove,
        now: Timestamp,
    ) -> Result<()> {
        let ino = self.child(dir, name)?;
        match (what, self.node(ino)?.is_directory()) {
            (Remove::File, true) => return Err(Error::IsDirectory),
            (Remove::Directory, false) => return Err(Error::NotDirectory),
            (Remove::Directory, true) => self.must_be_empty(ino)?,
            (Remove::File, false) => {}
        }
        self.detach(dir, name);
        self.touch_directory(dir, now);
        self.touch_inode(ino, now);
        self.reap(ino);
        Ok(())
    }

    fn must_be_empty(&self, dir: Ino) -> Result<()> {
        if self.directory(dir)?.entries.is_empty() { Ok(()) } else { Err(Error::NotEmpty) }
    }

    /// do_renameat2 and vfs_rename in fs/namei.c, check by check.
    pub(super) fn rename(
        &mut self,
        (from_dir, from): (Ino, Name<'_>),
        (to_dir, to): (Ino, Name<'_>),
        replace: Replace,
        now: Timestamp,
    ) -> Result<()> {
        self.directory(from_dir)?;
        self.directory(to_dir)?;
        let source = self.child(from_dir, from)?;
        self.may_hold_entries(to_dir)?;
        let target = self.child(to_dir, to).ok();
        match (replace, target) {
            (Replace::Refuse, Some(_)) => return Err(Error::Exists),
            (Replace::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        if self.is_within(to_dir, source) {
            return Err(Error::Invalid);
        }
        if target.is_some_and(|target| self.is_within(from_dir, target)) {
            return Err(if replace == Replace::Exchange {
                Error::Invalid
            } else {
                Error::NotEmpty
            });
        }
        // Two names of one inode: nothing happens, and both stay.
        if target == Some(source) {
            return Ok(());
        }
        if let Some(target) = target {
            if replace == Replace::Exchange {
                self.exchange((from_dir, from), (to_dir, to), now);
                return Ok(());
            }
            self.may_replace(source, target)?;
            self.detach(to_dir, to);
            self.touch_inode(target, now);
            self.reap(target);
        }
        self.detach(from_dir, from);
        self.attach(to_dir, to, source);
        self.touch_directory(from_dir, now);
        self.touch_directory(to_dir, now);
        self.touch_inode(source, now);
        Ok(())
    }

    /// may_delete in fs/namei.c, and what file systems check themselves.
    fn may_replace(&self, source: Ino, target: Ino) -> Result<()> {
        match (self.node(source)?.is_directory(), self.node(target)?.is_directory()) {
            (true, false) => Err(Error::NotDirectory),
            (false, true) => Err(Error::IsDirectory),
            (true, true) => self.must_be_empty(target),
            (false, false) => Ok(()),
        }
    }

    fn exchange(&mut self, from: (Ino, Name<'_>), to: (Ino, Name<'_>), now: Timestamp) {
        let source = self.detach(from.0, from.1);
        let target = self.detach(to.0, to.1);
        self.attach(from.0, from.1, target);
        self.attach(to.0, to.1, source);
        self.touch_directory(from.0, now);
        self.touch_directory(to.0, now);
        self.touch_inode(source, now);
        self.touch_inode(target, now);
    }

    /// Whether `dir` is `ancestor` or lies below it.
    fn is_within(&self, mut dir: Ino, ancestor: Ino) -> bool {
        loop {
            if dir == ancestor {
                return true;
            }
            match self.directory(dir) {
                Ok(directory) if directory.parent != dir => dir = directory.parent,
                _ => return false,
            }
        }
    }
}
