//! Several repositories: push, pull, reading through, check and clean.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use crate::harness::{World, as_each_user, wait_for};

/// Another repository, known as `origin`.
fn origin(world: &World) -> String {
    let shared = world.path("work/shared");
    world.spfs(["init", "repo"]).arg(&shared).succeeds();
    format!("file:{}", shared.display())
}

fn stored(root: PathBuf, kind: &str, digest: &str) -> PathBuf {
    root.join(kind).join(&digest[..2]).join(&digest[2..])
}

/// The payload of the only file of a layer.
fn payload_of(world: &World, tag: &str) -> String {
    let listed = world.spfs(["ls", "--json", tag]).succeeds().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    listed[0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_pushed_can_be_pulled_elsewhere() {
    let world = World::new();
    let origin = origin(&world);
    world.layer("tool", &[("f", "one\n")]);
    let push =
        |args: &[&str]| world.spfs(["push"]).args(args).env("SPFS_REMOTE_origin_ADDRESS", &origin);
    let planned = push(&["--dry-run", "tool"]).succeeds().stderr;
    assert!(
        planned.contains("would be synced") && planned.contains("1 tags (0 skipped)"),
        "{planned}"
    );
    assert_eq!(world.spfs(["tags", "-r", &origin]).succeeds().stdout, "");
    let told = push(&["tool"]).succeeds().stderr;
    assert!(told.contains(" INFO synced:\n\t1 tags (0 skipped)\n"), "{told}");
    assert!(told.contains("payloads (0 skipped) (4.0 B)"), "{told}");
    let again = push(&["tool", "--json"]).succeeds().stdout;
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["tags"], &again["objects"]), (&0.into(), &0.into()), "{again}");

    let other = World::new();
    let pull =
        |args: &[&str]| other.spfs(["pull"]).args(args).env("SPFS_REMOTE_origin_ADDRESS", &origin);
    other.spfs(["pull", "tool"]).fails_with(1, &["no remote is configured", "--from"]);
    pull(&["nope"]).fails_with(1, &["nope"]);
    pull(&["tool"]).succeeds();
    assert_eq!(other.spfs(["read", "tool", "f"]).succeeds().stdout, "one\n");
    assert_eq!(other.digest_of("tool"), world.digest_of("tool"));
}

#[test]
fn a_push_that_was_killed_is_done_by_the_next_one() {
    const FILES: usize = 2000;
    let world = World::new();
    let origin = origin(&world);
    let contents: Vec<(String, String)> =
        (0..FILES).map(|n| (format!("{}/{n}", n % 40), format!("content {n}"))).collect();
    let files: Vec<(&str, &str)> =
        contents.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    world.layer("tool", &files);
    let work = world.path("work/shared/payloads/work");
    let push = || world.spfs(["push", "tool", "--to", &origin]);
    let mut killed = push().spawn(Stdio::null(), Stdio::null());
    wait_for("the push to copy files", || {
        let work_files = fs::read_dir(&work).into_iter().flatten().flatten();
        work_files
            .filter(|entry| entry.path().is_dir())
            .any(|entry| fs::read_dir(entry.path()).into_iter().flatten().count() > 0)
            || killed.try_wait().unwrap().is_some()
    });
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().signal(), Some(9), "it was done before it was killed");
    assert_eq!(world.spfs(["tags", "-r", &origin]).succeeds().stdout, "");
    world.spfs(["check", "--payloads", "-r", &origin]).succeeds();
    let planned = push().args(["--dry-run", "--json"]).succeeds().stdout;
    let pushed = push().arg("--json").succeeds().stdout;
    assert_eq!(planned.replace("\"dry_run\": true", "\"dry_run\": false"), pushed);
    let checked = world.spfs(["check", "--payloads", "-r", &origin, "--json"]).succeeds().stdout;
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    assert_eq!((&checked["sound"], &checked["payloads"]), (&true.into(), &FILES.into()));
}

