//! `spfs run` and `spfs shell`: what the command sees and how it ends.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{LIST, World, as_each_user, assert_same_tree, list, mounts_work, wait_for};

const PACKAGE: &[(&str, &str)] = &[
    ("bin/tool", "#!/bin/sh\necho tool\n"),
    ("lib/data.txt", "data\n"),
    ("lib/link", "-> data.txt"),
    ("empty/", ""),
    ("ünïcode ☃", "x"),
];

#[test]
fn a_committed_directory_is_seen_exactly_as_it_was() {
    as_each_user(|world| {
        let dir = world.directory("package", PACKAGE);
        world.spfs(["commit", "-t", "my/package", "--path"]).arg(&dir).succeeds();
        let wanted = list(&dir);
        let shell = ["run", "my/package", "--", "sh", "-c", LIST, "sh", "/spfs"];
        assert_same_tree(&wanted, &world.spfs(shell).succeeds().stdout);
    });
}

#[test]
fn a_runtime_is_read_only_unless_asked() {
    as_each_user(|world| {
        world.layer("my/package", PACKAGE);
        for command in [
            "touch /spfs/x",
            "rm /spfs/lib/data.txt",
            "echo x >> /spfs/lib/data.txt",
            "chmod 700 /spfs/bin",
        ] {
            let outcome = world.spfs(["run", "my/package", "--", "sh", "-c", command]).run();
            assert_ne!(outcome.code, 0);
            assert!(outcome.stderr.contains("Read-only file system"), "{command}: {outcome:#?}");
        }
        let outcome = world.spfs(["run", "--no-edit", "-", "--", "touch", "/spfs/x"]).run();
        assert!(outcome.stderr.contains("Read-only file system"), "{outcome:#?}");
    });
}

#[test]
fn an_empty_runtime_and_one_with_edit_can_be_written() {
    as_each_user(|world| {
        world.layer("my/package", PACKAGE);
        for reference in ["-", ""] {
            let script = "echo hello > /spfs/x && cat /spfs/x";
            let outcome = world.spfs(["run", reference, "--", "sh", "-c", script]).succeeds();
            assert_eq!(outcome.stdout, "hello\n");
        }
        let script = "echo more >> /spfs/lib/data.txt && cat /spfs/lib/data.txt";
        for flags in [&["--edit"][..], &["-e"], &["--no-edit", "--edit"]] {
            let run =
                world.spfs(["run"]).args(flags).args(["my/package", "--", "sh", "-c", script]);
            assert_eq!(run.succeeds().stdout, "data\nmore\n");
        }
        assert_eq!(world.spfs(["read", "my/package", "lib/data.txt"]).succeeds().stdout, "data\n");
    });
}

#[test]
fn programs_in_spfs_can_be_executed() {
    as_each_user(|world| {
        let dir = world.directory("package", PACKAGE);
        let tool = dir.join("bin/tool");
        std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        world.spfs(["commit", "-t", "p", "--path"]).arg(&dir).succeeds();
        let run = world.spfs(["run", "p", "--", "/spfs/bin/tool"]);
        assert_eq!(run.succeeds().stdout, "tool\n");
    });
}

#[test]
fn layers_are_stacked_in_the_order_given() {
    as_each_user(|world| {
        world.layer("a", &[("f", "a"), ("only-a", "a"), ("d/one", "1")]);
        world.layer("b", &[("f", "b"), ("only-b", "b"), ("d/two", "2")]);
        world.layer("c", &[("f", "c"), ("only-c", "c")]);
        let show = |stack: &str| {
            let script = "cat /spfs/f; cd /spfs; echo; find . -type f | sort | tr '\\n' ' '";
            world.spfs(["run", stack, "--", "sh", "-c", script]).succeeds().stdout
        };
        assert_eq!(show("a+b+c"), "c\n./d/one ./d/two ./f ./only-a ./only-b ./only-c ");
        assert_eq!(show("c+b+a").lines().next(), Some("a"));
        let digest = world.digest_of("b");
        assert_eq!(show(&format!("c+{digest}")).lines().next(), Some("b"));
        assert_eq!(show(&format!("c+{}", &digest[..8])).lines().next(), Some("b"));
        assert_eq!(show("a+b+a").lines().next(), Some("a"), "a duplicate moves to the top");
        world.spfs(["commit", "--ref", "a+b", "-t", "ab"]).succeeds();
        assert_eq!(show("c+ab").lines().next(), Some("b"));
    });
}

