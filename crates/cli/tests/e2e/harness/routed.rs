//! Worlds whose runtimes are views of one service, in a mount namespace of their own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::wait_for;

/// Asks for such worlds: the variable of the program, given to the tests.
pub(crate) const ROUTED: &str = "SPFS_TEST_ROUTED";

/// Whether runtimes have mounts of their own in these tests; says so when not.
pub(crate) fn own_mounts(why: &str) -> bool {
    let own = std::env::var_os(ROUTED).is_none();
    if !own {
        eprintln!("NOT TESTED with a service: {why}");
    }
    own
}

/// The namespace of a world; it goes with the value.
#[derive(Debug)]
pub(super) struct Routed {
    holder: Child,
    /// What the root of the service's mount shows.
    pub(super) root: String,
}

impl Routed {
    /// A namespace in which nothing of ours is mounted.
    pub(super) fn new(root: &str) -> Self {
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let holder = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sleep", "1000000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let namespace = format!("/proc/{}/ns/mnt", holder.id());
        wait_for("a mount namespace", || {
            fs::read_link(&namespace).is_ok_and(|found| found != own)
                && super::name_of(holder.id()) == "sleep"
        });
        Self { holder, root: root.to_owned() }
    }

    /// What the tests are asked for.
    pub(super) fn asked_for() -> Option<Self> {
        let root = std::env::var(ROUTED).ok().filter(|root| !root.is_empty())?;
        assert!(super::is_root(), "{ROUTED}: on Linux only root can mount for all");
        Some(Self::new(&root))
    }

    /// Starts a program in there.
    pub(super) fn command(namespace: u32, folder: &Path, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{namespace}/ns/mnt"));
        command.arg(format!("--wdns={}", folder.display())).arg("--").arg(program);
        command
    }

    pub(super) fn namespace(&self) -> u32 {
        self.holder.id()
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
