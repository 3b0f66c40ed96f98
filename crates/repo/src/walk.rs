//! Walks what objects lead to, several at a time.

use std::collections::HashSet;

use rayon::prelude::*;
use spfs_model::{AnnotationValue, Digest, Object};

use crate::Result;

/// Objects that an object refers to.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Those that may lead further.
    pub(crate) inner: Vec<Digest>,
    /// Blobs.
    pub(crate) blobs: Vec<Digest>,
}

/// What an object refers to; a blob refers to its payload only.
pub(crate) fn children(object: &Object) -> Children {
    match object {
        Object::Blob { .. } => Children::default(),
        Object::Manifest(manifest) => {
            let mut blobs: Vec<Digest> = manifest.blobs().map(|(digest, ..)| digest).collect();
            blobs.sort_unstable();
            blobs.dedup();
            Children { inner: Vec::new(), blobs }
        }
        Object::Layer(layer) => {
            let values = layer.annotations.iter().filter_map(|note| match note.value {
                AnnotationValue::Blob(digest) => Some(digest),
                AnnotationValue::Inline(_) => None,
            });
            Children { inner: layer.manifest.into_iter().collect(), blobs: values.collect() }
        }
        Object::Platform(platform) => Children { inner: platform.stack.clone(), blobs: Vec::new() },
    }
}

/// Visits each of the roots and whatever visits give, once; returns all that was visited.
pub(crate) fn walk(
    roots: impl IntoIterator<Item = Digest>,
    visit: impl Fn(&Digest) -> Result<Vec<Digest>> + Sync,
) -> Result<HashSet<Digest>> {
    let mut seen = HashSet::new();
    let mut next: Vec<Digest> = roots.into_iter().filter(|root| seen.insert(*root)).collect();
    while !next.is_empty() {
        let found = next.par_iter().map(&visit).collect::<Result<Vec<_>>>()?;
        next = found.into_iter().flatten().filter(|digest| seen.insert(*digest)).collect();
    }
    Ok(seen)
}