#[test]
fn a_run_spec_file_lists_layers() {
    as_each_user(|world| {
        world.layer("a", &[("f", "a")]);
        world.layer("b", &[("f", "b")]);
        let spec = world.path("work/env.spfs.yaml");
        std::fs::write(&spec, "api: spfs/v0/runspec\nlayers:\n  - a\n  - b\n").unwrap();
        let run = world.spfs(["run"]).arg(&spec).args(["--", "cat", "/spfs/f"]);
        assert_eq!(run.succeeds().stdout, "b");
        let reference = format!("{}+a", spec.display());
        assert_eq!(world.spfs(["run", &reference, "--", "cat", "/spfs/f"]).succeeds().stdout, "a");
    });
}

#[test]
fn the_status_of_the_command_is_the_status_of_run() {
    as_each_user(|world| {
        for code in [0, 1, 42, 255] {
            let run = world.spfs(["run", "-", "--", "sh", "-c", &format!("exit {code}")]);
            assert_eq!(run.run().code, code);
        }
        for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
            let run = world.spfs(["run", "-", "--", "sh", "-c", &format!("kill -{signal} $$")]);
            assert_eq!(run.run().code, code, "{signal}");
        }
        let missing = world.spfs(["run", "-", "--", "no-such-program-here"]).run();
        assert_eq!(missing.code, 127);
        assert!(missing.stderr.contains("no-such-program-here"), "{missing:#?}");
    });
}

#[test]
fn signals_reach_the_command_and_its_end_reaches_the_caller() {
    as_each_user(|world| {
        // The command's pid is the pid of `spfs run`: no process in between.
        let script = "trap 'echo got; exit 5' TERM; echo $$; while :; do sleep 0.05; done";
        let mut child =
            world.spfs(["run", "-", "--", "sh", "-c", script]).spawn(Stdio::null(), Stdio::piped());
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        assert_eq!(line.trim().parse::<u32>().unwrap(), child.id());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut status = None;
        wait_for("the command to end", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(5));
    });
}

#[test]
fn standard_input_reaches_the_command() {
    as_each_user(|world| {
        let run = world.spfs(["run", "-", "--", "cat"]).stdin(b"through");
        assert_eq!(run.succeeds().stdout, "through");
    });
}

