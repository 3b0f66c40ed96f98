//! Changing, committing and resetting a live runtime.

use crate::harness::{LIST, World, as_each_user, assert_same_tree, list, wait_for};

fn package(world: &World) {
    world.layer(
        "my/package",
        &[("dir/one", "1"), ("dir/two", "2"), ("file", "old\n"), ("link", "-> file")],
    );
}

/// What a run of this environment shows.
fn shown(world: &World, reference: &str) -> String {
    world.spfs(["run", reference, "--", "sh", "-c", LIST, "sh", "/spfs"]).succeeds().stdout
}

#[test]
fn changes_become_a_layer_that_runs_the_same() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session.ok("echo 'new content' > /spfs/newfile.txt; cat /spfs/newfile.txt");
        session.ok("rm /spfs/dir/one /spfs/link");
        assert_eq!(session.ok("ls /spfs"), "dir\nfile\nnewfile.txt\n");
        session.ok("mkdir -p /spfs/a/b && ln -s ../file /spfs/a/b/l && chmod 755 /spfs/file");
        let out = session.ok("spfs commit layer -m 'Added newfile' -t my/package2");
        assert!(out.contains(" INFO created digest="), "{out}");
        assert!(out.contains(" INFO created tag=\"my/package2\""), "{out}");
        assert!(out.contains(" INFO edit mode disabled"), "{out}");
        let lived = session.ok(&format!("(set -- /spfs; {LIST})"));
        session.end();
        assert_same_tree(&lived, &shown(world, "my/package+my/package2"));
        let info = world.spfs(["info", "my/package2"]).succeeds().stdout;
        assert!(info.contains("Added newfile"), "{info}");
        assert!(world.spfs(["log", "my/package2"]).succeeds().stdout.contains("Added newfile"));
    });
}

#[test]
fn a_committed_platform_is_the_whole_environment() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session
            .ok("echo edited > /spfs/file; rm -r /spfs/dir; mkdir /spfs/dir; touch /spfs/dir/new");
        session.ok("spfs commit platform -t suite");
        let lived = session.ok(&format!("(set -- /spfs; {LIST})"));
        session.end();
        assert_same_tree(&lived, &shown(world, "suite"));
        let out = world.spfs(["run", "suite", "--", "cat", "/spfs/file"]).succeeds().stdout;
        assert_eq!(out, "edited\n");
    });
}

#[test]
fn after_a_commit_edit_mode_is_off_unless_kept() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("echo 1 > /spfs/f; spfs commit layer --keep-editing -t one");
        session.ok("echo 2 > /spfs/f; spfs commit layer -t two");
        let said = session.fails("echo 3 > /spfs/f");
        assert!(said.contains("Read-only file system"), "{said}");
        let said = session.fails("spfs commit layer");
        assert!(said.contains("nothing to commit"), "{said}");
        assert_eq!(session.ok("cat /spfs/f"), "2\n");
        session.end();
        assert_eq!(world.spfs(["read", "one", "f"]).succeeds().stdout, "1\n");
        assert_eq!(world.spfs(["read", "two", "f"]).succeeds().stdout, "2\n");
    });
}

#[test]
fn a_second_commit_holds_only_what_came_after_the_first() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("touch /spfs/first; spfs commit layer --keep-editing -t first");
        session.ok("touch /spfs/second; spfs commit layer -t second");
        session.end();
        assert_eq!(world.spfs(["ls", "first"]).succeeds().stdout, "first\n");
        assert_eq!(world.spfs(["ls", "second"]).succeeds().stdout, "second\n");
        assert_eq!(world.spfs(["ls", "first+second"]).succeeds().stdout, "first\nsecond\n");
    });
}

#[test]
fn files_of_macos_are_left_out_and_counted() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        let commit = "SPFS_TEST_MACOS_FILES=1 spfs commit layer --keep-editing";
        session.ok("mkdir /spfs/d; echo 1 > /spfs/d/f; touch /spfs/.DS_Store /spfs/d/._f");
        session.ok("mkdir /spfs/.Trashes; touch /spfs/.Trashes/old");
        let said = session.ok(&format!("{commit} -t without"));
        assert!(said.contains("files of macOS left out") && said.contains("count=3"), "{said}");
        assert_eq!(
            world.spfs(["ls", "-R", "without"]).succeeds().stdout,
            ".:\nd/  \n\n./d:\nf  \n\n"
        );
        // They stay, and only they are left.
        session.ok("test -e /spfs/.DS_Store && test -e /spfs/d/._f && test -e /spfs/.Trashes/old");
        let said = session.fails(commit);
        for part in ["nothing to commit", "only files of macOS", "(3)", "--keep-macos-files"] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        session.ok(&format!("{commit} --keep-macos-files -t with"));
        let stored = world.spfs(["ls", "with"]).succeeds().stdout;
        assert!(stored.contains(".DS_Store") && stored.contains(".Trashes"), "{stored}");
        let said = session.fails(commit);
        assert!(said.contains("nothing was changed"), "{said}");
        session.end();
    });
}

