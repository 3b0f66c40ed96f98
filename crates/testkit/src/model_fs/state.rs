//! The nodes of a [`ModelFs`](super::ModelFs) and what holds between them.

use std::collections::BTreeMap;

use spfs_vfs::api::{Attr, Cookie, Error, FileType, Ino, Name, NameBuf, Owner, Result, Timestamp};

use super::FILE_SIZE_MAX;

/// The extended attribute of file capabilities, which goes when privileges are killed.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Everything that the lock of the model file system guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<Ino, Node>,
    pub(super) editable: bool,
    next: u64,
}

/// An inode.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) body: Body,
    pub(super) perm: u16,
    pub(super) owner: Owner,
    pub(super) times: Times,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Entries of directories that name this inode; the root counts as named once.
    pub(super) names: u32,
    pub(super) pins: u64,
    pub(super) open_files: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) crtime: Timestamp,
}

/// What an inode is.
#[derive(Debug)]
pub(super) enum Body {
    Regular(Vec<u8>),
    Directory(Directory),
    Symlink(Box<[u8]>),
    Fifo,
    Socket,
    CharDevice(u64),
    BlockDevice(u64),
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) parent: Ino,
    pub(super) entries: BTreeMap<NameBuf, Entry>,
    next_cookie: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) ino: Ino,
    /// Cookies are never used twice in one directory, so that reading goes on at the right entry.
    pub(super) cookie: Cookie,
}

impl Directory {
    pub(super) fn new(parent: Ino) -> Self {
        Self { parent, entries: BTreeMap::new(), next_cookie: 1 }
    }
}

impl Times {
    fn all(time: Timestamp) -> Self {
        Self { atime: time, mtime: time, ctime: time, crtime: time }
    }
}

