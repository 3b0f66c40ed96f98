//! A whole tree as a value: everything that can be seen of it, read through the interface.
//!
//! Reading it also checks what must hold in any file system: that listings and lookups agree, that
//! link counts are the number of names, that directories know their parents.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use spfs_vfs::api::{Access, Attr, Cookie, File, FileType, Ino, NameBuf, Owner, Result, Vfs};

use crate::drive::Times;

/// Everything in a file system, by path; the root has the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The nodes, parents before children.
    pub nodes: BTreeMap<TreePath, ImageNode>,
}

/// A path below the root, its names joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(pub Vec<u8>);

/// What can be seen of one name.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Attr")]
pub struct ImageNode {
    pub file_type: FileType,
    pub perm: u16,
    pub nlink: u32,
    pub owner: Owner,
    pub rdev: u64,
    pub times: Times,
    /// The number of the inode: not compared.
    pub ino: Ino,
    /// The first path of the same inode.
    pub first_name: TreePath,
    /// Content of a file, target of a symbolic link.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl TreePath {
    /// The path of `name` below this one.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for ImageNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file_type, perm, nlink, owner: Owner { uid, gid }, rdev, .. } = self;
        write!(f, "{file_type:?} {perm:04o} x{nlink} {uid}:{gid}")?;
        if *rdev != 0 {
            write!(f, " rdev {rdev:#x}")?;
        }
        write!(f, " {} bytes", self.content.len())?;
        let head = &self.content[..self.content.len().min(16)];
        write!(f, " {head:02x?} first name {:?} {:?}", self.first_name, self.times)?;
        for (name, value) in &self.xattrs {
            write!(f, " {}={} bytes", name.escape_ascii(), value.len())?;
        }
        Ok(())
    }
}

impl ImageNode {
    fn forget_written(&mut self) {
        self.content.clear();
        self.perm &= 0o777;
        self.xattrs.remove(b"security.capability".as_slice());
    }
}

impl Image {
    /// Reads a tree and checks it.
    pub fn read<V: Vfs>(vfs: &Arc<V>) -> Result<Self, String> {
        let mut reader = Reader { vfs, nodes: BTreeMap::new(), first: HashMap::new() };
        let root = vfs.getattr(Ino::ROOT).map_err(|e| format!("getattr of the root: {e}"))?;
        let mut pending = vec![(TreePath::default(), Ino::ROOT, root)];
        while let Some((path, parent, attr)) = pending.pop() {
            let children = reader
                .node(&path, parent, attr)
                .map_err(|reason| format!("{path:?} (inode {}): {reason}", attr.ino))?;
            pending.extend(children);
        }
        reader.check_links()?;
        let mut image = Self { nodes: reader.nodes };
        image.sort_first_names();
        Ok(image)
    }

    /// Names the smallest path of each inode, whatever order they were read in.
    fn sort_first_names(&mut self) {
        let mut smallest: HashMap<TreePath, TreePath> = HashMap::new();
        for (path, node) in &self.nodes {
            let least = smallest.entry(node.first_name.clone()).or_insert_with(|| path.clone());
            *least = least.clone().min(path.clone());
        }
        for node in self.nodes.values_mut() {
            node.first_name.clone_from(&smallest[&node.first_name]);
        }
    }

    /// Describes the first difference, times compared by `times`; `None` when there is none.
    pub fn difference(
        &self,
        other: &Self,
        times: &dyn Fn(&ImageNode, &ImageNode) -> bool,
    ) -> Option<String> {
        for (path, node) in &self.nodes {
            let Some(theirs) = other.nodes.get(path) else {
                return Some(format!("{path:?} is missing; expected {node:?}"));
            };
            let mut theirs = ImageNode { ino: node.ino, ..theirs.clone() };
            if times(node, &theirs) {
                theirs.times = node.times;
            }
            if *node != theirs {
                let at = first_difference(&node.content, &theirs.content);
                let at = at.map_or(String::new(), |at| format!("; contents differ from {at} on"));
                return Some(format!("{path:?}: expected {node:?}, found {theirs:?}{at}"));
            }
        }
        let extra = other.nodes.keys().find(|path| !self.nodes.contains_key(*path))?;
        Some(format!("{extra:?} is there and should not be: {:?}", other.nodes[extra]))
    }

    /// The inode that each path leads to.
    pub fn inodes(&self) -> impl Iterator<Item = (&TreePath, Ino)> {
        self.nodes.iter().map(|(path, node)| (path, node.ino))
    }

    /// Whether two images hold the same except for times.
    pub fn same_but_times(&self, other: &Self) -> bool {
        self.difference(other, &|_, _| true).is_none()
    }

    /// The same, and except for what a write changes of one inode of this image: its content, and
    /// the privileges that go with it.
    pub fn same_but_times_and(&self, other: &Self, written: Option<Ino>) -> bool {
        let Some(written) = written else { return self.same_but_times(other) };
        let (mut ours, mut theirs) = (self.clone(), other.clone());
        for (path, node) in &mut ours.nodes {
            if node.ino != written {
                continue;
            }
            node.forget_written();
            if let Some(node) = theirs.nodes.get_mut(path) {
                node.forget_written();
            }
        }
        ours.same_but_times(&theirs)
    }
}

