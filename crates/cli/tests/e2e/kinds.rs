//! Repositories in tar files, proxies and fallbacks, as a user names them.

use std::fs;
use std::path::PathBuf;

use crate::harness::{World, as_each_user};

/// Another repository in a folder, with the file `f` in a layer `tag` that only it has.
fn other(world: &World, name: &str, tag: &str, content: &str) -> PathBuf {
    let root = world.path("work").join(name);
    world.spfs(["init", "repo"]).arg(&root).succeeds();
    let dir = world.directory(&format!("source-{name}"), &[("f", content)]);
    let commit = world.spfs(["commit", "-r"]).arg(&root).arg("--path").arg(dir);
    commit.args(["-t", tag]).succeeds();
    root
}

#[test]
fn layers_travel_in_a_tar_file() {
    let world = World::new();
    world.layer("tool", &[("f", "one\n")]);
    let archive = format!("tar:{}", world.path("work/travel.tar").display());
    world.spfs(["push", "tool", "--to", &archive]).succeeds();
    assert_eq!(world.spfs(["tags", "-r", &archive]).succeeds().stdout, "tool\n");
    assert_eq!(world.spfs(["read", "-r", &archive, "tool", "f"]).succeeds().stdout, "one\n");
    let other = World::new();
    other.spfs(["pull", "tool", "--from", &archive]).succeeds();
    assert_eq!(other.spfs(["read", "tool", "f"]).succeeds().stdout, "one\n");
    // What fails changes nothing.
    let before = fs::read(world.path("work/travel.tar")).unwrap();
    world.spfs(["push", "nope", "--to", &archive]).fails_with(1, &["nope"]);
    assert_eq!(fs::read(world.path("work/travel.tar")).unwrap(), before);
    fs::write(world.path("work/travel.tar"), "no archive").unwrap();
    world.spfs(["tags", "-r", &archive]).fails_with(1, &["travel.tar"]);
}

#[test]
fn an_archive_is_made_by_what_is_put_into_it_alone() {
    let world = World::new();
    world.layer("tool", &[("f", "one\n")]);
    let file = world.path("work/new.tar");
    let new = format!("tar:{}", file.display());
    for command in ["tags", "layers", "check", "log tool", "read tool f", "tag tool x"] {
        let outcome = world.spfs(command.split(' ').chain(["-r", &new]));
        outcome.fails_with(1, &["new.tar does not exist", "spfs push REF --to tar:"]);
    }
    world.spfs(["pull", "tool", "--from", &new]).fails_with(1, &["new.tar does not exist"]);
    world.spfs(["push", "nope", "--to", &new]).fails_with(1, &["nope"]);
    let told = world.spfs(["push", "--dry-run", "tool", "--to", &new]).succeeds().stderr;
    assert!(told.contains("would be synced") && !file.exists(), "{told}");
    let source = world.directory("source", &[("g", "two\n")]);
    let put: [(&[&str], &str); 4] = [
        (&["push", "tool", "--to"], "tool\n"),
        (&["write", "-t", "blob", "-r"], "blob\n"),
        (&["commit", "--path", source.to_str().unwrap(), "-t", "tree", "-r"], "tree\n"),
        (&["init", "repo"], ""),
    ];
    for (command, tags) in put {
        world.spfs(command).arg(&new).stdin(b"").succeeds();
        assert_eq!(world.spfs(["tags", "-r", &new]).succeeds().stdout, tags);
        fs::remove_file(&file).unwrap();
        // What cannot be saved is not told to be there.
        let nowhere = format!("tar:{}", world.path("work/none/x.tar").display());
        let failed = world.spfs(command).arg(&nowhere).stdin(b"").fails_with(1, &["none/x.tar"]);
        assert!(!failed.stderr.contains("INFO"), "{failed:?}");
    }
}

#[test]
fn a_proxy_shows_several_repositories_as_one() {
    let world = World::new();
    let near = other(&world, "near", "near", "near\n");
    let far = other(&world, "far", "far/layer", "far\n");
    let proxy = format!("proxy:?primary={}&secondary[0]={}", near.display(), far.display());
    let all = world.spfs(["tags", "-r", &proxy]).succeeds().stdout;
    assert_eq!(all, "far/layer\nnear\n");
    assert_eq!(world.spfs(["read", "-r", &proxy, "far/layer", "f"]).succeeds().stdout, "far\n");
    let layers = world.spfs(["layers", "-r", &proxy]).succeeds().stdout;
    assert_eq!(layers.lines().count(), 2, "{layers}");
    world.spfs(["check", "-r", &proxy]).succeeds();
    world.spfs(["clean", "-r", &proxy, "--yes"]).fails_with(1, &["more than one repository"]);
    world.spfs(["pull", "far/layer", "--from", &proxy]).succeeds();
    assert_eq!(world.spfs(["read", "far/layer", "f"]).succeeds().stdout, "far\n");
    let alone = format!("{proxy}&include_secondary_tags=false");
    assert_eq!(world.spfs(["tags", "-r", &alone]).succeeds().stdout, "near\n");
}

