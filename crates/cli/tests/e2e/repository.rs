//! Commands that need a repository alone: nothing is mounted.

use std::process::Stdio;

use crate::harness::{Outcome, World};

/// Status, output and messages in one text, without this run's paths and times.
fn shown(world: &World, outcome: &Outcome) -> String {
    let text = format!(
        "status: {}\n--- stdout\n{}--- stderr\n{}",
        outcome.code, outcome.stdout, outcome.stderr
    );
    text.replace(&*world.path("").to_string_lossy(), "[WORLD]/")
}

const TOOLS: &[(&str, &str)] =
    &[("bin/tool", "#!/bin/sh\n"), ("lib/data.txt", "data\n"), ("lib/link", "-> data.txt")];

#[test]
fn init_repo_makes_one_that_is_complete_and_may_be_repeated() {
    let world = World::new();
    for _ in 0..2 {
        let outcome = world.spfs(["init", "repo", "new/repo"]).succeeds();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    }
    for part in ["objects", "payloads", "tags", "VERSION"] {
        assert!(world.path("work/new/repo").join(part).exists(), "{part}");
    }
}

#[test]
fn init_repo_takes_an_address_for_what_it_is() {
    let world = World::new();
    let folder = world.path("by address");
    let address = format!("file://{}", folder.display()).replace(' ', "%20");
    world.spfs(["init", "repo", &address]).succeeds();
    assert!(folder.join("VERSION").exists());
    world.spfs(["tags", "-r", &address]).succeeds();
    for (address, told) in
        [("proxy:?primary=/a", "is more than one repository"), ("http://host/repo", "http")]
    {
        world.spfs(["init", "repo", address]).fails_with(1, &[told]);
    }
    // A name with a colon is a path all the same.
    world.spfs(["init", "repo", "./a:b"]).succeeds();
    let mut made: Vec<_> = std::fs::read_dir(world.path("work"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    made.sort();
    assert_eq!(made, ["a:b"]);
}

#[test]
fn what_is_written_can_be_read_back_by_tag_and_digest() {
    let world = World::new();
    let outcome = world.spfs(["write", "-t", "my/blob"]).stdin(b"some blob\n").succeeds();
    let digest = "BLO3D7L2CGURX7EMZPBGK4K6LM4EIPKJFWUZK7C4PKMCVQ322T6Q====";
    assert_eq!(outcome.stdout, "");
    assert_eq!(
        outcome.stderr,
        format!(" INFO created digest={digest}\n INFO created tag=\"my/blob\"\n")
    );
    for reference in ["my/blob", digest, &digest[..8], &digest[..5]] {
        assert_eq!(world.spfs(["read", reference]).succeeds().stdout, "some blob\n");
    }
    assert_eq!(world.spfs(["cat", "my/blob"]).succeeds().stdout, "some blob\n");
}

#[test]
fn a_directory_becomes_a_layer_with_the_same_digest_every_time() {
    let world = World::new();
    let dir = world.directory("tools", TOOLS);
    let first = world.spfs(["commit", "-t", "my/layer", "--path"]).arg(&dir).succeeds();
    let second = world.spfs(["commit", "-t", "my/layer", "--path", "tools"]).succeeds();
    assert_eq!(first, second);
    insta::assert_snapshot!(shown(&world, &first));
    assert_eq!(world.spfs(["log", "my/layer"]).succeeds().stdout.lines().count(), 1);
}

#[test]
fn a_message_is_kept_as_annotation_and_shown_by_info_and_log() {
    let world = World::new();
    world.directory("tools", TOOLS);
    world.spfs(["commit", "-t", "plain", "--path", "tools"]).succeeds();
    world.spfs(["commit", "-t", "said", "-m", "Added tools", "--path", "tools"]).succeeds();
    assert_ne!(world.digest_of("plain"), world.digest_of("said"));
    let info = world.spfs(["info", "said"]).succeeds().stdout;
    assert!(info.contains("key: message") && info.contains("value: Added tools"), "{info}");
    assert!(world.spfs(["log", "said"]).succeeds().stdout.contains("Added tools"));
    let get = world.spfs(["info", "said", "--get", "message"]).succeeds().stdout;
    assert_eq!(get, "Added tools\n");
}

#[test]
fn ls_lists_names_modes_and_whole_trees() {
    let world = World::new();
    world.layer("my/layer", TOOLS);
    let ls = |args: &[&str]| world.spfs(["ls"]).args(args).succeeds().stdout;
    assert_eq!(ls(&["my/layer"]), "bin/\nlib/\n");
    for path in ["lib", "/lib", "/spfs/lib", "lib/"] {
        assert_eq!(ls(&["my/layer", path]), "data.txt\nlink\n", "{path}");
    }
    insta::assert_snapshot!(ls(&["-R", "my/layer"]));
    let long = ls(&["-l", "my/layer", "lib"]);
    let mut lines = long.lines();
    assert!(lines.next().unwrap().starts_with("-rw-r--r-- ada 5 "), "{long}");
    assert!(lines.next().unwrap().starts_with("lrwxrwxrwx ada 8 "), "{long}");
    let json: serde_json::Value =
        serde_json::from_str(&ls(&["--json", "my/layer", "lib"])).unwrap();
    assert_eq!(json[0]["name"], "data.txt");
    assert_eq!(json[0]["size"], 5);
    assert_eq!(json[1]["kind"], "symlink");
}

#[test]
fn ls_of_a_stack_shows_what_a_runtime_would() {
    let world = World::new();
    world.layer("base", &[("a/one", "1"), ("a/two", "2"), ("both", "low")]);
    world.layer("top", &[("a/three", "3"), ("both", "high")]);
    let out = world.spfs(["ls", "base+top", "a"]).succeeds().stdout;
    assert_eq!(out, "one\nthree\ntwo\n");
    assert_eq!(world.spfs(["read", "base+top", "both"]).succeeds().stdout, "high");
    assert_eq!(world.spfs(["read", "top+base", "/spfs/both"]).succeeds().stdout, "low");
}

#[test]
fn info_tells_layers_platforms_manifests_and_blobs_apart() {
    let world = World::new();
    world.layer("my/layer", TOOLS);
    world.layer("other", &[("x", "y")]);
    world.spfs(["commit", "--ref", "my/layer+other", "-t", "suite"]).succeeds();
    world.spfs(["write", "-t", "blob"]).stdin(b"some blob\n").succeeds();
    let layer = world.spfs(["info", "my/layer"]).succeeds();
    insta::assert_snapshot!("info_layer", shown(&world, &layer));
    let platform = world.spfs(["info", "suite", "blob"]).succeeds();
    insta::assert_snapshot!("info_platform_and_blob", shown(&world, &platform));
    let manifest = layer.stdout.lines().find_map(|line| line.split("manifest: ").nth(1)).unwrap();
    let manifest = world.spfs(["info", manifest]).succeeds();
    insta::assert_snapshot!("info_manifest", shown(&world, &manifest));
    let short = world.spfs(["info", "--short", "--tags", "suite"]).succeeds();
    insta::assert_snapshot!("info_short_with_tags", shown(&world, &short));
}

#[test]
fn info_follows_to_everything_below() {
    let world = World::new();
    world.layer("my/layer", TOOLS);
    world.spfs(["commit", "--ref", "my/layer", "-t", "suite"]).succeeds();
    let out = world.spfs(["info", "--follow", "suite"]).succeeds().stdout;
    for part in ["platform:", "layer:", "manifest:", "/spfs/lib/data.txt"] {
        assert!(out.contains(part), "{part} in {out}");
    }
}

#[test]
fn layers_and_platforms_are_listed_by_kind() {
    let world = World::new();
    world.layer("one", &[("1", "1")]);
    world.layer("two", &[("2", "2")]);
    world.spfs(["commit", "--ref", "one+two", "-t", "both"]).succeeds();
    let mut wanted = [world.digest_of("one"), world.digest_of("two")];
    wanted.sort();
    let out = world.spfs(["layers"]).succeeds().stdout;
    assert_eq!(out.lines().collect::<Vec<_>>(), wanted);
    let out = world.spfs(["platforms", "--tags"]).succeeds().stdout;
    assert_eq!(out, format!("{} -> both\n", world.digest_of("both")));
}

#[test]
fn tags_are_listed_flat_and_as_a_hierarchy() {
    let world = World::new();
    world.spfs(["write", "-t", "my/blob", "-t", "third"]).stdin(b"x").succeeds();
    world.spfs(["tag", "third", "my/data", "another/deep/tag"]).succeeds();
    let out = |args: &[&str]| world.spfs(args).succeeds().stdout;
    assert_eq!(out(&["tags"]), "another/deep/tag\nmy/blob\nmy/data\nthird\n");
    let digest = world.digest_of("third");
    let targets = out(&["tags", "--target"]);
    assert_eq!(targets.lines().nth(1), Some(format!("my/blob -> {digest}").as_str()));
    let short = out(&["tags", "--short"]);
    assert_eq!(short.lines().nth(1), Some(format!("my/blob -> {}", &digest[..8]).as_str()));
    assert_eq!(out(&["ls-tags"]), "/another/\n/my/\n/third\n");
    assert_eq!(out(&["ls-tags", "my"]), "blob\ndata\n");
    assert_eq!(out(&["ls-tags", "another", "--recursive"]), "deep/tag\n");
    assert_eq!(out(&["search", "dee"]), "another/deep/tag\n");
    let json: serde_json::Value = serde_json::from_str(&out(&["tags", "--json"])).unwrap();
    assert_eq!(json[1]["tag"], "my/blob");
    assert_eq!(json[1]["target"], digest.as_str());
}

#[test]
fn versions_of_a_tag_are_kept_shown_and_removed_one_by_one() {
    let world = World::new();
    let write = |content: &[u8]| {
        world.spfs(["write", "-t", "many"]).stdin(content).succeeds();
        world.digest_of("many")
    };
    let (first, second, third) = (write(b"1"), write(b"2"), write(b"3"));
    assert_eq!(world.digest_of("many~0"), third);
    assert_eq!(world.digest_of("many~1"), second);
    assert_eq!(world.digest_of("many~2"), first);
    let log = world.spfs(["log", "many"]).succeeds().stdout;
    assert_eq!(log.lines().count(), 3);
    assert!(
        log.lines().nth(1).unwrap().starts_with(&format!("{} many~1 ada@host1 ", &second[..10]))
    );
    assert!(log.lines().all(|line| line.ends_with(" +00:00")), "{log}");

    world.spfs(["untag", "many"]).fails_with(1, &["--all", "--latest", "many~0"]);
    for flag in ["--all", "--latest"] {
        world.spfs(["untag", flag, "many~1"]).fails_with(2, &[flag, "many~1"]);
    }
    world.spfs(["untag", "many~1"]).succeeds();
    assert_eq!(world.digest_of("many~1"), first);
    let outcome = world.spfs(["untag", "many", "--latest"]).succeeds();
    assert_eq!(outcome.stderr, " INFO removed tag=many\n");
    assert_eq!(world.digest_of("many"), first);
    world.spfs(["info", "many~1"]).fails_with(1, &["many~1"]);
    world.spfs(["untag", "many", "--all"]).succeeds();
    world.spfs(["info", "many"]).fails_with(1, &["many"]);
    assert_eq!(world.spfs(["tags"]).succeeds().stdout, "");
}

#[test]
fn tagging_the_same_thing_twice_adds_no_version() {
    let world = World::new();
    world.spfs(["write", "-t", "a"]).stdin(b"x").succeeds();
    for _ in 0..2 {
        let outcome = world.spfs(["tag", "a", "b"]).succeeds();
        assert_eq!(outcome.stderr, " INFO created tag=b\n");
    }
    assert_eq!(world.spfs(["log", "b"]).succeeds().stdout.lines().count(), 1);
}

#[test]
fn another_repository_is_reached_by_path_address_and_name() {
    let world = World::new();
    let shared = world.path("work/shared");
    world.spfs(["init", "repo"]).arg(&shared).succeeds();
    let address = format!("file:{}", shared.display());
    world.spfs(["write", "-t", "there", "-r"]).arg(&shared).stdin(b"x").succeeds();
    assert_eq!(world.spfs(["tags"]).succeeds().stdout, "");
    assert_eq!(world.spfs(["tags", "-r", &address]).succeeds().stdout, "there\n");
    let named = world.spfs(["read", "there", "--remote", "site"]);
    assert_eq!(named.env("SPFS_REMOTE_site_ADDRESS", &address).succeeds().stdout, "x");
    world.spfs(["tags", "-r", "nope"]).fails_with(1, &["no remote named", "nope", "spfs config"]);
    world
        .spfs(["tags", "-r", "http2://example.invalid:7737"])
        .fails_with(1, &["http2", "not supported yet"]);
}

#[test]
fn the_remote_repository_is_searched_too() {
    let world = World::new();
    let shared = world.path("work/shared");
    world.spfs(["init", "repo"]).arg(&shared).succeeds();
    world.spfs(["write", "-t", "far/tool", "-r"]).arg(&shared).stdin(b"x").succeeds();
    world.spfs(["write", "-t", "near/tool"]).stdin(b"x").succeeds();
    let address = format!("file:{}", shared.display());
    let found = world.spfs(["search", "tool"]).env("SPFS_REMOTE_site_ADDRESS", address);
    assert_eq!(found.succeeds().stdout, "near/tool\nfar/tool\n");
}

#[test]
fn both_encodings_and_strategies_can_be_chosen_for_new_objects() {
    let world = World::new();
    world.directory("tools", TOOLS);
    let mut seen = Vec::new();
    for strategy in ["WithKindAndSalt", "Legacy"] {
        for format in ["FlatBuffers", "Legacy"] {
            let storage = world.path(format!("work/{strategy}-{format}"));
            let spfs = |args: &[&str]| {
                world
                    .spfs(args)
                    .env("SPFS_STORAGE_ROOT", &storage)
                    .env("SPFS_STORAGE_DIGEST_STRATEGY", strategy)
                    .env("SPFS_STORAGE_ENCODING_FORMAT", format)
                    .succeeds()
            };
            seen.push(spfs(&["commit", "--path", "tools", "-t", "t"]).stderr);
            assert_eq!(spfs(&["ls", "t"]).stdout, "bin/\nlib/\n");
        }
    }
    assert_eq!(seen[0], seen[1], "the encoding is no part of the digest");
    assert_eq!(seen[2], seen[3]);
    assert_ne!(seen[0], seen[2]);
}

#[test]
fn an_empty_platform_and_eight_zero_bytes_do_not_collide() {
    let world = World::new();
    world.spfs(["write", "-t", "zeros"]).stdin(&[0; 8]).succeeds();
    world.spfs(["commit", "--ref", "-", "--allow-empty", "-t", "nothing"]).succeeds();
    assert_ne!(world.digest_of("zeros"), world.digest_of("nothing"));
    assert_eq!(world.spfs(["read", "zeros"]).succeeds().stdout.as_bytes(), [0; 8]);
}

#[test]
fn diff_compares_two_stacks() {
    let world = World::new();
    world.layer("old", TOOLS);
    world.layer("new", &[("bin/tool", "#!/bin/sh\nexit\n"), ("lib/data.txt", "data\n"), ("n", "")]);
    let out = world.spfs(["diff", "old", "new"]).succeeds();
    insta::assert_snapshot!(shown(&world, &out));
    let same = world.spfs(["diff", "old", "old"]).succeeds();
    assert_eq!((same.stdout.as_str(), same.stderr.as_str()), ("", " INFO no changes\n"));
    let json = world.spfs(["diff", "--json", "old", "new"]).succeeds().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let paths: Vec<&str> =
        json.as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"/spfs/lib/link") && paths.contains(&"/spfs/n"), "{paths:?}");
}

