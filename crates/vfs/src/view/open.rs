//! Opening an editable view: a new one, or one that an earlier daemon left.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spfs_model::{Digest, MergedTree};

use crate::api::Ino;
use crate::cell::FileCell;
use crate::journal::{self, Damage, Header, Journal, JournalFile, LogFile, Record};
use crate::lower::Lower;
use crate::namespace::Namespace;
use crate::scratch::{DirScratch, Scratch};
use crate::store::{Payloads, Store, Upper};

use super::compact::new_name;
use super::replay::{Replayed, replay};
use super::{Stack, View, ViewOptions};

/// How inode numbers follow from the stack: positions in the breadth-first merged tree.
pub(super) const NUMBERING: u32 = 1;

/// The layers a view stands on, bottom first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackIdentity {
    /// The layers whose merged tree numbers the lower inodes.
    pub base: Vec<Digest>,
    /// Layers committed from this scratch area since.
    pub committed: Vec<Digest>,
}

/// Why a scratch area cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of it failed.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The journal is damaged in a way that no crash leaves behind.
    #[error("the journal {path} is damaged: {damage}", path = path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong and what can still be read.
        damage: String,
        /// Records before the damage.
        readable: usize,
    },
    /// The journal belongs to another stack than it is opened with.
    #[error(
        "the journal {path} belongs to a stack of {recorded} layers with {recorded_len} entries, \
         not to the given one of {given} layers with {given_len}",
        path = path.display()
    )]
    OtherStack {
        /// The journal.
        path: PathBuf,
        /// Layers the journal names.
        recorded: usize,
        /// Entries the journal names.
        recorded_len: u64,
        /// Layers given.
        given: usize,
        /// Entries given.
        given_len: u64,
    },
    /// A record makes no sense after those before it.
    #[error("the journal {path} contradicts itself at record {number}: {reason}", path = path.display())]
    Contradiction {
        /// The journal.
        path: PathBuf,
        /// The record, counted from 0.
        number: usize,
        /// What does not fit.
        reason: String,
    },
}

/// The files of a runtime's scratch area.
#[derive(Debug)]
pub struct UpperFiles {
    /// The bytes of changed files.
    pub scratch: Arc<dyn Scratch>,
    /// Where the journal is.
    pub journal: PathBuf,
    /// Makes what the journal needs of its file.
    pub log: fn(File) -> Box<dyn LogFile>,
}

impl UpperFiles {
    /// The usual layout: `scratch/` and `journal` in a directory.
    pub fn in_dir(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("scratch");
        let scratch = DirScratch::open(&path).map_err(|source| OpenError::Io {
            doing: "open the scratch folder",
            path,
            source,
        })?;
        Ok(Self {
            scratch: Arc::new(scratch),
            journal: dir.join("journal"),
            log: |file| Box::new(JournalFile(file)),
        })
    }
}

impl View {
    /// Tells which layers the scratch area in `dir` stands on; `None` when there is none yet.
    /// Its view must be opened with the merged tree of exactly these base layers.
    pub fn recorded_stack(dir: &Path) -> Result<Option<StackIdentity>, OpenError> {
        let path = dir.join("journal");
        let Some(contents) = read_journal(&path)? else {
            return Ok(None);
        };
        Ok(stack_of(contents.records))
    }

    /// Opens the scratch area in `dir`, replaying what an earlier daemon left there, on top of the
    /// merged tree of `base` (bottom first).
    pub fn open(
        dir: &Path,
        base: &[Digest],
        lower: Arc<MergedTree>,
        payloads: Arc<dyn Payloads>,
        options: ViewOptions,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_with(UpperFiles::in_dir(dir)?, Some(dir), base, lower, payloads, options)
    }