#[test]
fn remotes_are_configured_by_their_parts() {
    let world = World::new();
    let near = other(&world, "near", "near", "near\n");
    let far = other(&world, "far", "far", "far\n");
    fs::create_dir(world.path("config/spfs")).unwrap();
    let toml = format!(
        "[remote.near]\nscheme = \"fs\"\npath = {near:?}\n\
         [remote.far]\naddress = \"file:{}\"\n\
         [remote.both]\nscheme = \"proxy\"\nprimary = \"near\"\nsecondary = [\"far\"]\n\
         [remote.before]\nscheme = \"fs\"\npath = {far:?}\nwhen = \"@2001-01-01\"\n\
         [remote.loop]\nscheme = \"proxy\"\nprimary = \"loop\"\n",
        far.display()
    );
    fs::write(world.path("config/spfs/spfs.toml"), toml).unwrap();
    assert_eq!(world.spfs(["tags", "-r", "both"]).succeeds().stdout, "far\nnear\n");
    assert_eq!(world.spfs(["tags", "-r", "before"]).succeeds().stdout, "");
    world.spfs(["untag", "--all", "x", "-r", "before"]).fails_with(1, &[]);
    world.spfs(["tags", "-r", "loop"]).fails_with(1, &["refers to itself"]);
    world.spfs(["tags", "-r", "nope"]).fails_with(1, &["no remote named \"nope\"", "spfs config"]);
    world.spfs(["tags", "-r", "http2://host:1"]).fails_with(1, &["'http2:'", "proxy:"]);
}

#[test]
fn origin_can_be_wrapped_for_one_call() {
    let world = World::new();
    let near = other(&world, "near", "near", "near\n");
    let far = other(&world, "far", "far", "far\n");
    let origin = format!("file:{}", far.display());
    let spfs = |args: &[&str]| {
        let wrapped = world.spfs(args).arg("--wrap-origin").arg(&near);
        wrapped.env("SPFS_REMOTE_origin_ADDRESS", &origin)
    };
    assert_eq!(spfs(&["tags", "-r", "origin"]).succeeds().stdout, "far\nnear\n");
    assert_eq!(spfs(&["read", "near", "f"]).succeeds().stdout, "near\n");
    world.layer("mine", &[("f", "mine\n")]);
    spfs(&["push", "mine"]).succeeds();
    assert_eq!(world.spfs(["tags", "-r"]).arg(&near).succeeds().stdout, "mine\nnear\n");
    assert_eq!(world.spfs(["tags", "-r"]).arg(&far).succeeds().stdout, "far\n");
    // Without an origin it stands alone.
    let alone = world.spfs(["tags", "-r", "origin", "--wrap-origin"]).arg(&near);
    assert_eq!(alone.succeeds().stdout, "mine\nnear\n");
    world.spfs(["tags", "-r", "origin"]).fails_with(1, &["no remote named \"origin\""]);
}

#[test]
fn a_runtime_reads_through_a_proxy_and_a_tar_file() {
    as_each_user(|world| {
        let near = other(world, "near", "near", "near\n");
        let far = other(world, "far", "far", "far\n");
        let archive = format!("tar:{}", world.path("work/far.tar").display());
        world.spfs(["push", "far", "--to", &archive, "--from"]).arg(&far).succeeds();
        let proxy = format!("proxy:?primary={}&secondary[0]={archive}", near.display());
        let temp = world.directory("temp", &[]);
        for reference in ["far", "near"] {
            let run = world.spfs(["run", reference, "--", "cat", "/spfs/f"]).env("TMPDIR", &temp);
            let run = run.env("SPFS_REMOTE_origin_ADDRESS", &proxy);
            assert_eq!(run.succeeds().stdout, format!("{reference}\n"));
            world.settle();
            assert_eq!(fs::read_dir(&temp).unwrap().count(), 0, "nothing stays unpacked");
        }
        // While it runs, only who serves it has it unpacked.
        let run = world.spfs(["run", "far", "-r", &archive, "--", "ls"]).arg(&temp);
        let listed = run.env("TMPDIR", &temp).succeeds().stdout;
        assert_eq!(listed.lines().count(), 1, "{listed}");
        world.settle();
        let run = world.spfs(["run", "far", "--", "cat", "/spfs/f"]);
        let run = run.env("SPFS_FUSE_INCLUDE_SECONDARY_TAGS", "false");
        run.env("SPFS_REMOTE_origin_ADDRESS", &proxy).fails_with(1, &["far"]);
    });
}

#[test]
fn a_fallback_repairs_its_folder_by_reading() {
    let world = World::new();
    let far = other(&world, "far", "far", "far\n");
    let near = world.path("work/near");
    world.spfs(["init", "repo"]).arg(&near).succeeds();
    let fallback = format!("fallback:?primary={}&secondary[0]={}", near.display(), far.display());
    assert_eq!(world.spfs(["read", "-r", &fallback, "far", "f"]).succeeds().stdout, "far\n");
    let digest = world.spfs(["layers", "-r"]).arg(&near).succeeds().stdout;
    let read = world.spfs(["read", "-r"]).arg(&near).args([digest.trim(), "f"]);
    assert_eq!(read.succeeds().stdout, "far\n");
}

#[test]
fn of_two_pushes_to_one_archive_none_is_lost_without_a_word() {
    let world = World::new();
    for name in ["one", "two"] {
        let dir = world.directory(name, &[("file", name)]);
        world.spfs(["commit", "--path"]).arg(&dir).args(["-t", name]).succeeds();
    }
    for round in 0..6 {
        let archive = format!("tar:{}", world.path(format!("{round}.tar")).display());
        let push = |name: &str| world.spfs(["push", name, "--to", &archive]).run();
        let (one, two) = std::thread::scope(|scope| {
            let one = scope.spawn(|| push("one"));
            let two = push("two");
            (one.join().unwrap(), two)
        });
        let there = world.spfs(["tags", "-r", &archive]).succeeds().stdout;
        for (name, pushed) in [("one", one), ("two", two)] {
            let is_there = there.lines().any(|line| line == name);
            assert_eq!(pushed.code == 0, is_there, "{name}: {pushed:?}, {there}");
            if !is_there {
                assert!(pushed.stderr.contains("changed by somebody else"), "{pushed:?}");
            }
        }
    }
}
