//! Which layers of the active runtime hold a path.

use serde_json::{Value, json};
use spfs_model::{Digest, EntryKind, EntryRef, Manifest, Name, Object};

use super::super::tree::{components, mode_text};
use super::object::entry_word;
use super::{Args, runtime};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::size::Human;
use crate::repositories::Sources;

/// One layer that has an entry for the path.
#[derive(Debug)]
struct Found {
    layer: Digest,
    manifest: Digest,
    kind: EntryKind,
    mode: u32,
    size: u64,
    object: Digest,
}

/// Prints the layers that have an entry for the path, the top one, which is seen, first.
pub(super) fn show(
    path: &str,
    sources: &Sources,
    args: &Args,
    context: &mut Context,
) -> Result<()> {
    let found = find(path, sources, context)?;
    let short = |digest: &Digest| if args.short { digest.short() } else { digest.to_string() };
    let what = entry_word(found[0].kind);
    let layers = if found.len() == 1 { "layer" } else { "layers" };
    context.out.line(format_args!("{what} (in {} {layers})", found.len()))?;
    for Found { layer, manifest, kind, mode, size, object } in &found {
        context.out.line(format_args!(" layer: {}", short(layer)))?;
        context.out.line(format_args!("  manifest: {}", short(manifest)))?;
        context.out.line(format_args!(
            "    {} {} {} {} {path}",
            mode_text(*mode),
            entry_word(*kind),
            short(object),
            Human(*size)
        ))?;
    }
    Ok(())
}

/// The same as JSON.
pub(super) fn json(path: &str, sources: &Sources, context: &Context) -> Result<Value> {
    let found = find(path, sources, context)?;
    let layers = found.iter().map(|found| {
        json!({
            "layer": found.layer.to_string(),
            "manifest": found.manifest.to_string(),
            "kind": entry_word(found.kind),
            "mode": format!("{:06o}", found.mode),
            "size": found.size,
            "digest": found.object.to_string(),
        })
    });
    Ok(json!({ "path": path, "layers": layers.collect::<Vec<_>>() }))
}

/// At least one layer, the top one first.
fn find(path: &str, sources: &Sources, context: &Context) -> Result<Vec<Found>> {
    let names: Vec<&str> = components(path).collect();
    let mut found = Vec::new();
    for layer in runtime::stack(context, "'spfs info' of a path below /spfs")?.iter().rev() {
        let Object::Layer(object) = sources.object(layer)? else { continue };
        let Some(manifest) = object.manifest else { continue };
        let Object::Manifest(content) = sources.object(&manifest)? else { continue };
        if let Some(entry) = entry_at(&content, &names) {
            let EntryRef { kind, mode, size, object, .. } = entry;
            found.push(Found { layer: *layer, manifest, kind, mode, size, object });
        }
    }
    if found.is_empty() {
        return Err(CliError::failed(format!("no layer of the active runtime has {path}"))
            .hint("'spfs diff' lists what is new and not committed yet"));
    }
    Ok(found)
}

fn entry_at<'a>(manifest: &'a Manifest, names: &[&str]) -> Option<EntryRef<'a>> {
    let (last, directories) = names.split_last()?;
    let mut tree = manifest.root();
    for name in directories {
        tree = manifest.find(tree, Name::new(name.as_bytes()).ok()?)?.tree?;
    }
    manifest.find(tree, Name::new(last.as_bytes()).ok()?)
}
