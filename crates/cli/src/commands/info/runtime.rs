//! What the active runtime is.

use std::process::ExitCode;

use serde_json::json;
use spfs_model::{Digest, Object};
use spfs_runtime::control::LiveStatus;

use super::super::active;
use super::super::names::Names;
use super::Args;
use crate::context::Context;
use crate::error::Result;
use crate::output::size;
use crate::repositories::{self, Sources};

/// What needs an active runtime.
pub(super) const WITHOUT_REF: &str = "'spfs info' without REF";

/// The layers of the active runtime, bottom first; `what` was asked for that needs one.
pub(super) fn stack(context: &Context, what: &str) -> Result<Vec<Digest>> {
    Ok(status(context, what)?.stack)
}

fn status(context: &Context, what: &str) -> Result<LiveStatus> {
    active::connect(context, what)?.status()
}

/// Where the layers of the active runtime come from.
pub(super) fn sources(context: &Context) -> Result<Sources> {
    let name = active::name(context, WITHOUT_REF)?;
    let record = repositories::runtimes(context)?.read(&name)?;
    let mut sources = repositories::sources(context, None)?;
    sources.add(context, &record.config.secondary_repositories);
    Ok(sources)
}

/// Prints the active runtime.
pub(super) fn show(args: &Args, context: &mut Context) -> Result<ExitCode> {
    let status = status(context, WITHOUT_REF)?;
    if args.json {
        context.out.json(&json!({
            "name": status.name,
            "backend": status.backend,
            "editable": status.editable,
            "durable": status.durable,
            "stack": status.stack.iter().map(Digest::to_string).collect::<Vec<_>>(),
            "changes": status.changes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let sources = sources(context)?;
    let names = Names::load(sources.first(), args.tags, args.short)?;
    context.out.line("Active Runtime:")?;
    context.out.line(format_args!(" id: {}", status.name))?;
    context.out.line(format_args!(" editable: {}", status.editable))?;
    context.out.line("stack (top-down):")?;
    for layer in status.stack.iter().rev() {
        let weight = size::show(weight(layer, &sources)?, args.human_readable);
        context.out.line(format_args!("  - {}, Size: {weight}", names.show(layer)))?;
    }
    context.out.line("")?;
    context.out.line(match status.changes {
        0 => "No Active Changes",
        _ => "Run 'spfs diff' for active changes",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The size of all files of a layer.
fn weight(layer: &Digest, sources: &Sources) -> Result<u64> {
    let Object::Layer(layer) = sources.object(layer)? else { return Ok(0) };
    let Some(manifest) = layer.manifest else { return Ok(0) };
    let Object::Manifest(manifest) = sources.object(&manifest)? else { return Ok(0) };
    // What a manifest says of sizes may be anything.
    Ok(manifest.blobs().map(|(_, size, _)| size).fold(0, u64::saturating_add))
}