#[test]
fn pipes_of_the_caller_close_when_the_command_ends() {
    as_each_user(|world| {
        // The harness reads both pipes to their end: a daemon that kept them would hang it.
        let started = Instant::now();
        world.spfs(["run", "-", "--", "true"]).succeeds();
        assert!(started.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn nothing_of_ours_is_on_the_output_of_the_command() {
    as_each_user(|world| {
        world.layer("a", &[("f", "a")]);
        let outcome = world.spfs(["run", "a", "--", "echo", "only this"]).succeeds();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("only this\n", ""));
    });
}

#[test]
fn the_environment_of_the_caller_and_of_the_runtime_reach_the_command() {
    as_each_user(|world| {
        let script = "echo \"$TMPDIR|$SPFS_RUNTIME|$MINE\"; pwd; spfs runtime list -q";
        let run = world
            .spfs(["run", "--runtime-name", "named", "-", "--", "sh", "-c", script])
            .env("TMPDIR", "/tmp/other dir")
            .env("MINE", "a \"b\" $c `d`");
        let out = run.succeeds().stdout;
        let work = world.path("work");
        let wanted = format!("/tmp/other dir|named|a \"b\" $c `d`\n{}\nnamed\n", work.display());
        assert_eq!(out, wanted);
    });
}

#[test]
fn startup_scripts_of_the_layers_are_sourced_in_order() {
    as_each_user(|world| {
        world.layer(
            "a",
            &[
                ("etc/spfs/startup.d/10-first.sh", "export SEEN=\"$SEEN first\"\n"),
                ("etc/spfs/startup.d/20-second.sh", "export SEEN=\"$SEEN second\"\n"),
                ("etc/spfs/startup.d/30-not-me.csh", "setenv SEEN wrong\n"),
                ("etc/spfs/startup.d/40-nor-me.txt", "export SEEN=wrong\n"),
            ],
        );
        std::fs::write(world.path("home/.bashrc"), "export SEEN=rc\n").unwrap();
        let run = world.spfs(["run", "a", "--", "printenv", "SEEN"]);
        assert_eq!(run.succeeds().stdout, "rc first second\n");
    });
}

#[test]
fn arguments_reach_the_command_unchanged() {
    as_each_user(|world| {
        let arguments = ["a b", "*", "$HOME", "\"quoted\"", "", "--", "-x", "new\nline"];
        let run = world
            .spfs(["run", "-", "--", "sh", "-c", "for a; do printf '[%s]' \"$a\"; done", "sh"])
            .args(arguments);
        let wanted: String = arguments.iter().map(|a| format!("[{a}]")).collect();
        assert_eq!(run.succeeds().stdout, wanted);
    });
}

#[test]
fn a_shell_reads_its_commands_and_greets_on_standard_error() {
    as_each_user(|world| {
        world.layer("a", &[("f", "content\n")]);
        let outcome = world.spfs(["shell", "a"]).stdin(b"cat /spfs/f\nexit 3\n").run();
        assert_eq!(outcome.code, 3, "{outcome:#?}");
        assert!(outcome.stdout.contains("content\n"), "{outcome:#?}");
        let outcome = world.spfs(["shell", "--edit", "a"]).stdin(b"touch /spfs/new && ls /spfs\n");
        assert!(outcome.run().stdout.contains("f\nnew\n"));
    });
}

#[test]
fn a_runtime_inside_a_runtime_shows_its_own_files() {
    as_each_user(|world| {
        world.layer("outer", &[("f", "outer\n")]);
        world.layer("inner", &[("f", "inner\n")]);
        let script = "cat /spfs/f; spfs run inner -- cat /spfs/f; cat /spfs/f; \
                      spfs run inner -- sh -c 'spfs run outer -- cat /spfs/f; cat /spfs/f'";
        let out = world.spfs(["run", "outer", "--", "sh", "-c", script]).succeeds().stdout;
        assert_eq!(out, "outer\ninner\nouter\nouter\ninner\n");
        world.settle();
        assert_eq!(world.runtimes(), Vec::<String>::new());
    });
}

#[test]
fn an_inner_runtime_may_outlive_the_outer_one() {
    as_each_user(|world| {
        world.layer("inner", &[("f", "inner\n")]);
        let fifo = world.path("work/fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        world.give(&fifo);
        let script = "spfs run inner -- sh -c 'read x < fifo; cat /spfs/f > result; : > done' \
                      </dev/null >/dev/null 2>&1 & sleep 0.2";
        world.spfs(["run", "-", "--", "sh", "-c", script]).succeeds();
        writeln!(std::fs::File::options().write(true).open(&fifo).unwrap(), "go").unwrap();
        wait_for("the inner runtime to finish", || world.path("work/done").exists());
        assert_eq!(std::fs::read_to_string(world.path("work/result")).unwrap(), "inner\n");
    });
}

#[test]
fn backends_that_cannot_do_it_are_refused_with_the_one_that_can() {
    if !mounts_work() {
        return;
    }
    let world = World::new();
    world.layer("a", &[("f", "content")]);
    world
        .spfs(["run", "--backend", "FuseOnly", "--edit", "a", "--", "true"])
        .fails_with(1, &["FuseOnly", "FuseWithScratch"]);
    world
        .spfs(["run", "--backend", "OverlayFsWithRenders", "a", "--", "true"])
        .fails_with(1, &["OverlayFsWithRenders", "FuseWithScratch"]);
    world
        .spfs(["run", "--backend", "Nonsense", "a", "--", "true"])
        .fails_with(1, &["Nonsense", "FuseWithScratch"]);
    let read_only = world.spfs(["run", "--backend", "FuseOnly", "a", "--", "cat", "/spfs/f"]);
    assert_eq!(read_only.succeeds().stdout, "content");
    wait_for("the runtime to end", || world.runtimes().is_empty());
}

#[test]
fn an_overlay_backend_from_the_configuration_is_served_with_one_warning() {
    as_each_user(|world| {
        world.layer("a", &[("f", "content")]);
        let run =
            world.spfs(["run", "--edit", "a", "--", "sh", "-c", "echo x > /spfs/f; cat /spfs/f"]);
        let outcome = run.env("SPFS_FILESYSTEM_BACKEND", "OverlayFsWithRenders").succeeds();
        assert_eq!(outcome.stdout, "x\n");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
        assert!(outcome.stderr.contains("WARN") && outcome.stderr.contains("FuseWithScratch"));
    });
}

#[test]
fn a_name_in_use_is_refused() {
    as_each_user(|world| {
        let mut session = world.session(["--runtime-name", "named", "-"]);
        world
            .spfs(["run", "--runtime-name", "named", "-", "--", "true"])
            .fails_with(1, &["named", "exists"]);
        session.ok("touch /spfs/still-works");
        session.end();
        world.spfs(["run", "--runtime-name", "../up", "-", "--", "true"]).fails_with(2, &["../up"]);
    });
}

#[test]
fn annotations_are_layers_of_their_own() {
    as_each_user(|world| {
        world.layer("base", &[("f", "x")]);
        let file = world.path("work/notes.yaml");
        std::fs::write(&file, "from: file\nshot: '010'\n").unwrap();
        let long = "x".repeat(20_000);
        let script = "spfs info --get shot --get who --get long --get from | cut -c 1-20; \
                      spfs commit platform -t suite --allow-empty 2>/dev/null; spfs info --get-all";
        let run = world.spfs(["run", "--annotation-file"]).arg(&file);
        let run = run.args(["--annotation", "who:ada=1", "--annotation", &format!("long={long}")]);
        let run = run.args(["--annotation", r#"{"shot": "020", "take": 3}"#]);
        let run = run.args(["--edit", "base", "--", "sh", "-c", script]);
        let out = run.succeeds().stdout;
        let (first, rest) = out.split_at(out.find("xxxx").unwrap());
        assert_eq!(first, "020\n\n", "{out:.200}");
        assert!(rest.contains("\nfile\n"), "{out:.200}");
        // They are in platforms, too; the key of 'who:ada=1' is as upstream reads it.
        let all = world.spfs(["info", "--get-all", "suite"]).succeeds().stdout;
        assert!(all.contains("\"who:ada\": \"1\"\n"), "{all:.200}");
        assert!(all.contains("shot: \"020\"\n") && all.contains("take: \"3\"\n"), "{all:.200}");
        let run = world.spfs(["run", "--annotation", "nothing", "base", "--", "true"]);
        run.fails_with(1, &["nothing is no annotation", "KEY:VALUE"]);
        let run = world.spfs(["run", "--annotation-file", "none.yaml", "base", "--", "true"]);
        run.fails_with(1, &["none.yaml"]);
        world.settle();
        assert!(world.runtimes().is_empty());
    });
}
