//! One call of the binary, with a limit on its time, and what came of it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::routed::{ROUTED, Routed};
use super::{LIMIT, NOBODY, Root, User, World};

/// A command line of `spfs` to run.
#[derive(Debug)]
pub(crate) struct Spfs {
    user: User,
    root: Root,
    namespace: Option<u32>,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    current_dir: PathBuf,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Its exit status; 128 + n when signal n ended it.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Spfs {
    pub(super) fn new<S: AsRef<OsStr>>(
        world: &World,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut search = OsString::from(world.path("bin"));
        search.push(":");
        search.push(path);
        let variables = [
            ("PATH", search),
            ("HOME", world.path("home").into()),
            ("XDG_CONFIG_HOME", world.path("config").into()),
            ("XDG_RUNTIME_DIR", world.path("home").into()),
            ("SPFS_STORAGE_ROOT", world.storage().into()),
            ("SPFS_USER_NAME", "ada".into()),
            ("SPFS_USER_DOMAIN", "host1".into()),
            ("SHELL", "/bin/bash".into()),
            ("TZ", "UTC".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("NO_COLOR", "1".into()),
        ];
        let routed = world.routed.as_ref();
        let root = routed.map(|routed| (ROUTED.into(), routed.root.clone().into()));
        Self {
            user: world.user(),
            root: world.root,
            namespace: routed.map(Routed::namespace),
            program: world.program(),
            arguments: arguments.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            variables: variables.into_iter().map(|(k, v)| (k.into(), v)).chain(root).collect(),
            stdin: Vec::new(),
            current_dir: world.path("work"),
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(more.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Gives these bytes on standard input.
    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// Starts in this directory.
    pub(crate) fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = dir.into();
        self
    }

    /// Runs another program of the world's environment instead of `spfs`.
    pub(crate) fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// The command as the world's user runs it, below the world's root directory.
    pub(super) fn command(&self) -> Command {
        let mut command = match self.root {
            Root::Host if self.namespace.is_some() => {
                let namespace = self.namespace.unwrap_or_default();
                Routed::command(namespace, &self.current_dir, &self.program)
            }
            Root::Host => Command::new(&self.program),
            Root::WithSpfs => other_root(&self.program, "with", self.user),
            Root::WithoutSpfs => other_root(&self.program, "without", self.user),
        };
        command.args(&self.arguments).env_clear().current_dir(&self.current_dir);
        command.envs(self.variables.iter().map(|(k, v)| (k, v))).process_group(0);
        if self.user == User::Nobody && self.root == Root::Host {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts it with these ends of its standard input and output.
    pub(crate) fn spawn(self, stdin: Stdio, stdout: Stdio) -> Child {
        self.command().stdin(stdin).stdout(stdout).spawn().unwrap()
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Outcome {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let group = rustix::process::Pid::from_child(&child);
        let mut stdin = child.stdin.take().unwrap();
        let input = self.stdin.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap_or(()));
        let (sender, receiver) = mpsc::channel();
        // Reading to the end of both pipes also proves that no daemon keeps them open.
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(finished) = receiver.recv_timeout(LIMIT) else {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap_or(());
            panic!("still running after {LIMIT:?}: {:?}", self.arguments);
        };
        let output = finished.unwrap();
        writer.join().unwrap();
        let status = output.status;
        Outcome {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs to the end, which must be a success.
    pub(crate) fn succeeds(self) -> Outcome {
        let told = format!("{:?}", self.arguments);
        let outcome = self.run();
        assert_eq!(outcome.code, 0, "{told}: {outcome:#?}");
        outcome
    }

    /// Runs to the end, which must be this status with each of `parts` on standard error.
    pub(crate) fn fails_with(self, code: i32, parts: &[&str]) -> Outcome {
        let told = format!("{:?}", self.arguments);
        let outcome = self.run();
        assert_eq!(outcome.code, code, "{told}: {outcome:#?}");
        for part in parts {
            assert!(outcome.stderr.contains(part), "{told}: no {part:?} in {outcome:#?}");
        }
        assert!(!outcome.stderr.contains("panicked"), "{told}: {outcome:#?}");
        outcome
    }
}

/// A command that puts a root directory together in a mount namespace of its own, becomes the
/// user there and executes `program`.
fn other_root(program: &Path, spfs: &str, user: User) -> Command {
    const SCRIPT: &str = r#"
        set -e
        spfs=$1; user=$2; shift 2
        here=$PWD
        new=/run/spfs-e2e-root; [ -d /run ] || new=/tmp/spfs-e2e-root
        mkdir -p "$new"
        mount -t tmpfs -o mode=0755 root "$new"
        for entry in /* /.[!.]*; do
            name=${entry#/}
            [ "$name" = spfs ] && continue
            if [ -L "$entry" ]; then cp -P "$entry" "$new/$name"
            elif [ -d "$entry" ]; then mkdir "$new/$name"; mount --rbind "$entry" "$new/$name"
            elif [ -e "$entry" ]; then : > "$new/$name"; mount --bind "$entry" "$new/$name"
            fi
        done
        mkdir "$new/.old"
        [ "$spfs" = with ] && mkdir "$new/spfs"
        cd "$new"
        pivot_root . .old
        umount -l /.old
        rmdir /.old
        mount -o remount,ro /
        cd "$here"
        if [ "$user" = nobody ]; then
            exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
        fi
        exec "$@"
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh", spfs]);
    command.arg(if user == User::Nobody { "nobody" } else { "myself" }).arg(program);
    command
}
