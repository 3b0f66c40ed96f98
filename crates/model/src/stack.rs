//! Layers on top of each other: what each directory shows, and all of them together.

use std::ops::Range;

use crate::entry::{blob_mode, directory_mode, mode};
use crate::manifest::{Manifest, TreeIndex};
use crate::merged::TreeWriter;
use crate::{Digest, EntryKind, MergedTree, Name, NodeKind, Position};

/// Nodes that room is made for at the start of a merge; more are added as they come.
const RESERVED_MAX: u64 = 1 << 21;

/// Layers, bottom first, of which single directories can be asked for.
///
/// Of the entries that the layers have at one path the topmost counts. A mask removes what is
/// below it. A directory shows the entries of the directories below it too, down to the first
/// entry at its path that is not a directory: what that one hid stays hidden.
#[derive(Debug, Clone)]
pub struct Stack<'a> {
    bottom: Option<&'a MergedTree>,
    above: Vec<&'a Manifest>,
}

/// A directory of a [`Stack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    sources: Vec<Source>,
}

/// Where a directory is found in one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In the merged tree at the bottom.
    Bottom(Position),
    /// In the manifest of that number.
    Layer(u32, TreeIndex),
}

/// What a directory of a [`Stack`] shows under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEntry<'a> {
    /// The name.
    pub name: Name<'a>,
    /// What it is.
    pub kind: NodeKind,
    /// The whole `st_mode`, its type bits agreeing with `kind`.
    pub mode: u32,
    /// The size in bytes; 0 for directories.
    pub size: u64,
    /// The payload; null for directories.
    pub object: Digest,
    /// The directory, when it is one.
    pub dir: Option<Dir>,
}

impl Dir {
    /// The directory of the tree at the bottom that alone makes up this one.
    pub(crate) fn is_only_bottom(&self) -> Option<Position> {
        match self.sources[..] {
            [Source::Bottom(position)] => Some(position),
            _ => None,
        }
    }
}

impl<'a> Stack<'a> {
    /// A stack of these manifests, bottom first.
    pub fn new(layers: Vec<&'a Manifest>) -> Self {
        Self { bottom: None, above: layers }
    }

    /// A stack of a merged tree and manifests above it, bottom first.
    pub fn on(bottom: &'a MergedTree, above: Vec<&'a Manifest>) -> Self {
        Self { bottom: Some(bottom), above }
    }

