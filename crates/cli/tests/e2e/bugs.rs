//! What upstream's program does wrong and this one must not: one test for each that is not shown to
//! be right elsewhere. docs/upstream.md has the whole list.

use std::fs;

use crate::harness::{World, as_each_user, wait_for};

/// The record of a runtime, from the folder where it waits to be saved or from the repository.
fn record(world: &World, name: &str) -> serde_json::Value {
    let text = world.spfs(["runtime", "info", name]).succeeds().stdout;
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_commit_right_after_the_start_is_not_rolled_back() {
    as_each_user(|world| {
        world.layer("base", &[("f", "x")]);
        for round in 0..5 {
            // The first thing that happens in the runtime, and a look at its record right after.
            let script = format!(
                "echo {round} > /spfs/new; spfs commit layer -t top{round}; \
                 spfs runtime info $SPFS_RUNTIME"
            );
            let run = world.spfs(["run", "--edit", "base", "--", "sh", "-c", &script]).succeeds();
            let record: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
            let top = world.digest_of(&format!("top{round}"));
            assert_eq!(record["status"]["stack"][0], top, "{record}");
            assert_eq!(record["status"]["editable"], false, "{record}");
            world.settle();
        }
    });
}

#[test]
fn runtimes_at_the_same_time_do_not_share_their_scripts() {
    as_each_user(|world| {
        let mut one = world.session(["--runtime-name", "one", "-"]);
        let mut two = world.session(["--runtime-name", "two", "-"]);
        for (session, name) in [(&mut one, "one"), (&mut two, "two")] {
            assert_eq!(session.ok("echo $SPFS_RUNTIME").trim(), name);
            let dir = record(world, name)["config"]["runtime_dir"].as_str().unwrap().to_owned();
            assert_eq!(dir, world.storage().join("runtimes").join(name).to_str().unwrap());
            assert_eq!(session.ok(&format!("stat -c %a {dir}")).trim(), "700");
        }
        one.end();
        two.end();
    });
}

#[test]
fn names_that_lead_elsewhere_remove_nothing() {
    let world = World::new();
    world.layer("base", &[("f", "x")]);
    let victim = world.directory("victim", &[("precious", "x")]);
    for name in ["../../work/victim", victim.to_str().unwrap(), "..", ".", "a/../b", ""] {
        for command in [&["runtime", "rm", "--remove-durable", "--force"][..], &["runtime", "info"]]
        {
            let outcome = world.spfs(command).arg(name).run();
            assert_ne!(outcome.code, 0, "{name:?}");
        }
        let run = world.spfs(["run", "--runtime-name", name, "-", "--", "true"]).run();
        assert_ne!(run.code, 0, "{name:?}");
    }
    assert!(victim.join("precious").exists());
}

#[test]
fn paths_in_a_record_are_not_trusted() {
    as_each_user(|world| {
        world.layer("base", &[("f", "x")]);
        let victim = world.directory("victim", &[("precious", "x")]);
        let keep =
            ["run", "--keep-runtime", "--runtime-name", "kept", "--edit", "base", "--", "true"];
        world.spfs(keep).succeeds();
        world.settle();
        // As whoever may write to the repository could have changed it.
        let mut record = record(world, "kept");
        for path in ["runtime_dir", "upper_dir", "lower_dir", "work_dir", "sh_startup_file"] {
            record["config"][path] = victim.to_str().unwrap().into();
        }
        let document = world.path("work/record.json");
        fs::write(&document, record.to_string()).unwrap();
        world.give(&document);
        let write = ["write", "-t", "spfs/runtimes/meta/kept", "-f"];
        world.spfs(write).arg(&document).succeeds();
        let run = world.spfs(["run", "--rerun", "kept", "--", "sh", "-c", "echo y > /spfs/f"]);
        run.succeeds();
        world.settle();
        world.spfs(["runtime", "rm", "--remove-durable", "kept"]).succeeds();
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "x");
    });
}

#[test]
fn migrate_leaves_a_healthy_repository_where_it_is() {
    let world = World::new();
    world.layer("base", &[("f", "x")]);
    for flags in [&["migrate"][..], &["migrate", "--upgrade"]] {
        world.spfs(flags).arg(world.storage()).succeeds();
        assert_eq!(world.spfs(["read", "base", "f"]).succeeds().stdout, "x");
    }
    fs::write(world.storage().join("VERSION"), "1.0.0").unwrap();
    world.spfs(["migrate"]).arg(world.storage()).fails_with(1, &["too new", "1.0.0"]);
    world.spfs(["migrate", "/no/such/place"]).fails_with(1, &["/no/such/place"]);
}

#[test]
fn a_failed_start_leaves_no_runtime_and_ended_ones_leave_nothing_for_long() {
    as_each_user(|world| {
        world.spfs(["run", "nope", "--", "true"]).fails_with(1, &["nope"]);
        assert!(world.runtimes().is_empty());
        world.spfs(["run", "-", "--", "true"]).succeeds();
        wait_for("the runtime to be gone", || world.runtimes().is_empty());
        let tags = world.spfs(["tags"]).succeeds().stdout;
        assert!(!tags.contains("spfs/runtimes"), "{tags}");
    });
}

