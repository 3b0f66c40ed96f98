//! `spfs runtime export`: what a runtime holds is never lost, whatever became of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::harness::{World, as_each_user, wait_for};

const EDIT: &str = "echo changed > /spfs/f; chmod 600 /spfs/f; mkdir /spfs/d; echo new > /spfs/d/new; \
                    ln -s new /spfs/d/link; rm /spfs/gone; mv /spfs/dir /spfs/moved";

fn base(world: &World) {
    let files = [("f", "base\n"), ("gone", "gone\n"), ("dir/x", "x\n"), ("kept", "kept\n")];
    world.layer("base", &files);
}

/// A kept runtime with changes; it has ended.
fn kept(world: &World) {
    base(world);
    let keep = ["run", "--keep-runtime", "--runtime-name", "work", "--edit", "base", "--"];
    world.spfs(keep).args(["sh", "-c", EDIT]).succeeds();
    world.settle();
}

fn assert_everything(dir: &Path) {
    assert_eq!(files(dir), ["d/link", "d/new", "f", "kept", "moved/x"]);
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "changed\n");
    assert_eq!(fs::metadata(dir.join("f")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(dir.join("moved/x")).unwrap(), "x\n");
    assert_eq!(fs::read_link(dir.join("d/link")).unwrap(), Path::new("new"));
}

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn journal(world: &World) -> PathBuf {
    world.storage().join("runtimes/work/journal")
}

fn remove(world: &World) {
    world.spfs(["runtime", "rm", "--remove-durable", "work"]).succeeds();
}

#[test]
fn a_running_runtime_is_saved_and_goes_on() {
    as_each_user(|world| {
        base(world);
        let mut session = world.session(["--runtime-name", "work", "--edit", "base"]);
        session.ok(EDIT);
        session.ok("exec 7>> /spfs/d/open; echo unsynced >&7");
        let out = world.path("work/out");
        let told = world.spfs(["runtime", "export", "work"]).arg(&out).succeeds();
        assert!(told.stderr.contains("saved 5 files"), "{told:?}");
        assert_eq!(fs::read_to_string(out.join("d/open")).unwrap(), "unsynced\n");
        fs::remove_file(out.join("d/open")).unwrap();
        assert_everything(&out);
        session.ok("echo more >&7; exec 7>&-; rm /spfs/d/open; spfs commit layer -t top");

        // Of what is committed nothing is a change any more.
        session.ok("spfs edit; echo later > /spfs/later; mkfifo /spfs/pipe");
        let all = world.path("work/all");
        let told = world.spfs(["runtime", "export", "work"]).arg(&all);
        told.fails_with(1, &["/spfs/pipe is not saved"]);
        assert_eq!(files(&all), ["d/link", "d/new", "f", "kept", "later", "moved/x"]);
        session.ok("rm /spfs/pipe");
        let changes = world.path("work/changes");
        world.spfs(["runtime", "export", "--changes", "work"]).arg(&changes).succeeds();
        assert_eq!(files(&changes), ["later"]);
        let inside = session.fails("spfs runtime export work /spfs/x");
        assert!(inside.contains("inside of a runtime"), "{inside}");
        session.end();
    });
}

#[test]
fn a_runtime_that_has_ended_is_saved_whole_or_by_its_changes() {
    as_each_user(|world| {
        kept(world);
        let out = world.path("work/out");
        world.spfs(["runtime", "export", "work"]).arg(&out).succeeds();
        assert_everything(&out);
        let changes = world.path("work/changes");
        let told = world.spfs(["runtime", "export", "--changes", "work"]).arg(&changes).succeeds();
        assert_eq!(files(&changes), ["d/link", "d/new", "f", "moved/x"]);
        assert_eq!(told.stdout, "-/spfs/dir\n-/spfs/dir/x\n-/spfs/gone\n");
        let json = world.spfs(["runtime", "export", "--json", "work"]).arg(world.path("work/json"));
        let json: serde_json::Value = serde_json::from_str(&json.succeeds().stdout).unwrap();
        assert_eq!((&json["files"], &json["links"]), (&4.into(), &1.into()), "{json}");
        // It is as it was.
        let run = world.spfs(["run", "--rerun", "work", "--", "cat", "/spfs/f"]);
        assert_eq!(run.succeeds().stdout, "changed\n");
        world.settle();
        remove(world);
    });
}

