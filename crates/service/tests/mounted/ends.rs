//! How services and plain mounts end, by what they are asked with.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use spfs_service::{Client, MountRequest, Wanted};
use spfs_testkit::program::Test;
use spfs_testkit::wait_until;

use crate::service::{Service, Shell, daemon};
use crate::world::{LIMIT, outcome};

pub(crate) const TESTS: &[Test] = &[
    ("ends::a_service_that_ends_leaves_nothing_but_durable_runtimes", clean_end),
    ("ends::a_signal_that_was_ignored_stays_ignored", ignored),
    ("ends::a_plain_mount_goes_with_each_signal", plain),
];

/// The signals that ask for the end.
pub(crate) const SIGNALS: [&str; 4] = ["TERM", "INT", "QUIT", "HUP"];

/// Sends a signal to a process that is there.
pub(crate) fn send(signal: &str, pid: u32) {
    let kill = format!("kill -s {signal} {pid}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

/// The command with signals as `how` says: those who run the tests may ignore some themselves.
fn with_signals(how: &str, folder: &Path, command: &Command) -> Command {
    let program = folder.join("spfs-fuse");
    if !program.exists() {
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
    }
    let mut with = Command::new("env");
    with.arg(how).arg(program).args(command.get_args()).stdin(Stdio::null());
    with
}

fn clean_end() {
    let asked = SIGNALS.map(Some).into_iter().chain([None]);
    for (how, root) in asked.zip(["lookup", "link"].into_iter().cycle()) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut service = Service::prepare(root, 0);
        let mut command = service.command();
        command.args(["--listen", &free.to_string()]);
        let folder = service.path("");
        service.run_as(&mut with_signals("--default-signal", &folder, &command));
        let mut kept = service.shell("kept", &[]);
        let mut transient = service.shell("transient", &[]);
        kept.says("echo work > $M/file; exec 7> $M/open; echo open >&7; cd $M");
        transient.says("echo lost > $M/file");
        service.client().for_runtime("kept").set_editable(true, true).unwrap();
        match how {
            None => {
                let refused = service.client().shutdown(false).unwrap_err();
                assert!(refused.to_string().contains("kept, transient"), "{refused}");
                service.client().shutdown(true).unwrap();
            }
            Some(signal) => send(signal, service.pid()),
        }
        assert_eq!(service.wait(), Some(0), "{how:?}");
        service.assert_gone();
        assert!(Client::connect_port(free).is_err(), "{how:?}");
        assert!(!service.folder_of("transient").exists(), "{how:?}");
        assert!(service.folder_of("kept").exists(), "{how:?}");
        assert!(!service.folder_of("kept").join("control.sock").is_symlink(), "{how:?}");
        service.run(&[]);
        let mut again = Shell::new(&service.mountpoint);
        let runtime = Wanted::Existing("kept".to_owned());
        service.client().mount(&MountRequest { root_pid: again.pid(), runtime }).unwrap();
        assert_eq!(again.says("cat $M/file $M/open; ls $M"), "work open file open", "{how:?}");
        again.end();
        service.ends("kept");
    }
}

fn ignored() {
    let mut service = Service::prepare("lookup", 0);
    let command =
        with_signals("--ignore-signal=HUP,INT,QUIT", &service.path(""), &service.command());
    let mut command = command;
    service.run_as(&mut command);
    for signal in ["HUP", "INT", "QUIT"] {
        send(signal, service.pid());
        assert!(service.client().status().is_ok(), "{signal}");
    }
    send("TERM", service.pid());
    assert_eq!(service.wait(), Some(0));
    service.assert_gone();
}

fn plain() {
    let service = Service::prepare("lookup", 0);
    let layer = service.layer(&[("name", "mine\n")]).to_string();
    let place = service.path("plain");
    std::fs::create_dir(&place).unwrap();
    let is_mounted = || spfs_sys::mount::mount_at(&place).unwrap().is_some();
    for signal in SIGNALS {
        let mut command = daemon();
        command.arg("--foreground").arg("--storage").arg(&service.settings.storage_root);
        command.arg(&layer).arg(&place);
        let mut command = with_signals("--default-signal", &service.path(""), &command);
        let mut serving = Ended(command.spawn().unwrap());
        assert!(wait_until(LIMIT, || place.join("name").exists()), "{signal}");
        // Somebody is using it.
        let mut shell = Shell::new(&place);
        assert_eq!(shell.says("exec 7< $M/name; cat <&7"), "mine");
        send(signal, serving.0.id());
        assert!(serving.0.wait().unwrap().success(), "{signal}");
        assert!(!is_mounted(), "{signal}");
        shell.end();
    }
    // In the background, and unmounted by somebody else.
    let mut command = daemon();
    command.arg("--storage").arg(&service.settings.storage_root).arg(&layer).arg(&place);
    let done = outcome(&mut command);
    assert_eq!(done.code, Some(0), "{done:?}");
    spfs_sys::mount::unmount(&place).unwrap();
    assert!(wait_until(LIMIT, || !is_served(&place)), "its process is left");
}

/// Whether a process is left that serves a mount at this place.
fn is_served(place: &Path) -> bool {
    let needle = place.as_os_str().as_encoded_bytes();
    spfs_sys::process::list().unwrap().into_iter().any(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == needle)
    })
}

/// A process that ends with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