#[test]
fn several_programs_that_tag_in_one_folder_lose_nothing() {
    const EACH: usize = 12;
    let world = World::new();
    let origin = origin(&world);
    world.spfs(["write", "-t", "first", "-r", &origin]).stdin(b"0").succeeds();
    std::thread::scope(|scope| {
        for program in 0..4 {
            let (world, origin) = (&world, &origin);
            scope.spawn(move || {
                for number in 0..EACH {
                    let content = format!("{program} {number}");
                    let write = world.spfs(["write", "-t", "many/hands", "-r", origin]);
                    write.stdin(content.as_bytes()).succeeds();
                }
            });
        }
    });
    let log = world.spfs(["log", "many/hands", "-r", &origin]).succeeds().stdout;
    let digests: std::collections::BTreeSet<&str> =
        log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((log.lines().count(), digests.len()), (4 * EACH, 4 * EACH), "{log}");
    world.spfs(["check", "-r", &origin]).succeeds();
}

#[test]
fn a_tag_that_is_here_is_updated_by_pull_only_when_asked() {
    let world = World::new();
    let origin = origin(&world);
    world.spfs(["write", "-t", "t", "-r", &origin]).stdin(b"1").succeeds();
    world.spfs(["pull", "t", "--from", &origin]).succeeds();
    world.spfs(["write", "-t", "t", "-r", &origin]).stdin(b"2").succeeds();
    world.spfs(["pull", "t", "--from", &origin]).succeeds();
    assert_eq!(world.spfs(["read", "t"]).succeeds().stdout, "1");
    world.spfs(["pull", "--sync", "t", "--from", &origin]).succeeds();
    assert_eq!(world.spfs(["read", "t"]).succeeds().stdout, "2");
}

#[test]
fn push_needs_a_remote_that_exists() {
    let world = World::new();
    world.layer("tool", &[("f", "x")]);
    world.spfs(["push", "tool"]).fails_with(1, &["no remote named \"origin\"", "spfs config"]);
    world.spfs(["push", "tool", "--to", "/no/such/repo"]).fails_with(1, &["/no/such/repo"]);
}

#[test]
fn a_runtime_reads_what_only_origin_has() {
    as_each_user(|world| {
        let origin = origin(world);
        let dir = world.directory("far", &[("f", "from afar\n")]);
        world.spfs(["commit", "-t", "far", "-r", &origin, "--path"]).arg(&dir).succeeds();
        let run = |args: &[&str]| {
            world.spfs(["run"]).args(args).env("SPFS_REMOTE_origin_ADDRESS", &origin)
        };
        assert_eq!(run(&["far", "--", "cat", "/spfs/f"]).succeeds().stdout, "from afar\n");
        let script = "echo more >> /spfs/f; spfs commit layer -t near";
        run(&["--edit", "far", "--", "sh", "-c", script]).succeeds();
        let both = run(&["far+near", "--", "cat", "/spfs/f"]).succeeds().stdout;
        assert_eq!(both, "from afar\nmore\n");
        world.spfs(["run", "far", "--", "true"]).fails_with(1, &["far"]);
    });
}

#[test]
fn a_missing_or_broken_origin_empties_nothing() {
    as_each_user(|world| {
        world.layer("near", &[("f", "near\n")]);
        let run = || world.spfs(["run", "near", "--", "cat", "/spfs/f"]);
        assert_eq!(run().succeeds().stdout, "near\n");
        let broken = run().env("SPFS_REMOTE_origin_ADDRESS", "file:/no/such/repo").succeeds();
        assert_eq!(broken.stdout, "near\n");
        assert!(broken.stderr.contains("WARN") && broken.stderr.contains("/no/such/repo"));
    });
}

#[test]
fn check_finds_damage_names_what_needs_it_and_repairs_it() {
    let world = World::new();
    let origin = origin(&world);
    world.layer("tool", &[("f", "content\n")]);
    world.spfs(["push", "tool", "--to", &origin]).succeeds();
    let sound = world.spfs(["check"]).succeeds().stdout;
    assert!(sound.contains("No issues found"), "{sound}");

    let payload = payload_of(&world, "tool");
    fs::write(stored(world.storage(), "payloads", &payload), "CONTENT\n").unwrap();
    let quick = world.spfs(["check"]).succeeds().stdout;
    assert!(quick.contains("No issues found"), "only --payloads hashes content: {quick}");
    let found = world.spfs(["check", "--payloads"]).run();
    assert_eq!(found.code, 1);
    assert!(found.stdout.contains(&payload) && found.stdout.contains("tool"), "{found:#?}");

    let layer = world.digest_of("tool");
    fs::remove_file(stored(world.storage(), "objects", &layer)).unwrap();
    let found = world.spfs(["check"]).run();
    assert_eq!(found.code, 1);
    assert!(found.stdout.contains(&format!("object {layer} is missing")), "{found:#?}");
    assert!(found.stdout.contains("needed by tag tool"), "{found:#?}");
    assert!(found.stderr.contains("--pull"), "{found:#?}");

    let repaired = world.spfs(["check", "--payloads", "--pull", &origin]).succeeds().stdout;
    assert!(repaired.contains("(repaired)"), "{repaired}");
    assert_eq!(world.spfs(["read", "tool", "f"]).succeeds().stdout, "content\n");
    world.spfs(["check", "--payloads"]).succeeds();
}

