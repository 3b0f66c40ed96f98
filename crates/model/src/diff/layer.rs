//! The difference as the manifest of a new layer.

use super::DiffError;
use super::walk::{Sink, Walk, shown};
use crate::entry::mode;
use crate::name::NameErrorReason;
use crate::{
    BlobEntry, Content, Live, Manifest, ManifestBuilder, ManifestError, MergedEntry, Name,
    NameError, NewEntry, Stack, Tree,
};

/// The layer that turns `base` into `live`; `None` when they are equal.
///
/// Merging the base with the layer on top gives the view again. The layer holds a mask for what is
/// gone, and directories only where something in them differs. It costs what the view lists:
/// [`Live::Same`] is never looked into.
pub fn diff(base: &Stack<'_>, live: &Live) -> Result<Option<Manifest>, DiffError> {
    let mut walk = Walk::new(base, LayerSink::default());
    walk.live(live)?;
    let LayerSink { builder, root, .. } = walk.sink;
    let manifest = root.map(|root| builder.finish(root)).transpose();
    manifest.map_err(|source| DiffError::Entry { path: String::new(), source })
}

#[derive(Default)]
struct LayerSink {
    builder: ManifestBuilder,
    /// The directories on the way down to where the walk is.
    levels: Vec<Level>,
    root: Option<Tree>,
}

struct Level {
    mode: u32,
    /// The mode of what the base has there; by its type bits that of a file is another.
    before: Option<u32>,
    entries: Vec<NewEntry>,
}

impl LayerSink {
    fn put(&mut self, path: &[u8], content: Content) -> Result<(), DiffError> {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let name = storable(name)
            .map_err(|source| DiffError::Entry { path: shown(path), source: source.into() })?;
        if let Some(level) = self.levels.last_mut() {
            level.entries.push(NewEntry { name: name.into(), content });
        }
        Ok(())
    }
}

/// A name that the format can hold.
fn storable(name: &[u8]) -> Result<Name<'_>, NameError> {
    let name = Name::new(name)?;
    match name.as_str() {
        Some(_) => Ok(name),
        None => Err(NameError {
            name: name.as_bytes().escape_ascii().to_string(),
            reason: NameErrorReason::NotUtf8,
        }),
    }
}

impl<'a> Sink<'a> for LayerSink {
    fn enter(&mut self, _path: &[u8], before: Option<&MergedEntry<'a>>, mode: u32) {
        let before = before.map(|before| before.mode);
        self.levels.push(Level { mode, before, entries: Vec::new() });
    }

    fn blob(
        &mut self,
        path: &[u8],
        _before: Option<&MergedEntry<'a>>,
        after: &BlobEntry,
    ) -> Result<(), DiffError> {
        self.put(path, Content::Blob(*after))
    }

    fn removed(&mut self, path: &[u8], _before: &MergedEntry<'a>) -> Result<(), DiffError> {
        self.put(path, Content::Mask { mode: mode::MASK })
    }

    fn leave(&mut self, path: &[u8]) -> Result<(), DiffError> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if level.entries.is_empty() && level.before == Some(level.mode) {
            return Ok(());
        }
        let refuse = |source: ManifestError| DiffError::Entry { path: shown(path), source };
        let tree = self.builder.directory(level.entries).map_err(refuse)?;
        if self.levels.is_empty() {
            self.root = Some(tree);
            return Ok(());
        }
        self.put(path, Content::Directory { mode: level.mode, tree })
    }
}
