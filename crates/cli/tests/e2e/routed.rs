//! Runtimes as views of the one service, the way of machines without mount namespaces, with both
//! kinds of root.
//!
//! Each test is a script in a mount namespace of its own, with a service that the first command
//! starts at `/spfs`.

use crate::harness::{Outcome, World, is_root, mounts_work};

/// Runs a test with each kind of root, where that can be; where not, it has been said.
fn on_each_root(body: impl Fn(&World)) {
    if !mounts_work() {
        return;
    }
    if !is_root() {
        eprintln!("SKIPPED: on Linux only root can mount for all");
        return;
    }
    for root in ["lookup", "link"] {
        eprintln!("with the root {root}");
        body(&World::routed(root));
    }
}

/// Runs a script with the service. The service is ended afterwards, and nothing of it may be left.
fn routed(world: &World, script: &str) -> Outcome {
    let done = world.spfs(["-c", script]).program("sh").succeeds();
    world.settle();
    let left = format!(
        "grep ' /spfs fuse.spfs ' /proc/mounts; find {}/runtimes -name '*.sock'",
        world.storage().display()
    );
    let left = world.spfs(["-c", &left]).program("sh").run().stdout;
    assert_eq!(left, "", "{done:#?}");
    done
}

#[test]
fn a_command_sees_its_layers_and_nobody_else_does() {
    on_each_root(|world| {
        world.layer("base", &[("dir/f", "base\n")]);
        let script = "spfs run base -- sh -c 'cat /spfs/dir/f; spfs info | head -n 1; exit 7'; echo $?; ls -A /spfs";
        let done = routed(world, script);
        assert_eq!(done.stdout, "base\nActive Runtime:\n7\n", "{done:#?}");
    });
}

#[test]
fn the_root_is_of_the_kind_that_was_asked_for() {
    on_each_root(|world| {
        world.layer("base", &[("dir/f", "base\n")]);
        let script = "spfs run base -- sh -c '[ -L /spfs/dir ] && echo link || echo lookup'
            echo $SPFS_TEST_ROUTED";
        let done = routed(world, script);
        assert!(["link\nlink\n", "lookup\nlookup\n"].contains(&&*done.stdout), "{done:#?}");
    });
}

#[test]
fn two_runtimes_of_one_base_are_edited_and_committed_at_the_same_time() {
    on_each_root(|world| {
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
        let done = routed(world, script);
        let shown = |name: &str| format!("{name}\n/spfs:\ndir\nshared\n\n/spfs/dir:\nf\n{name}\n");
        let (one, two) = (shown("one"), shown("two"));
        assert_eq!(done.stdout, format!("0\n0\n{one}{two}one.diff:4\ntwo.diff:4\n"), "{done:#?}");
    });
}

#[test]
fn a_runtime_is_kept_joined_nested_and_run_again() {
    on_each_root(|world| {
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
        let done = routed(world, script);
        assert_eq!(done.stdout, "other\nbase\nwork\n1\nwork\nbase\n", "{done:#?}");
    });
}

#[test]
fn what_cannot_be_run_leaves_no_runtime() {
    on_each_root(|world| {
        let script = "spfs run nothing -- true; echo $?; spfs run - -- /no/such/program; echo $?";
        let done = routed(world, script);
        assert!(done.stdout.starts_with("1\n"), "{done:#?}");
        assert!(
            done.stderr.contains("nothing") && done.stderr.contains("/no/such/program"),
            "{done:#?}"
        );
    });
}

#[test]
fn live_layers_are_shown_by_links() {
    on_each_root(|world| {
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
        let done = routed(world, &script);
        let shown = "live\nx=1\nf\nchanged\n~/spfs/share\n+/spfs/share/mine\n";
        let after = "x=1\nnew\n/spfs/etc:\ng\n\n/spfs/share:\ndocs\n";
        let outside = "new\n.:\nshare/  \n\n./share:\nf  mine  \n\nx=1\nrefused\n";
        assert_eq!(done.stdout, format!("{shown}{after}{outside}"), "{done:#?}");
    });
}

#[test]
fn a_runtime_with_live_mounts_is_refused_and_one_with_links_runs_anywhere() {
    on_each_root(|world| {
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
        let done = routed(world, &script);
        assert_eq!(done.stdout, "x=1\nx=1\n1\nx=1\n", "{done:#?}");
        assert!(done.stderr.contains("made for a mount of its own"), "{done:#?}");
    });
}

