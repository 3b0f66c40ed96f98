//! Rebuilding a view's state from its journal.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use spfs_model::{Digest, Name, NameBuf};

use crate::api::{Error, FileType, Ino, New, NewKind, Remove, Replace, Result, Timestamp};
use crate::cell::{FileCell, Source, Unsynced};
use crate::extents::Extents;
use crate::journal::{
    BodyRecord, ContentRecord, CreateKind, NodeRecord, Record, SpecialKind, TargetRecord,
};
use crate::namespace::{Body, Directory, Entries, Meta, Namespace, Node, Target};
use crate::scratch::{Scratch, ScratchId};

use super::open::{OpenError, UpperFiles, boot_id};

/// The state a journal led to.
pub(super) struct Replayed {
    pub(super) namespace: Namespace,
    pub(super) committed: Vec<Digest>,
    pub(super) next_scratch: u64,
    /// Scratch files that nothing needs by what the journal says; it must be durable before they go.
    pub(super) unused: Vec<ScratchId>,
    /// The machine was started anew since the journal was last open.
    pub(super) rebooted: bool,
    pub(super) end: u64,
    pub(super) count: u64,
}

impl Replayed {
    /// Of a journal that says nothing: a power loss may have left scratch files without one.
    pub(super) fn fresh(namespace: Namespace, scratch: &dyn Scratch) -> io::Result<Self> {
        let unused = scratch.list()?;
        let next = unused.iter().map(|id| id.0 + 1).max();
        Ok(Self {
            namespace,
            committed: Vec::new(),
            next_scratch: next.unwrap_or(1),
            unused,
            rebooted: false,
            end: 0,
            count: 0,
        })
    }
}

/// Replays all records.
pub(super) fn replay(
    files: &UpperFiles,
    namespace: Namespace,
    records: Vec<Record>,
) -> Result<Replayed, OpenError> {
    let mut replay = Replay::new(namespace);
    for (number, record) in records.into_iter().enumerate() {
        replay.apply(record).map_err(|error| OpenError::Contradiction {
            path: files.journal.clone(),
            number,
            reason: error.to_string(),
        })?;
    }
    replay.finish(&*files.scratch).map_err(|source| OpenError::Io {
        doing: "look at the scratch files of",
        path: files.journal.clone(),
        source,
    })
}

/// Replays up to the first record that makes no sense.
pub(super) fn replay_readable(
    files: &UpperFiles,
    namespace: Namespace,
    records: Vec<Record>,
) -> Result<Replayed, OpenError> {
    let mut replay = Replay::new(namespace);
    for record in records {
        if replay.apply(record).is_err() {
            break;
        }
    }
    replay.finish(&*files.scratch).map_err(|source| OpenError::Io {
        doing: "look at the scratch files of",
        path: files.journal.clone(),
        source,
    })
}

struct Replay {
    namespace: Namespace,
    committed: Vec<Digest>,
    next_scratch: u64,
    boot: Option<String>,
    /// What was on the disk for certain, by inode.
    synced: HashMap<Ino, ContentRecord>,
    /// Those of which bytes were lost by then.
    synced_lost: HashSet<Ino>,
}