#[test]
fn clean_asks_then_removes_what_nothing_leads_to() {
    let world = World::new();
    world.spfs(["write", "-t", "kept"]).stdin(b"kept").succeeds();
    world.spfs(["write"]).stdin(b"loose").succeeds();
    let young = world.spfs(["clean", "--yes"]).succeeds().stdout;
    assert!(young.contains("2 objects  visited [     0 removed]"), "{young}");
    // Older than the time that a commit may take between storing and tagging.
    let age = "find . -type f -exec touch -d '1 hour ago' {} +";
    world.spfs(["-c", age]).program("sh").in_dir(world.storage()).succeeds();
    let planned = world.spfs(["clean", "--dry-run"]).succeeds().stdout;
    assert!(planned.contains("2 objects  visited [     1 to remove]"), "{planned}");
    let refused = world.spfs(["clean"]).stdin(b"n\n").run();
    assert_eq!(refused.code, 2, "{refused:#?}");
    assert!(refused.stderr.contains("(y/N)"));
    let done = world.spfs(["clean"]).stdin(b"y\n").succeeds().stdout;
    assert!(done.contains("2 objects  visited [     1 removed]"), "{done}");
    let json = world.spfs(["clean", "--yes", "--json"]).succeeds().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["objects_removed"], 0);
    assert_eq!(world.spfs(["read", "kept"]).succeeds().stdout, "kept");
}

#[test]
fn clean_prunes_versions_by_number_and_age() {
    let world = World::new();
    for version in ["1", "2", "3", "4"] {
        world.spfs(["write", "-t", "many"]).stdin(version.as_bytes()).succeeds();
    }
    world.spfs(["clean", "--yes", "--prune-if-more-than", "2"]).succeeds();
    assert_eq!(world.spfs(["log", "many"]).succeeds().stdout.lines().count(), 3);
    let kept = ["clean", "--yes", "--prune-if-older-than", "0s", "--keep-if-less-than", "1"];
    world.spfs(kept).succeeds();
    assert_eq!(world.spfs(["log", "many"]).succeeds().stdout.lines().count(), 1);
    assert_eq!(world.spfs(["read", "many"]).succeeds().stdout, "4");
    world.spfs(["clean", "--prune-if-older-than", "soon"]).fails_with(2, &["soon"]);
}

#[test]
fn clean_protects_what_a_running_runtime_uses() {
    as_each_user(|world| {
        world.layer("base", &[("f", "base\n"), ("g", "other\n")]);
        let mut session = world.session(["--edit", "base"]);
        session.ok("echo changed > /spfs/f; spfs commit layer --keep-editing");
        world.spfs(["untag", "base", "--all"]).succeeds();
        let age = "find . -path ./runtimes -prune -o -type f -exec touch -d '1 hour ago' {} +";
        world.spfs(["-c", age]).program("sh").in_dir(world.storage()).succeeds();
        world.spfs(["clean", "--yes"]).succeeds();
        assert_eq!(session.ok("cat /spfs/f /spfs/g"), "changed\nother\n");
        session.ok("echo again >> /spfs/g; spfs commit platform -t saved");
        session.end();
        wait_for("the runtime to end", || world.runtimes().is_empty());
        let run = world.spfs(["run", "saved", "--", "cat", "/spfs/f", "/spfs/g"]);
        assert_eq!(run.succeeds().stdout, "changed\nother\nagain\n");
    });
}
