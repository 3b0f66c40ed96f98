//! Puts a manifest together from entries in stored order, checking all that readers rely on.

use std::collections::HashMap;

use super::{EntryRecord, Manifest, StoredOrder, TreeIndex, TreeRecord, write_entry_body};
use crate::name::{NameError, NameErrorReason};
use crate::{Digest, EntryKind, EntryRef, Name};

/// The most entries that a walk of one manifest may meet.
///
/// Equal directories are stored once, so a few hundred bytes can describe more directories than
/// there are atoms. Files of upstream's writer hold at most a million entries (its reader's limit).
const EXPANDED_MAX: u64 = 1 << 24;

/// One entry as it is stored, not yet checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) object: Digest,
}

/// Why trees and entries do not make a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A name that no file can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two entries of one directory with one name.
    #[error("a directory holds two entries named \"{name}\"")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A directory that is not among the trees.
    #[error("the directory \"{name}\" stands for tree {digest}, which the manifest does not hold")]
    MissingTree {
        /// The name of the entry.
        name: String,
        /// The digest of the tree.
        digest: Digest,
    },
    /// More entries than can be dealt with.
    #[error("the manifest describes more than {limit} entries")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Not even a root directory.
    #[error("the manifest has no root directory")]
    NoRoot,
}

/// Collects trees in stored order.
#[derive(Debug)]
pub(crate) struct Assembler {
    manifest: Manifest,
    /// First entry of the tree being collected.
    tree_start: usize,
    /// Buffer for what is hashed.
    body: Vec<u8>,
}

impl Assembler {
    /// Makes room for `trees` trees and `entries` entries.
    pub(crate) fn new(trees: usize, entries: usize) -> Self {
        Self {
            manifest: Manifest {
                trees: Vec::with_capacity(trees),
                entries: Vec::with_capacity(entries),
                names: String::with_capacity(entries.saturating_mul(12)),
                expanded: 0,
                listed: Vec::new(),
            },
            tree_start: 0,
            body: Vec::new(),
        }
    }

    /// Makes room for names of so many bytes together.
    pub(crate) fn reserve_names(&mut self, bytes: usize) {
        self.manifest.names.reserve_exact(bytes);
    }

    /// Adds an entry to the tree being collected.
    pub(crate) fn entry(&mut self, entry: &RawEntry<'_>) -> Result<(), ManifestError> {
        let name = Name::new(entry.name)?;
        let text = name.as_str().ok_or_else(|| NameError {
            name: entry.name.escape_ascii().to_string(),
            reason: NameErrorReason::NotUtf8,
        })?;
        let too_large = || ManifestError::TooLarge { limit: EXPANDED_MAX };
        if self.manifest.entries.len() as u64 >= EXPANDED_MAX {
            return Err(too_large());
        }
        let name_start = u32::try_from(self.manifest.names.len()).map_err(|_| too_large())?;
        self.manifest.names.push_str(text);
        self.manifest.entries.push(EntryRecord {
            object: entry.object,
            size: entry.size,
            mode: entry.mode,
            name_start,
            tree: TreeIndex::ROOT,
            // a name has at most 255 bytes
            name_len: text.len() as u8,
            kind: entry.kind,
        });
        Ok(())
    }

    /// Ends the tree being collected; the next entry belongs to the next one.
    pub(crate) fn end_tree(&mut self) -> Result<Digest, ManifestError> {
        if self.manifest.trees.len() as u64 > EXPANDED_MAX {
            return Err(ManifestError::TooLarge { limit: EXPANDED_MAX });
        }
        let start = self.tree_start;
        let order = self.sort(start)?;
        let mut tree = TreeRecord {
            digest: Digest::NULL,
            // entries are limited to fewer than a u32 counts
            start: start as u32,
            len: (self.manifest.entries.len() - start) as u32,
            order,
        };
        self.body.clear();
        self.body.extend_from_slice(&u64::from(tree.len).to_be_bytes());
        for entry in &self.manifest.entries[start..] {
            write_entry_body(&self.manifest.entry(entry), &mut self.body);
        }
        tree.digest = Digest::of(&self.body);
        self.manifest.trees.push(tree);
        self.tree_start = self.manifest.entries.len();
        Ok(tree.digest)
    }

