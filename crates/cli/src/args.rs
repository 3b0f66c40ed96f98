//! The command line: what is common to all commands, and the list of commands.
//!
//! The doc comment of an argument is its help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::context::Context;
use crate::env::{self, Environment};
use crate::error::Result;

/// Shown below the help of `spfs` itself.
const AFTER_HELP: &str = "\
Exit status: 0 when done, 1 when the command failed, 2 when the command line makes no sense. \
'run', 'shell' and 'join' end with the status of the command they run (128 + n after signal n).

Any other COMMAND runs the program 'spfs-COMMAND' from PATH.";

/// Layered, content-addressed file systems: every process tree its own /spfs.
#[derive(Debug, Parser)]
#[command(
    name = "spfs",
    version,
    after_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(flatten)]
    pub(crate) repositories: WrapArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The value of a variable that stands for a flag; an empty one counts as unset.
pub(crate) fn switch(text: &str) -> std::result::Result<bool, &'static str> {
    let wanted = "it is one of 1, true, yes, on, 0, false, no, off";
    if text.is_empty() { Ok(false) } else { env::switch(text).ok_or(wanted) }
}

/// Adds the name of the variable that a refused value came from: the user did not type the
/// argument that the error is about.
pub(crate) fn naming_the_variable(mut error: clap::Error, env: &Environment) -> clap::Error {
    let context = |kind| error.get(kind).map(ToString::to_string);
    let found = context(ContextKind::InvalidArg).zip(context(ContextKind::InvalidValue));
    let Some((argument, value)) = found else { return error };
    let mut command = Cli::command();
    // Arguments have their names as they are shown only then.
    command.build();
    if let Some(name) = variable_of(&command, &argument, &value, env) {
        let tip = format!("the value comes from the variable {name}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The variable with this value that can stand for an argument.
fn variable_of(
    command: &clap::Command,
    argument: &str,
    value: &str,
    env: &Environment,
) -> Option<String> {
    let of_this = command.get_arguments().find_map(|arg| {
        let name = arg.get_env().filter(|_| arg.to_string() == argument)?;
        let is_it = env.all().get(name)?.to_string_lossy() == value;
        is_it.then(|| name.to_string_lossy().into_owned())
    });
    let mut below = command.get_subcommands();
    of_this.or_else(|| below.find_map(|command| variable_of(command, argument, value, env)))
}

/// How repositories are looked at in this call.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Repository options")]
pub(crate) struct WrapArgs {
    /// Put the repository at PATH before 'origin': it is asked first, and written to
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) wrap_origin: Option<PathBuf>,
}

/// How much is logged, and where to.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Log options")]
pub(crate) struct LogArgs {
    /// Log more; may be given up to four times
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Append the log to this file as well
    #[arg(long, global = true, value_name = "FILE", env = "SPFS_LOG_FILE", hide_env_values = true)]
    pub(crate) log_file: Option<PathBuf>,

    /// Begin each log line with the time
    #[arg(long, global = true, env = "SPFS_LOG_TIMESTAMP", hide_env_values = true)]
    #[arg(value_parser = switch)]
    pub(crate) timestamp: bool,
}

/// Which repository is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RepoArgs {
    /// Work on this repository instead of the local one: a configured name, an address, or a path
    #[arg(short, long, value_name = "REPOSITORY")]
    pub(crate) remote: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(commands::init::Args),
    Commit(commands::commit::Args),
    Run(commands::run::Args),
    Shell(commands::shell::Args),
    Join(commands::join::Args),
    Edit(commands::edit::Args),
    Reset(commands::reset::Args),
    Diff(commands::diff::Args),
    Info(commands::info::Args),
    #[command(visible_aliases = ["list", "list-dir"])]
    Ls(commands::ls::Args),
    #[command(visible_aliases = ["cat", "read-file", "cat-file"])]
    Read(commands::read::Args),
    #[command(visible_alias = "write-file")]
    Write(commands::write::Args),
    Tag(commands::tag::Args),
    Untag(commands::untag::Args),
    Tags(commands::tags::Args),
    #[command(visible_alias = "list-tags")]
    LsTags(commands::ls_tags::Args),
    Log(commands::log::Args),
    Search(commands::search::Args),
    Layers(commands::layers::Args),
    Platforms(commands::platforms::Args),
    Push(commands::push::Args),
    Pull(commands::pull::Args),
    Check(commands::check::Args),
    Clean(commands::clean::Args),
    Render(commands::render::Args),
    Migrate(commands::migrate::Args),
    #[command(visible_alias = "rt")]
    Runtime(commands::runtime::Args),
    Config(commands::config::Args),
    Doctor(commands::doctor::Args),
    Service(commands::service::Args),
    Version(commands::version::Args),
    #[command(hide = true)]
    Enter(commands::enter::Args),
    Completions(commands::completions::Args),
    #[command(hide = true)]
    Man(commands::man::Args),
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        match self {
            Self::Init(args) => args.run(context),
            Self::Commit(args) => args.run(context),
            Self::Run(args) => args.run(context),
            Self::Shell(args) => args.run(context),
            Self::Join(args) => args.run(context),
            Self::Edit(args) => args.run(context),
            Self::Reset(args) => args.run(context),
            Self::Diff(args) => args.run(context),
            Self::Info(args) => args.run(context),
            Self::Ls(args) => args.run(context),
            Self::Read(args) => args.run(context),
            Self::Write(args) => args.run(context),
            Self::Tag(args) => args.run(context),
            Self::Untag(args) => args.run(context),
            Self::Tags(args) => args.run(context),
            Self::LsTags(args) => args.run(context),
            Self::Log(args) => args.run(context),
            Self::Search(args) => args.run(context),
            Self::Layers(args) => args.run(context),
            Self::Platforms(args) => args.run(context),
            Self::Push(args) => args.run(context),
            Self::Pull(args) => args.run(context),
            Self::Check(args) => args.run(context),
            Self::Clean(args) => args.run(context),
            Self::Render(args) => args.run(context),
            Self::Migrate(args) => args.run(context),
            Self::Runtime(args) => args.run(context),
            Self::Config(args) => args.run(context),
            Self::Doctor(args) => args.run(context),
            Self::Service(args) => args.run(context),
            Self::Version(args) => args.run(context),
            Self::Enter(args) => args.run(&context.env),
            Self::Completions(args) => args.run(context),
            Self::Man(args) => args.run(context),
            Self::External(words) => commands::external::run(&words, context),
        }
    }
}