    /// The merged tree at the bottom.
    pub fn bottom(&self) -> Option<&'a MergedTree> {
        self.bottom
    }

    /// The root directory.
    pub fn root(&self) -> Dir {
        let bottom = self.bottom.map(|_| Source::Bottom(Position::ROOT));
        // there are fewer manifests than a u32 counts: each takes more than a hundred bytes
        let above = (0..self.above.len() as u32).map(|layer| Source::Layer(layer, TreeIndex::ROOT));
        Dir { sources: bottom.into_iter().chain(above).collect() }
    }

    /// What a directory shows, sorted by name.
    pub fn list(&self, dir: &Dir) -> Vec<MergedEntry<'a>> {
        let mut entries = Vec::new();
        self.visit(&dir.sources, &mut Scratch::default(), |entry, sources| {
            entries.push(entry.with(sources));
        });
        entries
    }

    /// What a directory shows under that name.
    pub fn lookup(&self, dir: &Dir, name: Name<'_>) -> Option<MergedEntry<'a>> {
        let mut found = Found::default();
        let mut sources = Vec::new();
        for &source in dir.sources.iter().rev() {
            let Some(entry) = self.find(source, name) else { continue };
            if !found.add(entry, &mut sources) {
                break;
            }
        }
        found.entry.map(|entry| {
            sources.reverse();
            entry.with(&sources)
        })
    }

    /// All of it as one tree.
    pub fn merge(&self) -> MergedTree {
        let expected =
            self.above.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.expanded_len()))
                + self.bottom.map_or(0, |bottom| bottom.len() as u64);
        let mut tree = TreeWriter::new(expected.min(RESERVED_MAX) as usize);
        let mut scratch = Scratch::default();
        // The directories of this level and of the next, in order, with their sources.
        let mut level = Level::default();
        let mut next = Level::default();
        level.add(Position::ROOT, &self.root().sources);
        let mut node = 0;
        while !level.directories.is_empty() {
            for (directory, sources) in level.iter() {
                while node < directory.0 {
                    tree.begin_children(Position(node));
                    node += 1;
                }
                tree.begin_children(directory);
                node += 1;
                self.visit(sources, &mut scratch, |entry, sources| {
                    if entry.is_directory() {
                        next.add(Position(tree.len()), sources);
                    }
                    tree.child(entry.name, entry.mode, entry.size, entry.object, directory);
                });
            }
            std::mem::swap(&mut level, &mut next);
            next.clear();
        }
        while node < tree.len() {
            tree.begin_children(Position(node));
            node += 1;
        }
        tree.finish()
    }

    /// Calls `emit` for everything a directory shows, in the order of names; with the sources,
    /// bottom first, of what is a directory itself.
    fn visit(
        &self,
        sources: &[Source],
        scratch: &mut Scratch,
        mut emit: impl FnMut(Entry<'a>, &[Source]),
    ) {
        if let [source] = *sources {
            // nothing to merge: most directories belong to one layer
            for at in self.places(source) {
                let entry = self.entry(source, at);
                match entry.content {
                    Some(Content::Directory(source)) => emit(entry, &[source]),
                    Some(Content::Blob) => emit(entry, &[]),
                    None => {}
                }
            }
            return;
        }
        self.gather(sources, &mut scratch.records);
        let records = &scratch.records;
        let mut start = 0;
        while start < records.len() {
            let name = self.record_name(sources, &records[start]);
            let mut found = Found::default();
            scratch.found.clear();
            let mut open = true;
            let mut at = start;
            // records of one name stand topmost first
            while at < records.len()
                && (at == start || self.is_same_name(sources, &records[start], &records[at], name))
            {
                if open {
                    let entry = self.entry(sources[records[at].source as usize], records[at].at);
                    open = found.add(entry, &mut scratch.found);
                }
                at += 1;
            }
            if let Some(entry) = found.entry {
                scratch.found.reverse();
                emit(entry, &scratch.found);
            }
            start = at;
        }
    }

    /// Lists the entries of all sources sorted by name, those of one name topmost first.
    fn gather(&self, sources: &[Source], records: &mut Vec<Record>) {
        records.clear();
        let skip = self.common_len(sources);
        for (number, &source) in sources.iter().enumerate() {
            records.extend(self.places(source).map(|at| Record {
                key: key(self.name(source, at), skip),
                // there are no more sources than layers
                source: number as u32,
                at,
            }));
        }
        records.sort_unstable_by(|a, b| {
            let order = a.key.cmp(&b.key).then_with(|| {
                if has_whole_name(a.key) {
                    return std::cmp::Ordering::Equal;
                }
                self.record_name(sources, a).as_bytes().cmp(self.record_name(sources, b).as_bytes())
            });
            order.then_with(|| b.source.cmp(&a.source))
        });
    }

    /// How many bytes all names of these directories have in common at their start.
    fn common_len(&self, sources: &[Source]) -> usize {
        let ends = sources.iter().filter_map(|&source| {
            let Range { start, end } = self.places(source);
            (start < end).then(|| (self.name(source, start), self.name(source, end - 1)))
        });
        let ends = ends.reduce(|(low, high), (first, last)| (low.min(first), high.max(last)));
        ends.map_or(0, |(first, last)| {
            let pairs = first.as_bytes().iter().zip(last.as_bytes());
            pairs.take_while(|(a, b)| a == b).count()
        })
    }

    fn record_name(&self, sources: &[Source], record: &Record) -> Name<'a> {
        self.name(sources[record.source as usize], record.at)
    }

    fn is_same_name(
        &self,
        sources: &[Source],
        first: &Record,
        other: &Record,
        name: Name<'a>,
    ) -> bool {
        first.key == other.key
            && (has_whole_name(first.key) || self.record_name(sources, other) == name)
    }

    /// The places of a directory's entries in one layer, sorted by name.
    fn places(&self, source: Source) -> Range<u32> {
        match source {
            Source::Bottom(position) => {
                self.bottom.map_or(0..0, |bottom| bottom.children(position))
            }
            Source::Layer(layer, tree) => self.above[layer as usize].places(tree),
        }
    }

    fn name(&self, source: Source, at: u32) -> Name<'a> {
        match (source, self.bottom) {
            (Source::Bottom(_), Some(bottom)) => bottom.name(Position(at)),
            (Source::Bottom(_), None) => Name::ROOT,
            (Source::Layer(layer, _), _) => self.above[layer as usize].entry_at(at).name,
        }
    }

    /// The entry at a place that [`Stack::places`] gave for this source.
    fn entry(&self, source: Source, at: u32) -> Entry<'a> {
        match (source, self.bottom) {
            (Source::Bottom(_), Some(bottom)) => {
                let node = bottom.node(Position(at));
                let content = match node.kind {
                    NodeKind::Directory => Content::Directory(Source::Bottom(Position(at))),
                    NodeKind::File | NodeKind::Symlink => Content::Blob,
                };
                Entry {
                    name: node.name,
                    mode: node.mode,
                    size: node.size,
                    object: node.object,
                    content: Some(content),
                }
            }
            (Source::Bottom(_), None) => Entry::mask(Name::ROOT),
            (Source::Layer(layer, _), _) => {
                let entry = self.above[layer as usize].entry_at(at);
                match (entry.kind, entry.tree) {
                    (EntryKind::Tree, Some(tree)) => Entry {
                        name: entry.name,
                        mode: directory_mode(entry.mode),
                        size: 0,
                        object: Digest::NULL,
                        content: Some(Content::Directory(Source::Layer(layer, tree))),
                    },
                    (EntryKind::Blob, _) => Entry {
                        name: entry.name,
                        mode: blob_mode(entry.mode),
                        size: entry.size,
                        object: entry.object,
                        content: Some(Content::Blob),
                    },
                    (EntryKind::Mask | EntryKind::Tree, _) => Entry::mask(entry.name),
                }
            }
        }
    }

    fn find(&self, source: Source, name: Name<'_>) -> Option<Entry<'a>> {
        let Range { start: mut low, end: mut high } = self.places(source);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(source, middle).cmp(&name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.entry(source, middle)),
            }
        }
        None
    }
}

