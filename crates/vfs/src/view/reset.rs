//! Giving changes up: paths go back to what the layers have, while the view lives.
//!
//! Whoever calls first lets the kernel write back what it holds (its old pages would otherwise be
//! written into reset files), and afterwards tells it what [`ResetReport`] lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use spfs_model::{Digest, MergedTree, Name, NameBuf, NodeKind, Stack};

use crate::api::{Cookie, Error, FileType, Ino, New, NewKind, Owner, Remove, Result, Timestamp};
use crate::cell::Source;
use crate::journal::{CreateKind, Record};
use crate::namespace::{AttrChange, Namespace, Target, TouchedAbove};
use crate::scratch::ScratchId;
use crate::store::Upper;

use super::View;

mod in_place;

pub(super) use in_place::Offered;
pub use in_place::{GivenBack, Offer, Offers, WHOLE_FILE};

/// What the kernel must forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// Pages and attributes of an inode.
    Inode(Ino),
    /// A name that leads elsewhere now, or that was missing before.
    Entry {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: NameBuf,
    },
    /// A name that is gone.
    Removed {
        /// The directory.
        dir: Ino,
        /// What the name led to.
        child: Ino,
        /// The name.
        name: NameBuf,
    },
}

/// What a reset did.
#[derive(Debug, Default)]
pub struct ResetReport {
    /// Paths that differed from the layers and do so no more.
    pub restored: usize,
    /// What the kernel must forget.
    pub invalidate: Vec<Invalidation>,
    /// How many names and inodes were looked at, the measure of what it cost: at most a few for
    /// each one that is touched, and for each name in a directory that has one below.
    pub steps: usize,
    /// What stopped it half-way, or [`Error::NotFound`] for paths that neither the view nor the
    /// layers have. All else that is said here is so nevertheless.
    pub failed: Option<Error>,
}

impl ResetReport {
    /// Whether there is nothing to say but a failure.
    fn is_empty(&self) -> bool {
        self.restored == 0 && self.invalidate.is_empty()
    }
}

impl View {
    /// Puts paths back to what `stack` has: the current one, that is the base and what was committed
    /// on it. Paths are relative to the root; the empty path means everything.
    pub fn reset(&self, paths: &[Vec<u8>], stack: &Stack<'_>) -> Result<ResetReport> {
        self.reset_rest(paths, stack, &GivenBack::default())
    }

    /// As [`View::reset`], after files have been given their content back ([`Offers::end`]).
    ///
    /// # Errors
    /// When nothing has changed; a failure after something has is in the report.
    pub fn reset_rest(
        &self,
        paths: &[Vec<u8>],
        stack: &Stack<'_>,
        given_back: &GivenBack,
    ) -> Result<ResetReport> {
        let upper = self.require_editable()?;
        let _changing = self.changing.lock();
        let recording = self.recording.read();
        let now = self.clock.now();
        let (report, orphans, obsolete) = {
            let mut namespace = self.namespace.write();
            let everything = paths.iter().any(Vec::is_empty);
            let mut reset = Reset {
                touched_above: None,
                given_back,
                rewritten: Vec::new(),
                namespace: &mut namespace,
                upper,
                stack,
                now,
                report: ResetReport::default(),
                orphans: BTreeSet::new(),
                obsolete: Vec::new(),
            };
            let failed = reset.paths(paths);
            let Reset { mut report, orphans, obsolete, touched_above, rewritten, .. } = reset;
            report.steps += touched_above.map_or(0, |above| above.steps);
            report.failed = failed.err();
            if everything && report.failed.is_none() {
                let generation = namespace.seal();
                upper.record(&Record::Sealed { generation });
                // Nothing differs from the stack any more.
                namespace.committed(generation);
                upper.record(&Record::Unchanged { generation });
                // But for what was written since it had been given back.
                for ino in rewritten {
                    namespace.mark(ino)?;
                    upper.record(&Record::Changed { ino: ino.0 });
                }
            }
            (report, orphans, obsolete)
        };
        let mut report = report;
        if let Err(error) = upper.journal.flush() {
            report.failed.get_or_insert(error);
        }
        drop(recording);
        for id in obsolete {
            upper.remove(id);
        }
        for ino in orphans {
            self.reap(ino);
        }
        match report.failed.take() {
            Some(error) if report.is_empty() => Err(error),
            failed => Ok(ResetReport { failed, ..report }),
        }
    }