#[test]
fn a_commit_without_changes_is_refused_but_a_platform_is_not() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        assert!(session.fails("spfs commit layer").contains("othing to commit"));
        session.ok("echo x > /spfs/x; rm /spfs/x");
        assert!(session.fails("spfs commit layer").contains("othing to commit"));
        session.ok("spfs commit platform -t same");
        session.end();
        assert_eq!(shown(world, "same"), shown(world, "my/package"));
    });
}

#[test]
fn committing_in_a_read_only_runtime_is_refused() {
    as_each_user(|world| {
        package(world);
        let run = world.spfs(["run", "my/package", "--", "spfs", "commit", "layer"]);
        run.fails_with(1, &["nothing to commit", "not in edit mode", "hint: "]);
    });
}

#[test]
fn what_the_format_cannot_hold_stops_a_commit_and_harms_nothing() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("touch /spfs/good; mkfifo /spfs/pipe");
        let said = session.fails("spfs commit layer -t t");
        assert!(said.contains("pipe"), "{said}");
        session.ok("rm /spfs/pipe; touch \"$(printf '/spfs/n\\377me')\"");
        let said = session.fails("spfs commit layer -t t");
        assert!(said.contains("UTF-8"), "{said}");
        session.ok("rm /spfs/n*me; spfs commit layer -t t");
        session.end();
        assert_eq!(world.spfs(["ls", "t"]).succeeds().stdout, "good\n");
        assert_eq!(world.spfs(["log", "t"]).succeeds().stdout.lines().count(), 1);
    });
}

#[test]
fn a_directory_made_again_hides_the_old_one() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session
            .ok("rm -r /spfs/dir; mkdir /spfs/dir; echo n > /spfs/dir/new; spfs commit layer -t t");
        session.end();
        let out = world.spfs(["run", "my/package+t", "--", "ls", "/spfs/dir"]).succeeds().stdout;
        assert_eq!(out, "new\n");
    });
}

#[test]
fn a_file_over_a_directory_drops_its_children_for_good() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session.ok("rm -r /spfs/dir; echo n > /spfs/dir; spfs commit layer -t file");
        session.end();
        let mut session = world.session(["--edit", "my/package+file"]);
        session.ok("rm /spfs/dir; mkdir /spfs/dir; touch /spfs/dir/x; spfs commit layer -t again");
        session.end();
        let run = world.spfs(["run", "my/package+file+again", "--", "ls", "/spfs/dir"]);
        assert_eq!(run.succeeds().stdout, "x\n");
    });
}

#[test]
fn masks_of_lower_layers_are_not_committed_again() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session.ok("rm /spfs/file; spfs commit layer -t masks");
        session.end();
        let mut session = world.session(["--edit", "my/package+masks"]);
        session.ok("touch /spfs/other; spfs commit layer -t other");
        session.end();
        assert_eq!(world.spfs(["ls", "other"]).succeeds().stdout, "other\n");
    });
}

#[test]
fn edit_mode_is_switched_in_place_with_files_open() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["my/package"]);
        session.ok("exec 3< /spfs/file; cd /spfs/dir");
        assert!(session.ok("spfs edit").contains(" INFO edit mode enabled"));
        session.ok("echo new >> /spfs/file; touch here");
        assert!(session.ok("spfs edit --off").contains(" INFO edit mode disabled"));
        session.fails("touch /spfs/other");
        assert_eq!(session.ok("cat <&3; ls; pwd -P"), "old\nnew\nhere\none\ntwo\n/spfs/dir\n");
        session.end();
    });
}

#[test]
fn edit_twice_is_silent() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        assert_eq!(session.ok("spfs edit"), "");
        session.ok("spfs edit --off");
        session.ok("spfs edit --off");
        session.end();
    });
}

#[test]
fn edit_off_with_writers_open_names_their_files() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("exec 4> /spfs/busy-file");
        let said = session.fails("spfs edit --off");
        assert!(said.contains("busy-file"), "{said}");
        session.ok("echo still >&4; exec 4>&-; spfs edit --off");
        assert_eq!(session.ok("cat /spfs/busy-file"), "still\n");
        session.end();
    });
}

#[test]
fn a_removed_file_stays_removed_when_edit_mode_ends() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session.ok("rm /spfs/file; spfs edit --off; test ! -e /spfs/file");
        session.end();
    });
}

