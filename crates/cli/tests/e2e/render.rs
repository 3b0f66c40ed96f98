//! `spfs render`: layers as plain files.

use std::fs;

use crate::harness::{World, as_each_user};

#[test]
fn a_stack_is_rendered_into_a_directory() {
    as_each_user(|world| {
        world.layer("base", &[("f", "base\n"), ("dir/x", "x\n"), ("gone", "gone\n")]);
        let edit = "rm /spfs/gone; echo top > /spfs/f; spfs commit layer -t top";
        world.spfs(["run", "--edit", "base", "--", "sh", "-c", edit]).succeeds();
        let out = world.path("work/out");
        let told = world.spfs(["render", "base+top"]).arg(&out).succeeds().stdout;
        let told: serde_json::Value = serde_json::from_str(told.trim_end()).unwrap();
        assert_eq!(told["paths_rendered"][0], out.to_str().unwrap());
        let summary = &told["render_summary"];
        assert_eq!((&summary["entry_count"], &summary["copy_count"]), (&3.into(), &2.into()));
        assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "top\n");
        assert!(out.join("dir/x").exists() && !out.join("gone").exists());

        world.spfs(["render", "base"]).arg(&out).fails_with(1, &["work/out is not empty"]);
        world.spfs(["render", "base", "--allow-existing"]).arg(&out).succeeds();
        assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "base\n");
        world.spfs(["render", "nope", "x"]).fails_with(1, &["nope"]);
        world.settle();
    });
}

#[test]
fn layers_are_rendered_into_the_repository_and_cleaned_with_it() {
    let world = World::new();
    world.layer("base", &[("f", "base\n")]);
    world.layer("top", &[("g", "top\n")]);
    let render = || {
        let told = world.spfs(["render", "base+top"]).succeeds().stdout;
        serde_json::from_str::<serde_json::Value>(told.trim_end()).unwrap()
    };
    let told = render();
    let paths = told["paths_rendered"].as_array().unwrap();
    assert_eq!(paths.len(), 2);
    let first = std::path::Path::new(paths[0].as_str().unwrap());
    assert!(first.starts_with(world.storage().join("renders")), "{first:?}");
    assert_eq!(fs::read_to_string(first.join("f")).unwrap(), "base\n");
    assert_eq!(render()["render_summary"]["entry_count"], 0, "they are there");
    let cleaned = world.spfs(["clean", "--dry-run", "--json"]).succeeds().stdout;
    let cleaned: serde_json::Value = serde_json::from_str(&cleaned).unwrap();
    assert_eq!((&cleaned["renders"], &cleaned["renders_removed"]), (&2.into(), &0.into()));
}

#[test]
fn what_only_origin_has_is_rendered_too() {
    let world = World::new();
    let far = world.path("work/far");
    world.spfs(["init", "repo"]).arg(&far).succeeds();
    world.layer("base", &[("f", "base\n")]);
    world.spfs(["push", "base", "--to"]).arg(&far).succeeds();
    let other = World::new();
    let origin = format!("file:{}", far.display());
    for strategy in ["Copy", "HardLink", "HardLinkNoProxy"] {
        let out = other.path(format!("work/{strategy}"));
        let render = other.spfs(["render", "--strategy", strategy, "base"]).arg(&out);
        render.env("SPFS_REMOTE_origin_ADDRESS", &origin).succeeds();
        assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "base\n", "{strategy}");
    }
}

#[test]
fn the_program_goes_by_upstreams_names() {
    let world = World::new();
    world.layer("base", &[("f", "base\n")]);
    for name in ["spfs-render", "spfs-clean", "spfs-join"] {
        std::os::unix::fs::symlink("spfs", world.path("bin").join(name)).unwrap();
    }
    let out = world.path("work/out");
    world.spfs(["base"]).arg(&out).program(world.path("bin/spfs-render")).succeeds();
    assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "base\n");
    world.spfs(["--dry-run"]).program(world.path("bin/spfs-clean")).succeeds();
    world
        .spfs(["none", "--", "true"])
        .program(world.path("bin/spfs-join"))
        .fails_with(1, &["none"]);
}
