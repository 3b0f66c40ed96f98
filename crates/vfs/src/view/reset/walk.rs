//! The walk of a reset: names and inodes of the view beside those of the layers.

use std::collections::BTreeSet;

use spfs_model::{Digest, Name, NameBuf, NodeKind, Stack};

use crate::api::{Cookie, Error, FileType, Ino, New, NewKind, Owner, Remove, Result, Timestamp};
use crate::cell::Source;
use crate::journal::{CreateKind, Record};
use crate::namespace::{AttrChange, Namespace, Target, TouchedAbove};
use crate::scratch::ScratchId;
use crate::store::Upper;

use super::{GivenBack, Invalidation, ResetReport};

/// A reset under way: what it stands on and what has come of it.
pub(super) struct Reset<'a> {
    namespace: &'a mut Namespace,
    /// What is touched below which directory: made when it is asked for first, and kept right.
    touched_above: Option<TouchedAbove>,
    given_back: &'a GivenBack,
    upper: &'a Upper,
    stack: &'a Stack<'a>,
    now: Timestamp,
    done: Done,
}

/// What has come of a reset.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) report: ResetReport,
    /// Files that were written since they had been given back.
    pub(super) rewritten: Vec<Ino>,
    /// Inodes that have lost their last name.
    pub(super) orphans: BTreeSet<Ino>,
    /// Scratch files that nothing needs any more.
    pub(super) obsolete: Vec<ScratchId>,
}

/// What the layers have under a name.
struct Wanted {
    name: NameBuf,
    kind: NodeKind,
    mode: u32,
    size: u64,
    digest: Digest,
    dir: Option<spfs_model::Dir>,
}

impl<'a> Reset<'a> {
    /// A reset of names that were changed under a lock the caller holds, each change with a record.
    pub(super) fn new(
        namespace: &'a mut Namespace,
        upper: &'a Upper,
        stack: &'a Stack<'a>,
        now: Timestamp,
        given_back: &'a GivenBack,
    ) -> Self {
        let done = Done::default();
        Self { namespace, touched_above: None, given_back, upper, stack, now, done }
    }

    /// What has come of it, also when a path has failed.
    pub(super) fn end(mut self) -> Done {
        self.done.report.steps += self.touched_above.map_or(0, |above| above.steps);
        let told = std::mem::take(&mut self.done.report.invalidate);
        let told = told.into_iter().flat_map(|one| gone_or_elsewhere(one, &self.done.orphans));
        self.done.report.invalidate = told.collect();
        self.done
    }

    /// One that is missing does not keep the others from being reset.
    pub(super) fn paths(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        let mut missing = Ok(());
        for path in paths {
            match self.path(path) {
                Err(Error::NotFound) => missing = Err(Error::NotFound),
                other => other?,
            }
        }
        missing
    }

    fn path(&mut self, path: &[u8]) -> Result<()> {
        let mut live = Ino::ROOT;
        let mut stacked = Some(self.stack.root());
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
        if let (None, Some(stacked)) = (names.peek(), &stacked) {
            return self.directory(live, stacked);
        }
        while let Some(name) = names.next() {
            let name = Name::new(name).map_err(|_| Error::NotFound)?;
            let wanted = stacked.as_ref().and_then(|stacked| self.wanted(stacked, name));
            let found = self.namespace.find(live, name)?;
            match found {
                Some((ino, FileType::Directory)) if names.peek().is_some() => {
                    (live, stacked) = (ino, wanted.and_then(|wanted| wanted.dir));
                }
                // The path ends here, or the rest of it exists only once this is put back.
                _ if found.is_none() && wanted.is_none() => return Err(Error::NotFound),
                _ => return self.entry(live, NameBuf::from(name), found, wanted),
            }
        }
        Ok(())
    }

    fn wanted(&self, dir: &spfs_model::Dir, name: Name<'_>) -> Option<Wanted> {
        self.stack.lookup(dir, name).map(Wanted::from)
    }

