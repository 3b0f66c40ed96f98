//! Paths for tests: the core knows none, and a test that tells a story wants them.

use std::ops::ControlFlow;
use std::sync::Arc;

use spfs_vfs::api::{
    Access, Attr, Cookie, Error, File, Ino, Name, New, NewKind, Owner, Remove, Replace, Result,
    SetAttr, Vfs,
};

/// Who makes what these functions make.
pub const CALLER: Owner = Owner { uid: 0, gid: 0 };

/// Operations by path from the root, like `dir/file`; the empty path is the root.
pub trait Paths: Vfs + Sized {
    /// Finds what a path leads to; symbolic links are not followed.
    fn find(&self, path: &str) -> Result<Attr> {
        let mut attr = self.getattr(Ino::ROOT)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            attr = self.lookup(attr.ino, name_of(name)?)?;
        }
        Ok(attr)
    }

    /// Splits a path into the directory, which must be there, and the name.
    fn place<'a>(&self, path: &'a str) -> Result<(Ino, Name<'a>)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(dir)?.ino, name_of(name)?))
    }

    /// Makes something new.
    fn make(&self, path: &str, kind: NewKind<'_>, perm: u16) -> Result<Attr> {
        let (dir, name) = self.place(path)?;
        self.create(dir, name, New { kind, perm, owner: CALLER })
    }

    /// Makes a directory.
    fn mkdir(&self, path: &str) -> Result<Attr> {
        self.make(path, NewKind::Directory, 0o755)
    }

    /// Removes anything but a directory.
    fn unlink(&self, path: &str) -> Result<()> {
        let (dir, name) = self.place(path)?;
        self.remove(dir, name, Remove::File)
    }

    /// Removes an empty directory.
    fn rmdir(&self, path: &str) -> Result<()> {
        let (dir, name) = self.place(path)?;
        self.remove(dir, name, Remove::Directory)
    }

    /// Gives a file another name.
    fn hard_link(&self, from: &str, to: &str) -> Result<Attr> {
        let (dir, name) = self.place(to)?;
        self.link(self.find(from)?.ino, dir, name)
    }

    /// Moves something, replacing what is there.
    fn mv(&self, from: &str, to: &str) -> Result<()> {
        self.rename(self.place(from)?, self.place(to)?, Replace::Allow)
    }

    /// Opens a file.
    fn open_path(self: &Arc<Self>, path: &str, access: Access) -> Result<Self::File> {
        let ino = self.find(path)?.ino;
        self.open(ino, access)
    }

    /// Writes a file whole, making it if need be.
    fn write_file(self: &Arc<Self>, path: &str, content: &[u8]) -> Result<Attr> {
        let ino = match self.find(path) {
            Ok(attr) => attr.ino,
            Err(Error::NotFound) => self.make(path, NewKind::Regular, 0o644)?.ino,
            Err(error) => return Err(error),
        };
        self.setattr(ino, &SetAttr { size: Some(0), ..SetAttr::default() })?;
        self.open(ino, Access::Write)?.write_at(0, content, false)?;
        self.getattr(ino)
    }

    /// Reads a file whole.
    fn read_file(self: &Arc<Self>, path: &str) -> Result<Vec<u8>> {
        let attr = self.find(path)?;
        let mut content = vec![0; usize::try_from(attr.size).unwrap_or(usize::MAX)];
        let read = self.open(attr.ino, Access::Read)?.read_at(0, &mut content)?;
        content.truncate(read);
        Ok(content)
    }

    /// Reads the target of a link as text.
    fn target(&self, path: &str) -> Result<String> {
        let target = self.readlink(self.find(path)?.ino)?;
        Ok(String::from_utf8_lossy(&target).into_owned())
    }

    /// The names in a directory, sorted.
    fn names(&self, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.readdir(self.find(path)?.ino, Cookie::START, &mut |entry| {
            names.push(entry.name.to_string());
            ControlFlow::Continue(())
        })?;
        names.sort();
        Ok(names)
    }
}

impl<V: Vfs> Paths for V {}

fn name_of(name: &str) -> Result<Name<'_>> {
    Name::new(name.as_bytes()).map_err(|_| Error::Invalid)
}
