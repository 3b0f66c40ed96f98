//! Giving a file its content back without a new inode, although a kernel has it open.
//!
//! A kernel that caches writes keeps two things of a file to itself: its size, which it believes
//! whatever it is told, and pages that were written. If the content were exchanged behind its back,
//! a page that is written at that moment would bring what surrounds the written bytes along, from
//! the time before. So the kernel is asked to do it: somebody with access to the mount opens the
//! file and asks for all of it to be punched out (fallocate(2) from 0 over [`WHOLE_FILE`] bytes), or
//! zeroed when it must grow. While that request is under way the kernel keeps writers and page
//! faults of the file away, and it drops all its pages afterwards (fuse_file_fallocate). A view
//! that has offered the file gives it its content back at that moment, instead of zeros, as one
//! step and one record. The size is the kernel's to set then, by ftruncate(2).
//!
//! Until that moment the file is the user's, from then on the layers', whatever ends in between. One
//! whose size was not set afterwards gets a new inode by the reset that follows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use spfs_model::{Digest, MergedEntry, Name, NodeKind, Stack};

use crate::api::{Allocate, Ino};
use crate::cell::{FileCell, Source};
use crate::journal::Record;
use crate::namespace::{Body, Namespace};
use crate::store::Upper;

use super::View;

/// A range from 0 over at least this many bytes is all of a file: more than any file holds.
pub const WHOLE_FILE: u64 = 1 << 62;

/// A file that a reset would give a new inode, unless the kernel helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The file.
    pub ino: Ino,
    /// Its path relative to the root.
    pub path: Vec<u8>,
    /// Its size in bytes in the layers.
    pub size: u64,
}

/// What a file gets back.
#[derive(Debug)]
pub(in crate::view) struct Offered {
    size: u64,
    digest: Digest,
    /// It has got it.
    given: bool,
}

/// The files of a view that may be given their content back now: as long as this lives.
#[derive(Debug)]
pub struct Offers<'v> {
    view: &'v View,
    files: Vec<Offer>,
}

impl Offers<'_> {
    /// The files.
    pub fn files(&self) -> &[Offer] {
        &self.files
    }

    /// Ends the offers. `settled`: the files of which the kernel knows the size.
    pub fn end(self, settled: &HashSet<Ino>) -> GivenBack {
        let offered = std::mem::take(&mut *self.view.offered.lock());
        let mut done = GivenBack::default();
        for (ino, offered) in offered.into_iter().filter(|(_, offered)| offered.given) {
            match settled.contains(&ino) {
                true => drop(done.settled.insert(ino, offered.digest)),
                false => drop(done.astray.insert(ino)),
            }
        }
        done
    }
}

impl Drop for Offers<'_> {
    fn drop(&mut self) {
        self.view.offered.lock().clear();
    }
}

/// What became of offers.
#[derive(Debug, Default)]
pub struct GivenBack {
    /// Files with their old inode and the content of the layers, as the kernel knows, and which
    /// content that was. What was written to them since is to stay.
    settled: HashMap<Ino, Digest>,
    /// Files with the content of the layers whose size the kernel does not know.
    astray: HashSet<Ino>,
}

impl GivenBack {
    /// Whether a file has got this content, and the kernel knows.
    pub(super) fn is_settled(&self, ino: Ino, digest: Digest) -> bool {
        self.settled.get(&ino) == Some(&digest)
    }

    /// Whether a file has got content whose size the kernel does not know.
    pub fn is_astray(&self, ino: Ino) -> bool {
        self.astray.contains(&ino)
    }
}