#[test]
fn a_plain_mount_reads_a_remote_by_its_configured_name() {
    on_each_root(|world| {
        let far = world.path("work/far");
        let config = format!("[remote.far]\naddress = \"file://{}\"\n", far.display());
        std::fs::create_dir(world.path("config/spfs")).unwrap();
        std::fs::write(world.path("config/spfs/spfs.toml"), config).unwrap();
        world.layer("there", &[("f", "far\n")]);
        let script = "spfs init repo far > /dev/null && spfs push -r far there 2> /dev/null
            spfs untag --all there 2> /dev/null; spfs clean --yes > /dev/null 2>&1; mkdir place
            spfs-fuse there place; echo $?
            spfs-fuse -o ro,remote=far there place && cat place/f; umount place
            spfs-fuse -o remote=far,incl_sec_tags=false there place; echo $?
            spfs-fuse -o remote=nowhere there place; echo $?";
        let done = routed(world, script);
        assert_eq!(done.stdout, "1\nfar\n1\n1\n", "{done:#?}");
        assert!(done.stderr.contains("cannot use remote=nowhere"), "{done:#?}");
    });
}

#[test]
fn files_of_macos_are_left_out_and_counted() {
    on_each_root(|world| {
        let commit = "SPFS_TEST_MACOS_FILES=1 spfs commit layer --keep-editing";
        let inside = format!(
            "mkdir /spfs/d; touch /spfs/f /spfs/.DS_Store /spfs/d/._f; {commit} -t without
             {commit} || ls -A /spfs; {commit} --keep-macos-files -t with"
        );
        let script = format!("spfs run - -- sh -c '{inside}'; spfs ls without; spfs ls with");
        let done = routed(world, &script);
        assert_eq!(done.stdout, ".DS_Store\nd\nf\nd/\nf\n.DS_Store\nd/\n", "{done:#?}");
        for part in ["left out", "count=2", "only files of macOS", "(2)"] {
            assert!(done.stderr.contains(part), "no {part:?} in {done:#?}");
        }
    });
}

#[test]
fn a_runtime_is_saved_by_its_name_while_others_are_served() {
    on_each_root(|world| {
        let script = "run() { spfs run --edit --runtime-name $1 - -- sh -c \"
                echo $1 > /spfs/name; : > $1.ready; while [ ! -e saved ]; do sleep 0.01; done\"; }
            run one & run two & while [ ! -e one.ready ] || [ ! -e two.ready ]; do sleep 0.01; done
            for name in one two; do spfs runtime export $name out-$name > /dev/null; done
            : > saved; wait; cat out-one/name out-two/name";
        assert_eq!(routed(world, script).stdout, "one\ntwo\n");
    });
}

#[test]
fn doctor_does_not_wait_for_a_service_that_is_stopped() {
    on_each_root(|world| {
        let script = "spfs run - -- sh -c ': > ready; while [ ! -e go ]; do sleep 0.01; done' &
            while [ ! -e ready ]; do sleep 0.01; done
            service=$(spfs-fuse status --json | sed -n 's/^  \"pid\": \\([0-9]*\\).*/\\1/p')
            spfs doctor | grep '^.* service: it answers' | wc -l
            kill -STOP $service; before=$(date +%s)
            spfs doctor | grep 'did not answer within a second' | wc -l
            after=$(date +%s); kill -CONT $service; : > go; wait
            [ $((after - before)) -le 10 ] || echo took $((after - before)) s";
        let done = routed(world, script);
        assert_eq!(done.stdout, "1\n2\n", "{done:#?}");
    });
}

#[test]
fn where_forks_are_not_told_orphans_stay_as_long_as_the_command_runs() {
    on_each_root(|world| {
        world.layer("base", &[("f", "base\n")]);
        // Processes that never asked before their parents had ended, which lived for a moment only.
        let inside = "for i in 1 2 3 4 5; do
                setsid sh -c \"(while [ ! -e go ]; do sleep 0.01; done
                    cat /spfs/f > got.\\$0 2>&1; mv got.\\$0 done.\\$0) &\" $i
            done
            spfs-fuse status --json | grep sees_all_forks; : > go
            for i in 1 2 3 4 5; do while [ ! -e done.$i ]; do sleep 0.01; done; cat done.$i; done";
        std::fs::write(world.path("work/inside.sh"), inside).unwrap();
        // The connector tells nothing in another pid namespace than the first one.
        let script = "unshare --pid --fork --mount-proc sh -c 'spfs run base -- sh inside.sh
            while [ -n \"$(spfs runtime list -q)\" ]; do sleep 0.01; done
            spfs-fuse shutdown
            while [ -n \"$(cat /proc/[0-9]*/comm | grep spfs-fuse)\" ]; do sleep 0.01; done'";
        let done = routed(world, script);
        let all = format!("    \"sees_all_forks\": false\n{}", "base\n".repeat(5));
        assert_eq!(done.stdout.replace(",\n", "\n"), all, "{done:#?}");
    });
}
