//! The help of every command, as its users read it.

use crate::harness::World;

/// The help of a command at a fixed width.
fn help(command: &[&str]) -> String {
    let world = World::new();
    let outcome = world.spfs(command).arg("--help").env("COLUMNS", "100").succeeds();
    assert_eq!(outcome.stderr, "");
    outcome.stdout
}

#[test]
fn the_help_of_each_command_is_as_reviewed() {
    let mut all = help(&[]);
    for command in [
        &["init"][..],
        &["init", "repo"],
        &["commit"],
        &["run"],
        &["shell"],
        &["join"],
        &["edit"],
        &["reset"],
        &["diff"],
        &["info"],
        &["ls"],
        &["read"],
        &["write"],
        &["tag"],
        &["untag"],
        &["tags"],
        &["ls-tags"],
        &["log"],
        &["search"],
        &["push"],
        &["pull"],
        &["check"],
        &["clean"],
        &["render"],
        &["migrate"],
        &["layers"],
        &["platforms"],
        &["runtime"],
        &["runtime", "list"],
        &["runtime", "info"],
        &["runtime", "remove"],
        &["runtime", "prune"],
        &["runtime", "export"],
        &["config"],
        &["doctor"],
        &["service"],
        &["service", "install"],
        &["service", "uninstall"],
        &["version"],
        &["completions"],
    ] {
        all.push_str(&format!("\n===== spfs {} --help\n", command.join(" ")));
        all.push_str(&help(command));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_version_is_told_in_two_ways() {
    let world = World::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(world.spfs(["version"]).succeeds().stdout, format!("{version}\n"));
    assert_eq!(world.spfs(["--version"]).succeeds().stdout, format!("spfs {version}\n"));
}

#[test]
fn completions_and_manual_pages_are_made_from_the_definitions() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.spfs(["completions", shell]).succeeds().stdout;
        assert!(script.contains("keep-editing"), "{shell}");
    }
    world.spfs(["man", "pages"]).succeeds();
    let pages = world.path("work/pages");
    let page = std::fs::read_to_string(pages.join("spfs-commit.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("annotation"), "{page}");
    assert!(pages.join("spfs.1").exists() && pages.join("spfs-runtime-list.1").exists());
    assert!(!pages.join("spfs-enter.1").exists(), "hidden commands have no page");
}

#[test]
fn without_a_command_the_help_is_shown_as_an_error() {
    World::new().spfs::<&str>([]).fails_with(2, &["Usage: spfs"]);
}
