//! Telling the kernel what changed behind its back.
//!
//! A notification makes the kernel take its own locks and may make it write pages back to us, so
//! the thread that sends it must not be one that answers requests, and nobody may hold a lock of
//! the core meanwhile: notifications have a thread of their own.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc;
use std::thread::JoinHandle;

use fuser::INodeNo;
use spfs_vfs::api::{Ino, NameBuf};

use crate::node::Node;
use crate::views::ViewId;

/// Something the kernel may remember and has to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// Attributes and content of an inode, or the listing of a directory. Written pages that the
    /// kernel holds come to us first, except that those of an inode that is gone are dropped.
    ///
    /// A kernel with a writeback cache believes its own size and times of a regular file: new
    /// content of another size needs a new inode number and [`Invalidation::Entry`], or that the
    /// kernel itself sets the size before.
    Inode(Ino),
    /// A name that now stands for something else, or did not exist before. A directory under this
    /// name must not go on living: processes inside it would lose their path.
    Entry {
        /// The directory.
        parent: Ino,
        /// The name.
        name: NameBuf,
    },
    /// A name that is gone; processes that watch it are told.
    Deleted {
        /// The directory.
        parent: Ino,
        /// What had the name.
        child: Ino,
        /// The name.
        name: NameBuf,
    },
}

struct Batch {
    view: ViewId,
    what: Vec<Invalidation>,
    done: mpsc::Sender<io::Result<()>>,
}

enum Message {
    Batch(Batch),
    /// The root of a view that is gone, in the folder of the views.
    Root(ViewId, mpsc::Sender<io::Result<()>>),
    End,
}

/// Sends notifications to the kernel; clones send to the same thread.
#[derive(Debug, Clone)]
pub struct Notifier {
    queue: mpsc::Sender<Message>,
}

/// Tells when a batch of notifications has been sent.
#[derive(Debug)]
#[must_use = "without `wait` nobody learns of a failure"]
pub struct Sent(mpsc::Receiver<io::Result<()>>);

impl Sent {
    /// Waits until the kernel has taken the whole batch: from then on it asks us again. Never call
    /// this from a thread that answers requests.
    ///
    /// # Errors
    /// The first error of the batch; the rest of it was sent all the same. A mount that has ended
    /// remembers nothing, so its end is no error.
    pub fn wait(self) -> io::Result<()> {
        self.0.recv().unwrap_or(Ok(()))
    }
}

impl Notifier {
    /// Starts the thread. It ends with [`Notifier::end`].
    pub(crate) fn start(
        kernel: fuser::Notifier,
        links: bool,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, messages) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("spfs-notify".into())
            .spawn(move || serve(&kernel, links, &messages))?;
        Ok((Self { queue }, thread))
    }

    /// Sends a batch, in its order.
    pub fn send(&self, view: ViewId, what: Vec<Invalidation>) -> Sent {
        let (done, sent) = mpsc::channel();
        // A thread that has ended drops the message and with it `done`: `wait` returns.
        drop(self.queue.send(Message::Batch(Batch { view, what, done })));
        Sent(sent)
    }

    /// Makes the kernel forget attributes, pages and listing of an inode.
    pub fn inval_inode(&self, view: ViewId, ino: Ino) -> Sent {
        self.send(view, vec![Invalidation::Inode(ino)])
    }

    /// Makes the kernel forget a name.
    pub fn inval_entry(&self, view: ViewId, parent: Ino, name: NameBuf) -> Sent {
        self.send(view, vec![Invalidation::Entry { parent, name }])
    }

    /// Tells the kernel that a name is gone.
    pub fn deleted(&self, view: ViewId, parent: Ino, child: Ino, name: NameBuf) -> Sent {
        self.send(view, vec![Invalidation::Deleted { parent, child, name }])
    }

    /// Makes the kernel forget the way to the root of a view that is gone.
    pub(crate) fn forget_root(&self, view: ViewId) -> Sent {
        let (done, sent) = mpsc::channel();
        drop(self.queue.send(Message::Root(view, done)));
        Sent(sent)
    }

    /// Ends the thread once it has sent what was queued.
    pub(crate) fn end(&self) {
        drop(self.queue.send(Message::End));
    }
}

/// `links`: the root of the mount holds links, and those of the views are in the folder of the views.
fn serve(kernel: &fuser::Notifier, links: bool, messages: &mpsc::Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        let batch = match message {
            Message::Batch(batch) => batch,
            Message::Root(view, done) => {
                let name = view.to_string();
                let sent = kernel.inval_entry(Node::FOLDER_ID, OsStr::new(&name));
                drop(done.send(known(sent)));
                continue;
            }
            Message::End => return,
        };
        let mut result = Ok(());
        for invalidation in &batch.what {
            let sent = send(kernel, links, batch.view, invalidation);
            if let Err(error) = &sent {
                tracing::warn!(view = %batch.view, ?invalidation, %error, "notification failed");
            }
            result = result.and(sent);
        }
        // Nobody may be waiting.
        drop(batch.done.send(result));
    }
}

fn send(
    kernel: &fuser::Notifier,
    links: bool,
    view: ViewId,
    what: &Invalidation,
) -> io::Result<()> {
    let id = |ino: Ino| -> io::Result<INodeNo> {
        if links && ino == Ino::ROOT {
            return Ok(Node::root_id(view));
        }
        Node::id(view, ino).ok_or_else(|| io::Error::other(format!("no node id for inode {ino}")))
    };
    let sent = match what {
        // The whole file: length 0 stands for "to the end".
        Invalidation::Inode(ino) => kernel.inval_inode(id(*ino)?, 0, 0),
        Invalidation::Entry { parent, name } => kernel.inval_entry(id(*parent)?, os(name)),
        Invalidation::Deleted { parent, child, name } => {
            kernel.delete(id(*parent)?, id(*child)?, os(name))
        }
    };
    known(sent)
}

fn known(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        // The mount has ended, or the kernel did not know the inode.
        Err(error) if ended(&error) => Ok(()),
        sent => sent,
    }
}

fn ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::ENOTCONN))
}

fn os(name: &NameBuf) -> &OsStr {
    OsStr::from_bytes(name.as_bytes())
}
