//! `spfs run`: a command, or a shell, in a new runtime.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use spfs_model::Digest;
use spfs_repo::ResolvedEnvironment;
use spfs_runtime::enter::LiveMount;
use spfs_runtime::{
    BackendSource, LiveShown, MountBackend, NewRuntime, Rerun, RuntimeError, RuntimeName,
    RuntimeRecord, Runtimes,
};
use spfs_service::{Launch, start_runtime_daemon};

use super::fetch::FetchArgs;
use super::{enter, routed};
use crate::args::RepoArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::repositories;

/// Run a command in a new runtime
///
/// /spfs shows the layers of REF to the command and everything it starts, and to nobody else.
/// Everything is gone when the last of these processes ends, unless --keep-runtime was given.
/// The command's exit status is the status of 'spfs run'.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    runtime: RuntimeArgs,

    /// The command and its arguments; an interactive shell when there is none
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Which runtime to start; common to `run` and `shell`.
#[derive(Debug, clap::Args)]
pub(super) struct RuntimeArgs {
    /// What /spfs shows: tags and digests joined with '+', bottom first; run spec files and live
    /// layers by their absolute path; '-' is empty
    #[arg(value_name = "REF", required_unless_present = "rerun", conflicts_with = "rerun")]
    reference: Option<String>,

    /// Let the command change files in /spfs; what is empty is editable anyway
    #[arg(short, long, overrides_with = "no_edit")]
    edit: bool,

    /// Do not let the command change files in /spfs
    #[arg(long, overrides_with = "edit")]
    no_edit: bool,

    /// Keep the runtime and its changes when the last process has ended
    #[arg(short, long, env = "SPFS_KEEP_RUNTIME", hide_env_values = true)]
    #[arg(value_parser = crate::args::switch)]
    keep_runtime: bool,

    /// Name the runtime
    #[arg(long, value_name = "NAME", conflicts_with = "rerun")]
    runtime_name: Option<RuntimeName>,

    /// Start a kept or crashed runtime again
    #[arg(long, value_name = "NAME")]
    rerun: Option<RuntimeName>,

    /// No effect: whether a runtime is running is known for sure
    #[arg(long, requires = "rerun", hide = true)]
    force: bool,

    /// Mount in this way: FuseWithScratch, or FuseOnly for reading alone
    #[arg(long, value_name = "BACKEND", conflicts_with = "rerun")]
    backend: Option<String>,

    /// Store a fact with the runtime, as KEY:VALUE, KEY=VALUE, or a map in YAML or JSON; may be
    /// repeated. 'spfs info --get KEY' reads it
    #[arg(long, value_name = "KEY:VALUE", conflicts_with = "rerun")]
    annotation: Vec<String>,

    /// Store all facts of this file, which holds a map in YAML or JSON; may be repeated. What
    /// --annotation gives counts for more
    #[arg(long, value_name = "FILE", conflicts_with = "rerun")]
    annotation_file: Vec<PathBuf>,

    #[command(flatten)]
    repo: RepoArgs,

    #[command(flatten)]
    fetch: FetchArgs,
}

impl Args {
    pub(crate) fn run(self, context: &mut Context) -> Result<ExitCode> {
        self.runtime.start(&self.command, context)
    }
}

impl RuntimeArgs {
    /// Starts the runtime and becomes the command in it; returns only when that failed.
    pub(super) fn start(self, command: &[OsString], context: &Context) -> Result<ExitCode> {
        let runtimes = repositories::runtimes(context)?;
        let (record, fresh) = match &self.rerun {
            Some(name) => (self.prepare_again(&runtimes, name, command)?, false),
            None => (self.prepare(&runtimes, command, context)?, true),
        };
        let name: RuntimeName = record.name.parse()?;
        if context.env.is_routed() {
            return Err(routed::become_command(&runtimes, &name, fresh, command, context));
        }
        Err(become_command(&runtimes, &record, &name, fresh, command, context))
    }

    fn prepare(
        &self,
        runtimes: &Runtimes,
        command: &[OsString],
        context: &Context,
    ) -> Result<RuntimeRecord> {
        let config = context.config()?;
        let backend = self.backend(&config.filesystem.backend)?;
        let reference = self.reference.as_deref().unwrap_or_default();
        let remote = self.repo.remote.as_deref();
        self.fetch.fetch(reference, remote, context)?;
        let environment = repositories::sources(context, remote)?.resolve_environment(reference)?;
        let editable = self.edit || (is_empty(&environment) && !self.no_edit);
        let mut stack = environment.layers;
        stack.extend(self.annotation_layers(runtimes, config.filesystem.annotation_size_limit)?);
        let new = NewRuntime {
            name: self.runtime_name.clone(),
            stack,
            live: environment.live,
            // Where all runtimes are in one mount, nothing can be mounted for one of them.
            live_shown: match context.env.is_routed() {
                true => LiveShown::Links,
                false => LiveShown::Mounts,
            },
            backend,
            // What is empty is editable where that is possible; who asks for it is told if not.
            editable: editable && (self.edit || backend.supports_editable()),
            durable: self.keep_runtime,
            command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            secondary_repositories: repositories::secondary_addresses(context, remote)?,
            include_secondary_tags: config.fuse.include_secondary_tags,
        };
        Ok(runtimes.create(new)?)
    }