    /// Stands on another stack from now on, without any change. Everything that is open goes on
    /// showing the old one.
    pub fn restack(&self, base: &[Digest], tree: Arc<MergedTree>) -> Result<ResetReport> {
        let upper = self.require_editable()?;
        let mut stack = self.changing.lock();
        let _recording = self.recording.write();
        let mut namespace = self.namespace.write();
        let mut report = ResetReport::default();
        let scratch: Vec<ScratchId> = namespace
            .nodes()
            .filter_map(|(ino, _)| namespace.cell(ino).ok())
            .filter_map(|cell| cell.with(|content| content.source.scratch_id()))
            .collect();
        list_root(&namespace, &mut report)?;
        namespace.exchange_lower(Arc::clone(&tree));
        list_root(&namespace, &mut report)?;
        report.invalidate.push(Invalidation::Inode(Ino::ROOT));
        stack.base = base.to_vec();
        stack.base_len = tree.len() as u64;
        stack.committed.clear();
        self.unsynced.lock().clear();
        self.replace_journal(&namespace, &stack, upper)?;
        drop(namespace);
        for id in scratch {
            upper.remove(id);
        }
        report.restored = report.invalidate.len();
        Ok(report)
    }
}

fn list_root(namespace: &Namespace, report: &mut ResetReport) -> Result<()> {
    namespace.read_directory(Ino::ROOT, Cookie::START, &mut |entry| {
        let name = NameBuf::from(entry.name);
        report.invalidate.push(Invalidation::Entry { dir: Ino::ROOT, name });
        std::ops::ControlFlow::Continue(())
    })
}

struct Reset<'a> {
    namespace: &'a mut Namespace,
    /// What is touched below which directory: made when it is asked for first, and kept right.
    touched_above: Option<TouchedAbove>,
    given_back: &'a GivenBack,
    /// Files that were written since they had been given back.
    rewritten: Vec<Ino>,
    upper: &'a Upper,
    stack: &'a Stack<'a>,
    now: Timestamp,
    report: ResetReport,
    orphans: BTreeSet<Ino>,
    obsolete: Vec<ScratchId>,
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

impl Reset<'_> {
    /// One that is missing does not keep the others from being reset.
    fn paths(&mut self, paths: &[Vec<u8>]) -> Result<()> {
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
        self.report.steps += found.len();
        let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
        let mut wanted: std::collections::BTreeMap<_, _> = self
            .stack
            .list(stacked)
            .into_iter()
            .map(Wanted::from)
            .map(|wanted| (wanted.name.clone(), wanted))
            .collect();
        self.report.steps += wanted.len();
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
                    self.rewritten.push(ino);
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
        Ok(self
            .namespace
            .cell(ino)?
            .with(|content| matches!(content.source, Source::Payload(digest) if digest == wanted)))
    }

    fn assign_payload(&mut self, ino: Ino, wanted: &Wanted) -> Result<()> {
        self.namespace.mark(ino)?;
        let cell = self.namespace.cell(ino)?;
        self.obsolete.extend(cell.assign_payload(wanted.size, wanted.digest, self.upper));
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
        self.orphans.extend(self.namespace.remove(dir, name.as_name(), what, self.now)?);
        self.report.steps += 1;
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
        self.obsolete.extend(self.scratch_of(ino));
        let time = self.now;
        self.orphans.remove(&ino);
        let whole = wanted.dir.is_none() || !self.touched_below(ino);
        self.report.steps += 1 + self.namespace.restore_lower(ino, whole, time)?;
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
        self.report.restored += usize::from(differed);
    }

    fn tell(&mut self, invalidation: Invalidation) {
        self.report.invalidate.push(invalidation);
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
