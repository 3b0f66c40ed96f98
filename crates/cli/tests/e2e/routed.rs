//! Runtimes as views of the one service, the way of machines without mount namespaces.
//!
//! Each test is one script in a mount namespace of its own, with a service that the first command
//! starts at `/spfs`.

use crate::harness::{Outcome, World, is_root, mounts_work};

/// Runs a script with the service; `None` where that cannot be, which has then been said. The
/// service is ended afterwards, and nothing of it may be left.
fn routed(world: &World, script: &str) -> Option<Outcome> {
    if !mounts_work() {
        return None;
    }
    if !is_root() {
        eprintln!("SKIPPED: on Linux only root can mount for all");
        return None;
    }
    let daemon = world.path("bin/spfs-fuse");
    std::os::unix::fs::symlink(world.program(), &daemon).unwrap();
    let daemon = daemon.display();
    let script = format!(
        "{script}\n\
         while [ -n \"$(spfs runtime list -q)\" ]; do sleep 0.01; done\n\
         i=0; while [ $i -lt 2000 ] && ! {daemon} shutdown 2>/dev/null; do sleep 0.01; i=$((i+1)); done\n\
         left() {{ grep ' /spfs fuse.spfs ' /proc/mounts; find {}/runtimes -name '*.sock'; }}\n\
         i=0; while [ $i -lt 2000 ] && [ -n \"$(left)\" ]; do sleep 0.01; i=$((i+1)); done; left",
        world.storage().display()
    );
    let arguments = ["-m", "--propagation", "private", "sh", "-c", &script];
    let spfs = world.spfs(arguments).program("unshare").env("SPFS_TEST_ROUTED", "1");
    Some(spfs.succeeds())
}

#[test]
fn a_command_sees_its_layers_and_nobody_else_does() {
    let world = World::new();
    world.layer("base", &[("dir/f", "base\n")]);
    let script = "spfs run base -- sh -c 'cat /spfs/dir/f; spfs info | head -n 1; exit 7'; echo $?; ls -A /spfs";
    let Some(done) = routed(&world, script) else { return };
    assert_eq!(done.stdout, "base\nActive Runtime:\n7\n", "{done:#?}");
}