#[test]
fn diff_lists_what_changed() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        let said = session.ok("spfs diff");
        assert_eq!(said, " INFO no changes\n");
        session.ok(
            "echo longer >> /spfs/file; rm /spfs/link; touch /spfs/new; chmod 700 /spfs/dir/one",
        );
        let out = session.ok("spfs diff 2>/dev/null");
        for line in ["~/spfs/file [content, size {4=>11}]", "-/spfs/link", "+/spfs/new"] {
            assert!(out.lines().any(|other| other == line), "{line} in {out}");
        }
        assert!(out.contains("~/spfs/dir/one [mode {100644=>100700}]"), "{out}");
        let json: serde_json::Value =
            serde_json::from_str(&session.ok("spfs diff --json")).unwrap();
        let change = |path: &str| {
            let found = json.as_array().unwrap().iter().find(|change| change["path"] == path);
            found.unwrap_or_else(|| panic!("{path} in {json}"))["change"].clone()
        };
        assert_eq!(change("/spfs/new"), "added");
        assert_eq!(change("/spfs/link"), "removed");
        assert_eq!(change("/spfs/file"), "changed");
        session.end();
    });
}

#[test]
fn reset_drops_everything_or_what_matches() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        let change =
            "echo x > /spfs/file; echo x > /spfs/dir/one; rm -f /spfs/dir/two; touch /spfs/new";
        session.ok(change);
        session.ok("spfs reset /spfs/dir");
        assert_eq!(session.ok("cat /spfs/dir/one /spfs/dir/two; cat /spfs/file"), "12x\n");
        session.ok("spfs reset 'n*'");
        session.ok("test ! -e /spfs/new");
        session.ok(change);
        session.ok("spfs reset");
        assert_eq!(
            session.ok("cd /spfs; cat dir/one dir/two file; ls; spfs diff 2>&1"),
            "12old\ndir\nfile\nlink\n INFO no changes\n"
        );
        session.end();
    });
}

#[test]
fn reset_shows_the_stack_to_files_that_were_open() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        session.ok("cd /spfs/dir; echo changed > one; cat one");
        session.ok("spfs reset");
        assert_eq!(session.ok("cat one; ls"), "1one\ntwo\n");
        session.end();
    });
}

#[test]
fn info_tells_the_active_runtime_and_where_a_file_comes_from() {
    as_each_user(|world| {
        package(world);
        world.layer("top", &[("file", "top\n")]);
        let mut session = world.session(["--edit", "--runtime-name", "named", "my/package+top"]);
        let out = session.ok("spfs info");
        let (package, top) = (world.digest_of("my/package"), world.digest_of("top"));
        for part in
            [" id: named\n", " editable: true\n", "stack (top-down):\n", "No Active Changes"]
        {
            assert!(out.contains(part), "{part} in {out}");
        }
        assert!(out.find(&top) < out.find(&package), "top first: {out}");
        session.ok("touch /spfs/new");
        assert!(session.ok("spfs info").contains("Run 'spfs diff' for active changes"));
        let json: serde_json::Value =
            serde_json::from_str(&session.ok("spfs info --json")).unwrap();
        assert_eq!(json["name"], "named");
        assert_eq!(json["editable"], true);
        assert!(json["changes"].as_u64().unwrap() > 0, "{json}");
        let out = session.ok("spfs info /spfs/file");
        assert!(out.starts_with("file (in 2 layers)\n"), "{out}");
        assert!(out.find(&top) < out.find(&package), "top first: {out}");
        assert!(session.fails("spfs info /spfs/nope").contains("nope"));
        session.end();
    });
}

#[test]
fn files_changed_and_committed_keep_their_inode_and_time() {
    as_each_user(|world| {
        package(world);
        let mut session = world.session(["--edit", "my/package"]);
        let before = session.ok("echo x >> /spfs/file; stat -c '%i %y' /spfs/file");
        session.ok("spfs commit layer");
        assert_eq!(session.ok("stat -c '%i %y' /spfs/file"), before);
        session.end();
    });
}

#[test]
fn a_commit_while_a_file_is_open_holds_what_was_written() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("exec 5> /spfs/f; echo hello >&5; spfs commit layer --keep-editing -t t");
        assert_eq!(session.ok("cat /spfs/f"), "hello\n");
        session.ok("echo more >&5");
        assert_eq!(session.ok("cat /spfs/f"), "hello\nmore\n");
        session.end();
        assert_eq!(world.spfs(["read", "t", "f"]).succeeds().stdout, "hello\n");
    });
}

#[test]
fn commits_from_a_directory_inside_spfs_work_too() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("mkdir /spfs/src; echo x > /spfs/src/f; spfs commit --path /spfs/src -t src");
        session.end();
        assert_eq!(world.spfs(["read", "src", "f"]).succeeds().stdout, "x\n");
    });
}

#[test]
fn everything_is_owned_by_the_user() {
    as_each_user(|world| {
        package(world);
        let script = "test -O /spfs && test -O /spfs/dir && test -O /spfs/file && touch /spfs/n && test -O /spfs/n";
        world.spfs(["run", "--edit", "my/package", "--", "sh", "-c", script]).succeeds();
    });
}

