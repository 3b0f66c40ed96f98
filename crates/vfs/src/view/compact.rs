//! Compaction: a journal that says the present state instead of how it came about.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::api::{FileType, Ino, Result};
use crate::cell::{Content, FileCell};
use crate::journal::{
    BodyRecord, EntryRecord, Journal, NodeRecord, Record, SpecialKind, TargetRecord,
};
use crate::namespace::{Body, Namespace, Node, Target};
use crate::store::Upper;

use super::open::boot_id;
use super::{Stack, View};

/// A journal below this many bytes is not worth rewriting: it replays in a fraction of a second.
const COMPACT_MIN: u64 = 16 << 20;

/// A compacted journal takes about this many bytes for each touched inode; one that takes several
/// times as much is mostly history.
const BYTES_PER_NODE: u64 = 256;

/// How much longer than its compacted form a journal may grow.
const HISTORY_FACTOR: u64 = 8;

/// How much longer than what the last compaction made of it a journal may grow in any case.
const COMPACTED_FACTOR: u64 = 2;

impl View {
    /// Puts a reopened view in order: files that a repository shares since a crash in the middle of
    /// a commit become its own again, and a long history is compacted.
    pub(super) fn tidy(&self, rebooted: bool) -> Result<()> {
        let upper = self.store.upper()?;
        // After a restart of the machine what was not synced has been given up; the journal must
        // say so before anything new is added to it, the present boot included: a start that gets no
        // further must not make the next one believe what this one did not.
        if rebooted {
            self.with_room(|| self.compact())?;
        } else {
            self.with_room(|| self.compact_if_long())?;
        }
        self.unshare(upper)?;
        self.with_room(|| upper.journal.flush())
    }

    fn unshare(&self, upper: &Upper) -> Result<()> {
        for cell in self.touched_files_that(FileCell::is_shared) {
            self.with_room(|| cell.unshare(upper))?;
            let mtime = self.namespace.read().attr_of_names(cell.ino)?.mtime;
            cell.date(&self.store, mtime, false)?;
            self.needs_sync(&cell);
        }
        Ok(())
    }

    /// Writes the present state as a new journal and goes on with that one.
    pub fn compact(&self) -> Result<()> {
        let upper = self.store.upper()?;
        let stack = self.changing.lock();
        self.sync_all()?;
        // Nothing is recorded between the snapshot and the exchange of the files.
        let _recording = self.recording.write();
        self.sync_all()?;
        let Some(dir) = &self.dir else { return Ok(()) };
        // Who only looks goes on while it is written.
        let records = snapshot(&self.namespace.read(), &stack, upper);
        upper.journal.replace(&dir.join("journal"), &records)
    }

    /// Compacts a journal that is mostly history. Called now and then while the view lives.
    pub fn compact_if_long(&self) -> Result<bool> {
        let Ok(upper) = self.store.upper() else { return Ok(false) };
        let nodes = self.namespace.read().node_count() as u64;
        let by_nodes = HISTORY_FACTOR * nodes * BYTES_PER_NODE;
        // What long listings and attributes take in the compacted form, too, is no history.
        let by_form = COMPACTED_FACTOR * upper.journal.compacted_len();
        if upper.journal.len() <= COMPACT_MIN.max(by_nodes).max(by_form) {
            return Ok(false);
        }
        self.compact()?;
        Ok(true)
    }
}

/// The records that rebuild the state.
fn snapshot(namespace: &Namespace, stack: &Stack, upper: &Upper) -> Vec<Record> {
    let (generation, committed) = namespace.generations();
    let mut records = vec![
        Record::Header(stack.header(namespace.lower().current_first())),
        Record::Opened { boot: boot_id() },
    ];
    // Files without a name that somebody holds are among them: more may be recorded of their content.
    let is_removed = |node: &Node| matches!(&node.body, Body::Directory(dir) if dir.removed);
    let mut nodes: Vec<(Ino, &Node)> =
        namespace.nodes().filter(|(_, node)| !is_removed(node)).collect();
    nodes.sort_by_key(|(ino, _)| *ino);
    let mut synced = Vec::new();
    for (ino, node) in nodes {
        let record = node_record(namespace, ino, node);
        if let Body::File { cell, .. } = &node.body {
            synced.push(Record::Synced { ino: ino.0 });
            if cell.with(|content| content.lost) {
                synced.push(Record::Lost { ino: ino.0 });
            }
        }
        records.push(Record::Node(Box::new(record)));
    }
    records.push(Record::Counters {
        next_ino: namespace.next(),
        next_scratch: upper.next_id(),
        generation,
        committed,
    });
    records.append(&mut synced);
    records
}