/// Puts layers together, bottom first. The root has mode 040777.
pub fn merge(layers: &[&Manifest]) -> MergedTree {
    Stack::new(layers.to_vec()).merge()
}

/// What one layer has under a name.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    name: Name<'a>,
    mode: u32,
    size: u64,
    object: Digest,
    /// `None` for a mask.
    content: Option<Content>,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Blob,
    Directory(Source),
}

impl<'a> Entry<'a> {
    const fn mask(name: Name<'a>) -> Self {
        Self { name, mode: mode::MASK, size: 0, object: Digest::NULL, content: None }
    }

    const fn is_directory(&self) -> bool {
        matches!(self.content, Some(Content::Directory(_)))
    }

    fn with(self, sources: &[Source]) -> MergedEntry<'a> {
        let Self { name, mode, size, object, .. } = self;
        let (kind, dir) = if self.is_directory() {
            (NodeKind::Directory, Some(Dir { sources: sources.to_vec() }))
        } else {
            (NodeKind::of_blob(mode), None)
        };
        MergedEntry { name, kind, mode, size, object, dir }
    }
}

/// The outcome of the layers' entries for one name, topmost first.
#[derive(Default)]
struct Found<'a> {
    entry: Option<Entry<'a>>,
}

impl<'a> Found<'a> {
    /// Takes in the next lower entry; says whether those below it still matter.
    fn add(&mut self, entry: Entry<'a>, directories: &mut Vec<Source>) -> bool {
        match (entry.content, self.entry) {
            (Some(Content::Directory(source)), _) => {
                self.entry.get_or_insert(entry);
                directories.push(source);
                true
            }
            (Some(Content::Blob), None) => {
                self.entry = Some(entry);
                false
            }
            (Some(Content::Blob), Some(_)) | (None, _) => false,
        }
    }
}

/// Buffers that are used again for every directory.
#[derive(Default)]
struct Scratch {
    records: Vec<Record>,
    found: Vec<Source>,
}

/// An entry of one source, in the order of names.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// Eight bytes of the name, after what all names have in common: they mostly tell names apart.
    key: u64,
    source: u32,
    at: u32,
}

fn key(name: Name<'_>, skip: usize) -> u64 {
    let rest = &name.as_bytes()[skip..];
    let mut bytes = [0; 8];
    let len = rest.len().min(8);
    bytes[..len].copy_from_slice(&rest[..len]);
    u64::from_be_bytes(bytes)
}

/// Whether a name with that key ends with it: names have no NUL.
const fn has_whole_name(key: u64) -> bool {
    key & 0xff == 0
}

/// Directories in the order of their positions.
#[derive(Default)]
struct Level {
    /// Where the sources of each end.
    directories: Vec<(Position, usize)>,
    sources: Vec<Source>,
}

impl Level {
    fn add(&mut self, position: Position, sources: &[Source]) {
        self.sources.extend_from_slice(sources);
        self.directories.push((position, self.sources.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (Position, &[Source])> {
        let mut start = 0;
        self.directories.iter().map(move |&(position, end)| {
            let sources = &self.sources[start..end];
            start = end;
            (position, sources)
        })
    }

    fn clear(&mut self) {
        self.directories.clear();
        self.sources.clear();
    }
}