#[test]
fn a_crashed_runtime_is_saved() {
    as_each_user(|world| {
        base(world);
        let mut session = world.session(["--runtime-name", "work", "--edit", "base"]);
        session.ok(EDIT);
        let daemon = rustix::process::Pid::from_raw(world.daemon() as i32).unwrap();
        rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
        wait_for("the runtime to be crashed", || {
            let list = world.spfs(["runtime", "list"]).succeeds().stdout;
            list.contains("status=crashed")
        });
        let out = world.path("work/out");
        world.spfs(["runtime", "export", "work"]).arg(&out).succeeds();
        assert_everything(&out);
        session.end();
        remove(world);
    });
}

#[test]
fn a_damaged_journal_names_the_way_out_and_is_saved_up_to_the_damage() {
    as_each_user(|world| {
        kept(world);
        // Later records, so that the damage is in the middle.
        let more = "for i in 1 2 3 4 5 6 7 8 9; do echo $i > /spfs/late$i; done";
        world.spfs(["run", "--rerun", "work", "--", "sh", "-c", more]).succeeds();
        world.settle();
        let mut bytes = fs::read(journal(world)).unwrap();
        let needle = b"late5";
        let at = bytes.windows(needle.len()).position(|part| part == needle).unwrap();
        bytes[at] ^= 0xff;
        fs::write(journal(world), bytes).unwrap();

        let run = world.spfs(["run", "--rerun", "work", "--", "true"]);
        run.fails_with(1, &["damaged", "spfs runtime export work DIR"]);
        let out = world.path("work/out");
        let told = world.spfs(["runtime", "export", "work"]).arg(&out);
        told.fails_with(1, &["what happened after that is not saved"]);
        let saved = files(&out);
        assert!(saved.contains(&"late4".to_owned()) && !saved.contains(&"late6".to_owned()));
        assert_eq!(fs::read_to_string(out.join("f")).unwrap(), "changed\n");
        assert_eq!(fs::read_to_string(out.join("late4")).unwrap(), "4\n");
        remove(world);
    });
}

#[test]
fn only_an_empty_directory_is_written_to() {
    let world = World::new();
    kept(&world);
    let out = world.directory("out", &[("mine", "mine\n")]);
    let export = world.spfs(["runtime", "export", "work"]).arg(&out);
    export.fails_with(1, &["work/out is not empty", "empty directory"]);
    assert_eq!(files(&out), ["mine"]);
    world.spfs(["runtime", "export", "none", "x"]).fails_with(1, &["no runtime none"]);
    remove(&world);
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    as_each_user(|world| {
        base(world);
        let mut session = world.session(["--runtime-name", "work", "--edit", "base"]);
        session.ok("mkdir /spfs/d; echo shared > /spfs/d/one; ln /spfs/d/one /spfs/two");
        session.ok("ln /spfs/two /spfs/d/three; ln /spfs/kept /spfs/again; chmod 640 /spfs/two");
        let out = world.path("work/out");
        let told = world.spfs(["runtime", "export", "work"]).arg(&out).succeeds();
        // f, gone, dir/x, kept and again, and the three names
        assert!(told.stderr.contains("saved 8 files (24.0 B)"), "{told:?}");
        let inode = |path: &str| fs::metadata(out.join(path)).unwrap().ino();
        assert_eq!(inode("d/one"), inode("two"));
        assert_eq!(inode("d/three"), inode("two"));
        assert_eq!(inode("kept"), inode("again"));
        assert_ne!(inode("kept"), inode("two"));
        assert_eq!(fs::read_to_string(out.join("d/three")).unwrap(), "shared\n");
        assert_eq!(fs::metadata(out.join("d/one")).unwrap().mode() & 0o777, 0o640);

        // Of a file of the layers only the new name is a change: it stands alone.
        let changes = world.path("work/changes");
        world.spfs(["runtime", "export", "--changes", "work"]).arg(&changes).succeeds();
        assert_eq!(files(&changes), ["again", "d/one", "d/three", "two"]);
        let links = |path: &str| fs::metadata(changes.join(path)).unwrap().nlink();
        assert_eq!((links("two"), links("again")), (3, 1));
        session.end();
    });
}