impl Body {
    /// Whether the size can be set (vfs_truncate in fs/open.c).
    pub(super) fn may_truncate(&self, size: u64) -> Result<()> {
        match self {
            Self::Regular(_) if size > FILE_SIZE_MAX => Err(Error::FileTooLarge),
            Self::Regular(_) => Ok(()),
            Self::Directory(_) => Err(Error::IsDirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// Sets the size of a regular file; what is new reads as zeros.
    pub(super) fn truncate(&mut self, size: u64) {
        if let Self::Regular(content) = self {
            let size = usize::try_from(size).expect("may_truncate has seen the size");
            content.resize(size, 0);
        }
    }
}

impl Node {
    pub(super) fn new(body: Body, perm: u16, owner: Owner, now: Timestamp) -> Self {
        Self {
            body,
            perm,
            owner,
            times: Times::all(now),
            xattrs: BTreeMap::new(),
            names: 0,
            pins: 0,
            open_files: 0,
        }
    }

    pub(super) fn is_named(&self) -> bool {
        self.names > 0
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    pub(super) fn file_type(&self) -> FileType {
        match self.body {
            Body::Regular(_) => FileType::Regular,
            Body::Directory(_) => FileType::Directory,
            Body::Symlink(_) => FileType::Symlink,
            Body::Fifo => FileType::Fifo,
            Body::Socket => FileType::Socket,
            Body::CharDevice(_) => FileType::CharDevice,
            Body::BlockDevice(_) => FileType::BlockDevice,
        }
    }

    /// What a change of content or owner by an unprivileged caller takes away
    /// (setattr_should_drop_suidgid in fs/attr.c, cap_inode_killpriv in security/commoncap.c).
    pub(super) fn kill_privileges(&mut self) {
        if self.is_directory() {
            return;
        }
        self.perm &= !0o4000;
        if self.perm & 0o010 != 0 {
            self.perm &= !0o2000;
        }
        self.xattrs.remove(CAPABILITY);
    }
}

impl State {
    pub(super) fn new(root_perm: u16, owner: Owner, now: Timestamp) -> Self {
        let body = Body::Directory(Directory::new(Ino::ROOT));
        let root = Node { names: 1, ..Node::new(body, root_perm & 0o7777, owner, now) };
        Self { nodes: BTreeMap::from([(Ino::ROOT, root)]), editable: true, next: Ino::ROOT.0 + 1 }
    }

    pub(super) fn node(&self, ino: Ino) -> Result<&Node> {
        self.nodes.get(&ino).ok_or(Error::Stale)
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Error::Stale)
    }

    pub(super) fn directory(&self, dir: Ino) -> Result<&Directory> {
        match &self.node(dir)?.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Error::NotDirectory),
        }
    }

    pub(super) fn directory_mut(&mut self, dir: Ino) -> Result<&mut Directory> {
        match &mut self.node_mut(dir)?.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Error::NotDirectory),
        }
    }

    pub(super) fn child(&self, dir: Ino, name: Name<'_>) -> Result<Ino> {
        let directory = self.directory(dir)?;
        directory.entries.get(name.as_bytes()).map(|entry| entry.ino).ok_or(Error::NotFound)
    }

    pub(super) fn attr(&self, ino: Ino) -> Result<Attr> {
        let node = self.node(ino)?;
        let (nlink, size) = match &node.body {
            Body::Directory(_) if !node.is_named() => (0, 0),
            Body::Directory(directory) => {
                let is_directory =
                    |entry: &&Entry| self.node(entry.ino).is_ok_and(Node::is_directory);
                (2 + directory.entries.values().filter(is_directory).count() as u32, 0)
            }
            Body::Regular(content) => (node.names, content.len() as u64),
            Body::Symlink(target) => (node.names, target.len() as u64),
            _ => (node.names, 0),
        };
        let rdev = match node.body {
            Body::CharDevice(rdev) | Body::BlockDevice(rdev) => rdev,
            _ => 0,
        };
        Ok(Attr {
            ino,
            file_type: node.file_type(),
            perm: node.perm,
            nlink,
            owner: node.owner,
            rdev,
            size,
            blocks: size.div_ceil(512),
            atime: node.times.atime,
            mtime: node.times.mtime,
            ctime: node.times.ctime,
            crtime: node.times.crtime,
        })
    }

    /// Takes a node in under the next number; no number is used twice.
    pub(super) fn insert(&mut self, node: Node) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        self.nodes.insert(ino, node);
        ino
    }

    /// Removes the node when nothing leads to it any more.
    pub(super) fn reap(&mut self, ino: Ino) {
        let gone = |node: &Node| !node.is_named() && node.pins == 0 && node.open_files == 0;
        if self.nodes.get(&ino).is_some_and(gone) {
            self.nodes.remove(&ino);
        }
    }

    /// Lets `name`, which is free, name `ino`.
    pub(super) fn attach(&mut self, dir: Ino, name: Name<'_>, ino: Ino) {
        let directory = self.directory_mut(dir).expect("the caller has looked at the directory");
        let cookie = Cookie(directory.next_cookie);
        directory.next_cookie += 1;
        let before = directory.entries.insert(NameBuf::from(name), Entry { ino, cookie });
        assert!(before.is_none(), "the caller has made sure that the name is free");
        let node = self.node_mut(ino).expect("the caller has looked at the inode");
        node.names += 1;
        if let Body::Directory(directory) = &mut node.body {
            directory.parent = dir;
        }
    }

    /// Takes `name`, which exists, away and returns what it named.
    pub(super) fn detach(&mut self, dir: Ino, name: Name<'_>) -> Ino {
        let directory = self.directory_mut(dir).expect("the caller has looked at the directory");
        let entry = directory.entries.remove(name.as_bytes());
        let ino = entry.expect("the caller has looked the name up").ino;
        self.node_mut(ino).expect("an entry names an existing inode").names -= 1;
        ino
    }

    /// The entries of a directory have changed.
    pub(super) fn touch_directory(&mut self, dir: Ino, now: Timestamp) {
        let times = &mut self.node_mut(dir).expect("the directory exists").times;
        times.mtime = now;
        times.ctime = now;
    }

    pub(super) fn touch_inode(&mut self, ino: Ino, now: Timestamp) {
        self.node_mut(ino).expect("the inode exists").times.ctime = now;
    }

    pub(super) fn stamp_all(&mut self, time: Timestamp) {
        for node in self.nodes.values_mut() {
            node.times = Times::all(time);
        }
    }

    pub(super) fn paths(&self) -> Vec<(Vec<u8>, Ino)> {
        let mut found = vec![(Vec::new(), Ino::ROOT)];
        let mut next = 0;
        while let Some((path, ino)) = found.get(next).cloned() {
            next += 1;
            let Ok(directory) = self.directory(ino) else { continue };
            for (name, entry) in &directory.entries {
                let mut child = path.clone();
                if !child.is_empty() {
                    child.push(b'/');
                }
                child.extend_from_slice(name.as_bytes());
                found.push((child, entry.ino));
            }
        }
        found
    }

    pub(super) fn check_invariants(&self) -> Result<(), String> {
        let mut names: BTreeMap<Ino, u32> = BTreeMap::from([(Ino::ROOT, 1)]);
        for (&dir, node) in &self.nodes {
            let Body::Directory(directory) = &node.body else { continue };
            if !node.is_named() && !directory.entries.is_empty() {
                return Err(format!("removed directory {dir} has entries"));
            }
            for (name, entry) in &directory.entries {
                *names.entry(entry.ino).or_default() += 1;
                let child = self
                    .nodes
                    .get(&entry.ino)
                    .ok_or_else(|| format!("{name:?} in {dir} names nothing"))?;
                if let Body::Directory(child) = &child.body
                    && child.parent != dir
                {
                    return Err(format!("{name:?} in {dir} has the parent {}", child.parent));
                }
            }
        }
        for (ino, node) in &self.nodes {
            let counted = names.get(ino).copied().unwrap_or(0);
            if node.names != counted {
                return Err(format!("inode {ino} counts {} names of {counted}", node.names));
            }
            if counted == 0 && node.pins == 0 && node.open_files == 0 {
                return Err(format!("inode {ino} is kept by nothing"));
            }
        }
        let reachable = self.paths().len();
        let named: u32 = names.values().sum();
        if reachable as u64 != u64::from(named) {
            return Err(format!("{named} names exist, {reachable} can be reached"));
        }
        Ok(())
    }
}
