//! The behaviours that upstream's own black-box tests fix, one test each.

use crate::harness::{as_each_user, wait_for};

#[test]
fn disk_usage_of_a_file_is_not_zero() {
    as_each_user(|world| {
        let content = "x".repeat(100);
        world.layer("du", &[("f", &content)]);
        let run = world.spfs(["run", "du", "--", "sh", "-c", "du -c /spfs/* | tail -1"]);
        let out = run.env("SPFS_FILESYSTEM_BACKEND", "FuseOnly").succeeds().stdout;
        let blocks: u64 = out.split_whitespace().next().unwrap().parse().unwrap();
        assert!(blocks > 0, "{out}");
    });
}

#[test]
fn no_daemon_is_left_after_a_read_only_runtime() {
    as_each_user(|world| {
        let run =
            world.spfs(["run", "-", "--no-edit", "--", "sh", "-c", "test -n \"$SPFS_RUNTIME\""]);
        run.env("SPFS_FILESYSTEM_BACKEND", "FuseOnly").succeeds();
        world.settle();
    });
}

#[test]
fn an_empty_platform_of_a_runtime_does_not_collide_with_eight_zero_bytes() {
    as_each_user(|world| {
        let script = "spfs commit --allow-empty platform -t test/empty && \
                      printf '\\0\\0\\0\\0\\0\\0\\0\\0' | spfs write -t test/zeros && \
                      spfs read test/zeros | od -An -tx1";
        let out = world.spfs(["run", "-", "--", "sh", "-c", script]).succeeds().stdout;
        assert_eq!(out.trim(), "00 00 00 00 00 00 00 00");
        assert_ne!(world.digest_of("test/empty"), world.digest_of("test/zeros"));
    });
}

#[test]
fn an_edited_file_of_a_base_layer_is_what_the_platform_shows() {
    as_each_user(|world| {
        world.layer("test/base", &[("file.txt", "base\n")]);
        let script = "echo edited > /spfs/file.txt; spfs commit platform -t test/top";
        world.spfs(["run", "--edit", "test/base", "--", "sh", "-c", script]).succeeds();
        let run = world.spfs(["run", "test/top", "--", "cat", "/spfs/file.txt"]);
        assert_eq!(run.succeeds().stdout, "edited\n");
    });
}

#[test]
fn a_removed_file_is_gone_in_a_later_run() {
    as_each_user(|world| {
        world.layer("test/base", &[("f", "x"), ("g", "y")]);
        let script = "rm /spfs/f; spfs commit layer -t test/top";
        world.spfs(["run", "--edit", "test/base", "--", "sh", "-c", script]).succeeds();
        let script = "test ! -f /spfs/f && test -f /spfs/g";
        world.spfs(["run", "test/base+test/top", "--", "sh", "-c", script]).succeeds();
    });
}

#[test]
fn a_removed_directory_is_gone_and_its_parent_stays_and_is_ours() {
    as_each_user(|world| {
        world.layer("test/base", &[("dir1/dir2/f", "x"), ("dir1/g", "y")]);
        let script = "rm -r /spfs/dir1/dir2; spfs commit platform -t test/top";
        world.spfs(["run", "--edit", "test/base", "--", "sh", "-c", script]).succeeds();
        let script = "test ! -d /spfs/dir1/dir2 && test -d /spfs/dir1 && test -O /spfs/dir1";
        world.spfs(["run", "test/top", "--", "sh", "-c", script]).succeeds();
    });
}

#[test]
fn an_open_file_does_not_make_a_runtime_busy() {
    as_each_user(|world| {
        let script = "echo hello > /spfs/file; exec 5< /spfs/file; spfs commit layer >/dev/null 2>&1; \
                      cat <&5; cat /spfs/file";
        let run = world.spfs(["run", "-", "--", "bash", "-c", script]);
        assert_eq!(run.succeeds().stdout, "hello\nhello\n");
    });
}

#[test]
fn runtimes_nest_after_edit_mode_was_switched_off() {
    as_each_user(|world| {
        let script = "spfs edit --off && spfs run - -- echo hello";
        let run = world.spfs(["run", "", "--", "sh", "-c", script]);
        assert_eq!(run.succeeds().stdout, "hello\n");
    });
}

#[test]
fn the_temporary_directory_of_the_caller_is_kept() {
    as_each_user(|world| {
        for shell in ["bash", "tcsh"] {
            if !std::path::Path::new("/usr/bin").join(shell).exists() {
                eprintln!("SKIPPED: {shell} is not installed");
                continue;
            }
            let run = world.spfs(["run", "-", "--", shell, "-c", "echo $TMPDIR"]);
            let run = run.env("TMPDIR", "/tmp/elsewhere").succeeds();
            assert_eq!(run.stdout, "/tmp/elsewhere\n", "{shell}");
        }
    });
}

#[test]
fn a_removed_file_is_still_gone_after_edit_mode_was_switched_off() {
    as_each_user(|world| {
        world.layer("test/base", &[("f", "x")]);
        let script = "rm /spfs/f; spfs edit --off && test ! -e /spfs/f";
        world.spfs(["run", "--edit", "test/base", "--", "sh", "-c", script]).succeeds();
    });
}

#[test]
fn versions_of_a_tag_are_counted_from_the_newest_and_removed_one_by_one() {
    let world = crate::harness::World::new();
    for content in ["1", "2", "3"] {
        world.layer("test/tag", &[("f", content)]);
    }
    let read = |tag: &str| world.spfs(["read", tag, "f"]).succeeds().stdout;
    let versions = || world.spfs(["log", "test/tag"]).succeeds().stdout.lines().count();
    assert_eq!(["test/tag", "test/tag~1", "test/tag~2"].map(read), ["3", "2", "1"]);
    assert_eq!(versions(), 3);
    assert!(world.spfs(["info", "test/tag~1"]).succeeds().stdout.contains("manifest"));
    world.spfs(["untag", "test/tag"]).fails_with(1, &["--latest", "--all"]);
    world.spfs(["untag", "test/tag~1"]).succeeds();
    assert_eq!(["test/tag", "test/tag~1"].map(read), ["3", "1"]);
    world.spfs(["untag", "--latest", "test/tag"]).succeeds();
    assert_eq!((read("test/tag"), versions()), ("1".to_owned(), 1));
    world.spfs(["untag", "--all", "test/tag"]).succeeds();
    world.spfs(["info", "test/tag"]).fails_with(1, &["test/tag"]);
}

#[test]
fn the_number_of_runtimes_is_right_at_every_moment() {
    as_each_user(|world| {
        let count = "spfs runtime list -q | wc -l";
        assert_eq!(world.runtimes().len(), 0);
        let run = world.spfs(["run", "-", "--", "sh", "-c", count]);
        assert_eq!(run.succeeds().stdout.trim(), "1");
        wait_for("the runtime to end", || world.runtimes().is_empty());
        let nested = format!("spfs run - -- sh -c '{count}'");
        let run = world.spfs(["run", "-", "--", "sh", "-c", &nested]);
        assert_eq!(run.succeeds().stdout.trim(), "2");
        wait_for("the runtimes to end", || world.runtimes().is_empty());
    });
}