#[test]
fn two_runtimes_of_one_base_are_edited_and_committed_at_the_same_time() {
    let world = World::new();
    world.layer("base", &[("shared", "base\n"), ("dir/f", "f\n"), ("gone", "x\n")]);
    let work = "set -e; name=$1; other=$2
        echo $name > /spfs/shared; echo $name > /spfs/dir/$name; rm /spfs/gone
        : > $name.ready; while [ ! -e $other.ready ]; do sleep 0.01; done
        [ \"$(cat /spfs/shared)\" = $name ]; [ ! -e /spfs/dir/$other ]; [ ! -e /spfs/gone ]
        spfs diff > $name.diff; spfs commit layer -t $name
        ! touch /spfs/new 2>/dev/null
        spfs edit; echo more > /spfs/new; spfs reset; [ ! -e /spfs/new ]
        : > $name.done; while [ ! -e $other.done ]; do sleep 0.01; done";
    std::fs::write(world.path("work/work.sh"), work).unwrap();
    let script = "spfs run --edit base -- sh work.sh one two & first=$!
        spfs run --edit base -- sh work.sh two one & second=$!
        wait $first; echo $?; wait $second; echo $?
        for name in one two; do
            spfs run base+$name -- sh -c 'cat /spfs/shared; ls /spfs /spfs/dir'
        done
        grep -c . one.diff two.diff";
    let Some(done) = routed(&world, script) else { return };
    let shown = |name: &str| format!("{name}\n/spfs:\ndir\nshared\n\n/spfs/dir:\nf\n{name}\n");
    let (one, two) = (shown("one"), shown("two"));
    assert_eq!(done.stdout, format!("0\n0\n{one}{two}one.diff:4\ntwo.diff:4\n"), "{done:#?}");
}

#[test]
fn a_runtime_is_kept_joined_nested_and_run_again() {
    let world = World::new();
    world.layer("base", &[("f", "base\n")]);
    world.layer("other", &[("f", "other\n")]);
    let script = "spfs run --edit --keep-runtime --runtime-name kept base -- sh -c '
            echo work > /spfs/new
            spfs run other -- cat /spfs/f
            cat /spfs/f
            : > inside; while [ ! -e joined ]; do sleep 0.01; done' &
        while [ ! -e inside ]; do sleep 0.01; done
        spfs join kept -- cat /spfs/new; : > joined; wait
        while spfs runtime list | grep -q running=true; do sleep 0.01; done
        spfs runtime list | grep -c saved
        spfs run --rerun kept -- cat /spfs/new /spfs/f
        while ! spfs runtime remove --remove-durable kept 2>/dev/null; do sleep 0.01; done";
    let Some(done) = routed(&world, script) else { return };
    assert_eq!(done.stdout, "other\nbase\nwork\n1\nwork\nbase\n", "{done:#?}");
}

#[test]
fn what_cannot_be_run_leaves_no_runtime() {
    let world = World::new();
    let script = "spfs run nothing -- true; echo $?; spfs run - -- /no/such/program; echo $?";
    let Some(done) = routed(&world, script) else { return };
    assert!(done.stdout.starts_with("1\n"), "{done:#?}");
    assert!(
        done.stderr.contains("nothing") && done.stderr.contains("/no/such/program"),
        "{done:#?}"
    );
}

#[test]
fn live_layers_are_shown_by_links() {
    let world = World::new();
    world.layer("base", &[("share/f", "f\n")]);
    world.layer("other", &[("etc/g", "g\n")]);
    let spec = "contents: [{src: docs, dest: share/docs}, {bind: conf, dest: conf}]\n";
    let files = [("layer.spfs.yaml", spec), ("docs/a.txt", "live\n"), ("conf", "x=1\n")];
    let live = world.directory("live", &files);
    let inside = "cat /spfs/share/docs/a.txt /spfs/conf /spfs/share/f
        echo changed > live/docs/a.txt; cat /spfs/share/docs/a.txt
        echo new > /spfs/share/docs/new; echo mine > /spfs/share/mine
        spfs diff
        spfs commit platform -t suite --keep-editing
        spfs reset --ref other; cat /spfs/conf /spfs/share/docs/new; ls /spfs/share /spfs/etc";
    std::fs::write(world.path("work/inside.sh"), inside).unwrap();
    let script = format!(
        "spfs run --edit base+{0} -- sh inside.sh; cat live/docs/new; spfs ls -R suite
         spfs run --no-edit {0} -- sh -c 'cat /spfs/conf; touch /spfs/x 2>/dev/null || echo refused'",
        live.display()
    );
    let Some(done) = routed(&world, &script) else { return };
    let shown = "live\nx=1\nf\nchanged\n~/spfs/share\n+/spfs/share/mine\n";
    let after = "x=1\nnew\n/spfs/etc:\ng\n\n/spfs/share:\ndocs\n";
    let outside = "new\n.:\nshare/  \n\n./share:\nf  mine  \n\nx=1\nrefused\n";
    assert_eq!(done.stdout, format!("{shown}{after}{outside}"), "{done:#?}");
}

#[test]
fn a_runtime_with_live_mounts_is_refused_and_one_with_links_runs_anywhere() {
    let world = World::new();
    let spec = "contents: [{bind: conf, dest: conf}]\n";
    let live = world.directory("live", &[("layer.spfs.yaml", spec), ("conf", "x=1\n")]);
    let script = format!(
        "run='spfs run --keep-runtime --runtime-name'
         env -u SPFS_TEST_ROUTED $run mounts {0} -- cat /spfs/conf
         $run links {0} -- cat /spfs/conf
         while spfs runtime list | grep -q running=true; do sleep 0.01; done
         spfs run --rerun mounts -- cat /spfs/conf; echo $?
         env -u SPFS_TEST_ROUTED spfs run --rerun links -- cat /spfs/conf
         while spfs runtime list | grep -q running=true; do sleep 0.01; done
         for name in mounts links; do spfs runtime remove --remove-durable $name; done",
        live.display()
    );
    let Some(done) = routed(&world, &script) else { return };
    assert_eq!(done.stdout, "x=1\nx=1\n1\nx=1\n", "{done:#?}");
    assert!(done.stderr.contains("made for a mount of its own"), "{done:#?}");
}
