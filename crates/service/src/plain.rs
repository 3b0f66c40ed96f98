//! The plain form: layers at a mount point of one's own, for everybody to read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use spfs_fuse::Volume;
use spfs_model::EnvSpec;

use crate::args::PlainArguments;
use crate::daemon::start_log;
use crate::failure::chain;
use crate::launch::DAEMON_NAME;
use crate::settings::{Defaults, Settings};
use crate::start::{Ready, ServiceLaunch, start};

/// Serves a mount to its end, or starts a process that does.
pub(crate) fn main(arguments: &PlainArguments, defaults: Defaults<'_>) -> ExitCode {
    let (Some(reference), Some(mountpoint)) = (&arguments.reference, &arguments.mountpoint) else {
        crate::report("say what to show and where: spfs-fuse REF MOUNTPOINT");
        return ExitCode::from(2);
    };
    let done = Settings::new(&arguments.storage, defaults).and_then(|settings| {
        let mountpoint = std::path::absolute(mountpoint).unwrap_or_else(|_| mountpoint.clone());
        if arguments.foreground {
            let ready = Ready::take(arguments.ready).map_err(|error| error.to_string())?;
            start_log(&settings.log);
            return serve(reference, &mountpoint, &settings, ready);
        }
        in_background(reference, mountpoint, &settings)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            crate::report(&reason);
            ExitCode::FAILURE
        }
    }
}

fn in_background(reference: &str, mountpoint: PathBuf, settings: &Settings) -> Result<(), String> {
    let program = spfs_sys::process::own_executable()
        .map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    let launch = ServiceLaunch { program: &program, mountpoint: &mountpoint, settings };
    let arguments = |ready: i32| {
        let mut arguments: Vec<OsString> = vec!["--foreground".into(), "--ready".into()];
        arguments.push(ready.to_string().into());
        arguments.extend(settings.arguments());
        arguments.extend(["--".into(), reference.into(), mountpoint.clone().into()]);
        arguments
    };
    start(&launch, arguments).map_err(|error| chain(&error))
}

fn serve(
    reference: &str,
    mountpoint: &Path,
    settings: &Settings,
    ready: Ready,
) -> Result<(), String> {
    // Names are for people; a process without one serves as well.
    drop(spfs_sys::process::set_name(DAEMON_NAME));
    let session = match mount(reference, mountpoint, settings) {
        Ok(session) => session,
        Err(reason) => {
            ready.refuse(&reason);
            return Err(reason);
        }
    };
    ready.say();
    session.wait().map_err(|error| chain(&error))
}

fn mount(
    reference: &str,
    mountpoint: &Path,
    settings: &Settings,
) -> Result<spfs_fuse::Session<spfs_fuse::Single<spfs_vfs::View>>, String> {
    let spec: EnvSpec = reference.parse().map_err(|error| chain(&error))?;
    spfs_sys::limits::raise_nofile();
    let runtimes = settings.runtimes().map_err(|error| chain(&error))?;
    let secondary = &settings.secondary_repositories;
    let stack =
        spfs_runtime::resolve(&runtimes, secondary, &spec).map_err(|error| chain(&error))?;
    let view = spfs_runtime::view_of_layers(&runtimes, secondary, &stack)
        .map_err(|error| chain(&error))?;
    let failed = |error| format!("cannot mount on {}: {}", mountpoint.display(), chain(&error));
    let (volume, device) = Volume::mount(mountpoint).map_err(failed)?;
    let options = spfs_fuse::Options { writeback: false, ..spfs_fuse::Options::default() };
    let session = spfs_fuse::serve(view, device, options);
    if session.is_err() {
        drop(volume.unmount(true));
    }
    session.map_err(failed)
}
