//! Loads the layers of a stack.

use std::collections::HashSet;

use rayon::prelude::*;
use spfs_model::{Digest, Layer, Manifest, Object, ObjectKind};

use crate::layer::read_any;
use crate::repository::AnyRepository;
use crate::{RepoError, Result};

/// A layer and its manifest.
#[derive(Debug, Clone)]
pub struct LoadedLayer {
    /// The digest in the stack.
    pub digest: Digest,
    /// The layer.
    pub layer: Layer,
    /// Its manifest; `None` for a layer of annotations alone.
    pub manifest: Option<Manifest>,
}

/// Loads the layers of a stack with their manifests, several at a time; the order stays.
///
/// A digest in the stack may be that of a manifest, which then counts as a layer without
/// annotations, as upstream has it.
pub fn load_layers(
    repositories: &[&dyn AnyRepository],
    stack: &[Digest],
) -> Result<Vec<LoadedLayer>> {
    stack.par_iter().map(|digest| load(repositories, digest)).collect()
}

/// Loads the manifests that a stack is made of, bottom first, several at a time.
///
/// Of layers with the same manifest only the topmost counts, which changes nothing in what the
/// stack holds. (Upstream keeps the lowest: an edit that leads back to the content of a lower layer
/// is then lost.)
pub fn load_stack(repositories: &[&dyn AnyRepository], stack: &[Digest]) -> Result<Vec<Manifest>> {
    let wanted = stack.par_iter().map(|digest| manifest_of(repositories, digest));
    let mut seen = HashSet::new();
    let mut wanted: Vec<Digest> =
        wanted.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    wanted.reverse();
    wanted.retain(|digest| seen.insert(*digest));
    wanted.reverse();
    wanted.par_iter().map(|digest| read_manifest(repositories, digest)).collect()
}

fn load(repositories: &[&dyn AnyRepository], digest: &Digest) -> Result<LoadedLayer> {
    let (layer, manifest) = match read_any(repositories, digest)? {
        Object::Manifest(manifest) => {
            (Layer { manifest: Some(*digest), annotations: Vec::new() }, Some(manifest))
        }
        object => {
            let layer = layer_of(digest, object)?;
            let manifest = layer.manifest;
            (layer, manifest.map(|digest| read_manifest(repositories, &digest)).transpose()?)
        }
    };
    Ok(LoadedLayer { digest: *digest, layer, manifest })
}

fn manifest_of(repositories: &[&dyn AnyRepository], digest: &Digest) -> Result<Option<Digest>> {
    match read_any(repositories, digest)? {
        Object::Manifest(_) => Ok(Some(*digest)),
        object => Ok(layer_of(digest, object)?.manifest),
    }
}

fn layer_of(digest: &Digest, object: Object) -> Result<Layer> {
    let found = object.kind();
    match object {
        Object::Layer(layer) => Ok(layer),
        _ => Err(RepoError::WrongKind { digest: *digest, found, wanted: ObjectKind::Layer }),
    }
}

fn read_manifest(repositories: &[&dyn AnyRepository], digest: &Digest) -> Result<Manifest> {
    let object = read_any(repositories, digest)?;
    let found = object.kind();
    match object {
        Object::Manifest(manifest) => Ok(manifest),
        _ => Err(RepoError::WrongKind { digest: *digest, found, wanted: ObjectKind::Manifest }),
    }
}