fn node_record(namespace: &Namespace, ino: Ino, node: &Node) -> NodeRecord {
    let names = || -> Vec<(u64, Vec<u8>)> {
        let names = node.names().map(Vec::as_slice).unwrap_or_default();
        names.iter().map(|(dir, name)| (dir.0, name.as_bytes().to_vec())).collect()
    };
    let body = match &node.body {
        Body::File { cell, .. } => {
            BodyRecord::File { content: cell.with(Content::record), names: names() }
        }
        Body::Directory(directory) => BodyRecord::Directory {
            parent: directory.parent.0,
            name: directory.name.to_vec(),
            entries: directory.entries.as_ref().map(|entries| {
                let entry = |(cookie, dentry): (u64, &crate::namespace::Dentry)| EntryRecord {
                    cookie,
                    name: dentry.name(namespace.lower()).to_vec(),
                    ino: dentry.ino.0,
                    file_type: dentry.file_type,
                };
                entries.after(0).map(entry).collect()
            }),
        },
        Body::Symlink { target, .. } => BodyRecord::Symlink {
            target: match target {
                Target::Payload { digest, size } => {
                    TargetRecord::Payload { digest: *digest, size: *size }
                }
                Target::Text(text) => TargetRecord::Text(text.to_vec()),
            },
            names: names(),
        },
        Body::Special { file_type, .. } => {
            BodyRecord::Special { kind: special_kind(*file_type), names: names() }
        }
    };
    let meta = &node.meta;
    let xattrs = meta.xattrs.iter().flat_map(|xattrs| xattrs.iter());
    NodeRecord {
        ino: ino.0,
        perm: meta.perm,
        owner: meta.owner,
        rdev: meta.rdev,
        atime: meta.atime,
        mtime: meta.mtime,
        ctime: meta.ctime,
        crtime: meta.crtime,
        xattrs: xattrs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        changed: node.changed,
        placed: node.placed,
        body,
    }
}

fn special_kind(file_type: FileType) -> SpecialKind {
    match file_type {
        FileType::CharDevice => SpecialKind::CharDevice,
        FileType::BlockDevice => SpecialKind::BlockDevice,
        FileType::Socket => SpecialKind::Socket,
        _ => SpecialKind::Fifo,
    }
}

/// A new journal in its place.
pub(crate) struct NewJournal {
    pub(crate) file: File,
    pub(crate) len: u64,
    /// Whether it stays in its place when the power goes.
    pub(crate) durable: io::Result<()>,
}

/// What a new journal is called while it is written.
pub(super) fn new_name(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Writes a journal anew and puts it in the place of the one at `path`, which is whole until then.
///
/// # Errors
/// When the old one is still there; nothing is left of the new one.
pub(crate) fn write_anew(path: &Path, records: &[Record]) -> io::Result<NewJournal> {
    let bytes = Journal::encode(records);
    let new = new_name(path);
    // First what may fail for want of a descriptor.
    let dir = path.parent().map(File::open).transpose()?;
    let file = write_new(&new, &bytes)
        .and_then(|file| std::fs::rename(&new, path).map(|()| file))
        .inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    let durable = dir.as_ref().map_or(Ok(()), spfs_sys::files::sync_all);
    Ok(NewJournal { file, len: bytes.len() as u64, durable })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    spfs_sys::files::sync_all(&file)?;
    Ok(file)
}
