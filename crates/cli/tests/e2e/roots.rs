//! With and without a directory `/spfs` on the machine.

use crate::harness::{Root, User, World, as_each_user, is_root, mounts_work, own_mounts};

/// Worlds of each user below roots that root can put together.
fn each_root(body: impl Fn(&World)) {
    if !mounts_work() || !own_mounts("each command has a root directory of its own") {
        return;
    }
    if !is_root() {
        eprintln!("SKIPPED: only root can put other root directories together");
        return;
    }
    for user in [User::Myself, User::Nobody] {
        for root in [Root::WithSpfs, Root::WithoutSpfs] {
            eprintln!("as {user:?} on {root:?}");
            body(&World::of(user).under(root));
        }
    }
}

#[test]
fn the_other_roots_are_what_they_claim() {
    if !is_root() {
        return;
    }
    for (root, code) in [(Root::WithSpfs, 0), (Root::WithoutSpfs, 1)] {
        let world = World::new().under(root);
        assert_eq!(world.spfs(["-d", "/spfs"]).program("test").run().code, code);
        assert_ne!(world.spfs(["/new"]).program("mkdir").run().code, 0);
    }
}

#[test]
fn edit_commit_and_run_work_whatever_the_root_looks_like() {
    each_root(|world| {
        world.layer("base", &[("f", "base\n"), ("d/g", "g\n")]);
        let script = "cat /spfs/f && echo new > /spfs/f && rm -r /spfs/d && spfs commit layer -t t && \
                      pwd && ls /";
        let out = world.spfs(["run", "--edit", "base", "--", "sh", "-c", script]).succeeds().stdout;
        assert!(out.starts_with(&format!("base\n{}\n", world.path("work").display())), "{out}");
        for name in ["dev", "proc", "tmp", "usr", "spfs"] {
            assert!(out.lines().any(|line| line == name), "{name} in {out}");
        }
        let run = world.spfs(["run", "base+t", "--", "sh", "-c", "ls /spfs; cat /spfs/f"]);
        assert_eq!(run.succeeds().stdout, "f\nnew\n");
    });
}

#[test]
fn runtimes_nest_whatever_the_root_looks_like() {
    each_root(|world| {
        world.layer("a", &[("f", "a\n")]);
        world.layer("b", &[("f", "b\n")]);
        let script = "spfs run b -- cat /spfs/f; cat /spfs/f";
        let outcome = world.spfs(["run", "a", "--", "sh", "-c", script]).succeeds();
        assert_eq!(outcome.stdout, "b\na\n", "{outcome:#?}");
    });
}

#[test]
fn edit_mode_is_switched_whatever_the_root_looks_like() {
    each_root(|world| {
        let script = "touch /spfs/x; spfs edit --off && ! touch /spfs/y && spfs edit && touch /spfs/z && ls /spfs";
        let run = world.spfs(["run", "-", "--", "sh", "-c", script]);
        assert_eq!(run.succeeds().stdout, "x\nz\n");
    });
}

#[test]
fn a_folder_that_is_missing_in_the_new_view_is_told_and_its_root_takes_its_place() {
    as_each_user(|world| {
        let script = "mkdir /spfs/only; cd /spfs/only; spfs run - -- pwd";
        let outcome = world.spfs(["run", "--edit", "-", "--", "sh", "-c", script]).succeeds();
        assert_eq!(outcome.stdout, "/spfs\n");
        assert!(outcome.stderr.contains("/spfs/only is not there"), "{outcome:?}");
        world.settle();
    });
}
