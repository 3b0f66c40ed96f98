//! What runs first in a runtime: a shell that sets the environment up, then the user's command.
//!
//! Layers may bring scripts (`/spfs/etc/spfs/startup.d/*.sh`, for tcsh `*.csh`), and users expect
//! their own start files to be read first. Both need a shell, so a command runs as
//! `bash startup.sh COMMAND…`, where `startup.sh` lies in the runtime's folder and ends with
//! `exec "$@"`: the process, its pid, its exit status and its signals are the command's.
//!
//! Where no shell is found that can read the scripts, the command is executed by itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use spfs_sys::publish::{self, Durability};

use crate::name::RuntimeName;

mod script;
mod shell;

use script::{Script, Tail};
use shell::{Dialect, Shell, Wanted};

/// What an interactive shell says when it starts, unless the user chose another text.
const MESSAGE: &str = "* You are now in a configured subshell *";

/// The variable that names the active runtime.
pub const RUNTIME_VARIABLE: &str = "SPFS_RUNTIME";
const MESSAGE_VARIABLE: &str = "SPFS_SHELL_MESSAGE";

/// A command, or a shell, to start in a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The runtime.
    pub name: RuntimeName,
    /// Its folder: the scripts are written there.
    pub folder: PathBuf,
    /// Where the runtime is mounted.
    pub mountpoint: PathBuf,
    /// The command and its arguments; an interactive shell when empty.
    pub command: Vec<OsString>,
    /// The environment of this process, which the command inherits.
    pub environment: BTreeMap<OsString, OsString>,
    /// Variables to set, whatever the user's start files make of them.
    pub overrides: Vec<(OsString, OsString)>,
    /// Standard input is a terminal.
    pub terminal: bool,
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// A startup script could not be written.
    #[error("cannot write the startup script {}", path.display())]
    Script {
        /// The script.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command, or the shell for it, could not be executed.
    #[error("cannot execute {}", Path::new(program).display())]
    Execute {
        /// The program.
        program: OsString,
        /// Why.
        source: io::Error,
    },
}

/// A program ready to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program: an absolute path, or a name to look up on PATH.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables to set for it.
    pub environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// Replaces this process by the program.
    ///
    /// # Errors
    /// Returns only when the program cannot be executed.
    pub fn execute(self) -> Result<std::convert::Infallible, StartupError> {
        let source = spfs_sys::process::exec(&self.program, &self.arguments, &self.environment);
        Err(StartupError::Execute { program: self.program, source })
    }
}

impl Startup {
    /// Writes the scripts and says what to execute. `suffix` sets the scripts of one process apart
    /// from those of others in the same runtime.
    ///
    /// # Errors
    /// [`StartupError::Script`].
    pub fn prepare(&self, suffix: &str) -> Result<Program, StartupError> {
        if self.command.is_empty() {
            return self.prepare_shell(suffix);
        }
        self.prepare_command(&self.command, suffix)
    }

    fn prepare_command(&self, command: &[OsString], suffix: &str) -> Result<Program, StartupError> {
        let Some(shell) = shell::for_scripts(&self.environment) else {
            return Ok(self.directly(command));
        };
        let (file, before) = match shell.dialect {
            Dialect::Tcsh => (format!("startup{suffix}.csh"), Some("-f")),
            Dialect::Bash | Dialect::Zsh => (format!("startup{suffix}.sh"), None),
        };
        let file = self.write(&file, &self.script(shell.dialect, Tail::Command(command)))?;
        let mut arguments: Vec<OsString> = before.map(OsString::from).into_iter().collect();
        arguments.push(file.into());
        arguments.extend_from_slice(command);
        Ok(self.program(shell.path.into(), arguments))
    }

    fn prepare_shell(&self, suffix: &str) -> Result<Program, StartupError> {
        let scripts = shell::for_scripts(&self.environment);
        let wanted = shell::wanted(&self.environment)
            .or_else(|| scripts.clone().map(Wanted::Known))
            .unwrap_or_else(|| Wanted::Other("/bin/sh".into()));
        if !self.terminal {
            // Shells read start files only at a terminal; commands on standard input are a script
            // like any other.
            return self.prepare_command(&[wanted.path().into()], suffix);
        }
        let mut program = match (wanted, scripts) {
            (Wanted::Known(shell), _) => self.interactive(&shell, suffix)?,
            (Wanted::Other(path), Some(scripts)) => self.through(&scripts, &path, suffix)?,
            (Wanted::Other(path), None) => self.directly(&[path.into()]),
        };
        if !self.environment.contains_key(OsStr::new(MESSAGE_VARIABLE)) {
            program.environment.push((MESSAGE_VARIABLE.into(), MESSAGE.into()));
        }
        Ok(program)
    }

