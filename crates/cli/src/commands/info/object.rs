//! What a stored object is.

use std::collections::HashSet;

use serde_json::{Value, json};
use spfs_model::{Digest, EntryKind, Layer, Manifest, Object, TreeIndex};

use super::super::names::Names;
use super::super::tree::shown_path;
use super::Args;
use crate::context::Context;
use crate::error::Result;
use crate::output::size::Human;
use crate::repositories::Sources;

/// How many entries of a manifest are shown without `-v`, and with one.
const ENTRIES_SHOWN: [usize; 2] = [10, 50];

/// Prints an object, and with `--follow` everything it leads to.
pub(super) fn show(
    digest: Digest,
    sources: &Sources,
    names: &Names,
    args: &Args,
    context: &mut Context,
) -> Result<()> {
    let mut pending = vec![digest];
    let mut first = true;
    // Each is shown once: what is damaged may lead to itself, and what is not to one thing very often.
    let mut shown = HashSet::new();
    while let Some(digest) = pending.pop() {
        if !shown.insert(digest) {
            continue;
        }
        let object = sources.object(&digest)?;
        if !first {
            context.out.line("")?;
        }
        first = false;
        context.out.line(format_args!("{}:", names.show(&digest)))?;
        for line in describe(&digest, &object, sources, names, args, context.verbosity)? {
            context.out.line(line)?;
        }
        if args.follow {
            pending.extend(below(&object).into_iter().rev());
        }
    }
    Ok(())
}

/// What an object leads to, but for the blobs of manifests.
fn below(object: &Object) -> Vec<Digest> {
    match object {
        Object::Platform(platform) => platform.stack.iter().rev().copied().collect(),
        Object::Layer(layer) => layer.manifest.into_iter().collect(),
        Object::Manifest(_) | Object::Blob { .. } => Vec::new(),
    }
}

fn describe(
    digest: &Digest,
    object: &Object,
    sources: &Sources,
    names: &Names,
    args: &Args,
    verbosity: u8,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    match object {
        Object::Blob { payload, size } => {
            lines.push("blob:".to_owned());
            lines.push(format!(" digest: {}", names.digest(payload)));
            lines.push(format!(" size: {}", Human(*size)));
        }
        Object::Platform(platform) => {
            lines.push("platform:".to_owned());
            lines.push(format!(" refs: {}", names.show(digest)));
            lines.push("stack (top-down):".to_owned());
            lines.extend(
                platform.stack.iter().rev().map(|layer| format!("  - {}", names.show(layer))),
            );
        }
        Object::Layer(layer) => {
            lines.push("layer:".to_owned());
            lines.push(format!(" refs: {}", names.show(digest)));
            let manifest = layer
                .manifest
                .map_or_else(|| "None".to_owned(), |manifest| names.digest(&manifest));
            lines.push(format!(" manifest: {manifest}"));
            lines.extend(describe_annotations(layer, sources)?);
        }
        Object::Manifest(manifest) => {
            lines.push("manifest:".to_owned());
            let limit = ENTRIES_SHOWN.get(usize::from(verbosity)).copied();
            lines.extend(describe_entries(manifest, names, args, limit));
        }
    }
    Ok(lines)
}

fn describe_annotations(layer: &Layer, sources: &Sources) -> Result<Vec<String>> {
    if layer.annotations.is_empty() {
        return Ok(vec![" annotations: none".to_owned()]);
    }
    let mut lines = vec![" annotations:".to_owned()];
    for (key, value) in sources.annotations(layer)? {
        lines.push(format!("  key: {key}"));
        lines.push(format!("  value: {value}"));
    }
    Ok(lines)
}

fn describe_entries(
    manifest: &Manifest,
    names: &Names,
    args: &Args,
    limit: Option<usize>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in entries(manifest) {
        if limit.is_some_and(|limit| lines.len() >= limit) {
            lines.push("   ...[truncated] use -vv for more".to_owned());
            break;
        }
        let size = match entry.kind {
            EntryKind::Blob if args.human_readable => format!(" {}", Human(entry.size)),
            _ => String::new(),
        };
        let kind = entry_word(entry.kind);
        let digest = names.digest(&entry.object);
        lines.push(format!(" {:06o} {kind} {digest}{size} {}", entry.mode, shown_path(&path)));
    }
    lines
}

/// Upstream's word for a kind of entry.
pub(super) const fn entry_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Blob => "file",
        EntryKind::Tree => "tree",
        EntryKind::Mask => "mask",
    }
}

/// The entries of a manifest with their paths, a directory before what is in it, by name.
fn entries(manifest: &Manifest) -> impl Iterator<Item = (Vec<u8>, spfs_model::EntryRef<'_>)> {
    let listed = |tree: TreeIndex, parent: &[u8]| {
        let mut below: Vec<_> = manifest
            .entries_by_name(tree)
            .map(|entry| ([parent, entry.name.as_bytes()].concat(), entry))
            .collect();
        below.reverse();
        below
    };
    let mut pending = listed(manifest.root(), b"");
    std::iter::from_fn(move || {
        let (path, entry) = pending.pop()?;
        if let Some(tree) = entry.tree {
            pending.extend(listed(tree, &[path.as_slice(), b"/"].concat()));
        }
        Some((path, entry))
    })
}

/// An object as JSON.
pub(super) fn json(digest: &Digest, sources: &Sources, names: &Names) -> Result<Value> {
    let tags: Vec<String> = names.tags(digest).iter().map(ToString::to_string).collect();
    let text = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect::<Vec<_>>();
    let mut value = match sources.object(digest)? {
        Object::Blob { payload, size } => {
            json!({ "kind": "blob", "payload": payload.to_string(), "size": size })
        }
        Object::Platform(platform) => {
            json!({ "kind": "platform", "stack": text(&platform.stack) })
        }
        Object::Layer(layer) => json!({
            "kind": "layer",
            "manifest": layer.manifest.map(|manifest| manifest.to_string()),
            "annotations": sources
                .annotations(&layer)?
                .into_iter()
                .map(|(key, value)| json!({ "key": key, "value": value }))
                .collect::<Vec<_>>(),
        }),
        Object::Manifest(manifest) => json!({
            "kind": "manifest",
            "entries": entries(&manifest)
                .map(|(path, entry)| json!({
                    "path": String::from_utf8_lossy(&path),
                    "kind": entry_word(entry.kind),
                    "mode": format!("{:06o}", entry.mode),
                    "size": entry.size,
                    "digest": entry.object.to_string(),
                }))
                .collect::<Vec<_>>(),
        }),
    };
    if let Value::Object(members) = &mut value {
        members.insert("digest".to_owned(), digest.to_string().into());
        members.insert("tags".to_owned(), tags.into());
    }
    Ok(value)
}
