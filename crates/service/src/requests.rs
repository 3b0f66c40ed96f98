//! What people ask of a service: `spfs-fuse mount`, `unmount`, `status` and `shutdown`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use spfs_runtime::control::LiveStatus;

use crate::address::Address;
use crate::args::{
    MountArguments, ServiceAddress, ShutdownArguments, StatusArguments, UnmountArguments,
};
use crate::client::{Client, ClientError, MountRequest, ServiceStatus, Wanted};
use crate::failure::chain;
use crate::settings::{Defaults, Settings};

/// What went wrong, in words.
type Result<T> = std::result::Result<T, String>;

pub(crate) fn mount(arguments: &MountArguments, defaults: Defaults<'_>) -> ExitCode {
    done(connect(&arguments.address, defaults).and_then(|mut client| {
        let runtime = Wanted::New {
            env_spec: arguments.reference.clone(),
            editable: arguments.editable,
            name: arguments.runtime_name.as_ref().map(ToString::to_string),
        };
        let root_pid = root_process(arguments.root_process)?;
        let mounted = client.mount(&MountRequest { root_pid, runtime }).map_err(|e| told(&e))?;
        print(&format!("{}\n", mounted.runtime))
    }))
}

pub(crate) fn unmount(arguments: &UnmountArguments, defaults: Defaults<'_>) -> ExitCode {
    done(connect(&arguments.address, defaults).and_then(|client| {
        let (mut client, root) = match &arguments.runtime_name {
            Some(name) => (client.for_runtime(name.as_str()), None),
            None => (client, Some(root_process(arguments.root_process)?)),
        };
        client.unmount(root, arguments.force).map_err(|e| told(&e))
    }))
}

pub(crate) fn status(arguments: &StatusArguments, defaults: Defaults<'_>) -> ExitCode {
    done(connect(&arguments.address, defaults).and_then(|mut client| {
        let status = client.status().map_err(|e| told(&e))?;
        print(&if arguments.json { as_json(&status) } else { as_text(&status) })
    }))
}

pub(crate) fn shutdown(arguments: &ShutdownArguments, defaults: Defaults<'_>) -> ExitCode {
    done(connect(&arguments.address, defaults).and_then(|mut client| {
        let failed = |error: ClientError| match &error {
            ClientError::Failed(failure) if failure.code == crate::FailureCode::Busy => {
                format!("{}; --force ends it all the same", told(&error))
            }
            _ => told(&error),
        };
        client.shutdown(arguments.force).map_err(failed)
    }))
}

fn connect(address: &ServiceAddress, defaults: Defaults<'_>) -> Result<Client> {
    let address = match &address.service {
        Some(address) => address.clone(),
        None => Address::Socket(Settings::new(&address.storage, defaults)?.socket()),
    };
    let connected = match &address {
        Address::Socket(path) => Client::connect(path),
        Address::Port(port) => Client::connect_port(*port),
    };
    connected.map_err(|error| match error {
        ClientError::NotServed { source, .. } => {
            format!("no service is running: cannot connect to {address}: {source}; start one with 'spfs-fuse service'")
        }
        error => told(&error),
    })
}

/// The process that is meant when none is named: whoever started this one, which is gone soon.
fn root_process(named: Option<u32>) -> Result<u32> {
    match named {
        Some(pid) => Ok(pid),
        None => spfs_sys::process::parent(std::process::id())
            .map_err(|error| format!("cannot tell which process started this one: {error}")),
    }
}

fn told(error: &ClientError) -> String {
    let mut text = chain(error);
    if let ClientError::Failed(failure) = error {
        for path in &failure.paths {
            text.push_str(&format!("\n  {}", String::from_utf8_lossy(path)));
        }
    }
    text
}

fn done(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            crate::report(&reason);
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn as_text(status: &ServiceStatus) -> String {
    let mut text = format!("spfs-fuse {}, process {}", status.version, status.pid);
    if let Some(figures) = &status.figures {
        text.push_str(&format!(", mounted on {}\n", figures.mountpoint));
        let (router, name) = (&figures.router, "processes known");
        text.push_str(&format!("{} {name}, {} followed\n", router.processes, router.followed));
        text.push_str(&format!(
            "{} nodes, {} open files, {} requests\n",
            figures.nodes, figures.handles, figures.requests
        ));
    } else {
        text.push('\n');
    }
    status.views.iter().for_each(|view| text.push_str(&line(view)));
    text
}

fn line(view: &LiveStatus) -> String {
    let mode = if view.editable { "editable" } else { "read-only" };
    let kept = if view.durable { ", kept" } else { "" };
    let roots: Vec<String> = view.roots.iter().map(ToString::to_string).collect();
    format!(
        "{:37}\t{mode}{kept}\t{} changes\t{} processes\tgiven to {}\n",
        view.name,
        view.changes,
        view.members,
        roots.join(", ")
    )
}

fn as_json(status: &ServiceStatus) -> String {
    let views: Vec<_> = status.views.iter().map(view_as_json).collect();
    let mut document = json!({
        "version": status.version,
        "pid": status.pid,
        "views": views,
    });
    if let Some(figures) = &status.figures {
        document["mountpoint"] = json!(figures.mountpoint);
        document["router"] = json!({
            "processes": figures.router.processes,
            "followed": figures.router.followed,
            "met": figures.router.met,
            "sees_all_forks": figures.router.sees_all_forks,
        });
        document["kernel"] = json!({
            "nodes": figures.nodes,
            "handles": figures.handles,
            "requests": figures.requests,
        });
    }
    format!("{document:#}\n")
}

fn view_as_json(view: &LiveStatus) -> serde_json::Value {
    let open: Vec<_> = view.open_for_writing.iter().map(|p| String::from_utf8_lossy(p)).collect();
    json!({
        "name": view.name,
        "backend": view.backend,
        "editable": view.editable,
        "durable": view.durable,
        "stack": view.stack.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "changes": view.changes,
        "open_for_writing": open,
        "roots": view.roots,
        "members": view.members,
    })
}
