//! Live layers: what a runtime shows of the host.

use std::fs;
use std::path::PathBuf;

use crate::harness::{World, as_each_user, own_mounts};

/// A live layer that shows its directory `docs` and its file `conf`.
fn live(world: &World) -> PathBuf {
    let spec = "api: spfs/v0/livelayer\ncontents:\n  - {src: docs, dest: /spfs/share/docs}\n  \
                - {bind: conf, dest: etc/conf}\n";
    world.directory(
        "live",
        &[("layer.spfs.yaml", spec), ("docs/a.txt", "live\n"), ("conf", "x=1\n")],
    )
}

fn with(reference: &str, live: &std::path::Path) -> String {
    format!("{reference}+{}", live.display())
}

#[test]
fn a_live_layer_shows_what_the_host_has_now() {
    as_each_user(|world| {
        let live = live(world);
        world.layer("base", &[("share/docs/below.txt", "covered"), ("share/f", "f\n")]);
        for backend in ["FuseWithScratch", "FuseOnly"] {
            let mut session =
                world.session(["--backend", backend, "--no-edit", &with("base", &live)]);
            assert_eq!(session.ok("cat /spfs/share/docs/a.txt /spfs/etc/conf"), "live\nx=1\n");
            assert_eq!(session.ok("ls /spfs/share /spfs/share/docs").trim().lines().count(), 6);
            fs::write(live.join("docs/a.txt"), "changed\n").unwrap();
            assert_eq!(session.ok("cat /spfs/share/docs/a.txt"), "changed\n");
            fs::write(live.join("docs/a.txt"), "live\n").unwrap();
            session.end();
            world.settle();
        }
    });
}

#[test]
fn a_live_layer_is_read_only_in_a_read_only_runtime_and_follows_edit_mode() {
    if !own_mounts("live layers are links there, as e2e::routed tests") {
        return;
    }
    as_each_user(|world| {
        let live = live(world);
        world.layer("base", &[("f", "f\n")]);
        let write = "echo y=2 >> /spfs/etc/conf && touch /spfs/share/docs/new";
        for backend in ["FuseWithScratch", "FuseOnly"] {
            let reference = with("base", &live);
            let run =
                world.spfs(["run", "--backend", backend, &reference, "--", "sh", "-c", write]);
            let refused = run.run();
            assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");
        }
        assert_eq!(fs::read_to_string(live.join("conf")).unwrap(), "x=1\n");

        let mut session = world.session([&with("base", &live)]);
        session.fails(write);
        session.ok("spfs edit");
        session.ok(write);
        assert_eq!(fs::read_to_string(live.join("conf")).unwrap(), "x=1\ny=2\n");
        session.ok("exec 5>> /spfs/etc/conf");
        let refused = session.fails("spfs edit --off");
        assert!(refused.contains("/spfs/etc/conf"), "{refused}");
        session.ok("touch /spfs/share/docs/newer /spfs/still-editable; exec 5>&-");
        session.ok("spfs edit --off");
        let refused = session.fails("touch /spfs/share/docs/newest");
        assert!(refused.contains("Read-only"), "{refused}");
        session.fails("touch /spfs/x");
        session.end();
    });
}

#[test]
fn a_commit_takes_nothing_of_a_live_layer() {
    if !own_mounts("live layers are links there, as e2e::routed tests") {
        return;
    }
    as_each_user(|world| {
        let live = live(world);
        world.layer("base", &[("share/f", "f\n")]);
        let mut session = world.session(["--edit", &with("base", &live)]);
        session.ok("echo mine > /spfs/share/docs/mine; echo kept > /spfs/share/kept");
        assert_eq!(session.ok("spfs diff").trim(), "~/spfs/share\n+/spfs/share/kept");
        for change in ["rmdir /spfs/share/docs", "mv /spfs/etc/conf /spfs/x", "rm /spfs/etc/conf"] {
            let refused = session.fails(change);
            assert!(refused.contains("busy"), "{change}: {refused}");
        }
        session.ok("spfs commit layer -t top --keep-editing");
        session.ok("spfs commit platform -t suite");
        assert_eq!(session.ok("cat /spfs/share/docs/mine"), "mine\n");
        session.end();
        let listed = world.spfs(["ls", "-R", "top"]).succeeds().stdout;
        assert_eq!(listed, ".:\nshare/  \n\n./share:\nkept  \n\n");
        let listed = world.spfs(["ls", "-R", "suite"]).succeeds().stdout;
        assert_eq!(listed, ".:\nshare/  \n\n./share:\nf  kept  \n\n");
        assert_eq!(fs::read_to_string(live.join("docs/mine")).unwrap(), "mine\n");
    });
}

