//! From references to layers.

use std::collections::HashSet;

use spfs_model::{
    Digest, EnvItem, EnvSpec, Object, ObjectKind, ParseEnvError, PartialDigest, TagSpec,
};

use crate::layer::read_any;
use crate::live_layer::LiveLayer;
use crate::repository::AnyRepository;
use crate::spec_file;
use crate::{RepoError, Result};

/// The layers of an environment, bottom first.
///
/// Platforms are replaced by what they hold. A layer that comes more than once counts where it
/// comes last, that is, topmost.
///
/// # Errors
/// Live layers are in no repository, so [`RepoError::LiveLayer`] names the first of them.
pub fn resolve(repositories: &[&dyn AnyRepository], spec: &EnvSpec) -> Result<Vec<Digest>> {
    layers_of(repositories, &spec_file::expand_stored(spec)?)
}

/// What an environment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedEnvironment {
    /// Its layers, as [`resolve`] returns them.
    pub layers: Vec<Digest>,
    /// What it shows of the host, above all layers.
    pub live: Vec<LiveLayer>,
}

/// What an environment is made of, live layers included.
pub fn resolve_environment(
    repositories: &[&dyn AnyRepository],
    spec: &EnvSpec,
) -> Result<ResolvedEnvironment> {
    let expanded = spec_file::expand(spec)?;
    let layers = layers_of(repositories, &expanded.items)?;
    Ok(ResolvedEnvironment { layers, live: expanded.live.into_iter().map(|(_, l)| l).collect() })
}

fn layers_of(repositories: &[&dyn AnyRepository], items: &[EnvItem]) -> Result<Vec<Digest>> {
    let digests = items.iter().map(|item| resolve_item(repositories, item));
    let digests = digests.collect::<Result<Vec<_>>>()?;
    let (mut seen, mut layers) = (HashSet::new(), Vec::new());
    for (item, digest) in items.iter().zip(digests).rev() {
        expand(repositories, digest, &item.to_string(), &mut seen, &mut layers)?;
    }
    layers.reverse();
    Ok(layers)
}

/// What an item of an environment stands for.
pub fn resolve_item(repositories: &[&dyn AnyRepository], item: &EnvItem) -> Result<Digest> {
    match item {
        EnvItem::Digest(digest) => known(repositories, digest),
        EnvItem::Tag(tag) => resolve_tag(repositories, tag),
        EnvItem::PartialDigest(partial) => match resolve_partial(repositories, partial) {
            // a tag can be called so, too
            Err(RepoError::UnknownReference { reference }) => match reference.parse() {
                Ok(tag) => resolve_tag(repositories, &tag),
                Err(_) => Err(RepoError::UnknownReference { reference }),
            },
            result => result,
        },
        EnvItem::SpecFile(path) => Err(RepoError::NotSupportedYet {
            what: "a spec file as a single object is",
            path: path.clone(),
        }),
    }
}

/// What a reference stands for: a tag, a digest, or the start of a digest, tried in this order.
pub fn resolve_reference(repositories: &[&dyn AnyRepository], reference: &str) -> Result<Digest> {
    let tag = reference.parse::<TagSpec>();
    if let Ok(tag) = &tag {
        match resolve_tag(repositories, tag) {
            Err(RepoError::UnknownReference { .. }) => {}
            result => return result,
        }
    }
    if let Ok(digest) = reference.parse() {
        return known(repositories, &digest);
    }
    if let Ok(partial) = reference.parse() {
        return resolve_partial(repositories, &partial);
    }
    let reference = reference.to_owned();
    match tag {
        Ok(_) => Err(RepoError::UnknownReference { reference }),
        Err(source) => {
            Err(RepoError::BadReference { reference, source: ParseEnvError::Item { source } })
        }
    }
}

/// The target of a tag in the first repository that has the tag.
fn resolve_tag(repositories: &[&dyn AnyRepository], tag: &TagSpec) -> Result<Digest> {
    for repository in repositories {
        match repository.tags().resolve(tag) {
            Err(RepoError::UnknownReference { .. }) => {}
            result => return Ok(result?.target),
        }
    }
    Err(RepoError::UnknownReference { reference: tag.to_string() })
}

/// The one object of all repositories whose digest starts so.
fn resolve_partial(repositories: &[&dyn AnyRepository], partial: &PartialDigest) -> Result<Digest> {
    let mut candidates = Vec::new();
    for repository in repositories {
        for digest in repository.objects().iterate(Some(partial))? {
            candidates.push(digest?);
        }
    }
    candidates.sort_unstable();
    candidates.dedup();
    let reference = partial.to_string();
    match *candidates {
        [] => Err(RepoError::UnknownReference { reference }),
        [digest] => Ok(digest),
        _ => Err(RepoError::AmbiguousReference { reference, candidates }),
    }
}

fn known(repositories: &[&dyn AnyRepository], digest: &Digest) -> Result<Digest> {
    for repository in repositories {
        if repository.objects().has(digest)? {
            return Ok(*digest);
        }
    }
    Err(RepoError::UnknownReference { reference: digest.to_string() })
}

/// Adds a layer, or the layers of a platform, topmost first; what was met before adds nothing.
///
/// Looking from the top, the first place of a layer is the one that counts. A platform that comes
/// again further down has nothing left to add either, so each object is looked at once, however
/// often platforms name each other.
fn expand(
    repositories: &[&dyn AnyRepository],
    digest: Digest,
    reference: &str,
    seen: &mut HashSet<Digest>,
    layers: &mut Vec<Digest>,
) -> Result<()> {
    let mut pending = vec![digest];
    while let Some(next) = pending.pop() {
        if !seen.insert(next) {
            continue;
        }
        match read_any(repositories, &next)? {
            Object::Layer(_) | Object::Manifest(_) => layers.push(next),
            // stacks are stored bottom first, so the topmost is taken up next
            Object::Platform(platform) => pending.extend(platform.stack),
            Object::Blob { .. } => {
                let reference = reference.to_owned();
                return Err(RepoError::NotStackable { reference, kind: ObjectKind::Blob });
            }
        }
    }
    Ok(())
}
