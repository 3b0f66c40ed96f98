//! Which files are read ahead.

use std::io;

use spfs_model::Digest;

use crate::ahead::{self, Ahead, Wanted};
use crate::api::{FileType, Ino};

use super::View;

impl View {
    /// From now on files of layers that are read in the order of their directory are read ahead, by
    /// threads of their own.
    ///
    /// # Errors
    /// When a thread cannot be started; the view works without.
    pub fn start_reading_ahead(&self) -> io::Result<()> {
        if self.ahead.get().is_none() {
            // Who lost a race drops its threads again.
            drop(self.ahead.set(Ahead::start(self.store.payloads())?));
        }
        Ok(())
    }

    /// A file is read and has to be waited for: the next ones may be wanted, too.
    pub(super) fn read_ahead_of(&self, ino: Ino) {
        let Some(ahead) = self.ahead.get() else { return };
        let namespace = self.namespace.read();
        let lower = namespace.lower();
        let Some(dir) = lower.parent(ino) else { return };
        let next = ahead.next(dir, ino, &lower.children(dir));
        let wanted: Vec<Wanted> = next
            .map(Ino)
            .filter(|&ino| namespace.node(ino).is_none())
            .filter_map(|ino| lower.node(ino))
            .filter(|node| node.file_type == FileType::Regular && node.digest != Digest::EMPTY)
            .filter(|node| (1..=ahead::FILE_SIZE_MAX).contains(&node.size))
            .map(|node| Wanted { digest: node.digest, size: node.size })
            .collect();
        drop(namespace);
        if !wanted.is_empty() {
            ahead.want(wanted);
        }
    }
}