    /// Sorts the entries from `start` on by name and says how they stood before.
    fn sort(&mut self, start: usize) -> Result<StoredOrder, ManifestError> {
        let Manifest { entries, names, listed, .. } = &mut self.manifest;
        let name = |entry: &EntryRecord| {
            &names.as_bytes()[entry.name_start as usize..][..usize::from(entry.name_len)]
        };
        let entries = &mut entries[start..];
        if entries.is_sorted_by(|a, b| name(a) < name(b)) {
            let trees_first = entries.is_sorted_by_key(|entry| entry.kind != EntryKind::Tree);
            return Ok(if trees_first { StoredOrder::TreesFirst } else { StoredOrder::ByName });
        }
        let rank = |entry: &EntryRecord| (entry.kind != EntryKind::Tree, name(entry));
        let order = if entries.is_sorted_by(|a, b| rank(a) < rank(b)) {
            // the stable sort finds the two ascending runs and merges them
            entries.sort_by(|a, b| name(a).cmp(name(b)));
            StoredOrder::TreesFirst
        } else {
            let mut sorted: Vec<u32> = (0..entries.len() as u32).collect();
            sorted.sort_by(|&a, &b| name(&entries[a as usize]).cmp(name(&entries[b as usize])));
            let at = listed.len();
            listed.resize(at + sorted.len(), 0);
            for (place, &stored) in sorted.iter().enumerate() {
                listed[at + stored as usize] = place as u32;
            }
            entries.sort_by(|a, b| name(a).cmp(name(b)));
            // never more than there are entries
            StoredOrder::Listed(at as u32)
        };
        match entries.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            None => Ok(order),
            Some(pair) => Err(ManifestError::DuplicateName {
                name: String::from_utf8_lossy(name(&pair[0])).into_owned(),
            }),
        }
    }

    /// Connects the entries with their trees.
    pub(crate) fn finish(mut self) -> Result<Manifest, ManifestError> {
        let manifest = &mut self.manifest;
        if manifest.trees.is_empty() {
            return Err(ManifestError::NoRoot);
        }
        let mut by_digest = HashMap::with_capacity(manifest.trees.len());
        for (index, tree) in manifest.trees.iter().enumerate() {
            by_digest.entry(tree.digest).or_insert(TreeIndex(index as u32));
        }
        for entry in &mut manifest.entries {
            if entry.kind != EntryKind::Tree {
                continue;
            }
            let Some(&tree) = by_digest.get(&entry.object) else {
                let entry = *entry;
                let EntryRef { name, object: digest, .. } = manifest.entry(&entry);
                return Err(ManifestError::MissingTree { name: name.to_string(), digest });
            };
            entry.tree = tree;
        }
        manifest.expanded = expanded_len(manifest)?;
        Ok(self.manifest)
    }
}

/// Counts the entries of a walk from the root, without walking through any tree twice.
fn expanded_len(manifest: &Manifest) -> Result<u64, ManifestError> {
    const UNKNOWN: u64 = u64::MAX;
    let mut counts = vec![UNKNOWN; manifest.trees.len()];
    // a tree, the place of its next entry, and what was counted so far
    let root = &manifest.trees[0];
    let mut path = vec![(TreeIndex::ROOT, root.start, u64::from(root.len))];
    while let Some((tree, next, count)) = path.last_mut() {
        let end = manifest.places(*tree).end;
        let child = (*next..end)
            .map(|at| (at, &manifest.entries[at as usize]))
            .find(|(_, entry)| entry.kind == EntryKind::Tree);
        let Some((at, entry)) = child else {
            counts[tree.at()] = *count;
            path.pop();
            continue;
        };
        *next = at;
        if counts[entry.tree.at()] == UNKNOWN {
            // a tree inside itself would take a SHA-256 collision; the limit below would end it
            let record = &manifest.trees[entry.tree.at()];
            path.push((entry.tree, record.start, u64::from(record.len)));
        } else {
            *next += 1;
            *count = count.saturating_add(counts[entry.tree.at()]);
        }
        let counted = path.last().map_or(0, |(_, _, count)| *count);
        if counted > EXPANDED_MAX || path.len() > manifest.trees.len() {
            return Err(ManifestError::TooLarge { limit: EXPANDED_MAX });
        }
    }
    Ok(counts[0])
}
