//! Every flag that upstream 0.44 takes is taken here, and means something or says that it does not.

use crate::harness::{World, as_each_user};

/// Flags of every command that works on repositories.
const REPOS: &[&str] = &["-r", "x", "--remote=x", "--wrap-origin=x"];

/// Flags of every command that copies between repositories.
const SYNC: &[&str] = &[
    "--sync",
    "--pull",
    "--check",
    "--resync",
    "--max-concurrent-manifests=1",
    "--max-concurrent-payloads=1",
    "--progress=bars",
    "--progress=none",
];

const RUN: &[&str] = &[
    "-e",
    "--edit",
    "--no-edit",
    "-k",
    "--keep-runtime",
    "--runtime-name=x",
    "--rerun=x",
    "--force",
    "--annotation=k:v",
    "--annotation-file=x",
];

/// The commands of upstream, the groups of flags they have, and their own flags.
const COMMANDS: &[(&[&str], &[&[&str]])] = &[
    (&["init", "repo"], &[]),
    (&["edit"], &[&["--off", "--keep-runtime"]]),
    (
        &["commit"],
        &[
            REPOS,
            &["-t", "x", "--tag=y", "--path=x", "--ref=x", "--hash-while-committing"],
            &["--allow-empty", "--hash-first"],
            &["--max-concurrent-blobs=1", "--max-concurrent-branches=1"],
        ],
    ),
    (&["config"], &[]),
    (&["reset"], &[SYNC, &["-e", "--edit", "-r", "x", "--ref=x"]]),
    (&["run"], &[REPOS, SYNC, RUN]),
    (&["shell"], &[REPOS, SYNC, RUN]),
    (&["tag"], &[REPOS]),
    (&["untag"], &[REPOS, &["--latest", "-a", "--all"]]),
    (
        &["runtime", "info"],
        &[REPOS, &["--get=k", "--annotation=k", "--get-all", "--all-annotations"]],
    ),
    (&["runtime", "list"], &[REPOS, &["-q", "--quiet"]]),
    (&["rt", "ls"], &[REPOS]),
    (
        &["runtime", "prune"],
        &[REPOS, &["--ignore-user", "--ignore-host", "--ignore-monitor", "--from-before-boot"]],
    ),
    (
        &["runtime", "remove"],
        &[
            REPOS,
            &["-f", "--force", "--ignore-user", "--ignore-host", "--ignore-monitor"],
            &["--remove-durable"],
        ],
    ),
    (&["layers"], &[REPOS, &["--short", "--tags"]]),
    (&["platforms"], &[REPOS, &["--short", "--tags"]]),
    (&["tags"], &[REPOS, &["--target", "--short"]]),
    (
        &["info"],
        &[
            REPOS,
            &["--get=k", "--annotation=k", "--get-all", "--all-annotations"],
            &["-H", "--human-readable", "--tags", "--short", "--follow"],
        ],
    ),
    (&["pull"], &[REPOS, SYNC, &["--to=x"]]),
    (&["pull"], &[SYNC, &["--from=x"]]),
    (&["push"], &[REPOS, SYNC, &["--from=x"]]),
    (&["push"], &[SYNC, &["--to=x"]]),
    (&["log"], &[REPOS]),
    (&["search"], &[REPOS]),
    (&["diff"], &[]),
    (&["ls-tags"], &[REPOS, &["--recursive"]]),
    (&["ls"], &[REPOS, &["-R", "--recursive", "-l", "-H", "--human-readable"]]),
    (&["migrate"], &[&["--upgrade"]]),
    (
        &["check"],
        &[REPOS, &["--max-tag-stream-concurrency=1", "--max-object-concurrency=1", "--pull"]],
    ),
    (&["read"], &[REPOS]),
    (&["write"], &[REPOS, &["-t", "x", "--tag=y", "-f", "x"]]),
    (&["version"], &[]),
    (
        &["clean"],
        &[
            REPOS,
            &["-y", "--yes", "--dry-run", "--prune-all-tag-namespaces", "--prune-repeated"],
            &["--prune-repeated-keep=1", "--prune-if-older-than=1d", "--keep-if-newer-than=1d"],
            &["--prune-if-more-than=1", "--keep-if-less-than=1", "--keep-proxies-with-no-links"],
            &["--max-tag-stream-concurrency=1", "--max-removal-concurrency=1"],
            &["--max-discover-concurrency=1"],
        ],
    ),
    (&["join"], &[&["-p", "1"]]),
    (
        &["render"],
        &[
            SYNC,
            &["--max-concurrent-blobs=1", "--max-concurrent-branches=1", "--allow-existing"],
            &["--strategy=HardLink"],
        ],
    ),
];

