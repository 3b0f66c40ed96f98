//! Reading a directory in steps while it changes.
//!
//! The order of entries is a file system's own, so the steps are judged by the promise alone: what
//! is there all the time comes exactly once, and what comes was there at some time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use spfs_vfs::api::{Cookie, Ino, Vfs};

use super::{Listing, Pair, Subject};
use crate::drive::Outcome;
use crate::ops::Known;

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct Scan {
    dir: Known,
    /// Entries that have been there all the time.
    stable: Listing,
    /// Names that were there at some time.
    ever: BTreeSet<Vec<u8>>,
    model: Progress,
    subject: Progress,
}

/// How far one file system has come.
#[derive(Debug, Default)]
struct Progress {
    /// After which entry to go on; `None` before the first.
    after: Option<Cookie>,
    /// How often each name came.
    seen: BTreeMap<Vec<u8>, u32>,
    ended: bool,
}

impl Progress {
    fn read<V: Vfs>(&mut self, vfs: &V, dir: Ino, entries: usize) -> Result<(), String> {
        let mut left = entries;
        let after = self.after.unwrap_or(Cookie::START);
        self.ended = true;
        let mut each = |entry: spfs_vfs::api::DirEntry<'_>| {
            if left == 0 {
                self.ended = false;
                return ControlFlow::Break(());
            }
            left -= 1;
            *self.seen.entry(entry.name.as_bytes().to_vec()).or_default() += 1;
            self.after = Some(entry.cookie);
            ControlFlow::Continue(())
        };
        vfs.readdir(dir, after, &mut each).map_err(|error| format!("readdir: {error}"))
    }

    fn judge(&self, stable: &Listing, ever: &BTreeSet<Vec<u8>>) -> Result<(), String> {
        for name in stable.keys() {
            let times = self.seen.get(name).copied().unwrap_or(0);
            if times > 1 || times == 0 && self.ended {
                let name = name.escape_ascii();
                return Err(format!("{name}, there all the time, came {times} times: {self:?}"));
            }
        }
        match self.seen.keys().find(|name| !ever.contains(*name)) {
            Some(name) => Err(format!("{}, never there, came", name.escape_ascii())),
            None => Ok(()),
        }
    }
}

impl<S: Subject> Pair<S> {
    pub(super) fn scan_start(
        &mut self,
        slot: usize,
        dir: u16,
        entries: usize,
    ) -> Result<Outcome, String> {
        let dir = self.directory(dir);
        if !self.is_listed_directory(dir) {
            return Ok(Outcome::Skipped);
        }
        let stable = self.listing(dir);
        let ever = stable.keys().cloned().collect();
        let (model, subject) = (Progress::default(), Progress::default());
        self.scans[slot] = Some(Scan { dir, stable, ever, model, subject });
        self.scan_next(slot, entries)
    }

    pub(super) fn scan_next(&mut self, slot: usize, entries: usize) -> Result<Outcome, String> {
        let Some(scan) = &mut self.scans[slot] else { return Ok(Outcome::Skipped) };
        scan.model.read(&**self.model.vfs(), self.model.ino(scan.dir), entries)?;
        scan.subject.read(&**self.session.vfs(), self.session.ino(scan.dir), entries)?;
        scan.model
            .judge(&scan.stable, &scan.ever)
            .map_err(|reason| format!("the model: {reason}"))?;
        if self.subject.keeps_cookies() {
            scan.subject.judge(&scan.stable, &scan.ever)?;
        }
        if scan.subject.ended {
            self.scans[slot] = None;
        }
        Ok(Outcome::Done)
    }

    /// Takes note of what came and went in directories that are being read.
    pub(super) fn update_scans(&mut self) {
        for slot in 0..self.scans.len() {
            let Some(dir) = self.scans[slot].as_ref().map(|scan| scan.dir) else { continue };
            // A removed directory cannot be read any more (iterate_dir in fs/readdir.c).
            if !self.is_listed_directory(dir) {
                self.scans[slot] = None;
                continue;
            }
            let now = self.listing(dir);
            if let Some(scan) = &mut self.scans[slot] {
                scan.ever.extend(now.keys().cloned());
                scan.stable.retain(|name, ino| now.get(name) == Some(ino));
            }
        }
    }

    fn listing(&self, dir: Known) -> Listing {
        let mut listing = Listing::new();
        let each = &mut |entry: spfs_vfs::api::DirEntry<'_>| {
            listing.insert(entry.name.as_bytes().to_vec(), entry.ino);
            ControlFlow::Continue(())
        };
        // The caller has seen that it is a directory.
        let _ = self.model.vfs().readdir(self.model.ino(dir), Cookie::START, each);
        listing
    }
}