/// Returns where two contents begin to differ.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    Some(common)
}

struct Reader<'a, V: Vfs> {
    vfs: &'a Arc<V>,
    nodes: BTreeMap<TreePath, ImageNode>,
    /// First path and expected number of names of inodes that are no directories, and how many
    /// names were found.
    first: HashMap<Ino, (TreePath, u32, u32)>,
}

type Child = (TreePath, Ino, Attr);

impl<V: Vfs> Reader<'_, V> {
    fn node(&mut self, path: &TreePath, parent: Ino, attr: Attr) -> Result<Vec<Child>, String> {
        let ino = attr.ino;
        let mut children = Vec::new();
        let mut content = Vec::new();
        let mut first_name = path.clone();
        match attr.file_type {
            FileType::Directory => {
                let found = self.vfs.parent(ino).map_err(|e| format!("parent: {e}"))?;
                if found != parent {
                    return Err(format!("its parent is {found}, not {parent}"));
                }
                children = self.children(path, ino, attr.nlink)?;
            }
            FileType::Regular => content = self.content(ino, attr.size)?,
            FileType::Symlink => {
                let target = self.vfs.readlink(ino).map_err(|e| format!("readlink: {e}"))?;
                if target.len() as u64 != attr.size {
                    return Err(format!("{} bytes of target, size {}", target.len(), attr.size));
                }
                content = target.into();
            }
            _ => {}
        }
        if attr.file_type != FileType::Directory {
            let entry = self.first.entry(ino).or_insert_with(|| (path.clone(), attr.nlink, 0));
            entry.2 += 1;
            first_name.clone_from(&entry.0);
        }
        let node = ImageNode {
            ino,
            file_type: attr.file_type,
            perm: attr.perm,
            nlink: attr.nlink,
            owner: attr.owner,
            rdev: attr.rdev,
            times: Times {
                atime: attr.atime,
                mtime: attr.mtime,
                ctime: attr.ctime,
                crtime: attr.crtime,
            },
            first_name,
            content,
            xattrs: self.xattrs(ino).map_err(|e| format!("extended attributes: {e}"))?,
        };
        self.nodes.insert(path.clone(), node);
        Ok(children)
    }

    fn children(&self, path: &TreePath, dir: Ino, nlink: u32) -> Result<Vec<Child>, String> {
        let mut listed: Vec<(NameBuf, Ino, FileType)> = Vec::new();
        let mut each = |entry: spfs_vfs::api::DirEntry<'_>| {
            listed.push((NameBuf::from(entry.name), entry.ino, entry.file_type));
            ControlFlow::Continue(())
        };
        self.vfs.readdir(dir, Cookie::START, &mut each).map_err(|e| format!("readdir: {e}"))?;
        let mut children = Vec::new();
        for (name, ino, file_type) in listed {
            let attr =
                self.vfs.lookup(dir, name.as_name()).map_err(|e| format!("lookup {name}: {e}"))?;
            if (attr.ino, attr.file_type) != (ino, file_type) {
                return Err(format!(
                    "{name} is listed as inode {ino} ({file_type:?}) and found as {attr:?}"
                ));
            }
            let again = self.vfs.getattr(ino).map_err(|e| format!("getattr {name}: {e}"))?;
            if again != attr {
                return Err(format!("lookup of {name} tells {attr:?}, getattr {again:?}"));
            }
            children.push((path.join(name.as_bytes()), dir, attr));
        }
        let directories =
            children.iter().filter(|child| child.2.file_type == FileType::Directory).count();
        if nlink as usize != 2 + directories {
            return Err(format!("{nlink} links with {directories} directories inside"));
        }
        Ok(children)
    }

    fn content(&self, ino: Ino, size: u64) -> Result<Vec<u8>, String> {
        let file = self.vfs.open(ino, Access::Read).map_err(|e| format!("open: {e}"))?;
        let size = usize::try_from(size).map_err(|_| format!("size {size}"))?;
        // One byte more than there should be.
        let mut content = vec![0xee; size + 1];
        let read = file.read_at(0, &mut content).map_err(|e| format!("read: {e:?}"))?;
        if read != size {
            return Err(format!("{read} bytes can be read, the size is {size}"));
        }
        content.truncate(read);
        Ok(content)
    }

    fn xattrs(&self, ino: Ino) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let names = self.vfs.listxattr(ino)?;
        let value = |name: Box<[u8]>| {
            let value = self.vfs.getxattr(ino, &name)?;
            Ok((name.into(), value.into()))
        };
        names.into_iter().map(value).collect()
    }

    fn check_links(&self) -> Result<(), String> {
        for (ino, (path, nlink, found)) in &self.first {
            if nlink != found {
                return Err(format!("{path:?} (inode {ino}): {nlink} links, {found} names"));
            }
        }
        Ok(())
    }
}