#[test]
fn live_layers_stay_through_reset_and_a_change_of_layers() {
    as_each_user(|world| {
        let live = live(world);
        world.layer("base", &[("share/f", "f\n")]);
        world.layer("other", &[("etc/g", "g\n")]);
        let mut session = world.session(["--edit", &with("base", &live)]);
        session.ok("echo x > /spfs/share/x; spfs reset; test ! -e /spfs/share/x");
        session.ok("cat /spfs/share/docs/a.txt /spfs/etc/conf");
        session.ok("spfs reset --ref other");
        assert_eq!(session.ok("cat /spfs/share/docs/a.txt /spfs/etc/conf"), "live\nx=1\n");
        assert_eq!(
            session.ok("ls /spfs/etc /spfs/share"),
            "/spfs/etc:\nconf\ng\n\n/spfs/share:\ndocs\n"
        );
        session.end();
    });
}

#[test]
fn a_kept_runtime_shows_its_live_layers_again() {
    if !own_mounts("live layers are links there, as e2e::routed tests") {
        return;
    }
    as_each_user(|world| {
        let live = live(world);
        let keep = ["run", "--keep-runtime", "--runtime-name", "kept", "--edit"];
        let run = world.spfs(keep).arg(&live).args(["--", "sh", "-c", "echo 1 > /spfs/mine"]);
        run.succeeds();
        world.settle();
        let again = "cat /spfs/mine /spfs/etc/conf";
        let run = world.spfs(["run", "--rerun", "kept", "--", "sh", "-c", again]);
        assert_eq!(run.succeeds().stdout, "1\nx=1\n");
        world.settle();
        // What is not there any more cannot be shown, and nothing else is in its place.
        fs::remove_file(live.join("conf")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", live.join("conf")).unwrap();
        let run = world.spfs(["run", "--rerun", "kept", "--", "sh", "-c", again]);
        run.fails_with(1, &["cannot show", "live/conf", "/etc/passwd"]);
        world.settle();
        world.spfs(["runtime", "rm", "--remove-durable", "kept"]).succeeds();
    });
}

#[test]
fn a_live_layer_cannot_lead_out_of_its_directory() {
    let world = World::new();
    let dir = world.directory("live", &[("f", "x"), ("out", "-> /etc/passwd"), ("up", "-> ..")]);
    let spec = dir.join("layer.spfs.yaml");
    for (src, dest, said) in [
        ("out", "a", "leads out of the directory"),
        ("up/live/../../work", "a", "leads out of the directory"),
        ("../live", "a", ""),
        ("..", "a", "leads out of the directory"),
        ("/etc", "a", "is not relative"),
        ("none", "a", "cannot find the source none"),
        ("f", "../a", "is no path inside of /spfs"),
        ("f", "/spfs", "is no path inside of /spfs"),
        ("f", "a/../../b", "is no path inside of /spfs"),
    ] {
        fs::write(&spec, format!("contents: [{{src: {src}, dest: {dest}}}]\n")).unwrap();
        let run = world.spfs(["run"]).arg(&dir).args(["--", "true"]);
        match said {
            "" => drop(run.succeeds()),
            said => drop(run.fails_with(1, &["layer.spfs.yaml", said])),
        }
        world.settle();
    }
    assert_eq!(world.runtimes(), [""; 0], "a start that failed leaves nothing");
    fs::write(&spec, "contents: [{src: f, dest: f}]\n").unwrap();
    let file = dir.to_str().unwrap();
    world.spfs(["ls", file]).fails_with(1, &["is a live layer", "spfs run"]);
}