#[test]
fn every_flag_of_upstream_is_taken() {
    let world = World::new();
    for (command, groups) in COMMANDS {
        // A flag that is not known is refused before the help is reached.
        let mut given: Vec<&str> = Vec::new();
        let log = ["-v", "--verbose", "--log-file=x", "--timestamp"];
        for &flag in groups.iter().flat_map(|group| group.iter()).chain(&log) {
            // Some may be given once only, under one name.
            let same = ["--annotation=k", "--from=x", "--all-annotations", "--remote=x", "--ref=x"];
            if same.contains(&flag) {
                world.spfs(*command).args([flag, "--help"]).succeeds();
            } else {
                given.push(flag);
            }
        }
        for flag in given.iter().filter(|flag| flag.starts_with("--")) {
            world.spfs(*command).args([*flag, "--help"]).succeeds();
        }
        world.spfs(*command).args(["--no-such-flag", "--help"]).fails_with(2, &["--no-such-flag"]);
    }
    for (name, target) in
        [("list", "ls"), ("list-dir", "ls"), ("list-tags", "ls-tags"), ("write-file", "write")]
    {
        let help = |command| world.spfs([command, "--help"]).succeeds().stdout;
        assert_eq!(help(name), help(target));
    }
}

#[test]
fn a_kind_may_stand_beside_what_it_goes_with() {
    let world = World::new();
    let dir = world.directory("tree", &[("f", "x")]);
    let dir = dir.to_str().unwrap();
    world.spfs(["commit", "layer", "--path", dir, "-t", "a"]).succeeds();
    world.spfs(["commit", "--path", dir, "-t", "b"]).succeeds();
    assert_eq!(world.digest_of("a"), world.digest_of("b"));
    world.spfs(["commit", "platform", "--ref", "a", "-t", "p"]).succeeds();
    world
        .spfs(["commit", "platform", "--path", dir])
        .fails_with(2, &["becomes a layer", "spfs commit --ref"]);
    world.spfs(["commit", "layer", "--ref", "a"]).fails_with(2, &["becomes a platform"]);
    world
        .spfs(["commit", "layer", "--remote", "/elsewhere"])
        .fails_with(2, &["local repository", "spfs push"]);
    for flag in ["--keep-editing", "--keep-macos-files"] {
        world.spfs(["commit", flag, "--path", dir]).fails_with(2, &[flag, "--path"]);
        world.spfs(["commit", flag, "--ref", "a"]).fails_with(2, &[flag, "--ref"]);
    }
    world.spfs(["commit"]).fails_with(2, &["KIND", "--path", "--ref"]);
}

/// A repository known as `origin`, and what to set so that it is.
fn origin(world: &World) -> String {
    let shared = world.path("work/shared");
    world.spfs(["init", "repo"]).arg(&shared).succeeds();
    format!("file:{}", shared.display())
}

#[test]
fn run_with_sync_brings_the_newest_version_of_a_tag_here() {
    as_each_user(|world| {
        let origin = origin(world);
        world.layer("near", &[("n", "near\n")]);
        let store = |name: &str, content: &str| {
            let dir = world.directory(name, &[("f", content)]);
            world.spfs(["commit", "-t", "far", "-r", &origin, "--path"]).arg(&dir).succeeds();
        };
        store("one", "one\n");
        let cat = |flags: &[&str]| {
            let run = world.spfs(["run"]).args(flags).args(["far+near", "--", "cat", "/spfs/f"]);
            run.env("SPFS_REMOTE_origin_ADDRESS", &origin).succeeds()
        };
        let first = cat(&["--sync"]);
        assert_eq!(first.stdout, "one\n");
        assert!(first.stderr.contains("\t1 tags (0 skipped)\n"), "{}", first.stderr);
        assert_eq!(world.spfs(["read", "far", "f"]).succeeds().stdout, "one\n", "it is here now");
        store("two", "two\n");
        assert_eq!(cat(&[]).stdout, "one\n", "a tag that is here is not looked up elsewhere");
        assert_eq!(cat(&["--check", "--progress=none"]).stdout, "one\n");
        assert_eq!(cat(&["--sync"]).stdout, "two\n");

        let alone = world.spfs(["run", "--sync", "near", "--", "cat", "/spfs/n"]).succeeds();
        assert_eq!(alone.stdout, "near\n");
        assert!(alone.stderr.contains("nothing is fetched"), "{}", alone.stderr);
        let broken = world.spfs(["run", "--sync", "near", "--", "true"]);
        broken
            .env("SPFS_REMOTE_origin_ADDRESS", "file:/no/such/repo")
            .fails_with(1, &["/no/such/repo"]);
    });
}