    /// Stores each annotation in a layer of its own, as upstream does.
    fn annotation_layers(&self, runtimes: &Runtimes, inline_max: usize) -> Result<Vec<Digest>> {
        let mut pairs = Vec::new();
        for file in &self.annotation_file {
            pairs.extend(spfs_repo::read_annotations(file)?);
        }
        for text in &self.annotation {
            pairs.extend(spfs_repo::parse_annotations(text)?);
        }
        let repository = &**runtimes.repository();
        let store = |pair: (String, String)| {
            Ok(spfs_repo::write_layer(repository, None, &[pair], inline_max)?.layer)
        };
        spfs_repo::last_values(pairs).into_iter().map(store).collect()
    }

    fn prepare_again(
        &self,
        runtimes: &Runtimes,
        name: &RuntimeName,
        command: &[OsString],
    ) -> Result<RuntimeRecord> {
        let command: Vec<String> =
            command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let editable = (self.edit || self.no_edit).then_some(self.edit);
        Ok(runtimes.rerun(name, Rerun { editable, command: &command })?)
    }

    fn backend(&self, configured: &str) -> Result<MountBackend> {
        let choice = match &self.backend {
            Some(name) => MountBackend::choose(name, BackendSource::Flag)?,
            None => MountBackend::choose(configured, BackendSource::Configuration)?,
        };
        if let Some(warning) = choice.warning() {
            tracing::warn!("{warning}");
        }
        Ok(choice.backend)
    }
}

/// Whether nothing was asked for: `-` or an empty text, as upstream; an empty platform counts too.
fn is_empty(environment: &ResolvedEnvironment) -> bool {
    environment.layers.is_empty() && environment.live.is_empty()
}

/// Starts the daemon and executes the step that enters; returns what went wrong.
fn become_command(
    runtimes: &Runtimes,
    record: &RuntimeRecord,
    name: &RuntimeName,
    fresh: bool,
    command: &[OsString],
    context: &Context,
) -> CliError {
    let started = match launch(runtimes.root(), name, fresh, context) {
        Ok(started) => started,
        Err(error) => {
            if fresh && let Err(left) = runtimes.discard(name) {
                tracing::warn!("{}", CliError::from(left).one_line());
            }
            return error;
        }
    };
    // From here on the runtime is the daemon's, which takes it away when nobody enters it.
    let preserve = match context.config() {
        Ok(config) => &config.environment.variable_names_to_preserve,
        Err(error) => return error,
    };
    let mut enter = match enter::command(runtimes.root(), name, preserve) {
        Ok(enter) => enter,
        Err(error) => return error,
    };
    enter.arg("--handshake").arg(spfs_sys::process::number_of(&started.handshake).to_string());
    if record.status.editable {
        enter.arg("--editable");
    }
    let live = match LiveMount::all(record, Path::new(enter::MOUNTPOINT)) {
        Ok(live) => live,
        Err(error) => return RuntimeError::from(error).into(),
    };
    for LiveMount { source, target } in live {
        enter.arg("--live").arg(source).arg(target);
    }
    enter.arg("--").args(command);
    spfs_sys::process::pass_on(&mut enter, started.handshake);
    spfs_repo::remove_unpacked();
    let error = enter.exec();
    CliError::failed(format!("cannot execute {}", Path::new(enter.get_program()).display()))
        .because(&error)
}

fn launch(
    storage_root: &Path,
    name: &RuntimeName,
    fresh: bool,
    context: &Context,
) -> Result<spfs_service::Started> {
    let config = context.config()?;
    let program = spfs_sys::process::own_executable().map_err(|source| {
        CliError::failed("cannot tell where the program spfs lies").because(&source)
    })?;
    let outer = context.env.runtime().and_then(|outer| outer.parse().ok());
    let encoding = config.encoding();
    Ok(start_runtime_daemon(&Launch {
        program: &program,
        storage_root,
        name,
        fresh,
        outer: outer.as_ref(),
        log: context.env.text("SPFS_LOG").unwrap_or("warn"),
        digest_strategy: encoding.strategy,
        encoding_format: encoding.format,
    })?)
}
