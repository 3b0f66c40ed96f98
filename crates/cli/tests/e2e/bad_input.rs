//! What is said, and with which status, when something is wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{User, World, as_each_user, is_root};

/// Where the store `kind` keeps this digest.
fn stored(world: &World, kind: &str, digest: &str) -> PathBuf {
    world.storage().join(kind).join(&digest[..2]).join(&digest[2..])
}

/// Every file below the tags folder: what a failed command must not have added to.
fn tag_files(world: &World) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&world.storage().join("tags"), &mut found);
    found
}

#[test]
fn an_unknown_reference_is_named_by_every_command() {
    let world = World::new();
    for args in [
        &["run", "nope/here", "--", "true"][..],
        &["shell", "nope/here"],
        &["info", "nope/here"],
        &["ls", "nope/here"],
        &["read", "nope/here"],
        &["tag", "nope/here", "x"],
        &["log", "nope/here"],
        &["diff", "nope/here", "nope/here"],
        &["commit", "--ref", "nope/here"],
        &["untag", "nope/here", "--all"],
        &["untag", "nope/here"],
        &["check", "nope/here"],
    ] {
        world.spfs(args).fails_with(1, &["unknown reference nope/here", "hint: "]);
    }
    let file = "/no/such/file.spfs.yaml";
    world.spfs(["run", file, "--", "true"]).fails_with(1, &[file, "No such file"]);
    assert_eq!(world.runtimes(), Vec::<String>::new(), "a failed start leaves no runtime");
    assert_eq!(tag_files(&world), Vec::<PathBuf>::new());
}

#[test]
fn what_is_no_reference_is_told_with_the_reason() {
    let world = World::new();
    for command in ["info tag~x", "read tag~x", "ls tag~x", "check tag~x", "tag tag~x t"] {
        let words = ["\"tag~x\" is not a reference", "a version is a number", "hint: "];
        world.spfs(command.split(' ')).fails_with(1, &words);
    }
}

#[test]
fn an_ambiguous_digest_is_refused() {
    let world = World::new();
    let mut seen = std::collections::BTreeMap::new();
    // There are 32 first characters, so two of 33 digests share one.
    for n in 0..33 {
        let out = world.spfs(["write"]).stdin(format!("{n}").as_bytes()).succeeds().stderr;
        let digest = out.split("digest=").nth(1).unwrap().trim().to_owned();
        let first = digest[..1].to_owned();
        if let Some(other) = seen.insert(first.clone(), digest.clone()) {
            for command in ["info", "read"] {
                world.spfs([command, &first]).fails_with(1, &["ambiguous", &first]);
            }
            assert_eq!(world.digest_of(&digest[..12]), digest);
            assert_eq!(world.digest_of(&other[..12]), other);
            return;
        }
    }
    panic!("33 digests with 33 different first characters");
}

#[test]
fn a_bad_tag_stops_a_command_before_it_stores_anything() {
    let world = World::new();
    world.directory("d", &[("f", "x")]);
    for bad in ["bad tag", "a/b~", "a~-1", "a~1.5", "illegal#ns.0", "", "größe", "../up"] {
        world.spfs(["commit", "--path", "d", "-t", bad]).fails_with(2, &["--tag"]);
        world.spfs(["write", "-t", bad]).stdin(b"x").fails_with(2, &["--tag"]);
    }
    assert!(!world.storage().join("objects").exists() || tag_files(&world).is_empty());
}

#[test]
fn a_path_that_cannot_be_committed_is_named() {
    let world = World::new();
    let missing = world.path("work/missing");
    let missing = missing.to_str().unwrap();
    world.spfs(["commit", "--path", missing]).fails_with(1, &[missing, "o such file"]);
    let file = world.directory("d", &[("f", "x")]).join("f");
    let file = file.to_str().unwrap();
    world.spfs(["commit", "--path", file]).fails_with(1, &[file, "not a directory"]);
}

