//! What a reset means, on the model: what is named goes back to what the stack shows, and nothing
//! else changes.

use std::ops::ControlFlow;
use std::sync::Arc;

use spfs_vfs::View;
use spfs_vfs::api::{Cookie, Error, FileType, Ino, Name, NameBuf, Owner, Remove, Result, Vfs};

use crate::ModelFs;
use crate::layers::{Said, Tree, show, show_one};

/// All paths of a tree.
pub(super) fn paths(tree: &Tree) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (name, said) in tree {
        found.push(name.as_bytes().to_vec());
        if let Said::Directory { entries, .. } = said {
            let below = paths(entries).into_iter();
            found.extend(below.map(|path| [name.as_bytes(), b"/", &path].concat()));
        }
    }
    found
}

/// Puts a path of the model back to what `stack` shows; the empty path is everything.
pub(super) fn reset(
    model: &Arc<ModelFs>,
    path: &[u8],
    mut stack: &Tree,
    owner: Owner,
) -> Result<()> {
    if path.is_empty() {
        clear(model, Ino::ROOT)?;
        return show(model, Ino::ROOT, stack, owner);
    }
    let mut dir = Ino::ROOT;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let name = Name::new(name).map_err(|_| Error::Invalid)?;
        let said = stack.get(name.as_bytes());
        let live = model.lookup(dir, name).ok();
        let live_dir = live.filter(|attr| attr.file_type == FileType::Directory);
        match (live_dir, names.peek()) {
            // A directory on the way stays, whatever the stack has in its place.
            (Some(attr), Some(_)) => {
                dir = attr.ino;
                stack = match said {
                    Some(Said::Directory { entries, .. }) => entries,
                    _ => const { &Tree::new() },
                };
            }
            // The end of the path; or the rest of it exists only once this is put back.
            _ => {
                if live.is_some() {
                    remove(model, dir, name)?;
                }
                return match said {
                    Some(said) => show_one(model, dir, name, said, owner),
                    None => Ok(()),
                };
            }
        }
    }
    Ok(())
}

fn listing<V: Vfs>(vfs: &Arc<V>, dir: Ino) -> Result<Vec<NameBuf>> {
    let mut names = Vec::new();
    vfs.readdir(dir, Cookie::START, &mut |entry| {
        names.push(NameBuf::from(entry.name));
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

fn clear(model: &Arc<ModelFs>, dir: Ino) -> Result<()> {
    for name in listing(model, dir)? {
        remove(model, dir, name.as_name())?;
    }
    Ok(())
}

fn remove(model: &Arc<ModelFs>, dir: Ino, name: Name<'_>) -> Result<()> {
    let attr = model.lookup(dir, name)?;
    if attr.file_type != FileType::Directory {
        return model.remove(dir, name, Remove::File);
    }
    clear(model, attr.ino)?;
    model.remove(dir, name, Remove::Directory)
}

/// Gives the model the view's times, wherever both have the same path: which times a reset leaves
/// is not promised.
pub(super) fn take_times(model: &Arc<ModelFs>, view: &Arc<View>) -> Result<(), String> {
    for (path, ino) in model.paths() {
        let Ok(theirs) = find(view, &path) else { continue };
        model.take_times(ino, &theirs).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Gives the model's files the view's times after a restart: when a file was written stands on its
/// scratch file only, as the volume below stamps it.
pub(super) fn take_file_times(model: &Arc<ModelFs>, view: &Arc<View>) -> Result<(), String> {
    for (path, ino) in model.paths() {
        if model.peek(ino).is_some_and(|(file_type, _)| file_type == FileType::Regular)
            && let Ok(theirs) = find(view, &path)
        {
            model.take_times(ino, &theirs).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn find(view: &Arc<View>, path: &[u8]) -> Result<spfs_vfs::api::Attr> {
    let mut attr = view.getattr(Ino::ROOT)?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        attr = view.lookup(attr.ino, Name::new(name).map_err(|_| Error::Invalid)?)?;
    }
    Ok(attr)
}
