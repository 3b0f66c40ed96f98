//! The processes that tests start beside the daemon: what `spfs run`, the helper that enters, and
//! the commands inside a runtime are in the real program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use spfs_model::{ChangeKind, DigestStrategy, EncodingFormat};
use spfs_runtime::control::{CommitKind, CommitOptions, MacosFiles, ResetOptions};
use spfs_runtime::enter::{self, EnterPlan};
use spfs_runtime::startup::Startup;
use spfs_runtime::{RuntimeFolder, RuntimeName};
use spfs_service::{Client, ClientError, Launch, start_runtime_daemon};
use spfs_sys::process;
use spfs_testkit::program::{Helper, say};

/// Where the storage is, for the helpers.
pub(crate) const STORAGE: &str = "SPFS_TEST_STORAGE";

pub(crate) const HELPERS: &[Helper] = &[
    ("start", |arguments| match &words(arguments)[..] {
        [name, fresh, editable, command @ ..] => {
            start(name, *fresh == "fresh", *editable == "editable", command);
        }
        other => panic!("{other:?}"),
    }),
    ("enter", |arguments| match &words(arguments)[..] {
        [name, handshake, editable, command @ ..] => {
            enter(name, handshake, *editable == "editable", command);
        }
        other => panic!("{other:?}"),
    }),
    ("spfs", |arguments| inside(&arguments[0], &words(&arguments[1..]))),
    ("call_all", |arguments| crate::users::call_all(&arguments[0])),
    ("load", |arguments| match &words(arguments)[..] {
        [id, dir, how] => crate::load::work(id, Path::new(dir), crate::load::Until::parse(how)),
        other => panic!("{other:?}"),
    }),
];

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The end of a helper that has said why.
fn failed() -> ! {
    std::process::exit(1)
}

fn storage() -> PathBuf {
    std::env::var_os(STORAGE).expect("a test sets it").into()
}

/// Starts the daemon of a runtime and executes the step that enters.
fn start(name: &str, fresh: bool, editable: bool, command: &[&str]) {
    let root = storage();
    let outer = std::env::var("SPFS_RUNTIME").ok().map(|outer| outer.parse().unwrap());
    let started = start_runtime_daemon(&Launch {
        program: Path::new("/proc/self/exe"),
        storage_root: &root,
        name: &name.parse().unwrap(),
        fresh,
        outer: outer.as_ref(),
        log: "info",
        digest_strategy: DigestStrategy::default(),
        encoding_format: EncodingFormat::default(),
    })
    .unwrap();
    let mut enter = Command::new("/proc/self/exe");
    enter.args(["--helper", "enter", name]);
    enter.arg(process::number_of(&started.handshake).to_string());
    enter.arg(if editable { "editable" } else { "read-only" }).args(command);
    process::pass_on(&mut enter, started.handshake);
    panic!("cannot execute the next step: {}", enter.exec());
}

/// Lets the step that enters fail before it has made anything.
pub(crate) const DO_NOT_ENTER: &str = "SPFS_TEST_DO_NOT_ENTER";

/// Enters a runtime whose daemon waits.
fn enter(name: &str, handshake: &str, editable: bool, command: &[&str]) {
    if std::env::var_os(DO_NOT_ENTER).is_some() {
        failed();
    }
    let name: RuntimeName = name.parse().unwrap();
    let folder = RuntimeFolder::new(&storage(), &name);
    let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    let not_entered = enter::enter(EnterPlan {
        startup: Startup {
            name,
            folder: folder.path().to_owned(),
            mountpoint: PathBuf::from("/spfs"),
            command: command.iter().map(OsString::from).collect(),
            environment,
            overrides: Vec::new(),
            terminal: false,
        },
        editable,
        live: Vec::new(),
        handshake: process::take_inherited(handshake.parse().unwrap()).unwrap(),
        log: folder.log(),
        patience: enter::PATIENCE,
    });
    let error = not_entered.unwrap_err();
    say(&format!("NOT ENTERED: {error}"));
    failed()
}

/// Asks the daemon of the active runtime.
fn inside(request: &str, rest: &[&str]) {
    let name = std::env::var("SPFS_RUNTIME").unwrap().parse().unwrap();
    let socket = RuntimeFolder::new(&storage(), &name).socket();
    match Client::connect(&socket).and_then(|mut client| ask(&mut client, request, rest)) {
        Ok(answer) => say(answer.trim_end()),
        Err(ClientError::Failed(failure)) => {
            say(&format!("FAILED {:?}: {failure}", failure.code));
            failed();
        }
        Err(error) => {
            say(&format!("NO ANSWER: {error}"));
            failed();
        }
    }
}

fn ask(client: &mut Client, request: &str, rest: &[&str]) -> Result<String, ClientError> {
    match request {
        "commit" => {
            let kind = match rest.first() {
                Some(&"platform") => CommitKind::Platform,
                _ => CommitKind::Layer,
            };
            let options = CommitOptions {
                kind,
                annotations: Vec::new(),
                keep_editing: rest.contains(&"keep"),
                allow_empty: false,
                macos_files: MacosFiles::Keep,
            };
            let done = client.commit(&options, &mut |_| {})?;
            let busy: Vec<String> =
                done.busy.iter().map(|path| path.escape_ascii().to_string()).collect();
            Ok(format!("{} editable={} busy={busy:?}", done.digest, done.editable))
        }
        "edit" => {
            let mode = client.set_editable(rest == ["on"] || rest == ["keep"], rest == ["keep"])?;
            Ok(format!("changed={} durable={}", mode.changed, mode.durable))
        }
        "reset" => {
            let patterns = rest.iter().map(ToString::to_string).collect();
            let paths = client.reset(&ResetOptions { patterns, stack: None })?;
            Ok(format!("reset {paths}"))
        }
        "diff" => {
            let changes = client.diff()?;
            let line = |change: &spfs_model::Change| {
                let sign = match change.kind {
                    ChangeKind::Added(_) => '+',
                    ChangeKind::Removed(_) => '-',
                    ChangeKind::Changed { .. } => '~',
                };
                format!("{sign}{} ", change.path.escape_ascii())
            };
            Ok(changes.iter().map(line).collect())
        }
        "status" => {
            let status = client.status()?;
            let view = &status.views[0];
            Ok(format!("pid={} editable={} changes={}", status.pid, view.editable, view.changes))
        }
        "shutdown" => {
            client.shutdown(rest == ["force"])?;
            Ok("ending".to_owned())
        }
        other => panic!("no request {other}"),
    }
}
