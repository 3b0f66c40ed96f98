//! The scripts, run by the real shells. A shell that is not installed is skipped, loudly.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

/// A value with everything that some shell finds special.
const NASTY: &str = "a 'b\" $HOME `id` !! !x \\ \\n *?[x] ~ #c ; & | (d) {e} <f> =g\th";

/// A home, a runtime folder and a mount point that is an ordinary folder.
struct Place {
    dir: tempfile::TempDir,
    startup: Startup,
}

impl Place {
    /// With the shell as `$SHELL`; `None` when it is not installed.
    fn new(shell: &str, command: &[&str]) -> Option<Self> {
        let Some(shell) = installed(shell) else {
            writeln!(std::io::stderr(), "SKIPPED: {shell} is not installed").unwrap();
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["home", "runtime", "spfs/etc/spfs/startup.d"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let environment = BTreeMap::from([
            ("HOME".into(), path("home").into()),
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("SHELL".into(), shell.into()),
            ("TMPDIR".into(), "/tmp/of the user".into()),
            ("LD_LIBRARY_PATH".into(), "/some/libraries".into()),
        ]);
        let startup = Startup {
            name: "test-runtime".parse().unwrap(),
            folder: path("runtime"),
            mountpoint: path("spfs"),
            command: command.iter().map(OsString::from).collect(),
            environment,
            overrides: vec![("OVERRIDE".into(), NASTY.into())],
            terminal: false,
        };
        Some(Self { dir, startup })
    }

    fn set(&mut self, variable: &str, value: &str) {
        self.startup.environment.insert(variable.into(), value.into());
    }

    /// Writes a file of the user's home.
    fn home(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join("home").join(name), text).unwrap();
    }

    /// Writes a startup script of a layer.
    fn layer(&self, name: &str, text: &str) {
        fs::write(self.startup.mountpoint.join("etc/spfs/startup.d").join(name), text).unwrap();
    }

    fn output(&self) -> Output {
        self.output_with(&[], "")
    }

    /// Runs what was prepared, with further arguments and this standard input.
    fn output_with(&self, arguments: &[&str], input: &str) -> Output {
        let program = self.startup.prepare("").unwrap();
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            .args(arguments)
            .env_clear()
            .envs(&self.startup.environment)
            .envs(program.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn installed(shell: &str) -> Option<PathBuf> {
    let folders = ["/usr/bin", "/bin", "/usr/local/bin"];
    folders.iter().map(|folder| Path::new(folder).join(shell)).find(|path| path.exists())
}

#[track_caller]
fn stdout(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn shells() -> [&'static str; 4] {
    ["bash", "tcsh", "zsh", "fish"]
}

#[test]
fn the_command_gets_its_arguments_unchanged() {
    let long = "x".repeat(100_000);
    let arguments =
        ["printf", "%s|", "", "two words", NASTY, "line\nend", "--", "-x", "ü", &long, ""];
    for shell in shells() {
        let Some(place) = Place::new(shell, &arguments) else { continue };
        let expected: String = arguments[2..].iter().map(|a| format!("{a}|")).collect();
        assert_eq!(stdout(&place.output()), expected, "{shell}");
    }
}

#[test]
fn the_runtime_and_the_overrides_win_over_the_users_start_files() {
    for shell in shells() {
        let command = ["sh", "-c", "printf '%s\n' \"$OVERRIDE\" \"$SPFS_RUNTIME\" \"$OWN\""];
        let Some(mut place) = Place::new(shell, &command) else { continue };
        place.home(".bashrc", "export OVERRIDE=lost SPFS_RUNTIME=lost OWN=kept\n");
        place.home(".tcshrc", "setenv OVERRIDE lost\nsetenv SPFS_RUNTIME lost\nsetenv OWN kept\n");
        place.startup.overrides.push(("not a name".into(), "x".into()));
        assert_eq!(stdout(&place.output()), format!("{NASTY}\ntest-runtime\nkept\n"), "{shell}");
    }
}

#[test]
fn values_of_several_lines_are_kept() {
    let Some(mut place) = Place::new("bash", &["sh", "-c", "printf %s \"$OVERRIDE\""]) else {
        return;
    };
    let text = "one\ntwo'\n\n\"three\n";
    place.startup.overrides = vec![("OVERRIDE".into(), text.into())];
    assert_eq!(stdout(&place.output()), text);
}

#[test]
fn values_that_are_not_text_are_kept() {
    use std::os::unix::ffi::OsStringExt;
    for shell in shells() {
        let command = ["sh", "-c", "printf %s \"$OVERRIDE\" | od -An -tx1"];
        let Some(mut place) = Place::new(shell, &command) else { continue };
        let value = OsString::from_vec(vec![b'a', 0xff, 0xfe, b'b']);
        place.startup.overrides = vec![("OVERRIDE".into(), value)];
        assert_eq!(stdout(&place.output()).trim(), "61 ff fe 62", "{shell}");
    }
}

#[test]
fn tmpdir_and_library_path_survive_and_nothing_else_is_printed() {
    for shell in shells() {
        let command = ["sh", "-c", "echo $TMPDIR $LD_LIBRARY_PATH"];
        let Some(place) = Place::new(shell, &command) else { continue };
        let output = place.output();
        assert_eq!(stdout(&output), "/tmp/of the user /some/libraries\n", "{shell}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
    }
}

#[test]
fn scripts_of_layers_run_in_order_after_the_users_own() {
    for shell in shells() {
        let Some(mut place) = Place::new(shell, &["sh", "-c", "echo $TRACE"]) else { continue };
        place.home(".bashrc", "export TRACE=rc\n");
        place.home(".tcshrc", "setenv TRACE rc\n");
        for name in ["20-two", "10-one", "30-three"] {
            place.layer(&format!("{name}.sh"), &format!("export TRACE=\"$TRACE {name}\"\n"));
            place.layer(&format!("{name}.csh"), &format!("setenv TRACE \"$TRACE {name}\"\n"));
        }
        place.layer("40-other.txt", "exit 1\n");
        assert_eq!(stdout(&place.output()), "rc 10-one 20-two 30-three\n", "{shell}");
        place.set("SPFS_DEBUG", "1");
        let output = place.output();
        assert_eq!(stdout(&output), "rc 10-one 20-two 30-three\n", "{shell}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(error.lines().filter(|line| line.starts_with("source ")).count(), 3, "{shell}");
    }
}

#[test]
fn a_layers_script_cannot_change_the_command() {
    let Some(place) = Place::new("bash", &["echo", "one", "two"]) else { return };
    place.layer("10.sh", "set -- changed; shift 9; unset file folder; cd /\nreturn 3\n");
    place.layer("20.sh", "declare -x LATER=yes\n");
    assert_eq!(stdout(&place.output()), "one two\n");
    let Some(place) = Place::new("tcsh", &["echo", "one", "two"]) else { return };
    place.layer("10.csh", "set argv = ( changed )\n");
    assert_eq!(stdout(&place.output()), "one two\n");
}

#[test]
fn a_start_file_of_another_kind_of_session_harms_nothing() {
    let Some(place) = Place::new("bash", &["echo", "command"]) else { return };
    // What distributions begin theirs with.
    place.home(".bashrc", "case $- in *i*) ;; *) return;; esac\nexit 9\n");
    assert_eq!(stdout(&place.output()), "command\n");
}

#[test]
fn status_and_signal_are_the_commands() {
    for shell in shells() {
        let Some(place) = Place::new(shell, &["sh", "-c", "exit 37"]) else { continue };
        assert_eq!(place.output().status.code(), Some(37), "{shell}");
        let Some(place) = Place::new(shell, &["sh", "-c", "kill -TERM $$"]) else { continue };
        assert_eq!(place.output().status.signal(), Some(15), "{shell}");
        let Some(place) = Place::new(shell, &["/nowhere/command"]) else { continue };
        let status = place.output().status.code();
        assert_eq!(status, Some(if shell == "tcsh" { 1 } else { 127 }), "{shell}");
    }
}

#[test]
fn the_command_has_the_pid_of_the_shell() {
    for shell in shells() {
        let Some(place) = Place::new(shell, &["sh", "-c", "echo $$"]) else { continue };
        let program = place.startup.prepare("").unwrap();
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut said = String::new();
        std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        child.wait().unwrap();
        assert_eq!(said.trim(), pid.to_string(), "{shell}");
    }
}

#[test]
fn nothing_of_the_scripts_is_left() {
    for shell in shells() {
        let Some(place) = Place::new(shell, &["env"]) else { continue };
        place.layer("10.sh", "");
        place.layer("10.csh", "");
        assert!(!stdout(&place.output()).contains("__spfs"), "{shell}");
        let Some(mut place) = Place::new(shell, &[]) else { continue };
        place.startup.terminal = true;
        place.layer("10.sh", "");
        let output = place.output_with(&["-i"], "set; env; exit\n");
        if shell != "fish" {
            assert!(!stdout(&output).contains("__spfs"), "{shell}: {}", stdout(&output));
            assert!(!stdout(&output).contains("SPFS_ORIGINAL"), "{shell}");
        }
    }
}

/// The option makes a shell take a pipe for a terminal.
#[test]
fn an_interactive_shell_reads_the_users_start_file_greets_and_has_the_environment() {
    for shell in ["bash", "tcsh", "zsh"] {
        let Some(mut place) = Place::new(shell, &[]) else { continue };
        place.startup.terminal = true;
        for name in [".bashrc", ".zshrc"] {
            place.home(name, "export OWN=start OVERRIDE=lost\nalias own_alias='echo aliased'\n");
        }
        place.home(
            ".tcshrc",
            "setenv OWN start\nsetenv OVERRIDE lost\nalias own_alias echo aliased\n",
        );
        place.home(".zshenv", "export FROM_ZSHENV=yes\n");
        place.layer("10.sh", "export LAYER=\"$OWN\" LAYER_WORDS='a b'\n");
        place.layer("10.csh", "setenv LAYER \"$OWN\"\n");
        let input = "echo $LAYER,$SPFS_RUNTIME,$HOME\nown_alias\nprintenv OVERRIDE\nexit\n";
        let output = place.output_with(&["-i"], input);
        let (out, error) = (stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned());
        let home = place.dir.path().join("home");
        let expected = format!("start,test-runtime,{}\n", home.display());
        assert!(out.contains(&expected), "{shell}: {out}\n{error}");
        assert!(out.contains("aliased") && out.contains(NASTY), "{shell}: {out}\n{error}");
        assert!(error.contains(MESSAGE), "{shell}: {error}");
    }
}

#[test]
fn fish_reads_its_own_start_files_and_then_has_what_the_runtime_sets() {
    let Some(mut place) = Place::new("fish", &[]) else { return };
    place.startup.terminal = true;
    let config = place.dir.path().join("home/.config/fish");
    fs::create_dir_all(&config).unwrap();
    let own = "set -gx OWN start\nset -gx OVERRIDE lost\nset -gx SPFS_RUNTIME lost\n\
               function own_function; echo mine; end\n";
    fs::write(config.join("config.fish"), own).unwrap();
    place.layer("10.sh", "export LAYER=one\n");
    place.layer(
        "20.fish",
        "set -gx FISH \"$OWN $LAYER\"\nfunction layer_function; echo layers; end\n",
    );
    let input = "echo $SPFS_RUNTIME,$FISH\nown_function\nlayer_function\nprintenv OVERRIDE\n\
                 set --names | string match '__spfs*'; true\n";
    let output = place.output_with(&[], input);
    assert_eq!(stdout(&output), format!("test-runtime,start one\nmine\nlayers\n{NASTY}\n"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.trim(), MESSAGE);
}

#[test]
fn zsh_keeps_the_users_own_folder_of_start_files() {
    let Some(mut place) = Place::new("zsh", &[]) else { return };
    place.startup.terminal = true;
    let input = "echo \"<${ZDOTDIR-unset}> $FROM\"\nexit\n";
    place.home(".zshrc", "FROM=home\n");
    assert!(stdout(&place.output_with(&["-i"], input)).contains("<unset> home"));
    let own = place.dir.path().join("zsh files");
    fs::create_dir(&own).unwrap();
    fs::write(own.join(".zshrc"), "FROM=own\n").unwrap();
    place.set("ZDOTDIR", own.to_str().unwrap());
    let expected = format!("<{}> own", own.display());
    let out = stdout(&place.output_with(&["-i"], input));
    assert!(out.contains(&expected), "{out}");
    // Many set it in the one start file that zsh reads before.
    place.startup.environment.remove(OsStr::new("ZDOTDIR"));
    place.home(".zshenv", &format!("ZDOTDIR='{}'\n", own.display()));
    let out = stdout(&place.output_with(&["-i"], input));
    assert!(out.contains(&expected), "{out}");
}

#[test]
fn the_users_greeting_is_used_and_an_empty_one_is_silent() {
    for (message, expected) in [("welcome to $HOME", "welcome to $HOME\n"), ("", "")] {
        for shell in shells() {
            let Some(mut place) = Place::new(shell, &[]) else { continue };
            place.startup.terminal = true;
            place.set("SPFS_SHELL_MESSAGE", message);
            let arguments: &[&str] = if shell == "fish" { &[] } else { &["-i"] };
            let output = place.output_with(arguments, "exit\n");
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(error.contains(expected), "{shell}: {error}");
            assert!(!error.contains(MESSAGE), "{shell}: {error}");
        }
    }
}

#[test]
fn a_shell_that_cannot_read_the_scripts_still_has_their_environment() {
    for shell in ["fish", "dash"] {
        let Some(mut place) = Place::new(shell, &[]) else { continue };
        place.layer("10.sh", "export LAYER=one\n");
        for terminal in [true, false] {
            place.startup.terminal = terminal;
            let output = place.output_with(&[], "echo $LAYER; echo $SPFS_RUNTIME\n");
            assert_eq!(stdout(&output), "one\ntest-runtime\n", "{shell}");
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(error.contains(MESSAGE), terminal, "{shell}: {error}");
        }
    }
}

#[test]
fn commands_from_a_pipe_run_in_the_users_shell() {
    for shell in shells() {
        let Some(place) = Place::new(shell, &[]) else { continue };
        place.layer("10.sh", "export LAYER=one\n");
        place.layer("10.csh", "setenv LAYER one\n");
        let output = place.output_with(&[], "echo $LAYER; echo $SPFS_RUNTIME\n");
        assert_eq!(stdout(&output), "one\ntest-runtime\n", "{shell}");
        assert!(output.stderr.is_empty(), "no greeting in a script");
    }
}

#[test]
fn without_a_shell_the_command_is_executed_by_itself() {
    let Some(place) = Place::new("bash", &["tool", "-x", "a b"]) else { return };
    let program = place.startup.directly(&place.startup.command);
    assert_eq!(program.program, "tool");
    assert_eq!(program.arguments, ["-x", "a b"]);
    assert!(program.environment.contains(&("SPFS_RUNTIME".into(), "test-runtime".into())));
    assert!(program.environment.contains(&("OVERRIDE".into(), NASTY.into())));
}

#[test]
fn scripts_belong_to_the_user_alone_and_to_one_process() {
    use std::os::unix::fs::MetadataExt;
    let Some(place) = Place::new("bash", &["true"]) else { return };
    place.startup.prepare("-1").unwrap();
    place.startup.prepare("-2").unwrap();
    for name in ["startup-1.sh", "startup-2.sh"] {
        let mode = fs::metadata(place.startup.folder.join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let Some(mut place) = Place::new("bash", &["true"]) else { return };
    place.startup.folder = place.dir.path().join("missing");
    let error = place.startup.prepare("").unwrap_err();
    assert!(error.to_string().contains("missing/startup.sh"), "{error}");
}

#[test]
fn a_program_that_cannot_be_executed_is_named() {
    let program = Program {
        program: "/nowhere/program".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
    };
    let Err(error) = program.execute();
    assert_eq!(error.to_string(), "cannot execute /nowhere/program");
}
