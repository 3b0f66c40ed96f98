//! Changing attributes, size included.

use std::sync::Arc;

use crate::api::{Attr, FileType, Ino, Result, SetAttr, SetTime, Timestamp};
use crate::cell::FileCell;
use crate::journal::Record;
use crate::namespace::{AttrChange, Namespace};

use super::View;
use super::commit::Held;

impl View {
    pub(super) fn set_attributes(&self, ino: Ino, set: &SetAttr) -> Result<()> {
        self.with_room(|| self.try_set_attributes(ino, set))
    }

    fn try_set_attributes(&self, ino: Ino, set: &SetAttr) -> Result<()> {
        let only_dates = is_write_back(set);
        let upper = if only_dates {
            // Dates of what was written while changes were accepted.
            let upper = self.store.upper()?;
            upper.journal.reserve()?;
            upper
        } else {
            self.require_editable()?
        };
        let _recording = self.begin_change_of(ino)?;
        if only_dates && self.date_written(ino, set)? {
            return Ok(());
        }
        let now = self.clock.now();
        if let Some(size) = set.size {
            self.truncate(ino, size, now)?;
        }
        let mut cell = touched_file(&self.namespace.read(), ino)?;
        let written = cell.as_ref().and_then(|cell| cell.written_at());
        let mut of_write = false;
        let mtime = {
            let mut namespace = self.namespace.write();
            let attr = namespace.attr_of_names(ino)?;
            let mut change = decide(&attr, set, now);
            if !change.is_empty() {
                // Only this and the scratch file itself tell a restart when it was written.
                of_write = change.mtime.is_none();
                change.mtime = change.mtime.or(written);
                namespace.change_attributes(ino, &change)?;
                if !namespace.is_removed(ino) {
                    upper.record(&Record::Attributes { ino: ino.0, change });
                }
            }
            if cell.is_none() && attr.file_type == FileType::Regular && change.mtime.is_some() {
                // Somebody may be writing its first bytes now.
                cell = Some(namespace.cell(ino)?);
            }
            change.mtime
        };
        if let (Some(cell), Some(mtime)) = (cell, mtime)
            && cell.date(&self.store, mtime, of_write)?
        {
            self.needs_sync(&cell);
        }
        upper.journal.flush()
    }

    /// Lets a file's scratch file alone say when it was written, if that is all there is to say: a
    /// kernel that caches writes dates each file that it writes back. A restart reads it from there.
    fn date_written(&self, ino: Ino, set: &SetAttr) -> Result<bool> {
        let (Some(SetTime::At(time)), None) = (set.mtime, set.atime) else {
            return Ok(false);
        };
        if set.ctime != Some(time) {
            return Ok(false);
        }
        let cell = {
            let namespace = self.namespace.read();
            match touched_file(&namespace, ino)? {
                Some(cell) if namespace.attr_of_names(ino)?.ctime <= time => cell,
                _ => return Ok(false),
            }
        };
        let dated = cell.date_written(&self.store, time)?;
        if dated {
            self.needs_sync(&cell);
        }
        Ok(dated)
    }

    fn truncate(&self, ino: Ino, size: u64, now: Timestamp) -> Result<()> {
        let (cell, _held) = {
            let namespace = self.namespace.read();
            (namespace.cell(ino)?, Held::one(self, ino))
        };
        self.content_done(&cell, cell.truncate(&self.store, size, now))
    }

    /// Clears what a caller without CAP_FSETID must not leave on a file it has written.
    pub(super) fn kill_privileges(&self, ino: Ino) -> Result<()> {
        let attr = self.namespace.read().attr_of_names(ino)?;
        let has_capability = {
            let namespace = self.namespace.read();
            namespace.xattr(ino, crate::namespace::SECURITY_CAPABILITY)?.is_some()
        };
        let perm = without_privileges(attr.perm);
        if perm == attr.perm && !has_capability {
            return Ok(());
        }
        // This is part of a write, which is accepted even after edit mode went off.
        let upper = self.store.upper()?;
        let _recording = self.begin_change_of(ino)?;
        let change = AttrChange {
            perm: Some(perm),
            ctime: Some(self.clock.now()),
            drop_capability: true,
            ..AttrChange::default()
        };
        let mut namespace = self.namespace.write();
        namespace.change_attributes(ino, &change)?;
        if !namespace.is_removed(ino) {
            upper.record(&Record::Attributes { ino: ino.0, change });
        }
        drop(namespace);
        upper.journal.flush()
    }
}

/// The cell of a regular file that may have a scratch file.
fn touched_file(namespace: &Namespace, ino: Ino) -> Result<Option<Arc<FileCell>>> {
    match namespace.type_of(ino)? {
        FileType::Regular if namespace.node(ino).is_some() => namespace.cell(ino).map(Some),
        _ => Ok(None),
    }
}

/// Only times that the kernel kept itself: it may still have to date what was written before edit
/// mode went off.
fn is_write_back(set: &SetAttr) -> bool {
    let at = |time: Option<SetTime>| !matches!(time, Some(SetTime::Now));
    set.perm.is_none()
        && set.uid.is_none()
        && set.gid.is_none()
        && set.size.is_none()
        && at(set.atime)
        && at(set.mtime)
        && (set.mtime.is_some() || set.ctime.is_some())
}

/// Decides what a request changes.
fn decide(attr: &Attr, set: &SetAttr, now: Timestamp) -> AttrChange {
    let time = |time: Option<SetTime>| match time {
        Some(SetTime::Now) => Some(now),
        Some(SetTime::At(time)) => Some(time),
        None => None,
    };
    let owner_changes = set.uid.is_some() || set.gid.is_some();
    let kills = set.kill_privileges
        && (owner_changes || set.size.is_some())
        && attr.file_type != FileType::Directory;
    let perm = match (set.perm, kills) {
        (Some(perm), _) => Some(perm & 0o7777),
        (None, true) => Some(without_privileges(attr.perm)).filter(|perm| *perm != attr.perm),
        (None, false) => None,
    };
    let mut change = AttrChange {
        perm,
        uid: set.uid,
        gid: set.gid,
        atime: time(set.atime),
        mtime: time(set.mtime),
        ctime: set.ctime,
        crtime: set.crtime,
        drop_capability: kills,
    };
    if set.size.is_some() && change.mtime.is_none() {
        change.mtime = Some(now);
    }
    if change.ctime.is_none() && (!change.is_empty() || set.size.is_some()) {
        change.ctime = Some(now);
    }
    change
}

/// setuid goes, setgid where the group may execute; setgid without that is mandatory locking's
/// old mark (should_remove_suid in the kernel).
pub(super) fn without_privileges(perm: u16) -> u16 {
    let perm = perm & !0o4000;
    if perm & 0o010 != 0 { perm & !0o2000 } else { perm }
}
