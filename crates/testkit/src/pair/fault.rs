//! One operation during which something below fails: afterwards it has happened or not.

use std::collections::BTreeMap;

use spfs_vfs::api::{Error, File, FileType, Ino, Vfs};

use super::{Failure, Pair, Subject};
use crate::drive::Outcome;
use crate::faults::Faults;
use crate::image::Image;
use crate::ops::resolve::resolve;
use crate::ops::{Call, Known, Op};

/// What became of an operation during which a call could fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No call failed, or the operation did without it.
    Unharmed,
    /// It failed and nothing has changed.
    Undone,
    /// It failed, and yet it has happened.
    Done,
    /// It failed at something that nobody can look at.
    Unknown,
}

impl<S: Subject> Pair<S> {
    /// Does one operation on both, the subject's perhaps with a failure. When the operation fails
    /// for that, the subject must be as before or as after it, but for the content that it was
    /// writing; the model then follows, and no call fails any more.
    pub fn step_with_faults(&mut self, op: &Op, faults: &Faults) -> Result<Verdict, Failure> {
        if let Op::Control(_) = op {
            return self.step(op).map(|_| Verdict::Unharmed);
        }
        self.ticks.advance();
        let mut call = resolve(op, &self.world());
        if call.subjects().iter().any(|node| self.is_lost(*node)) {
            call = Call::Nothing;
        }
        let step = self.steps;
        self.steps += 1;
        let result = self.call_with_faults(&call, faults);
        self.name_keys(op);
        result.map_err(|message| Failure {
            step,
            op: *op,
            call: format!("{call:?}"),
            message: format!("{message}\n  failed: {:?}", faults.failed()),
        })
    }

    fn call_with_faults(&mut self, call: &Call, faults: &Faults) -> Result<Verdict, String> {
        let unnamed = self.is_unnamed(call);
        let before = self.subjects(call);
        let found = self.session.call(call);
        self.brackets.push(self.brackets[0]);
        let failed = matches!(&found, Outcome::Failed(f) if is_fault(f.name));
        if !failed || !faults.has_failed() {
            let expected = self.model.call(call);
            self.compare(call, &expected, &found)?;
            self.watch(|pair| pair.compare_subjects(call, &before, &expected))?;
            self.update_scans();
            return Ok(Verdict::Unharmed);
        }
        faults.disarm();
        let verdict = if unnamed { Verdict::Unknown } else { self.settle(call)? };
        // What has happened although it failed was not acknowledged, so a restart right now may
        // undo it, or find half a write. The next thing that is acknowledged ends that: this.
        self.session.vfs().sync().map_err(|error| format!("sync: {error:?}"))?;
        self.update_scans();
        Ok(verdict)
    }

    /// Finds out which side of the operation the subject is on, and lets the model follow.
    fn settle(&mut self, call: &Call) -> Result<Verdict, String> {
        let found = Image::read(&self.subject.fs())?;
        let written = self.written_by(call);
        let content = written.map(|(_, ino)| ino);
        let undone = Image::read(&self.model_fs)?;
        if self.same_inodes(&undone, &found) && undone.same_but_times_and(&found, content) {
            self.adopt(written.map(|w| w.0))?;
            return Ok(Verdict::Undone);
        }
        let expected = self.model.call(call);
        let done = Image::read(&self.model_fs)?;
        if !self.same_inodes(&done, &found) || !done.same_but_times_and(&found, content) {
            let difference = undone.difference(&found, &|_, _| true);
            return Err(format!("neither done nor undone: {difference:?}"));
        }
        if let (Outcome::Inode(_), Call::Create { dir, name, .. }) = (&expected, call) {
            let made = self.session.vfs().lookup(self.session.ino(*dir), name.as_name());
            let made = made.map_err(|error| format!("what was made: {error}"))?;
            self.session.meet(made.ino, true);
        }
        self.adopt(written.map(|w| w.0))?;
        Ok(Verdict::Done)
    }

    /// Whether the paths lead to the same inodes, as far as both have met them: two files may be
    /// alike in all else.
    fn same_inodes(&self, model: &Image, subject: &Image) -> bool {
        let subject: BTreeMap<_, _> = subject.inodes().collect();
        model.inodes().all(|(path, ino)| {
            let known = self.model.met_as(ino).filter(|node| self.session.has_met(*node));
            let known = known.map(|node| self.session.ino(node));
            known.is_none() || subject.get(path).copied() == known
        })
    }

    /// The file whose content a call changes, and its number in the model.
    fn written_by(&self, call: &Call) -> Option<(Known, Ino)> {
        let node = match call {
            Call::Write { slot, .. } | Call::Allocate { slot, .. } => self.model.node_in(*slot)?,
            Call::SetAttr { node, set } if set.size.is_some() => *node,
            _ => return None,
        };
        let ino = self.model.ino(node);
        let regular = matches!(self.model_fs.peek(ino), Some((FileType::Regular, _)));
        regular.then_some((node, ino))
    }

    /// Gives the model the subject's content of a file that was being written, and its privileges,
    /// which go before the first byte.
    fn adopt(&mut self, node: Option<Known>) -> Result<(), String> {
        let Some(node) = node else { return Ok(()) };
        let (theirs, ours) = (self.session.ino(node), self.model.ino(node));
        let adopt = || {
            let vfs = self.session.vfs();
            let attr = vfs.getattr(theirs)?;
            let mut content = vec![0; usize::try_from(attr.size).unwrap_or(0)];
            vfs.open(theirs, spfs_vfs::api::Access::Read)?.read_at(0, &mut content)?;
            self.model_fs.take_content(ours, content)?;
            let capability = b"security.capability";
            let has = vfs.getxattr(theirs, capability).is_ok();
            self.model_fs.take_privileges(ours, attr.perm, has)
        };
        adopt().map_err(|error: Error| format!("taking content over: {error:?}"))
    }

    /// Whether a call is about an inode without a name, which no image shows.
    fn is_unnamed(&self, call: &Call) -> bool {
        let mut subjects = call.subjects();
        subjects.extend(self.written_by(call).map(|(node, _)| node));
        let named =
            |node: &Known| matches!(self.model_fs.peek(self.model.ino(*node)), Some((_, true)));
        !subjects.iter().all(named)
    }
}

/// Whether an error is one that only a failing disk brings about.
fn is_fault(name: &str) -> bool {
    matches!(name, "Scratch" | "Payload" | "NoSpace" | "QuotaExceeded")
}
