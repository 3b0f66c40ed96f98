//! `spfs diff`: what changed.

use std::process::ExitCode;

use spfs_model::{Change, ChangeKind, Shown};

use super::active;
use super::tree::{Environment, kind_word, shown_path};
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// Show what changed in the active runtime, or between FROM and TO
///
/// Lines begin with '+' for what is new, '-' for what is gone and '~' for what is different.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to compare with; the active runtime's stack when it is not given
    from: Option<String>,

    /// What to compare; what /spfs shows when it is not given
    to: Option<String>,

    /// Print the changes as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

/// One change of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    path: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Side>,
}

/// What is there on one side of a change.
#[derive(Debug, serde::Serialize)]
struct Side {
    kind: &'static str,
    /// The whole `st_mode`, octal.
    mode: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let changes = match (&self.from, &self.to) {
            (Some(from), Some(to)) => {
                let from = Environment::load(context, &self.repo, from)?;
                let to = Environment::load(context, &self.repo, to)?;
                spfs_model::changes_between(&from.tree, &to.tree)
                    .map_err(|error| CliError::of(&error))?
            }
            (Some(from), None) => {
                let mut active = active::connect(context, "'spfs diff' without TO")?;
                let stack = active.status()?.stack;
                let live = active.client.diff()?;
                let from = Environment::load(context, &self.repo, from)?;
                let layers = Environment::of(repositories::sources(context, None)?, &stack)?;
                spfs_model::changes_from(&from.tree, &layers.tree, &live)
            }
            (None, _) => {
                active::connect(context, "'spfs diff' without FROM and TO")?.client.diff()?
            }
        };
        if self.json {
            context.out.json(&changes.iter().map(Line::of).collect::<Vec<_>>())?;
        } else if changes.is_empty() {
            tracing::info!("no changes");
        } else {
            for change in &changes {
                context.out.line(describe(change))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One line in upstream's form: `~/spfs/bin/tool [mode {100755=>100700}]`.
fn describe(change: &Change) -> String {
    let path = shown_path(&change.path);
    match change.kind {
        ChangeKind::Added(_) => format!("+{path}"),
        ChangeKind::Removed(_) => format!("-{path}"),
        ChangeKind::Changed { before, after } => {
            let mut facts = Vec::new();
            if before.mode != after.mode {
                facts.push(format!("mode {{{:06o}=>{:06o}}}", before.mode, after.mode));
            }
            if before.object != after.object {
                facts.push("content".to_owned());
            }
            if before.size != after.size {
                facts.push(format!("size {{{}=>{}}}", before.size, after.size));
            }
            let facts = if facts.is_empty() {
                // A directory in which something differs.
                String::new()
            } else {
                format!(" [{}]", facts.join(", "))
            };
            format!("~{path}{facts}")
        }
    }
}

impl Line {
    fn of(change: &Change) -> Self {
        let (word, before, after) = match change.kind {
            ChangeKind::Added(after) => ("added", None, Some(after)),
            ChangeKind::Removed(before) => ("removed", Some(before), None),
            ChangeKind::Changed { before, after } => ("changed", Some(before), Some(after)),
        };
        Self {
            path: shown_path(&change.path),
            change: word,
            before: before.map(Side::of),
            after: after.map(Side::of),
        }
    }
}

impl Side {
    fn of(shown: Shown) -> Self {
        Self {
            kind: kind_word(shown.kind),
            mode: format!("{:06o}", shown.mode),
            size: shown.size,
            digest: (!shown.object.is_null()).then(|| shown.object.to_string()),
        }
    }
}
