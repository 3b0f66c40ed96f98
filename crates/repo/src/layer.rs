//! Layers, platforms and annotations.

use spfs_model::{
    Annotation, AnnotationValue, Digest, Layer, Manifest, Object, ObjectKind, Platform,
};

use crate::repository::{AnyRepository, Batch};
use crate::{RepoError, Result};

/// Annotation values of up to so many bytes are stored in the layer itself.
///
/// It is the limit that upstream's documentation gives. Without a configuration upstream stores
/// every value in a blob; both are read.
pub const ANNOTATION_INLINE_MAX: usize = 16 * 1024;

/// The key of the annotation that says what a layer is about.
pub const MESSAGE: &str = "message";

/// Upstream's reader refuses objects of more tables: one for the object, one for the manifest, one
/// for each tree and each entry.
const UPSTREAMS_TABLES_MAX: usize = 1_000_000;

/// Whether upstream's program can read a manifest: one with about a million entries it writes and
/// cannot read again.
pub fn upstream_can_read(manifest: &Manifest) -> bool {
    manifest.len() + manifest.trees().len() + 2 <= UPSTREAMS_TABLES_MAX
}

fn warn_of_size(manifest: &Manifest) {
    if !upstream_can_read(manifest) {
        let entries = manifest.len();
        tracing::warn!(
            "the layer has {entries} entries: this program reads that, upstream's spfs does not"
        );
    }
}

/// A layer on its way into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenLayer {
    /// The layer.
    pub layer: Digest,
    /// Its manifest, if it has one.
    pub manifest: Option<Digest>,
}

/// Puts a layer into a batch: its manifest, the blobs of its long annotations, and itself.
pub fn stage_layer(
    batch: &dyn Batch,
    manifest: Option<Manifest>,
    annotations: &[(String, String)],
    inline_max: usize,
) -> Result<WrittenLayer> {
    let manifest = match manifest {
        Some(manifest) => {
            warn_of_size(&manifest);
            Some(batch.object(&Object::Manifest(manifest))?)
        }
        None => None,
    };
    let annotation = |(key, value): &(String, String)| {
        let value = if value.len() <= inline_max {
            AnnotationValue::Inline(value.clone())
        } else {
            AnnotationValue::Blob(batch.blob(value.as_bytes())?)
        };
        Ok(Annotation { key: key.clone(), value })
    };
    let annotations = annotations.iter().map(annotation).collect::<Result<_>>()?;
    let layer = batch.object(&Object::Layer(Layer { manifest, annotations }))?;
    Ok(WrittenLayer { layer, manifest })
}

/// Stores a layer durably. The blobs of its manifest must be there.
pub fn write_layer(
    repository: &dyn AnyRepository,
    manifest: Option<Manifest>,
    annotations: &[(String, String)],
    inline_max: usize,
) -> Result<WrittenLayer> {
    let batch = repository.batch()?;
    let layer = stage_layer(&*batch, manifest, annotations, inline_max)?;
    batch.finish()?;
    Ok(layer)
}

/// Stores a platform durably: layers and platforms that are there, bottom first.
pub fn write_platform(
    repository: &dyn AnyRepository,
    stack: &[Digest],
    allow_empty: bool,
) -> Result<Digest> {
    if stack.is_empty() && !allow_empty {
        return Err(RepoError::EmptyPlatform);
    }
    for digest in stack {
        match repository.objects().read(digest)?.0.kind {
            ObjectKind::Layer | ObjectKind::Platform | ObjectKind::Manifest => {}
            kind @ ObjectKind::Blob => {
                return Err(RepoError::NotStackable { reference: digest.to_string(), kind });
            }
        }
    }
    let platform = Object::Platform(Platform { stack: stack.to_vec() });
    repository.objects().write(&platform, repository.encoding())
}

/// The annotations of a layer with their values, in stored order.
pub fn annotations(
    repositories: &[&dyn AnyRepository],
    layer: &Layer,
) -> Result<Vec<(String, String)>> {
    let value = |annotation: &Annotation| {
        let value = match &annotation.value {
            AnnotationValue::Inline(value) => value.clone(),
            AnnotationValue::Blob(digest) => read_text(repositories, digest)?,
        };
        Ok((annotation.key.clone(), value))
    };
    layer.annotations.iter().map(value).collect()
}

/// The value of an annotation in a stack (bottom first): that of the topmost layer which has it,
/// and within a layer the one that was given last.
pub fn find_annotation(
    repositories: &[&dyn AnyRepository],
    stack: &[Digest],
    key: &str,
) -> Result<Option<String>> {
    for digest in stack.iter().rev() {
        let Object::Layer(layer) = read_any(repositories, digest)? else { continue };
        let found = layer.annotations.iter().rev().find(|annotation| annotation.key == key);
        match found.map(|annotation| &annotation.value) {
            Some(AnnotationValue::Inline(value)) => return Ok(Some(value.clone())),
            Some(AnnotationValue::Blob(digest)) => {
                return read_text(repositories, digest).map(Some);
            }
            None => {}
        }
    }
    Ok(None)
}

/// The object from the first repository that has it, and has it undamaged.
pub(crate) fn read_any(repositories: &[&dyn AnyRepository], digest: &Digest) -> Result<Object> {
    let mut damaged = None;
    for repository in repositories {
        match repository.objects().read(digest) {
            Err(RepoError::UnknownObject { .. }) => {}
            Err(error @ RepoError::DamagedObject { .. }) => {
                damaged.get_or_insert(error);
            }
            result => return Ok(result?.1),
        }
    }
    Err(damaged.unwrap_or(RepoError::UnknownObject { digest: *digest }))
}

fn read_text(repositories: &[&dyn AnyRepository], digest: &Digest) -> Result<String> {
    for repository in repositories {
        match repository.payloads().read(digest) {
            Err(RepoError::MissingPayload { .. }) => {}
            // upstream writes text only; what is none is shown as far as it is
            result => return Ok(String::from_utf8_lossy(&result?).into_owned()),
        }
    }
    Err(RepoError::MissingPayload { digest: *digest })
}
