//! `spfs ls`: a directory of a stack.

use std::collections::VecDeque;
use std::process::ExitCode;

use jiff::tz::TimeZone;
use spfs_model::{EnvItem, EnvSpec, NodeKind, Position};

use super::tree::{Environment, kind_word, mode_text};
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::size;

/// List a directory of a stack without running it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tags and digests joined with '+', bottom first
    #[arg(value_name = "REF")]
    reference: String,

    /// The directory, with or without /spfs in front
    #[arg(default_value = "/")]
    path: String,

    /// List what lies below as well
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Show mode, owner, size and time
    #[arg(short)]
    long: bool,

    /// Show sizes with units
    #[arg(short = 'H', long)]
    human_readable: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    repo: RepoArgs,
}

/// One entry of `--json`.
#[derive(Debug, serde::Serialize)]
struct Line {
    /// The path within the environment.
    path: String,
    name: String,
    kind: &'static str,
    /// The whole `st_mode`, octal.
    mode: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// Who made what is listed, and when: known when a single tag was asked for.
#[derive(Debug, Default)]
struct Origin {
    user: String,
    date: String,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        let environment = Environment::load(context, &self.repo, &self.reference)?;
        let start = environment.find(&self.path)?;
        if environment.tree.kind(start) != NodeKind::Directory {
            return Err(CliError::failed(format!("{} is not a directory", self.path)));
        }
        let origin = if self.long { self.origin(&environment) } else { Origin::default() };
        let mut listed = Vec::new();
        for (label, directory) in self.directories(&environment, start) {
            if self.json {
                listed.extend(lines(&environment, directory));
                continue;
            }
            if self.recursive {
                context.out.line(format_args!("{label}:"))?;
            }
            self.block(&environment, directory, &origin, context)?;
            if self.recursive {
                context.out.line("")?;
            }
        }
        if self.json {
            context.out.json(&listed)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The directories to list, the outer ones first.
    fn directories(&self, environment: &Environment, start: Position) -> Vec<(String, Position)> {
        let mut found = Vec::new();
        let mut pending = VecDeque::from([(".".to_owned(), start)]);
        while let Some((label, directory)) = pending.pop_front() {
            if self.recursive {
                for child in environment.tree.children(directory).map(Position) {
                    if environment.tree.kind(child) == NodeKind::Directory {
                        pending.push_back((format!("{label}/{}", name(environment, child)), child));
                    }
                }
            }
            found.push((label, directory));
        }
        found
    }

    /// The entries of one directory, as upstream prints them.
    fn block(
        &self,
        environment: &Environment,
        directory: Position,
        origin: &Origin,
        context: &mut Context,
    ) -> Result<()> {
        let children: Vec<Position> = environment.tree.children(directory).map(Position).collect();
        if self.long {
            let sizes: Vec<String> = children
                .iter()
                .map(|child| size::show(weight(environment, *child), self.human_readable))
                .collect();
            let width = sizes.iter().map(String::len).max().unwrap_or_default();
            for (child, size) in children.iter().zip(sizes) {
                let mode = mode_text(environment.tree.node(*child).mode);
                let name = decorated(environment, *child);
                let Origin { user, date } = origin;
                context.out.line(format_args!("{mode} {user} {size:>width$} {date} {name}"))?;
            }
            return Ok(());
        }
        let names = children.iter().map(|child| decorated(environment, *child));
        if self.recursive {
            let row: String = names.map(|name| format!("{name}  ")).collect();
            return context.out.line(row);
        }
        names.into_iter().try_for_each(|name| context.out.line(name))
    }

    fn origin(&self, environment: &Environment) -> Origin {
        let Ok(EnvSpec(items)) = self.reference.parse() else { return Origin::default() };
        let [EnvItem::Tag(spec)] = items.as_slice() else { return Origin::default() };
        let found = environment.sources.tag(spec).ok();
        found.map_or_else(Origin::default, |tag| Origin {
            user: tag.user.split('@').next().unwrap_or_default().to_owned(),
            date: tag.time.to_zoned(TimeZone::system()).strftime("%b %e %H:%M").to_string(),
        })
    }
}

fn lines(environment: &Environment, directory: Position) -> impl Iterator<Item = Line> {
    environment.tree.children(directory).map(Position).map(|child| {
        let node = environment.tree.node(child);
        Line {
            path: String::from_utf8_lossy(&environment.tree.path(child)).into_owned(),
            name: name(environment, child),
            kind: kind_word(node.kind),
            mode: format!("{:06o}", node.mode),
            size: node.size,
            digest: (node.kind != NodeKind::Directory).then(|| node.object.to_string()),
        }
    })
}

fn name(environment: &Environment, position: Position) -> String {
    String::from_utf8_lossy(environment.tree.name(position).as_bytes()).into_owned()
}

fn decorated(environment: &Environment, position: Position) -> String {
    let slash = if environment.tree.kind(position) == NodeKind::Directory { "/" } else { "" };
    format!("{}{slash}", name(environment, position))
}

/// The size of a file, or of all files in a directory.
fn weight(environment: &Environment, position: Position) -> u64 {
    let mut sum = 0;
    let mut pending = vec![position];
    while let Some(position) = pending.pop() {
        sum = u64::saturating_add(sum, environment.tree.node(position).size);
        pending.extend(environment.tree.children(position).map(Position));
    }
    sum
}