impl Replay {
    fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            committed: Vec::new(),
            next_scratch: 1,
            boot: None,
            synced: HashMap::new(),
            synced_lost: HashSet::new(),
        }
    }

    fn apply(&mut self, record: Record) -> Result<()> {
        // What came in while the stack was being exchanged is of files that are no more.
        if record.subject().is_some_and(|ino| self.namespace.require_current(Ino(ino)).is_err()) {
            return Ok(());
        }
        match record {
            Record::Header(header) => self.committed = header.committed,
            Record::Opened { boot } => self.boot = Some(boot),
            Record::Sealed { generation } => {
                let (_, committed) = self.namespace.generations();
                let next = self.namespace.next();
                self.namespace.restore_counters(next, generation + 1, committed);
            }
            Record::Committed { layer, generation } => {
                self.committed.push(layer);
                self.namespace.committed(generation);
            }
            Record::LeftOut { ino } => self.namespace.mark_placed(Ino(ino))?,
            Record::Unchanged { generation } => self.namespace.committed(generation),
            Record::Counters { next_ino, next_scratch, generation, committed } => {
                self.next_scratch = self.next_scratch.max(next_scratch);
                self.namespace.restore_counters(next_ino, generation, committed);
            }
            Record::Node(node) => {
                let ino = Ino(node.ino);
                let node = self.node(*node)?;
                self.namespace.restore_node(ino, node);
            }
            Record::Content { .. }
            | Record::Extent { .. }
            | Record::Truncate { .. }
            | Record::Changed { .. }
            | Record::Lost { .. }
            | Record::Synced { .. } => self.apply_content(record)?,
            names => self.apply_names(names)?,
        }
        Ok(())
    }

    fn apply_names(&mut self, record: Record) -> Result<()> {
        let namespace = &mut self.namespace;
        match record {
            Record::Create { dir, name, ino, kind, perm, owner, time } => {
                namespace.replay_number(Ino(ino));
                if let CreateKind::LayerSymlink { digest, size } = kind {
                    let target = Target::Payload { digest, size };
                    namespace.create_layer_symlink(
                        Ino(dir),
                        name_of(&name)?,
                        target,
                        owner,
                        time,
                    )?;
                    return Ok(());
                }
                let new = New { kind: new_kind(&kind), perm, owner };
                namespace.create(Ino(dir), name_of(&name)?, new, time)?;
            }
            Record::Link { ino, dir, name, time } => {
                namespace.link(Ino(ino), Ino(dir), name_of(&name)?, time)?;
            }
            Record::Remove { dir, name, directory, time } => {
                let what = if directory { Remove::Directory } else { Remove::File };
                namespace.remove(Ino(dir), name_of(&name)?, what, time)?;
            }
            Record::Rename { from_dir, from_name, to_dir, to_name, exchange, time } => {
                let replace = if exchange { Replace::Exchange } else { Replace::Allow };
                let from = (Ino(from_dir), name_of(&from_name)?);
                let to = (Ino(to_dir), name_of(&to_name)?);
                namespace.rename(from, to, replace, time)?;
            }
            Record::Restore { ino, whole, time } => {
                namespace.restore_lower(Ino(ino), whole, time).map(drop)?;
            }
            Record::Attributes { ino, change } => namespace.change_attributes(Ino(ino), &change)?,
            Record::Xattr { ino, name, value: Some(value), time } => {
                namespace.set_xattr(Ino(ino), &name, &value, time)?;
            }
            Record::Xattr { ino, name, value: None, time } => {
                namespace.remove_xattr(Ino(ino), &name, time)?;
            }
            _ => return Err(Error::Invalid),
        }
        Ok(())
    }

    fn apply_content(&mut self, record: Record) -> Result<()> {
        match record {
            Record::Content { ino, content } => {
                let ino = Ino(ino);
                // A payload's is that of a layer on the stack: a commit or a reset has put it there.
                if !matches!(content, ContentRecord::Payload { .. }) {
                    self.namespace.mark(ino)?;
                }
                let (size, source) = self.source(&content);
                let whole_again = matches!(
                    content,
                    ContentRecord::Payload { .. } | ContentRecord::Zeros { size: 0 }
                );
                let before = self.namespace.cell(ino)?.with_mut(|content| {
                    let before = content.record();
                    let lost = content.lost && !whole_again;
                    content.assign(size, source);
                    content.lost = lost;
                    before
                });
                // Also where a reset has brought it back without a word.
                self.note_payload(ino, before);
                self.note_payload(ino, content);
            }
            Record::Extent { ino, start, end } => {
                self.namespace.cell(Ino(ino))?.with_mut(|content| match &mut content.source {
                    Source::Partial { extents, .. } => {
                        extents.insert(start..end);
                        Ok(())
                    }
                    _ => Err(Error::Invalid),
                })?;
            }
            Record::Truncate { ino, size } => {
                self.namespace.cell(Ino(ino))?.with_mut(|content| match &mut content.source {
                    Source::Partial { extents, base_end, .. } => {
                        extents.truncate(size);
                        *base_end = (*base_end).min(size);
                        Ok(())
                    }
                    _ => Err(Error::Invalid),
                })?;
            }
            Record::Changed { ino } => self.namespace.mark(Ino(ino))?,
            Record::Lost { ino } => {
                let ino = Ino(ino);
                self.namespace.cell(ino)?.note_lost();
                if self.synced.contains_key(&ino) {
                    self.synced_lost.insert(ino);
                }
            }
            Record::Synced { ino } => {
                let ino = Ino(ino);
                let (content, lost) =
                    self.namespace.cell(ino)?.with(|content| (content.record(), content.lost));
                self.synced.insert(ino, content);
                if lost {
                    self.synced_lost.insert(ino);
                } else {
                    self.synced_lost.remove(&ino);
                }
            }
            _ => return Err(Error::Invalid),
        }
        Ok(())
    }

    /// A payload is on the disk before a record names it: this is what later content falls back to.
    fn note_payload(&mut self, ino: Ino, content: ContentRecord) {
        if matches!(content, ContentRecord::Payload { .. }) {
            self.synced.insert(ino, content);
            self.synced_lost.remove(&ino);
        }
    }

    /// The source a record describes; sizes of scratch files are looked up at the end.
    fn source(&mut self, content: &ContentRecord) -> (u64, Source) {
        let (size, source) = source_of(content);
        if let Some(id) = source.scratch_id() {
            self.next_scratch = self.next_scratch.max(id.0 + 1);
        }
        (size, source)
    }

    fn node(&mut self, record: NodeRecord) -> Result<Node> {
        let ino = Ino(record.ino);
        let names = |names: Vec<(u64, Vec<u8>)>| -> Result<Vec<(Ino, NameBuf)>> {
            names
                .into_iter()
                .map(|(dir, name)| Ok((Ino(dir), NameBuf::from(name_of(&name)?))))
                .collect()
        };
        let body = match record.body {
            BodyRecord::File { content, names: held } => {
                let (size, source) = self.source(&content);
                let cell = self.namespace.cells.restored(ino, size, source);
                self.note_payload(ino, content);
                Body::File { cell, names: names(held)? }
            }
            BodyRecord::Directory { parent, name, entries } => Body::Directory(Directory {
                parent: Ino(parent),
                name: name.into(),
                entries: entries.map(|entries| {
                    Entries::restore(entries.into_iter().map(|entry| {
                        (entry.cookie, entry.name.into(), Ino(entry.ino), entry.file_type)
                    }))
                }),
                removed: false,
            }),
            BodyRecord::Symlink { target, names: held } => {
                let target = match target {
                    TargetRecord::Payload { digest, size } => Target::Payload { digest, size },
                    TargetRecord::Text(text) => Target::Text(text.into()),
                };
                Body::Symlink { target, names: names(held)? }
            }
            BodyRecord::Special { kind, names: held } => {
                Body::Special { file_type: special_type(kind), names: names(held)? }
            }
        };
        let xattrs = (!record.xattrs.is_empty()).then(|| {
            Box::new(record.xattrs.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
        });
        let meta = Meta {
            perm: record.perm,
            owner: record.owner,
            rdev: record.rdev,
            atime: record.atime,
            mtime: record.mtime,
            ctime: record.ctime,
            crtime: record.crtime,
            xattrs,
        };
        Ok(Node { meta, body, changed: record.changed, placed: record.placed })
    }

    fn finish(mut self, scratch: &dyn Scratch) -> io::Result<Replayed> {
        let rebooted = self.boot.as_deref().is_none_or(|boot| boot.is_empty() || boot != boot_id());
        for ino in self.namespace.orphans() {
            self.namespace.reap(ino);
        }
        let files: Vec<Ino> = self
            .namespace
            .nodes()
            .filter(|(_, node)| node.file_type() == FileType::Regular)
            .map(|(ino, _)| ino)
            .collect();
        let mut unused: BTreeSet<ScratchId> = scratch.list()?.into_iter().collect();
        if let Some(last) = unused.last() {
            self.next_scratch = self.next_scratch.max(last.0 + 1);
        }
        for ino in files {
            self.settle_content(ino, scratch, rebooted)?;
            let Ok(cell) = self.namespace.cell(ino) else { continue };
            cell.with_mut(|content| {
                content.fallback.take_if(|id| !unused.contains(id));
                for id in content.scratch_files() {
                    unused.remove(&id);
                }
            });
            if !cell.is_payload() && self.namespace.mark(ino).is_err() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(Replayed {
            namespace: self.namespace,
            committed: self.committed,
            next_scratch: self.next_scratch,
            unused: unused.into_iter().collect(),
            rebooted,
            end: 0,
            count: 0,
        })
    }

    /// Brings a file's content in line with what is on the disk.
    fn settle_content(&self, ino: Ino, scratch: &dyn Scratch, rebooted: bool) -> io::Result<()> {
        let Ok(cell) = self.namespace.cell(ino) else { return Ok(()) };
        self.settle_source(ino, &cell, scratch, rebooted)?;
        if rebooted {
            // The compaction that follows says so.
            cell.with_mut(|content| content.fallback = content.source.scratch_id());
        } else {
            // The machine runs on: what no sync has covered is still to be synced.
            let synced = self.synced.get(&ino);
            cell.with_mut(|content| {
                let in_scratch = content.source.scratch_id().is_some();
                let source = !content.is_clean() && synced != Some(&content.record());
                content.unsynced = Unsynced { data: in_scratch, times: in_scratch, source };
                content.fallback = synced.and_then(|synced| source_of(synced).1.scratch_id());
            });
        }
        Ok(())
    }

    fn settle_source(
        &self,
        ino: Ino,
        cell: &FileCell,
        scratch: &dyn Scratch,
        rebooted: bool,
    ) -> io::Result<()> {
        if rebooted {
            let recorded = cell.with(crate::cell::Content::record);
            if let Some(content) = self.trusted(ino, &recorded, scratch) {
                let (size, source) = source_of(&content);
                cell.assign(size, source);
                if self.synced_lost.contains(&ino) {
                    cell.note_lost();
                }
            }
        }
        let Some(id) = cell.with(|content| content.source.scratch_id()) else { return Ok(()) };
        let stat = match scratch.open(id).and_then(|file| file.stat()) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(%ino, %id, "a scratch file is missing; its content is lost");
                let (size, source) = self.lower_source(ino);
                cell.assign(size, source);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // The scratch file carries the time of the file; another one is that of a later write.
        let known = self.namespace.node(ino).map(|node| node.meta.mtime);
        let mtime = Timestamp { secs: stat.mtime.0, nanos: stat.mtime.1 };
        cell.with_mut(|content| {
            content.size = stat.len;
            // One that a repository shares carries a time of the repository's.
            let is_shared = stat.links > 1;
            content.written_at = Some(mtime).filter(|time| !is_shared && known != Some(*time));
            if let Source::Partial { base_end, extents, .. } = &mut content.source {
                *base_end = (*base_end).min(stat.len);
                extents.truncate(stat.len);
            }
            if is_shared {
                // A repository shares the file: the first start after the crash unshares it.
                content.stored = Some(crate::cell::StoredAs { digest: Digest::NULL, shared: true });
            }
        });
        Ok(())
    }

    /// What of a file's content counts after the machine was started anew, if that is not what the
    /// journal says last: only what a completed sync has covered. A new file has nothing older to
    /// fall back to; it keeps what is there.
    fn trusted(
        &self,
        ino: Ino,
        recorded: &ContentRecord,
        scratch: &dyn Scratch,
    ) -> Option<ContentRecord> {
        let synced = self.synced.get(&ino);
        if synced == Some(recorded) || matches!(recorded, ContentRecord::Payload { .. }) {
            return None;
        }
        match synced {
            Some(synced) => {
                let (_, source) = source_of(synced);
                let there = source.scratch_id().is_none_or(|id| scratch.open(id).is_ok());
                there.then(|| synced.clone())
            }
            None => {
                let lower = self.namespace.lower().node(ino)?;
                Some(ContentRecord::Payload { digest: lower.digest, size: lower.size })
            }
        }
    }

    fn lower_source(&self, ino: Ino) -> (u64, Source) {
        match self.namespace.lower().node(ino) {
            Some(lower) => (lower.size, Source::Payload(lower.digest)),
            None => (0, Source::Zeros),
        }
    }
}

fn source_of(content: &ContentRecord) -> (u64, Source) {
    match content {
        ContentRecord::Payload { digest, size } => (*size, Source::Payload(*digest)),
        ContentRecord::Zeros { size } => (*size, Source::Zeros),
        ContentRecord::Whole { id } => (0, Source::Whole { id: *id }),
        ContentRecord::Partial { id, base, base_end, extents } => {
            let extents: Extents = extents.iter().map(|(start, end)| *start..*end).collect();
            (0, Source::Partial { id: *id, base: *base, base_end: *base_end, extents })
        }
    }
}

fn name_of(bytes: &[u8]) -> Result<Name<'_>> {
    Name::new(bytes).map_err(|_| Error::Invalid)
}

fn new_kind(kind: &CreateKind) -> NewKind<'_> {
    match kind {
        CreateKind::Regular => NewKind::Regular,
        CreateKind::Directory => NewKind::Directory,
        CreateKind::Symlink(target) => NewKind::Symlink(target),
        CreateKind::LayerSymlink { .. } => NewKind::Symlink(b""),
        CreateKind::Special(SpecialKind::Fifo, _) => NewKind::Fifo,
        CreateKind::Special(SpecialKind::Socket, _) => NewKind::Socket,
        CreateKind::Special(SpecialKind::CharDevice, rdev) => NewKind::CharDevice(*rdev),
        CreateKind::Special(SpecialKind::BlockDevice, rdev) => NewKind::BlockDevice(*rdev),
    }
}

fn special_type(kind: SpecialKind) -> FileType {
    match kind {
        SpecialKind::Fifo => FileType::Fifo,
        SpecialKind::Socket => FileType::Socket,
        SpecialKind::CharDevice => FileType::CharDevice,
        SpecialKind::BlockDevice => FileType::BlockDevice,
    }
}