#[test]
fn a_key_given_twice_has_one_value_however_it_is_asked_for() {
    as_each_user(|world| {
        world.layer("base", &[("f", "x")]);
        let script = "echo y > /spfs/f; spfs commit layer -m two -t top";
        let run = ["run", "--edit", "--annotation", "message:one", "base", "--", "sh", "-c"];
        world.spfs(run).args(["spfs commit platform -t lower --allow-empty"]).succeeds();
        world.spfs(["run", "--edit", "lower", "--", "sh", "-c", script]).succeeds();
        world.spfs(["commit", "--ref", "lower+top", "-t", "all"]).succeeds();
        let get = world.spfs(["info", "--get", "message", "all"]).succeeds().stdout;
        let all = world.spfs(["info", "--get-all", "all"]).succeeds().stdout;
        assert_eq!((get.trim(), all.trim()), ("two", "message: two"));
    });
}

#[test]
fn digests_of_directories_are_shown_as_they_are() {
    let world = World::new();
    world.layer("base", &[("dir/f", "x")]);
    let told = world.spfs(["info", "--follow", "-vv", "base"]).succeeds().stdout;
    let line = told.lines().find(|line| line.contains(" tree ")).unwrap();
    assert!(line.ends_with("/spfs/dir") && !line.contains("AAAAAAAA"), "{told}");
}

#[test]
fn platforms_that_lead_to_themselves_or_to_one_thing_very_often_are_shown_once() {
    let world = World::new();
    world.layer("base", &[("f", "x")]);
    // Each holds the one before twice: what they hold all together cannot be counted.
    let mut platforms = vec![world.digest_of("base")];
    for _ in 0..60 {
        let stack = [decoded(platforms.last().unwrap()); 2].concat();
        let digest = spfs_model::Digest::of(&platform_body(&stack)).to_string();
        put_platform(&world, &digest, &stack);
        platforms.push(digest);
    }
    let itself = spfs_model::Digest::of(b"no such platform").to_string();
    put_platform(&world, &itself, &decoded(&itself));
    for (digest, blocks) in [(platforms.last().unwrap(), 62), (&itself, 1)] {
        let shown = world.spfs(["info", "--follow", digest]).succeeds().stdout;
        assert_eq!(shown.split("\n\n").count(), blocks, "{shown}");
        world.spfs(["info", "--get-all", digest]).succeeds();
        world.spfs(["ls", "-R", digest]).succeeds();
        world.spfs(["check", digest]).run();
    }
}

/// The bytes of a digest.
fn decoded(digest: &str) -> [u8; 32] {
    *digest.parse::<spfs_model::Digest>().unwrap().as_bytes()
}

/// The legacy encoding of a platform of these layers.
fn platform_body(stack: &[u8]) -> Vec<u8> {
    let mut body = (stack.len() as u64 / 32).to_be_bytes().to_vec();
    body.extend_from_slice(stack);
    body
}

fn put_platform(world: &World, digest: &str, stack: &[u8]) {
    let folder = world.storage().join("objects").join(&digest[..2]);
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = b"--SPFS--\n\0\0\0\0\0\0\0\x03".to_vec();
    file.extend(platform_body(stack));
    std::fs::write(folder.join(&digest[2..]), file).unwrap();
}

#[test]
fn sizes_that_nothing_can_have_are_no_reason_to_fall_over() {
    as_each_user(|world| {
        world.layer("honest", &[("f", "x"), ("g", "yy")]);
        let repository = spfs_repo::Repository::open(world.storage()).unwrap();
        let entry = |name: &str, content: &[u8]| {
            let object = spfs_model::Digest::of(content);
            let blob = spfs_model::BlobEntry { mode: 0o100_644, size: u64::MAX, object };
            let name = spfs_model::NameBuf::new(name.as_bytes()).unwrap();
            spfs_model::NewEntry { name, content: spfs_model::Content::Blob(blob) }
        };
        let mut builder = spfs_model::ManifestBuilder::new();
        let inner = builder.directory(vec![entry("f", b"x"), entry("g", b"yy")]).unwrap();
        let content = spfs_model::Content::Directory { mode: 0o040_755, tree: inner };
        let name = spfs_model::NameBuf::new(*b"dir").unwrap();
        let root = builder.directory(vec![spfs_model::NewEntry { name, content }]).unwrap();
        let manifest = builder.finish(root).unwrap();
        let layer = spfs_repo::write_layer(&repository, Some(manifest), &[], 0).unwrap().layer;
        let layer = layer.to_string();
        for objects in ["objects", "payloads"] {
            world.give(&world.storage().join(objects));
        }
        assert!(world.spfs(["ls", "-l", &layer]).succeeds().stdout.contains(" dir/"));
        world.spfs(["info", &layer, "-vv"]).succeeds();
        world.spfs(["run", &layer, "--", "spfs", "info"]).succeeds();
        for strategy in ["Copy", "HardLink"] {
            let render = world.spfs(["render", "--strategy", strategy, &layer, strategy]).run();
            assert!(render.code <= 1, "{render:?}");
        }
        let shared = world.path("work/shared");
        world.spfs(["init", "repo"]).arg(&shared).succeeds();
        let push = world.spfs(["push", &layer, "--to"]).arg(&shared).succeeds();
        assert!(push.stderr.contains("2 payloads (0 skipped) (3.0 B)"), "{push:?}");
    });
}