    /// A shell whose own start files are replaced by ours, which read the user's.
    fn interactive(&self, shell: &Shell, suffix: &str) -> Result<Program, StartupError> {
        let script = self.script(shell.dialect, Tail::Greeting);
        let path = OsString::from(&shell.path);
        match shell.dialect {
            Dialect::Bash => {
                let file = self.write(&format!("shell{suffix}.sh"), &script)?;
                Ok(self.program(path, vec!["--init-file".into(), file.into()]))
            }
            Dialect::Tcsh => {
                // It has no option for a start file, only the one in the home folder.
                let home = self.home_for_shell(suffix)?;
                self.write_at(&home.join(".tcshrc"), &script)?;
                let mut program = self.program(path, Vec::new());
                self.redirect(&mut program, "HOME", script::ORIGINAL_HOME, home);
                Ok(program)
            }
            Dialect::Zsh => {
                let home = self.home_for_shell(suffix)?;
                self.write_at(&home.join(".zshenv"), &script::zshenv())?;
                self.write_at(&home.join(".zshrc"), &script)?;
                let mut program = self.program(path, Vec::new());
                self.redirect(&mut program, "ZDOTDIR", script::ORIGINAL_ZDOTDIR, home);
                Ok(program)
            }
        }
    }

    /// Sets a variable for the start of a shell only; its script puts the old value back.
    fn redirect(&self, program: &mut Program, variable: &str, keep: &str, value: PathBuf) {
        if let Some(original) = self.environment.get(OsStr::new(variable)) {
            program.environment.push((keep.into(), original.clone()));
        }
        program.environment.push((variable.into(), value.into()));
    }

    /// A shell that cannot read our scripts: one that can does, and then becomes the other.
    fn through(
        &self,
        scripts: &Shell,
        shell: &Path,
        suffix: &str,
    ) -> Result<Program, StartupError> {
        let extension = if scripts.dialect == Dialect::Tcsh { "csh" } else { "sh" };
        let fish = match shell.file_name() {
            Some(name) if name == "fish" => Some(self.write(
                &format!("shell{suffix}.fish"),
                &self.parts(&self.variables(), Tail::Shell(shell)).fish(),
            )?),
            _ => None,
        };
        let tail = match &fish {
            Some(file) => Tail::Fish { shell, file },
            None => Tail::Shell(shell),
        };
        let script = self.script(scripts.dialect, tail);
        let file = self.write(&format!("shell{suffix}.{extension}"), &script)?;
        let mut arguments: Vec<OsString> = vec![file.into()];
        if scripts.dialect == Dialect::Tcsh {
            arguments.insert(0, "-f".into());
        }
        Ok(self.program(OsString::from(&scripts.path), arguments))
    }

    fn directly(&self, command: &[OsString]) -> Program {
        let (program, arguments) = match command.split_first() {
            Some((program, arguments)) => (program.clone(), arguments.to_vec()),
            None => ("/bin/sh".into(), Vec::new()),
        };
        self.program(program, arguments)
    }

    fn program(&self, program: OsString, arguments: Vec<OsString>) -> Program {
        Program { program, arguments, environment: self.variables() }
    }

    /// The variables of the runtime, which no start file may change.
    fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.overrides.clone();
        variables.push((RUNTIME_VARIABLE.into(), self.name.as_str().into()));
        variables
    }

    fn script(&self, dialect: Dialect, tail: Tail<'_>) -> Vec<u8> {
        let variables = self.variables();
        let script = self.parts(&variables, tail);
        match dialect {
            Dialect::Bash => script.bash(),
            Dialect::Tcsh => script.tcsh(),
            Dialect::Zsh => script.zsh(),
        }
    }

    fn parts<'a>(&self, variables: &'a [(OsString, OsString)], tail: Tail<'a>) -> Script<'a> {
        Script { variables, startup_dir: self.mountpoint.join("etc/spfs/startup.d"), tail }
    }

    fn home_for_shell(&self, suffix: &str) -> Result<PathBuf, StartupError> {
        let path = self.folder.join(format!("home{suffix}"));
        spfs_sys::owner::private_dir(&path)
            .map_err(|source| StartupError::Script { path: path.clone(), source })?;
        Ok(path)
    }

    fn write(&self, name: &str, script: &[u8]) -> Result<PathBuf, StartupError> {
        let path = self.folder.join(name);
        self.write_at(&path, script)?;
        Ok(path)
    }

    /// Replaced in one step: the shell of another process may be reading the old one.
    fn write_at(&self, path: &Path, script: &[u8]) -> Result<(), StartupError> {
        publish::write(path, 0o600, script, Durability::Later)
            .map_err(|source| StartupError::Script { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests;
