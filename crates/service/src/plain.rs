//! The plain form: layers at a mount point of one's own, for everybody to read.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use spfs_fuse::Single;
use spfs_model::EnvSpec;
use spfs_vfs::View;
use spfs_vfs::api::Owner;
use tokio::sync::oneshot;

use crate::args::{MountOption, PlainArguments, ServiceRoot};
use crate::daemon::{FILES_MIN, start_thread};
use crate::failure::chain;
use crate::launch::DAEMON_NAME;
use crate::log;
use crate::settings::{Defaults, Settings};
use crate::signals::EndSignals;
use crate::start::{Ready, ServiceLaunch, start};
use crate::volume::ServedVolume;

/// What is shown, and where.
struct Plain<'a> {
    reference: &'a str,
    mountpoint: PathBuf,
    options: &'a [MountOption],
    settings: Settings,
}

/// Serves a mount to its end, or starts a process that does.
pub(crate) fn main(arguments: &PlainArguments, defaults: Defaults<'_>) -> ExitCode {
    let (Some(reference), Some(mountpoint)) = (&arguments.reference, &arguments.mountpoint) else {
        crate::report("say what to show and where: spfs-fuse REF MOUNTPOINT");
        return ExitCode::from(2);
    };
    let done = settings(arguments, defaults).and_then(|settings| {
        let mountpoint = std::path::absolute(mountpoint).unwrap_or_else(|_| mountpoint.clone());
        let plain = Plain { reference, mountpoint, options: &arguments.options, settings };
        if arguments.foreground {
            return plain.serve(arguments.ready);
        }
        plain.start()
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            crate::report(&reason);
            ExitCode::FAILURE
        }
    }
}

impl Plain<'_> {
    fn start(&self) -> Result<(), String> {
        let program = spfs_sys::process::own_executable()
            .map_err(|error| format!("cannot tell where this program lies: {error}"))?;
        let (mountpoint, settings) = (self.mountpoint.as_path(), &self.settings);
        let root = ServiceRoot::default();
        let launch = ServiceLaunch { program: &program, mountpoint, root, settings };
        start(&launch, |ready| self.arguments(ready)).map_err(|error| chain(&error))
    }

    /// The arguments of the process in the background.
    fn arguments(&self, ready: i32) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--foreground".into(), "--ready".into()];
        arguments.push(ready.to_string().into());
        arguments.extend(self.settings.arguments());
        // Remotes are among the settings already.
        for option in self.options.iter().filter(|o| !matches!(o, MountOption::Remote(_))) {
            arguments.extend(["-o".into(), option.to_string().into()]);
        }
        arguments.extend(["--".into(), self.reference.into(), self.mountpoint.clone().into()]);
        arguments
    }

    fn serve(&self, ready: Option<i32>) -> Result<(), String> {
        log::start(&self.settings.log, log::Kind::of(ready));
        let ready = Ready::take(ready).map_err(|error| error.to_string())?;
        // Names are for people; a process without one serves as well.
        drop(spfs_sys::process::set_name(DAEMON_NAME));
        match self.mount() {
            Ok(served) => {
                ready.say();
                served.until_the_end()
            }
            Err(reason) => {
                ready.tell(&reason);
                Err(reason)
            }
        }
    }

    fn mount(&self) -> Result<Served, String> {
        // Before there is something to leave behind.
        let end = EndOfMount::new().map_err(|error| chain(&error))?;
        let spec: EnvSpec = self.reference.parse().map_err(|error| chain(&error))?;
        spfs_sys::limits::raise_nofile_to(FILES_MIN).map_err(|error| error.to_string())?;
        let runtimes = self.settings.runtimes().map_err(|error| chain(&error))?;
        let secondary = &self.settings.secondary_repositories;
        let with_tags = !self.options.contains(&MountOption::SecondaryTags(false));
        let named_in = if with_tags { secondary.as_slice() } else { &[] };
        let view = spfs_runtime::resolve(&runtimes, named_in, &spec)
            .and_then(|stack| {
                spfs_runtime::view_of_layers(&runtimes, secondary, &stack, owner(self.options))
            })
            .map_err(|error| chain(&error))?;
        let options = spfs_fuse::Options::read_only();
        let volume = ServedVolume::new(&self.mountpoint, true, |device| {
            spfs_fuse::serve(view, device, options)
        });
        let volume = volume.map_err(|error| {
            format!("cannot mount on {}: {}", self.mountpoint.display(), chain(&error))
        })?;
        Ok(Served { volume, end })
    }
}

/// What can end a mount beside the one who unmounts it.
struct EndOfMount {
    executor: tokio::runtime::Runtime,
    signals: EndSignals,
}

impl EndOfMount {
    fn new() -> io::Result<Self> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _context = executor.enter();
            EndSignals::new()?
        };
        Ok(Self { executor, signals })
    }
}

/// A mount that is served.
struct Served {
    volume: ServedVolume<Single<View>>,
    end: EndOfMount,
}

impl Served {
    /// Until it is unmounted, or a signal asks for the end: then it is unmounted here.
    fn until_the_end(self) -> Result<(), String> {
        let Self { volume, end: EndOfMount { executor, mut signals } } = self;
        let (ended, unmounted) = oneshot::channel();
        let session = Arc::clone(&volume.session);
        start_thread("spfs-end", move || drop(ended.send(session.wait())))
            .map_err(|error| chain(&error))?;
        executor.block_on(async {
            tokio::select! {
                end = unmounted => match end {
                    Ok(end) => end.map_err(|error| chain(&error)),
                    Err(_) => Err("nobody waits for the end of the mount".to_owned()),
                },
                () = signals.received() => Ok(()),
            }
        })
    }
}

/// The settings, with the repositories that options name in front of the secondary ones.
fn settings(arguments: &PlainArguments, defaults: Defaults<'_>) -> Result<Settings, String> {
    let mut settings = Settings::new(&arguments.storage, defaults)?;
    let mut remotes = Vec::new();
    for option in &arguments.options {
        if let MountOption::Remote(name) = option {
            let address = (defaults.remote)(name)
                .map_err(|reason| format!("cannot use remote={name}: {reason}"))?;
            remotes.push(address);
        }
    }
    settings.secondary_repositories.splice(..0, remotes);
    Ok(settings)
}

/// Whose the files are: the last word counts, as with all mount options.
fn owner(options: &[MountOption]) -> Owner {
    let own = Owner { uid: spfs_sys::ids::euid(), gid: spfs_sys::ids::egid() };
    options.iter().fold(own, |owner, option| match *option {
        MountOption::Given | MountOption::Remote(_) | MountOption::SecondaryTags(_) => owner,
        MountOption::Uid(uid) => Owner { uid, ..owner },
        MountOption::Gid(gid) => Owner { gid, ..owner },
    })
}
