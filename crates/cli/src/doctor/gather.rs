//! Collects the facts. Nothing that it makes stays: files that are written to try something are
//! removed at once.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spfs_repo::Repository;
use spfs_runtime::enter::MOUNT_SOURCE;
use spfs_runtime::{RuntimeStatus, Runtimes};
use spfs_service::{Client, Settings};
use spfs_sys::publish::Draft;
use spfs_sys::{host, limits, mount, reflink};

use super::storage::{Clones, Crashed, Refused, Storage};
use super::{Agent, Facts, Service};
use crate::commands::service::expected_agent;
use crate::config::{self, Config};
use crate::context::Context;
use crate::error::CliError;
use crate::install::agent;

/// How long those are waited for who may not answer: all mounts together, and the service.
const PATIENCE: Duration = Duration::from_secs(1);

/// Collects the facts of this machine, user and configuration.
pub(crate) fn gather(context: &Context) -> Facts {
    let (configuration, config) = match config::load(&context.env) {
        Ok(loaded) => (Ok(loaded.warnings), Some(loaded.config)),
        Err(error) => (Err(CliError::from(error).one_line()), None),
    };
    let told = |error: mount::MountError| CliError::of(&error).one_line();
    let mounts = mount::mounts().unwrap_or_default();
    let here = mounts.iter().rfind(|entry| entry.target == Path::new("/spfs"));
    Facts {
        host: host::facts(),
        nofile: limits::nofile(),
        configuration,
        backend: config
            .as_ref()
            .map(|config| config.filesystem.backend.clone())
            .unwrap_or_default(),
        stale: mount::dead_mounts(MOUNT_SOURCE, PATIENCE).map_err(told),
        service: config.as_ref().map_or(Service::None, |config| service(&config.storage.root)),
        agent: installed_agent(context, config.as_ref()),
        mounted: here.map(|entry| entry.file_system.to_string_lossy().into_owned()),
        storage: config.map(|config| storage(&config.storage.root)),
    }
}

fn service(root: &Path) -> Service {
    let path = Settings::of(root.to_owned()).socket();
    if !path.exists() {
        return Service::None;
    }
    match Client::connect(&path) {
        Ok(mut client) => match client.answers_within(PATIENCE) {
            true => Service::Answers(path),
            false => Service::Hangs(path),
        },
        Err(_) => Service::Silent(path),
    }
}

fn installed_agent(context: &Context, config: Option<&Config>) -> Agent {
    let path = context.env.home().map(|home| agent::path(&home));
    let found = path.as_deref().and_then(|path| fs::read_to_string(path).ok());
    let expected =
        config.and_then(|config| expected_agent(&context.env, &config.storage.root).ok());
    Agent { path, found, expected: expected.unwrap_or_default() }
}

fn storage(root: &Path) -> Storage {
    let exists = |path: &&Path| path.exists();
    let nearest = root.ancestors().find(exists).unwrap_or(root).to_owned();
    // A storage that is shared may have a root that only its owner can write; nobody needs to
    // where all is there.
    let can_write = |name: &str| {
        let path = Some(root.join(name)).filter(|path| path.exists()).unwrap_or(nearest.clone());
        // The file goes when it is dropped.
        let tried = Draft::create_in(&path).map(drop);
        tried.map_err(|error| Refused { path, why: error.to_string() })
    };
    let startable = can_write("runtimes");
    let storable = ["objects", "payloads", "tags"].into_iter().try_for_each(can_write);
    let there = nearest == root;
    let clones = if there && startable.is_ok() { clones(root) } else { Clones::Unknown };
    let runtimes_mode = fs::metadata(root.join("runtimes")).ok().map(|found| found.mode());
    let (crashed, unreadable) = runtimes(root);
    let root = root.to_owned();
    Storage { root, there, startable, storable, runtimes_mode, clones, crashed, unreadable }
}

/// Whether payloads and scratch share a volume, and that volume can clone.
fn clones(root: &Path) -> Clones {
    let volume = |path: &PathBuf| fs::metadata(path).ok().map(|found| found.dev());
    let folders = ["payloads", "runtimes"].map(|name| root.join(name));
    let [payloads, runtimes] = folders.each_ref().map(volume);
    if payloads.is_some() && runtimes.is_some() && payloads != runtimes {
        let [payloads, runtimes] = folders;
        return Clones::OtherVolume(payloads, runtimes);
    }
    let writable = Draft::create_in(root).is_ok();
    let place = if writable { root.to_owned() } else { root.join("runtimes") };
    match try_clone(&place) {
        Ok(()) => Clones::Shared,
        Err(error) => Clones::Copied(error.to_string()),
    }
}

fn try_clone(dir: &Path) -> std::io::Result<()> {
    /// A block of every usual file system.
    const BLOCK: [u8; 4096] = [b'x'; 4096];
    let source = Draft::create_in(dir)?;
    (&mut source.file()).write_all(&BLOCK)?;
    let mut name = source.path().as_os_str().to_owned();
    name.push("-clone");
    let target = PathBuf::from(name);
    // Adopted, it goes when it is dropped.
    let keep = |clone: File| Draft::adopt(clone, target.clone());
    reflink::clone_new(source.file(), &target).map(keep).map(drop)
}

/// The crashed runtimes, and what is wrong with records that cannot be read. Where there is no
/// repository there are none.
fn runtimes(root: &Path) -> (Result<Vec<Crashed>, String>, Vec<String>) {
    if !root.join("objects").exists() {
        return (Ok(Vec::new()), Vec::new());
    }
    let listed = Repository::open(root).map_err(|error| CliError::from(error).one_line());
    let listed = listed.and_then(|repository| {
        let (user, host) = (config::login_name(), config::host_name());
        let runtimes = Runtimes::new(Arc::new(repository), user, host);
        runtimes.list().map_err(|error| CliError::from(error).one_line())
    });
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => return (Err(error), Vec::new()),
    };
    let (mut crashed, mut unreadable) = (Vec::new(), Vec::new());
    for runtime in listed {
        match runtime {
            Ok(runtime) => {
                if let RuntimeStatus::Crashed { changes } = runtime.status {
                    crashed.push(Crashed { name: runtime.name, changes });
                }
            }
            Err(error) => unreadable.push(CliError::from(error).one_line()),
        }
    }
    (Ok(crashed), unreadable)
}