#[test]
fn what_the_format_cannot_hold_is_named_and_nothing_is_stored() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let dir = world.directory("d", &[("good", "x")]);
    let socket = |dir: &Path| {
        drop(std::os::unix::net::UnixListener::bind(dir.join("wild")).unwrap());
    };
    let name = |dir: &Path| {
        fs::write(dir.join(std::ffi::OsStr::from_bytes(b"n\xffme")), "x").unwrap();
    };
    let link = |dir: &Path| {
        let target = std::ffi::OsStr::from_bytes(b"t\xffrget");
        std::os::unix::fs::symlink(target, dir.join("link")).unwrap();
    };
    let cases: [fn(&Path); 3] = [socket, name, link];
    for make in cases {
        make(&dir);
        let outcome = world.spfs(["commit", "--path", "d", "-t", "t"]).fails_with(1, &["work/d/"]);
        assert!(tag_files(&world).is_empty(), "{outcome:#?}");
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("good") {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

#[test]
fn an_empty_commit_is_refused_unless_allowed() {
    let world = World::new();
    world.directory("empty", &[]);
    world.spfs(["commit", "--path", "empty"]).fails_with(1, &["othing to commit"]);
    world.spfs(["commit", "--path", "empty", "--allow-empty", "-t", "e"]).succeeds();
    assert_eq!(world.spfs(["ls", "e"]).succeeds().stdout, "");
}

#[test]
fn commands_of_a_runtime_say_so_outside_of_one() {
    let world = World::new();
    for args in [
        &["commit", "layer"][..],
        &["commit", "platform"],
        &["edit"],
        &["edit", "--off"],
        &["reset"],
        &["diff"],
        &["info"],
    ] {
        world.spfs(args).fails_with(1, &["no active runtime", "hint: "]);
    }
    // A variable that survived its runtime is told apart from none at all.
    world.spfs(["info", "/spfs/f"]).fails_with(1, &["of a path below /spfs"]);
    world.spfs(["info"]).env("SPFS_RUNTIME", "gone").fails_with(1, &["gone"]);
}

#[test]
fn command_lines_that_make_no_sense_end_with_2() {
    let world = World::new();
    for args in [
        &["run"][..],
        &["commit", "--keep-editing", "--path", "x"],
        &["tag", "x"],
        &["untag", "x", "--all", "--latest"],
        &["commit", "--no-such-flag"],
        &["runtime"],
        &["run", "--rerun", "x", "y", "--", "true"],
    ] {
        world.spfs(args).fails_with(2, &["Usage"]);
    }
}

#[test]
fn values_of_variables_are_refused_with_the_name_of_the_variable() {
    let world = World::new();
    for (name, value, command) in [
        ("SPFS_KEEP_RUNTIME", "maybe", "run - -- true"),
        ("SPFS_KEEP_RUNTIME", "maybe", "edit"),
        ("SPFS_LOG_TIMESTAMP", "maybe", "tags"),
        ("SPFS_LOG_FILE", "", "tags"),
        ("SPFS_RUNTIME", "a/b", "runtime info"),
        ("SPFS_SYNC_MAX_CONCURRENT_MANIFESTS", "many", "pull x"),
    ] {
        let refused = world.spfs(command.split(' ')).env(name, value).fails_with(2, &[name, value]);
        let typed = refused.stderr.lines().next().unwrap();
        assert!(!typed.contains(name), "what was typed is not blamed on a variable: {typed}");
    }
    // What is typed counts for more.
    let typed = world.spfs(["pull", "x", "--max-concurrent-manifests", "few"]);
    let typed = typed.env("SPFS_SYNC_MAX_CONCURRENT_MANIFESTS", "many").fails_with(2, &["few"]);
    assert!(!typed.stderr.contains("SPFS_"), "{typed:?}");
    world.spfs(["edit"]).env("SPFS_RUNTIME", "a/b").fails_with(1, &["SPFS_RUNTIME", "a/b"]);
    let log = world.spfs(["tags"]).env("SPFS_LOG", "foo=bar=baz").succeeds().stderr;
    assert!(log.starts_with(" WARN the variable SPFS_LOG=\"foo=bar=baz\" is ignored: "), "{log}");
}

#[test]
fn variables_that_stand_for_flags_are_on_or_off_in_many_words() {
    let world = World::new();
    let starts_with_time = |value: &str| {
        let told = world.spfs(["write"]).env("SPFS_LOG_TIMESTAMP", value).succeeds().stderr;
        told.starts_with(|first: char| first.is_ascii_digit())
    };
    for value in ["1", "true", "yes", "on", "TRUE"] {
        assert!(starts_with_time(value), "{value:?}");
    }
    for value in ["0", "false", "no", "off", "No", ""] {
        assert!(!starts_with_time(value), "{value:?}");
    }
}

#[test]
fn a_truncated_object_is_reported_with_its_digest() {
    let world = World::new();
    world.layer("t", &[("f", "content")]);
    let digest = world.digest_of("t");
    let object = stored(&world, "objects", &digest);
    let bytes = fs::read(&object).unwrap();
    for length in [0, 5, 17, bytes.len() - 1] {
        fs::write(&object, &bytes[..length]).unwrap();
        for args in [&["info", "t"][..], &["ls", "t"], &["run", "t", "--", "true"]] {
            world.spfs(args).fails_with(1, &[&digest]);
        }
    }
    assert_eq!(world.runtimes(), Vec::<String>::new());
}

#[test]
fn a_missing_object_is_reported_with_its_digest() {
    let world = World::new();
    world.layer("t", &[("f", "content")]);
    let digest = world.digest_of("t");
    fs::remove_file(stored(&world, "objects", &digest)).unwrap();
    for args in [&["info", "t"][..], &["ls", "t"], &["run", "t", "--", "true"]] {
        world.spfs(args).fails_with(1, &[&digest]);
    }
}

#[test]
fn a_missing_payload_harms_only_its_file() {
    as_each_user(|world| {
        world.layer("t", &[("gone", "content"), ("there", "other")]);
        let digest = world.spfs(["ls", "--json", "t"]).succeeds().stdout;
        let listed: serde_json::Value = serde_json::from_str(&digest).unwrap();
        let digest = listed[0]["digest"].as_str().unwrap().to_owned();
        fs::remove_file(stored(world, "payloads", &digest)).unwrap();
        world.spfs(["read", "t", "gone"]).fails_with(1, &[&digest]);
        let script = "ls /spfs; cat /spfs/there; cat /spfs/gone";
        let outcome = world.spfs(["run", "t", "--", "sh", "-c", script]).run();
        assert_eq!(outcome.code, 1, "{outcome:#?}");
        assert_eq!(outcome.stdout, "gone\nthere\nother");
        assert!(outcome.stderr.contains("/spfs/gone"), "{outcome:#?}");
    });
}

#[test]
fn storage_that_cannot_be_written_is_named() {
    if is_root() {
        let world = World::of(User::Nobody);
        fs::create_dir(world.storage()).unwrap();
        let storage = world.storage();
        world.spfs(["write"]).stdin(b"x").fails_with(1, &[storage.to_str().unwrap(), "denied"]);
    }
    let world = World::new();
    // Nobody, not even root, makes directories there.
    let write = world.spfs(["write"]).stdin(b"x").env("SPFS_STORAGE_ROOT", "/proc/spfs");
    write.fails_with(1, &["/proc/spfs"]);
    let file = world.directory("d", &[("f", "x")]).join("f");
    let write = world.spfs(["write"]).stdin(b"x").env("SPFS_STORAGE_ROOT", &file);
    write.fails_with(1, &[file.to_str().unwrap()]);
}

#[test]
fn a_disk_that_fills_up_during_a_commit_leaves_no_tag_and_a_usable_repository() {
    if !is_root() {
        eprintln!("SKIPPED: only root can mount a small disk");
        return;
    }
    let world = World::new();
    let dir = world.directory("big", &[]);
    for n in 0..64 {
        fs::write(dir.join(format!("f{n}")), vec![n; 64 * 1024]).unwrap();
    }
    world.directory("small", &[("f", "x")]);
    fs::create_dir(world.storage()).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m small {storage} && {{
            {spfs} commit --path big -t big; echo big=$?
            {spfs} tags
            rm -rf {storage}/payloads/work/*
            {spfs} info big; echo info=$?
        }}",
        storage = world.storage().display(),
        spfs = world.program().display(),
    );
    let outcome = world.spfs(["--mount", "sh", "-c", &script]).program("unshare").run();
    assert!(outcome.stdout.contains("big=1\ninfo=1\n"), "{outcome:#?}");
    assert!(outcome.stderr.contains("No space left"), "{outcome:#?}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let world = World::new();
    let file = world.path("config/spfs/spfs.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "storage = [").unwrap();
    world.spfs(["tags"]).fails_with(1, &["spfs.toml", "TOML"]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    world.spfs(["tags"]).fails_with(1, &["spfs.toml"]);
}

#[test]
fn keys_of_spec_files_that_mean_nothing_are_named_and_do_no_harm() {
    let world = World::new();
    world.layer("base", &[("f", "x")]);
    let file = world.path("work/env.spfs.yaml");
    let told = |text: &str| {
        fs::write(&file, text).unwrap();
        world.spfs(["ls"]).arg(&file).run()
    };
    let run = told("api: spfs/v0/runspec\nlayers: [base]\nlayer: [other]\n");
    assert_eq!((run.code, run.stdout.as_str()), (0, "f\n"));
    let expected = format!(
        " WARN the key \"layer\" in the spec file {} is not known: did you mean \"layers\"?\n",
        fs::canonicalize(&file).unwrap().display()
    );
    assert_eq!(run.stderr, expected);
    // A live layer can be listed nowhere; its keys are told all the same.
    let live = told("contens: []\ncontents: [{src: ., dest: d, mode: 1}]\napi: v0/layer\n");
    assert!(live.stderr.contains("is a live layer"), "{live:?}");
    for key in ["\"contens\" in", "did you mean \"contents\"?", "\"mode\" in"] {
        assert!(live.stderr.contains(key), "{key}: {live:?}");
    }
    assert_eq!(live.stderr.matches(" WARN ").count(), 2, "{live:?}");
    assert!(!told("api: v0/layer\ncontents: [{bind: ., dest: d}]\n").stderr.contains("WARN"));
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let world = World::new();
    fs::set_permissions(world.path("work"), fs::Permissions::from_mode(0o755)).unwrap();
    world.spfs(["tags", "--log-file", "/proc/no/log"]).fails_with(1, &["/proc/no/log"]);
}

#[test]
fn names_in_messages_do_not_control_the_terminal() {
    let world = World::new();
    world.layer("base", &[("f", "x")]);
    let told = world.spfs(["ls", "base", "no\u{1b}[31mred"]).fails_with(1, &["u{1b}[31mred"]);
    assert!(!told.stderr.contains('\u{1b}'), "{told:?}");
    // What a script reads is as it is.
    world.layer("odd", &[("a\u{1b}b", "x")]);
    assert_eq!(world.spfs(["ls", "odd"]).succeeds().stdout, "a\u{1b}b\n");
    // script(1) runs it on a terminal of its own.
    let command = format!("{} ls odd", world.program().display());
    let shown = world.spfs(["-qec", &command, "/dev/null"]).program("script").succeeds().stdout;
    assert_eq!(shown.trim_end(), "a\\u{1b}b");
}