    /// Makes a directory's listing and everything below what the layers have.
    fn directory(&mut self, live: Ino, stacked: &spfs_model::Dir) -> Result<()> {
        let mut found = Vec::new();
        self.namespace.read_directory(live, Cookie::START, &mut |entry| {
            found.push((NameBuf::from(entry.name), (entry.ino, entry.file_type)));
            std::ops::ControlFlow::Continue(())
        })?;
        self.done.report.steps += found.len();
        let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
        let mut wanted: std::collections::BTreeMap<_, _> = self
            .stack
            .list(stacked)
            .into_iter()
            .map(Wanted::from)
            .map(|wanted| (wanted.name.clone(), wanted))
            .collect();
        self.done.report.steps += wanted.len();
        // Removals first: what is put back may have been moved to a name that goes.
        for (name, inode) in &found {
            if !wanted.contains_key(name) {
                self.remove(live, name, *inode)?;
            }
        }
        for (name, inode) in found {
            if let Some(wanted) = wanted.remove(&name) {
                self.entry(live, name, Some(inode), Some(wanted))?;
            }
        }
        for (name, wanted) in wanted {
            self.entry(live, name, None, Some(wanted))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: Ino,
        name: NameBuf,
        found: Option<(Ino, FileType)>,
        wanted: Option<Wanted>,
    ) -> Result<()> {
        match (found, wanted) {
            (None, None) => Ok(()),
            (Some(found), None) => self.remove(dir, &name, found),
            (None, Some(wanted)) => {
                self.count(true);
                self.attach(dir, &wanted)
            }
            (Some((ino, FileType::Directory)), Some(Wanted { dir: Some(below), mode, .. })) => {
                let differed = self.restore_attributes(ino, mode)?;
                self.count(differed);
                if self.differs_below(ino) { self.directory(ino, &below) } else { Ok(()) }
            }
            (Some((ino, FileType::Regular)), Some(wanted))
                if wanted.kind == NodeKind::File
                    && self.given_back.is_settled(ino, wanted.digest) =>
            {
                self.restore_attributes(ino, wanted.mode)?;
                self.count(true);
                self.tell(Invalidation::Inode(ino));
                if !self.has_content(ino, wanted.digest)? {
                    self.done.rewritten.push(ino);
                }
                Ok(())
            }
            (Some((ino, FileType::Regular)), Some(wanted))
                if wanted.kind == NodeKind::File && self.can_restore_in_place(ino, &wanted)? =>
            {
                let attributes = self.restore_attributes(ino, wanted.mode)?;
                let content = self.restore_content(ino, &wanted)?;
                self.count(attributes || content);
                Ok(())
            }
            (Some((ino, FileType::Symlink)), Some(wanted))
                if wanted.kind == NodeKind::Symlink
                    && self.namespace.node(ino).is_none()
                    && self.lower_digest(ino) == Some(wanted.digest) =>
            {
                Ok(())
            }
            (Some((ino, file_type)), Some(wanted)) => {
                // This counts the path already.
                self.remove(dir, &name, (ino, file_type))?;
                if file_type == FileType::Regular && wanted.kind == NodeKind::File {
                    self.tell(Invalidation::Entry { dir, name });
                    self.attach_new(dir, &wanted)
                } else {
                    self.attach(dir, &wanted)
                }
            }
        }
    }

    /// A kernel that caches writes believes its own size of a file it knows, whatever it is told;
    /// so a file of another size, which the kernel has not been asked to help with ([`in_place`]),
    /// comes back as another inode, and who has the old one open keeps it, unlinked. The same goes
    /// for one name of several.
    fn can_restore_in_place(&self, ino: Ino, wanted: &Wanted) -> Result<bool> {
        if self.given_back.is_astray(ino) {
            return Ok(false);
        }
        let size = self.namespace.cell(ino)?.with(|content| content.size);
        let names = self.namespace.attr_of_names(ino)?.nlink;
        Ok(size == wanted.size && names == 1)
    }

    /// The lower inode is what the layers have, and so the kernel will see it.
    fn is_as_wanted(&self, ino: Ino, wanted: &Wanted) -> bool {
        let known_otherwise = wanted.kind == NodeKind::File && self.namespace.node(ino).is_some();
        wanted.dir.is_some() || (self.lower_digest(ino) == Some(wanted.digest) && !known_otherwise)
    }

    fn lower_digest(&self, ino: Ino) -> Option<Digest> {
        self.namespace.lower().node(ino).map(|node| node.digest)
    }

    /// An untouched lower directory, with nothing touched below, is what the layers have.
    fn differs_below(&mut self, dir: Ino) -> bool {
        self.namespace.node(dir).is_some() || self.touched_below(dir)
    }

    /// Something below a lower directory has been touched at some time. That may have been undone:
    /// then looking closer finds nothing to do.
    fn touched_below(&mut self, dir: Ino) -> bool {
        let namespace = &*self.namespace;
        self.touched_above.get_or_insert_with(|| namespace.touched_above()).contains(dir)
    }

    /// An inode may be touched from now on.
    fn touches(&mut self, ino: Ino) {
        if let Some(above) = &mut self.touched_above {
            above.add(self.namespace.lower(), ino);
        }
    }

    /// Returns whether anything differed.
    fn restore_attributes(&mut self, ino: Ino, mode: u32) -> Result<bool> {
        let time = self.now;
        let xattrs = self.namespace.xattr_names(ino)?;
        for name in &xattrs {
            self.namespace.remove_xattr(ino, name, time)?;
            let name = name.to_vec();
            self.upper.record(&Record::Xattr { ino: ino.0, name, value: None, time });
        }
        let perm = (mode & 0o7777) as u16;
        let owner = self.namespace.defaults().owner;
        let attr = self.namespace.attr_of_names(ino)?;
        if attr.perm == perm && attr.owner == owner && xattrs.is_empty() {
            return Ok(false);
        }
        let change = AttrChange {
            perm: Some(perm),
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            ctime: Some(time),
            ..AttrChange::default()
        };
        self.namespace.change_attributes(ino, &change)?;
        self.upper.record(&Record::Attributes { ino: ino.0, change });
        self.tell(Invalidation::Inode(ino));
        Ok(true)
    }

    /// Returns whether anything differed.
    fn restore_content(&mut self, ino: Ino, wanted: &Wanted) -> Result<bool> {
        if self.has_content(ino, wanted.digest)? {
            return Ok(false);
        }
        self.assign_payload(ino, wanted)?;
        self.tell(Invalidation::Inode(ino));
        Ok(true)
    }

    fn has_content(&self, ino: Ino, wanted: Digest) -> Result<bool> {
        Ok(self.namespace.cell(ino)?.with(|content| {
            matches!(content.source, Source::Payload(digest) if digest == wanted) && !content.lost
        }))
    }

    fn assign_payload(&mut self, ino: Ino, wanted: &Wanted) -> Result<()> {
        self.namespace.mark(ino)?;
        let cell = self.namespace.cell(ino)?;
        self.done.obsolete.extend(cell.assign_payload(wanted.size, wanted.digest, self.upper));
        Ok(())
    }

    /// Removes a name and, for a directory, everything below it.
    fn remove(&mut self, dir: Ino, name: &NameBuf, found: (Ino, FileType)) -> Result<()> {
        let (child, file_type) = found;
        let directory = file_type == FileType::Directory;
        if directory {
            let mut below = Vec::new();
            self.namespace.read_directory(child, Cookie::START, &mut |entry| {
                below.push((NameBuf::from(entry.name), (entry.ino, entry.file_type)));
                std::ops::ControlFlow::Continue(())
            })?;
            for (name, inode) in below {
                self.remove(child, &name, inode)?;
            }
        }
        let what = if directory { Remove::Directory } else { Remove::File };
        self.done.orphans.extend(self.namespace.remove(dir, name.as_name(), what, self.now)?);
        self.done.report.steps += 1;
        self.touches(child);
        let time = self.now;
        let removed = name.as_bytes().to_vec();
        self.upper.record(&Record::Remove { dir: dir.0, name: removed, directory, time });
        self.count(true);
        self.tell(Invalidation::Removed { dir, child, name: name.clone() });
        Ok(())
    }

    /// Puts back a name that is missing: the lower inode itself, if nothing else leads to it, or a
    /// new one like it.
    fn attach(&mut self, dir: Ino, wanted: &Wanted) -> Result<()> {
        self.tell(Invalidation::Entry { dir, name: wanted.name.clone() });
        let lower = self.namespace.lower().child(dir, wanted.name.as_name());
        match lower {
            Some((ino, file_type))
                if same_type(file_type, wanted.kind)
                    && self.namespace.can_restore(ino, dir)
                    && self.is_as_wanted(ino, wanted) =>
            {
                self.attach_lower(ino, wanted)
            }
            _ => self.attach_new(dir, wanted),
        }
    }

    fn attach_lower(&mut self, ino: Ino, wanted: &Wanted) -> Result<()> {
        self.done.obsolete.extend(self.scratch_of(ino));
        let time = self.now;
        self.done.orphans.remove(&ino);
        let whole = wanted.dir.is_none() || !self.touched_below(ino);
        self.done.report.steps += 1 + self.namespace.restore_lower(ino, whole, time)?;
        // Its directory has a listing of its own now, and an empty one in place of `whole` is one.
        self.touches(ino);
        self.upper.record(&Record::Restore { ino: ino.0, whole, time });
        self.tell(Invalidation::Inode(ino));
        self.restore_attributes(ino, wanted.mode)?;
        match (&wanted.dir, wanted.kind) {
            (Some(below), _) => self.directory(ino, below),
            (None, NodeKind::File) => self.restore_content(ino, wanted).map(drop),
            (None, _) => Ok(()),
        }
    }

    fn scratch_of(&self, ino: Ino) -> Option<ScratchId> {
        self.namespace.node(ino)?;
        let cell = self.namespace.cell(ino).ok()?;
        cell.with(|content| content.source.scratch_id())
    }

    fn attach_new(&mut self, dir: Ino, wanted: &Wanted) -> Result<()> {
        let owner: Owner = self.namespace.defaults().owner;
        let perm = (wanted.mode & 0o7777) as u16;
        let (time, name) = (self.now, wanted.name.as_name());
        let (ino, kind) = match wanted.kind {
            NodeKind::Symlink => {
                let (digest, size) = (wanted.digest, wanted.size);
                let target = Target::Payload { digest, size };
                let ino = self.namespace.create_layer_symlink(dir, name, target, owner, time)?;
                (ino, CreateKind::LayerSymlink { digest, size })
            }
            NodeKind::Directory => {
                let new = New { kind: NewKind::Directory, perm, owner };
                (self.namespace.create(dir, name, new, time)?, CreateKind::Directory)
            }
            NodeKind::File => {
                let new = New { kind: NewKind::Regular, perm, owner };
                (self.namespace.create(dir, name, new, time)?, CreateKind::Regular)
            }
        };
        let (dir, name) = (dir.0, name.as_bytes().to_vec());
        self.upper.record(&Record::Create { dir, name, ino: ino.0, kind, perm, owner, time });
        self.restore_attributes(ino, wanted.mode)?;
        match &wanted.dir {
            Some(below) => self.directory(ino, below),
            None if wanted.kind == NodeKind::File => self.assign_payload(ino, wanted),
            None => Ok(()),
        }
    }

    fn count(&mut self, differed: bool) {
        self.done.report.restored += usize::from(differed);
    }

    fn tell(&mut self, invalidation: Invalidation) {
        self.done.report.invalidate.push(invalidation);
    }
}

/// What the kernel must forget of a name that was taken away. Only of what is gone for good may it hear
/// that it was removed: it takes the last name from that, and from a directory all that is in it, for as
/// long as somebody holds it, although it may have come back or have another name.
fn gone_or_elsewhere(one: Invalidation, gone: &BTreeSet<Ino>) -> Vec<Invalidation> {
    match one {
        Invalidation::Removed { dir, child, name } if !gone.contains(&child) => {
            vec![Invalidation::Entry { dir, name }, Invalidation::Inode(child)]
        }
        other => vec![other],
    }
}

fn same_type(file_type: FileType, kind: NodeKind) -> bool {
    matches!(
        (file_type, kind),
        (FileType::Regular, NodeKind::File)
            | (FileType::Directory, NodeKind::Directory)
            | (FileType::Symlink, NodeKind::Symlink)
    )
}

impl From<spfs_model::MergedEntry<'_>> for Wanted {
    fn from(entry: spfs_model::MergedEntry<'_>) -> Self {
        Self {
            name: NameBuf::from(entry.name),
            kind: entry.kind,
            mode: entry.mode,
            size: entry.size,
            digest: entry.object,
            dir: entry.dir,
        }
    }
}