impl View {
    /// Offers to give files that are to be reset their content back where they are. One caller at a
    /// time; a reset of the same paths with the same stack follows ([`View::reset_rest`]).
    pub fn offer_in_place(&self, paths: &[Vec<u8>], stack: &Stack<'_>) -> Offers<'_> {
        let writers: HashSet<Ino> = self.writers.lock().keys().copied().collect();
        let changed = changed_files(&self.namespace.read(), paths);
        let mut offered = HashMap::new();
        let mut files = Vec::new();
        for (cell, path) in changed {
            let Some(wanted) = file_at(stack, &path) else { continue };
            let (size, digest) = (wanted.size, wanted.object);
            let needs_help = cell.with(|content| match content.source {
                Source::Payload(found) if found == digest => false,
                _ => content.size != size || writers.contains(&cell.ino),
            });
            if needs_help {
                offered.insert(cell.ino, Offered { size, digest, given: false });
                files.push(Offer { ino: cell.ino, path, size });
            }
        }
        *self.offered.lock() = offered;
        Offers { view: self, files }
    }

    /// Gives a file its content back, if a range that is punched out or zeroed is all of it and it
    /// is offered.
    pub(in crate::view) fn gives_back(
        &self,
        cell: &FileCell,
        range: (u64, u64),
        how: Allocate,
        upper: &Upper,
    ) -> bool {
        let given = cell.with_mut(|content| {
            // Under the cell's lock, so that nothing is given any more when the offers have ended.
            let mut offered = self.offered.lock();
            let offered = offered.get_mut(&cell.ino)?;
            if offered.given || !is_all(range, how, offered.size) {
                return None;
            }
            offered.given = true;
            let old = content.assign(offered.size, Source::Payload(offered.digest));
            upper.record(&Record::Content { ino: cell.ino.0, content: content.record() });
            Some(old)
        });
        let is_given = given.is_some();
        given.into_iter().flatten().for_each(|id| upper.remove(id));
        is_given
    }
}

/// Whether the kernel drops all pages of a file after it was asked for this, if the file becomes
/// `size` bytes long.
fn is_all((offset, len): (u64, u64), how: Allocate, size: u64) -> bool {
    match how {
        _ if offset > 0 => false,
        Allocate::PunchHole => len >= WHOLE_FILE,
        Allocate::ZeroRange => len >= size,
        Allocate::Extend | Allocate::KeepSize | Allocate::ZeroRangeKeepSize => false,
    }
}

/// The changed regular files with one name that is one of the paths or inside one of them.
fn changed_files(namespace: &Namespace, paths: &[Vec<u8>]) -> Vec<(Arc<FileCell>, Vec<u8>)> {
    let paths: HashSet<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    let mut found = Vec::new();
    for ino in namespace.changed() {
        if let Some(Body::File { cell, names }) = namespace.node(*ino).map(|node| &node.body)
            && names.len() == 1
            && let Some(path) = namespace.path(*ino)
            && is_meant(&paths, &path)
        {
            found.push((Arc::clone(cell), path));
        }
    }
    found
}

fn is_meant(paths: &HashSet<&[u8]>, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    paths.contains(&b""[..]) || ends.chain([path.len()]).any(|end| paths.contains(&path[..end]))
}

/// The regular file that a stack has at a path.
fn file_at<'s>(stack: &Stack<'s>, path: &[u8]) -> Option<MergedEntry<'s>> {
    let mut dir = stack.root();
    let mut names = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let entry = stack.lookup(&dir, Name::new(name).ok()?)?;
        if names.peek().is_none() {
            return (entry.kind == NodeKind::File).then_some(entry);
        }
        dir = entry.dir?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_all_of_a_file_gives_it_back() {
        for (range, how, all) in [
            ((0, WHOLE_FILE), Allocate::PunchHole, true),
            ((0, WHOLE_FILE - 1), Allocate::PunchHole, false),
            ((1, WHOLE_FILE), Allocate::PunchHole, false),
            ((0, 10), Allocate::ZeroRange, true),
            ((0, 9), Allocate::ZeroRange, false),
            ((0, WHOLE_FILE), Allocate::ZeroRangeKeepSize, false),
            ((0, WHOLE_FILE), Allocate::Extend, false),
            ((0, WHOLE_FILE), Allocate::KeepSize, false),
        ] {
            assert_eq!(is_all(range, how, 10), all, "{range:?} {how:?}");
        }
    }

    #[test]
    fn a_path_is_meant_by_itself_and_by_what_it_is_in() {
        let is = |paths: &[&str], path: &str| {
            is_meant(&paths.iter().map(|path| path.as_bytes()).collect(), path.as_bytes())
        };
        assert!(is(&[""], "a/b"));
        assert!(is(&["a"], "a/b"));
        assert!(is(&["x", "a/b"], "a/b"));
        assert!(!is(&["a/b"], "a/bc"));
        assert!(!is(&["a/b/c"], "a/b"));
    }
}