#[test]
fn a_directory_of_the_host_can_be_copied_in_and_comes_out_the_same() {
    as_each_user(|world| {
        let dir = world.directory("src", &[("a/b/c", "deep"), ("l", "-> a"), ("e/", "")]);
        let mut session = world.session(["-"]);
        session.ok(&format!("cp -a {}/. /spfs/ && spfs commit layer -t copied", dir.display()));
        session.end();
        wait_for("the runtime to end", || world.runtimes().is_empty());
        assert_same_tree(&list(&dir), &shown(world, "copied"));
    });
}

#[test]
fn diff_of_one_ref_compares_it_with_what_is_shown() {
    as_each_user(|world| {
        world.layer("one", &[("same", "s"), ("f", "1"), ("only-one/x", "x"), ("d/a", "a")]);
        world.layer("two", &[("same", "s"), ("f", "2"), ("d/b", "b")]);
        let mut session = world.session(["--edit", "two"]);
        let expected = "~/spfs/d\n-/spfs/d/a\n+/spfs/d/b\n~/spfs/f [content]\n\
                        -/spfs/only-one\n-/spfs/only-one/x\n";
        assert_eq!(session.ok("spfs diff one"), expected);
        assert_eq!(session.ok("spfs diff two"), " INFO no changes\n");
        session.ok("cp /spfs/f /spfs/g; printf 1 > /spfs/f; rm -r /spfs/d; printf d > /spfs/d");
        let expected = "~/spfs/d [mode {040755=>100644}, content, size {0=>1}]\n-/spfs/d/a\n\
                        +/spfs/g\n-/spfs/only-one\n-/spfs/only-one/x\n";
        assert_eq!(session.ok("umask 022; spfs diff one"), expected);
        session.end();
        world.spfs(["diff", "one"]).fails_with(1, &["spfs diff", "runtime"]);
    });
}

#[test]
fn on_linux_files_of_macos_are_files_like_all_others() {
    as_each_user(|world| {
        let script = "touch /spfs/.DS_Store /spfs/._x /spfs/x; spfs commit layer -t made";
        let made = world.spfs(["run", "-", "--", "sh", "-c", script]).succeeds();
        assert!(!made.stderr.contains("left out"), "{made:?}");
        assert_eq!(world.spfs(["ls", "made"]).succeeds().stdout, ".DS_Store\n._x\nx\n");
        let script = "touch /spfs/.DS_Store; spfs commit layer --keep-macos-files -t kept";
        world.spfs(["run", "-", "--", "sh", "-c", script]).succeeds();
        assert_eq!(world.spfs(["ls", "kept"]).succeeds().stdout, ".DS_Store\n");
        let dir = world.directory("dir", &[(".DS_Store", ""), ("x", "")]);
        world.spfs(["commit", "-t", "dir", "--path"]).arg(&dir).succeeds();
        assert_eq!(world.spfs(["ls", "dir"]).succeeds().stdout, ".DS_Store\nx\n");
        let both = world.spfs(["commit", "--keep-macos-files", "--path"]).arg(&dir);
        both.fails_with(2, &["--keep-macos-files"]);
    });
}

/// What was moved away and is put back by a reset, while somebody is inside of it.
const MOVED: &str = r#"
cd /spfs
mv dir moved
exec 5< moved/inner
(cd moved; spfs reset 2> /dev/null; /bin/pwd)
ls -A dir
echo new > dir/new
ls -A dir
cat <&5
exec 5<&-
rm -r dir
spfs reset 2> /dev/null
ls -A dir
"#;

#[test]
fn a_directory_that_is_put_back_while_somebody_is_in_it_is_alive() {
    as_each_user(|world| {
        let files: &[(&str, &str)] = &[("dir/inner", "inside\n"), ("file", "file\n")];
        let dir = world.directory("base", files);
        world.spfs(["commit", "--path"]).arg(&dir).args(["-t", "base"]).succeeds();
        let mut session = world.session(["--edit", "base"]);
        let said = session.ok(MOVED);
        assert_eq!(said, "/spfs/dir\ninner\ninner\nnew\ninside\ninner\n");
        session.end();
    });
}

#[test]
fn a_file_whose_other_name_was_reset_can_be_linked_again() {
    as_each_user(|world| {
        let dir = world.directory("base", &[("file", "file\n")]);
        world.spfs(["commit", "--path"]).arg(&dir).args(["-t", "base"]).succeeds();
        let mut session = world.session(["--edit", "base"]);
        let links = "cd /spfs; ln file other; spfs reset 2> /dev/null; stat -c %h file; ln file again; stat -c %h file";
        assert_eq!(session.ok(links), "1\n2\n");
        session.end();
    });
}