#[test]
fn render_and_reset_fetch_when_asked() {
    as_each_user(|world| {
        let origin = origin(world);
        world.layer("base", &[("f", "old\n")]);
        let dir = world.directory("far", &[("f", "far\n")]);
        world.spfs(["commit", "-t", "far", "-r", &origin, "--path"]).arg(&dir).succeeds();
        let render = world.spfs(["render", "--sync", "far", "out"]);
        let told = render.env("SPFS_REMOTE_origin_ADDRESS", &origin).succeeds().stderr;
        assert!(told.contains("\t1 tags (0 skipped)\n"), "{told}");
        assert_eq!(world.spfs(["read", "far", "f"]).succeeds().stdout, "far\n");
        world.spfs(["untag", "--all", "far"]).succeeds();
        let mut session = world.session(["--edit", "base"]);
        let reset = format!("SPFS_REMOTE_origin_ADDRESS={origin} spfs reset --sync --ref far");
        session.ok(&format!("{reset} && cat /spfs/f > \"$HOME/seen\""));
        session.end();
        assert_eq!(std::fs::read_to_string(world.path("home/seen")).unwrap(), "far\n");
    });
}

#[test]
fn the_runtimes_of_another_storage_can_be_looked_at() {
    as_each_user(|world| {
        world.layer("base", &[("f", "x")]);
        let keep = ["run", "-k", "--runtime-name", "kept", "--annotation", "who:me"];
        world.spfs(keep).args(["base", "--", "true"]).succeeds();
        world.settle();
        let here = world.storage();
        let elsewhere = world.path("work/elsewhere");
        world.spfs(["init", "repo"]).arg(&elsewhere).succeeds();
        let from_there = |args: &[&str]| {
            let command = world.spfs(["runtime"]).args(args).env("SPFS_STORAGE_ROOT", &elsewhere);
            command.arg("-r").arg(&here)
        };
        assert_eq!(from_there(&["list", "-q"]).succeeds().stdout, "kept\n");
        assert_eq!(from_there(&["info", "kept", "--get", "who"]).succeeds().stdout, "me\n");
        assert_eq!(from_there(&["info", "kept", "--get-all"]).succeeds().stdout, "who: me\n\n");
        assert!(from_there(&["info", "kept"]).succeeds().stdout.contains("\"kept\""));
        from_there(&["rm", "kept", "--remove-durable"]).succeeds();
        assert_eq!(world.runtimes(), Vec::<String>::new());
        let tar = world.spfs(["runtime", "list", "-r", "tar:/tmp/none.tar"]);
        tar.fails_with(1, &["tar:/tmp/none.tar", "no folder"]);
    });
}

#[test]
fn search_looks_in_one_repository_when_asked() {
    let world = World::new();
    let origin = origin(&world);
    world.spfs(["write", "-t", "far/one", "-r", &origin]).stdin(b"1").succeeds();
    world.spfs(["write", "-t", "near/one"]).stdin(b"1").succeeds();
    assert_eq!(world.spfs(["search", "one", "-r", &origin]).succeeds().stdout, "far/one\n");
    let everywhere = world.spfs(["search", "one"]).env("SPFS_REMOTE_origin_ADDRESS", &origin);
    assert_eq!(everywhere.succeeds().stdout, "near/one\nfar/one\n");
}

#[test]
fn clean_says_how_durable_runtimes_are_removed() {
    World::new()
        .spfs(["clean", "--remove-durable", "work"])
        .fails_with(2, &["spfs runtime remove --remove-durable work"]);
}

#[test]
fn a_runtime_of_another_repository_tells_of_its_layers_and_becomes_a_platform() {
    as_each_user(|world| {
        let origin = origin(world);
        let dir = world.directory("far", &[("f", "far\n")]);
        world.spfs(["commit", "-t", "far", "-r", &origin, "--path"]).arg(&dir).succeeds();
        let script = "echo near > /spfs/near && spfs info && spfs commit platform -t all";
        let run = world.spfs(["run", "--edit", "-r", &origin, "far", "--", "sh", "-c", script]);
        let told = run.succeeds().stdout;
        assert!(told.contains("stack (top-down):\n  - ") && told.contains("Size: 4"), "{told}");
        world.spfs(["check"]).succeeds();
        assert_eq!(world.spfs(["read", "all", "f"]).succeeds().stdout, "far\n");
    });
}