#[test]
fn config_shows_what_is_in_effect() {
    let world = World::new();
    let file = world.path("config/spfs/spfs.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "[remote.origin]\naddress = \"file:/shared\"\nspeed = 9\n").unwrap();
    let outcome = world.spfs(["config"]).succeeds();
    let config: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(config["remote"]["origin"]["address"], "file:/shared");
    assert_eq!(config["filesystem"]["backend"], "FuseWithScratch");
    assert_eq!(config["storage"]["root"], world.storage().to_str().unwrap());
    assert!(
        outcome.stderr.starts_with(" WARN unknown configuration key remote.origin.speed in "),
        "{}",
        outcome.stderr
    );
    std::fs::write(&file, "[storage]\nroot = 1\n").unwrap();
    world.spfs(["config"]).fails_with(1, &["storage.root", "spfs.toml", "must be text"]);
}

#[test]
fn external_commands_are_programs_named_after_them() {
    let world = World::new();
    let program = world.path("bin/spfs-hello");
    std::fs::write(&program, "#!/bin/sh\necho \"hello $*\"\nexit 7\n").unwrap();
    std::os::unix::fs::chown(&program, None, None).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let outcome = world.spfs(["hello", "big", "--world"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "hello big --world\n"));
    world.spfs(["helo"]).fails_with(1, &["spfs-helo", "PATH"]);
    world.spfs(["comit"]).fails_with(1, &["comit", "'spfs commit'"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    for n in 0..50 {
        world.spfs(["write", "-t", &format!("tag/number-{n}")]).stdin(b"x").succeeds();
    }
    // `true` never reads: the pipe is closed before or while spfs writes.
    let mut reader = std::process::Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    let mut command = std::process::Command::new(world.program());
    command.args(["tags", "--target"]).env("SPFS_STORAGE_ROOT", world.storage());
    let outcome = command.stdout(pipe).stderr(Stdio::piped()).output().unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
}

#[test]
fn logs_go_where_they_are_sent() {
    let world = World::new();
    let file = world.path("work/log");
    world.spfs(["write", "--log-file"]).arg(&file).stdin(b"x").succeeds();
    assert!(std::fs::read_to_string(&file).unwrap().contains("INFO created digest="));
    let quiet = world.spfs(["write"]).stdin(b"x").env("SPFS_LOG", "error").succeeds();
    assert_eq!(quiet.stderr, "");
    let timed = world.spfs(["write", "--timestamp"]).stdin(b"x").succeeds().stderr;
    assert!(timed.starts_with("20"), "{timed}");
}

#[test]
fn a_commit_shows_its_progress_on_a_terminal_and_nowhere_else() {
    let world = World::new();
    let dir = world.directory("big", &[]);
    for n in 0..2000 {
        std::fs::write(dir.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let piped = world.spfs(["commit", "--path", "big"]).succeeds();
    assert!(!piped.stderr.contains(" files "), "{piped:#?}");
    // script(1) runs it on a terminal of its own. Everything is new in another repository.
    let command = format!("{} commit --path big", world.program().display());
    let script = world.spfs(["-qec", &command, "/dev/null"]).program("script");
    let shown =
        script.env("TERM", "xterm").env("SPFS_STORAGE_ROOT", world.path("other")).succeeds();
    assert!(shown.stdout.contains("2000 files "), "{shown:#?}");
    assert!(shown.stdout.contains("created digest="), "{shown:#?}");
}

#[test]
fn a_tag_file_that_a_crash_left_empty_is_told_and_keeps_clean_from_guessing() {
    let world = World::new();
    let dir = world.directory("tools", TOOLS);
    for tag in ["my/tools", "other"] {
        world.spfs(["commit", "--path"]).arg(&dir).args(["-t", tag]).succeeds();
    }
    std::fs::write(world.storage().join("tags/my/tools.tag"), b"").unwrap();
    let told = "my/tools.tag is damaged";
    let checked = world.spfs(["check"]).run();
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("tag my/tools is damaged"), "{checked:?}");
    world.spfs(["clean", "-y"]).fails_with(1, &[told]);
    world.spfs(["log", "my/tools"]).fails_with(1, &[told, "untag --all"]);
    for flag in ["--target", "--json"] {
        let outcome = world.spfs(["tags", flag]).run();
        assert_eq!(outcome.code, 1);
        assert!(outcome.stdout.contains("other") && outcome.stderr.contains(told), "{outcome:?}");
    }
    world.spfs(["untag", "--all", "my/tools"]).succeeds();
    world.spfs(["check"]).succeeds();
}

#[test]
fn content_that_is_not_as_long_as_it_should_be_is_not_printed_as_if_it_were() {
    let world = World::new();
    let dir = world.directory("tools", TOOLS);
    world.spfs(["commit", "--path"]).arg(&dir).args(["-t", "tools"]).succeeds();
    let payloads = world.storage().join("payloads");
    for folder in std::fs::read_dir(payloads).unwrap() {
        for payload in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = payload.unwrap().path();
            if std::fs::read(&path).unwrap() == b"data\n" {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                std::fs::set_permissions(&path, mode).unwrap();
                std::fs::write(&path, b"da").unwrap();
            }
        }
    }
    world
        .spfs(["read", "tools", "lib/data.txt"])
        .fails_with(1, &["is damaged: it has 2 bytes, not 5", "check --pull"]);
}
