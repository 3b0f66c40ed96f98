//! Reading trees back: from what the product merged, and from any file system.

use std::ops::ControlFlow;
use std::sync::Arc;

use spfs_model::{MergedTree, NameBuf, NodeKind, Position};
use spfs_vfs::api::{Access, Cookie, Error, File, FileType, Ino, Vfs};

use super::{PayloadStore, Said, Tree};

/// Returns what a merged tree shows.
pub fn tree_of_merged(tree: &MergedTree, payloads: &PayloadStore) -> Result<Tree, String> {
    merged_directory(tree, Position::ROOT, payloads)
}

fn merged_directory(
    tree: &MergedTree,
    dir: Position,
    payloads: &PayloadStore,
) -> Result<Tree, String> {
    let mut entries = Tree::new();
    for position in tree.children(dir).map(Position) {
        let node = tree.node(position);
        let perm = (node.mode & 0o7777) as u16;
        let read = || {
            let content = payloads.get(&node.object).map_err(|e| format!("{}: {e}", node.name))?;
            if content.len() as u64 == node.size {
                return Ok(content);
            }
            Err(format!("{}: {} bytes, size {}", node.name, content.len(), node.size))
        };
        let said = match node.kind {
            NodeKind::Directory => {
                Said::Directory { perm, entries: merged_directory(tree, position, payloads)? }
            }
            NodeKind::File => Said::File { perm, content: read()?.into() },
            NodeKind::Symlink => {
                Said::Symlink(String::from_utf8(read()?).map_err(|e| e.to_string())?)
            }
        };
        entries.insert(NameBuf::from(node.name), said);
    }
    Ok(entries)
}

/// Returns what of a file system a layer can hold. Fails with the path and the reason at what no
/// layer can hold.
pub fn tree_of_vfs<V: Vfs>(vfs: &Arc<V>) -> Result<Tree, String> {
    directory(vfs, Ino::ROOT).map_err(|reason| format!("/{reason}"))
}

fn directory<V: Vfs>(vfs: &Arc<V>, dir: Ino) -> Result<Tree, String> {
    let mut listed: Vec<(NameBuf, Ino)> = Vec::new();
    let mut each = |entry: spfs_vfs::api::DirEntry<'_>| {
        listed.push((NameBuf::from(entry.name), entry.ino));
        ControlFlow::Continue(())
    };
    vfs.readdir(dir, Cookie::START, &mut each).map_err(|e| format!(": {e}"))?;
    let mut entries = Tree::new();
    for (name, ino) in listed {
        if name.as_name().as_str().is_none() {
            return Err(format!("{name:?}: no UTF-8"));
        }
        let said = node(vfs, ino).map_err(|reason| format!("{name}/{reason}"))?;
        entries.insert(name, said);
    }
    Ok(entries)
}

fn node<V: Vfs>(vfs: &Arc<V>, ino: Ino) -> Result<Said, String> {
    let failed = |error: Error| format!(": {error}");
    let attr = vfs.getattr(ino).map_err(failed)?;
    match attr.file_type {
        FileType::Directory => {
            Ok(Said::Directory { perm: attr.perm, entries: directory(vfs, ino)? })
        }
        FileType::Symlink => {
            let target = vfs.readlink(ino).map_err(failed)?;
            let target = String::from_utf8(target.into());
            target.map(Said::Symlink).map_err(|_| ": its target is no UTF-8".to_owned())
        }
        FileType::Regular => {
            let size = usize::try_from(attr.size).map_err(|e| format!(": {e}"))?;
            let mut content = vec![0; size];
            let file = vfs.open(ino, Access::Read).map_err(failed)?;
            file.read_at(0, &mut content).map_err(failed)?;
            Ok(Said::File { perm: attr.perm, content: content.into() })
        }
        special => Err(format!(": a {special:?}")),
    }
}