    /// Opens a scratch area over given files.
    pub fn open_with(
        files: UpperFiles,
        dir: Option<&Path>,
        base: &[Digest],
        lower: Arc<MergedTree>,
        payloads: Arc<dyn Payloads>,
        options: ViewOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let header = Header {
            numbering: NUMBERING,
            base: base.to_vec(),
            first: Ino::ROOT.0,
            base_len: lower.len() as u64,
            committed: Vec::new(),
        };
        let contents = read_journal(&files.journal)?.filter(|found| !found.records.is_empty());
        let first =
            contents.as_ref().map_or(Ino::ROOT.0, |contents| first_number(&contents.records));
        let header = Header { first, ..header };
        let namespace = Namespace::new(Lower::new(lower, first), options.defaults());
        let replayed = match contents {
            Some(contents) => {
                check_header(&files.journal, &contents.records, &header)?;
                let end = contents.end;
                let count = contents.records.len() as u64;
                let replayed = replay(&files, namespace, contents.records)?;
                Replayed { end, count, ..replayed }
            }
            None => {
                Replayed::fresh(namespace, &*files.scratch).map_err(|source| OpenError::Io {
                    doing: "look at the scratch files of",
                    path: files.journal.clone(),
                    source,
                })?
            }
        };
        let boot = boot_id();
        let file = open_journal(&files.journal, &replayed, &header, &boot)?;
        let (end, count) = match replayed.count {
            0 => (new_journal(&header, &boot).len() as u64, 2),
            count => (replayed.end, count),
        };
        let journal = Journal::new(file, files.log, end, count);
        let upper = Upper::new(files.scratch, journal, replayed.next_scratch);
        if replayed.count > 0 && !replayed.rebooted {
            // What it says may be in memory only, and files that it gives up are about to go.
            upper.journal.sync_to(end).map_err(|error| OpenError::Io {
                doing: "sync",
                path: files.journal.clone(),
                source: io::Error::other(error.to_string()),
            })?;
        }
        upper.release(replayed.unused);
        let stack =
            Stack { base: header.base, base_len: header.base_len, committed: replayed.committed };
        let reopened = replayed.count > 0;
        if reopened && !replayed.rebooted {
            upper.record(&Record::Opened { boot });
        }
        let store = Store::new(payloads, Some(upper));
        let view = Self::assemble(replayed.namespace, store, options.clock, dir, stack);
        // Of a compaction that was cut off.
        drop(fs::remove_file(new_name(&files.journal)));
        if reopened {
            for cell in view.touched_files_that(FileCell::has_to_sync) {
                view.needs_sync(&cell);
            }
            view.tidy(replayed.rebooted).map_err(|error| OpenError::Io {
                doing: "tidy",
                path: files.journal.clone(),
                source: io::Error::other(error.to_string()),
            })?;
        }
        Ok(Arc::new(view))
    }
}

/// The stack that records tell of.
pub(super) fn stack_of(records: Vec<Record>) -> Option<StackIdentity> {
    let mut stack = None;
    for record in records {
        match record {
            Record::Header(Header { base, committed, .. }) => {
                stack = Some(StackIdentity { base, committed });
            }
            Record::Committed { layer, .. } => {
                stack.iter_mut().for_each(|stack: &mut StackIdentity| stack.committed.push(layer));
            }
            _ => {}
        }
    }
    stack
}

pub(super) fn first_number(records: &[Record]) -> u64 {
    match records.first() {
        Some(Record::Header(header)) => header.first,
        _ => Ino::ROOT.0,
    }
}

/// Boots are told apart to know whether the machine may have lost what nobody synced.
pub(super) fn boot_id() -> String {
    // Where the system does not tell, every start counts as a new boot: the safe side.
    spfs_sys::clock::boot_id().unwrap_or_default()
}

fn new_journal(header: &Header, boot: &str) -> Vec<u8> {
    Journal::encode(&[Record::Header(header.clone()), Record::Opened { boot: boot.to_owned() }])
}

fn open_journal(
    path: &Path,
    replayed: &Replayed,
    header: &Header,
    boot: &str,
) -> Result<File, OpenError> {
    let failed = |doing| move |source| OpenError::Io { doing, path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open the journal"))?;
    if replayed.count == 0 {
        file.set_len(0).map_err(failed("begin the journal"))?;
        let bytes = new_journal(header, boot);
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)
            .map_err(failed("begin the journal"))?;
    } else {
        file.set_len(replayed.end).map_err(failed("cut the torn tail of the journal"))?;
    }
    Ok(file)
}

fn read_journal(path: &Path) -> Result<Option<journal::Contents>, OpenError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(OpenError::Io { doing: "read the journal", path: path.to_owned(), source });
        }
    };
    journal::read(&bytes).map(Some).map_err(|(damage, contents)| damaged(path, &damage, &contents))
}

fn damaged(path: &Path, damage: &Damage, contents: &journal::Contents) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        damage: damage.to_string(),
        readable: contents.records.len(),
    }
}

/// Everything up to the damage, for saving what can be saved.
pub(super) fn read_undamaged(path: &Path) -> Result<journal::Contents, OpenError> {
    let bytes = fs::read(path).map_err(|source| OpenError::Io {
        doing: "read the journal",
        path: path.to_owned(),
        source,
    })?;
    match journal::read(&bytes) {
        Ok(contents) => Ok(contents),
        Err((damage, contents)) if contents.records.is_empty() => {
            Err(damaged(path, &damage, &contents))
        }
        Err((_, contents)) => Ok(contents),
    }
}

fn check_header(path: &Path, records: &[Record], given: &Header) -> Result<(), OpenError> {
    match records.first() {
        Some(Record::Header(header))
            if header.numbering == given.numbering
                && header.base == given.base
                && header.base_len == given.base_len =>
        {
            Ok(())
        }
        Some(Record::Header(header)) => Err(OpenError::OtherStack {
            path: path.to_owned(),
            recorded: header.base.len(),
            recorded_len: header.base_len,
            given: given.base.len(),
            given_len: given.base_len,
        }),
        _ => Err(OpenError::Contradiction {
            path: path.to_owned(),
            number: 0,
            reason: "the first record is no header".to_owned(),
        }),
    }
}
