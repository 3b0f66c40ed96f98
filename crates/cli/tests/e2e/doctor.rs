//! `spfs doctor` on this machine, and `spfs service`, which is for others.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use spfs_sys::host::{SYSTEM, System};

use crate::harness::{
    Outcome, User, World, as_each_user, assert_same_tree, is_root, list, own_mounts,
};
use crate::life::kill;

/// The findings of `spfs doctor --json`.
fn findings(outcome: &Outcome) -> Vec<Value> {
    let parsed: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let findings = parsed.as_array().unwrap().clone();
    for finding in &findings {
        let state = finding["state"].as_str().unwrap();
        assert!(["ok", "warning", "broken"].contains(&state), "{finding}");
        assert_eq!(finding["fix"].is_string(), state != "ok", "{finding}");
        assert!(finding["check"].is_string() && finding["found"].is_string(), "{finding}");
    }
    findings
}

/// The finding of this check that is not ok.
fn trouble<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    let is_meant = |finding: &&Value| finding["check"] == check && finding["state"] != "ok";
    findings.iter().find(is_meant).unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

#[test]
fn all_is_well_on_a_machine_where_runtimes_work() {
    as_each_user(|world| {
        world.layer("base", &[("f", "1")]);
        world.spfs(["run", "base", "--", "true"]).succeeds();
        world.settle();
        let before = list(&world.storage());
        let outcome = world.spfs(["doctor", "--json"]).succeeds();
        assert_same_tree(&before, &list(&world.storage()));
        for finding in findings(&outcome) {
            // Only these may be a warning on a machine on which everything works.
            let may_warn = ["kernel", "open files"].iter().any(|check| finding["check"] == *check);
            assert!(finding["state"] == "ok" || may_warn, "{finding}");
        }
        let text = world.spfs(["doctor"]).succeeds().stdout;
        for check in ["fuse", "user namespaces", "cloning", "storage root", "stale mounts"] {
            assert!(text.contains(&format!("ok       {check}: ")), "{check}: {text}");
        }
    });
}

#[test]
fn a_storage_that_is_not_there_yet_is_fine_and_is_not_made() {
    as_each_user(|world| {
        let outcome = world.spfs(["doctor", "--json"]).succeeds();
        let told = findings(&outcome);
        let root = told.iter().find(|finding| finding["check"] == "storage root").unwrap();
        assert!(root["found"].as_str().unwrap().contains("first needed"), "{root}");
        assert!(!world.storage().exists());
    });
}

#[test]
fn a_storage_that_cannot_be_written_is_broken() {
    as_each_user(|world| {
        fs::write(world.path("file"), "").unwrap();
        let mut roots = vec![world.path("file/storage")];
        if world.user() == User::Nobody {
            let closed = world.path("closed");
            fs::create_dir(&closed).unwrap();
            roots.extend([closed.join("storage"), closed]);
        }
        for root in roots {
            let doctor = world.spfs(["doctor", "--json"]).env("SPFS_STORAGE_ROOT", &root);
            let found = trouble(&findings(&doctor.fails_with(1, &[])), "storage root").clone();
            assert_eq!(found["state"], "broken");
            assert!(found["found"].as_str().unwrap().contains(root.to_str().unwrap()), "{found}");
        }
    });
}

#[test]
fn a_storage_that_is_shared_is_as_good_as_one_of_ones_own() {
    if !is_root() {
        eprintln!("SKIPPED: only root can share a storage with somebody else");
        return;
    }
    as_each_user(|world| {
        // As root makes it for all others, with a root that stays as it is.
        for part in ["", "objects", "payloads", "tags", "runtimes"] {
            let mode = if part.is_empty() { 0o755 } else { 0o1777 };
            fs::create_dir_all(world.storage().join(part)).unwrap();
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(world.storage().join(part), mode).unwrap();
        }
        world.layer("base", &[("f", "1")]);
        world.spfs(["run", "--edit", "base", "--", "touch", "/spfs/x"]).succeeds();
        let told = findings(&world.spfs(["doctor", "--json"]).succeeds());
        for check in ["storage root", "runtimes folder", "cloning"] {
            let finding = told.iter().find(|finding| finding["check"] == check).unwrap();
            assert_eq!(finding["state"], "ok", "{finding}");
        }
        world.settle();
    });
}

#[test]
fn unknown_keys_are_warnings_and_a_broken_configuration_is_broken() {
    let world = World::new();
    let folder = world.path("config/spfs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("spfs.toml"), "[storage]\nrot = \"/x\"\n").unwrap();
    // What else is found is this machine's business.
    let told = findings(&world.spfs(["doctor", "--json"]).run());
    let warning = trouble(&told, "configuration");
    assert_eq!(warning["state"], "warning");
    assert!(warning["found"].as_str().unwrap().contains("storage.rot"), "{warning}");
    fs::write(folder.join("spfs.toml"), "[storage\n").unwrap();
    let told = findings(&world.spfs(["doctor", "--json"]).fails_with(1, &[]));
    assert_eq!(trouble(&told, "configuration")["state"], "broken");
}

#[test]
fn crashed_runtimes_and_their_dead_mounts_are_told() {
    if !own_mounts("there the one dead mount is seen by all, which doctor calls broken") {
        return;
    }
    as_each_user(|world| {
        let mut session = world.session(["--runtime-name", "victim", "-"]);
        session.ok("touch /spfs/x");
        kill(world.daemon());
        // Inside, the mount is dead as well.
        let inside = session.sh("spfs doctor --json");
        assert_eq!(inside.code, 1, "{inside:?}");
        let dead = trouble(&findings(&inside), "stale mounts").clone();
        assert!(dead["found"].as_str().unwrap().contains("/spfs"), "{dead}");
        session.end();
        let told = findings(&world.spfs(["doctor", "--json"]).succeeds());
        let crashed = trouble(&told, "runtimes");
        assert_eq!(crashed["state"], "warning");
        let fix = crashed["fix"].as_str().unwrap();
        assert!(fix.contains("--rerun victim") && fix.contains("remove victim"), "{fix}");
        world.spfs(["runtime", "remove", "victim"]).succeeds();
    });
}

#[test]
fn on_linux_there_is_nothing_to_install() {
    if SYSTEM != System::Linux {
        eprintln!("SKIPPED: elsewhere there is something to install, and it would be");
        return;
    }
    let world = World::new();
    for what in ["install", "uninstall"] {
        world.spfs(["service", what]).fails_with(1, &["on Linux", "mount of its own"]);
    }
    assert!(!world.path("home/Library").exists());
}
