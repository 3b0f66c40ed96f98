//! Real programs at work in an editable runtime, and the result compared with what they saw.

use std::fs;
use std::path::Path;

use crate::harness::{LIST, World, as_each_user, assert_same_tree, list};

/// A tree with a few hundred files, links and odd modes.
fn base(world: &World) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = world.directory("base", &[("big/keep", "k"), ("links/up", "-> ../big/keep")]);
    for folder in 0..20 {
        let sub = dir.join(format!("share/section-{folder}"));
        fs::create_dir_all(&sub).unwrap();
        for file in 0..15 {
            let path = sub.join(format!("page-{file}.txt"));
            fs::write(&path, format!("{folder}/{file}\n").repeat(file * 40 + 1)).unwrap();
            if file % 5 == 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
    world.give(&dir);
    dir
}

/// A git repository with two commits; `None` without git.
fn repository(world: &World) -> Option<std::path::PathBuf> {
    let dir = world.directory("origin", &[("src/main.c", "int main(){}\n"), ("README", "hello\n")]);
    let git = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -q -m one && \
               echo more >> README && git -c user.name=a -c user.email=a@b commit -q -a -m two";
    let outcome = world.spfs(["-c", git]).program("sh").in_dir(&dir).run();
    (outcome.code == 0).then_some(dir)
}

/// A cargo project without dependencies.
fn project(world: &World) -> std::path::PathBuf {
    world.directory(
        "hello",
        &[
            ("Cargo.toml", "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n"),
            ("src/main.rs", "fn main() { println!(\"hello from spfs\"); }\n"),
        ],
    )
}

/// Where the toolchain that builds us lies; `None` when this world's user cannot run it.
fn toolchain(world: &World) -> Option<&'static Path> {
    let bin = Path::new(env!("CARGO")).parent().unwrap();
    let try_it = format!("{0}/cargo --version && {0}/rustc --version", bin.display());
    let works = world.spfs(["-c", &try_it]).program("sh").run().code == 0;
    if !works {
        eprintln!("without cargo: {:?} cannot run it from {}", world.user(), bin.display());
    }
    works.then_some(bin)
}

#[test]
fn what_git_cargo_and_rm_leave_is_what_the_committed_layer_shows() {
    as_each_user(|world| {
        let base = base(world);
        world.spfs(["commit", "-t", "base", "--path"]).arg(&base).succeeds();
        let shown = world.spfs(["run", "base", "--", "sh", "-c", LIST, "sh", "/spfs"]).succeeds();
        assert_same_tree(&list(&base), &shown.stdout);

        let mut session = world.session(["--edit", "base"]);
        if let Some(origin) = repository(world) {
            session.ok(&format!("git clone -q {} /spfs/clone", origin.display()));
            session.ok("cd /spfs/clone && git fsck --strict && git status --porcelain && cd /");
            session.ok("cd /spfs/clone && git checkout -q -b other && rm README && cd /");
        }
        if let Some(bin) = toolchain(world) {
            session.ok(&format!(
                "cd {} && PATH={}:$PATH CARGO_HOME=/spfs/.cargo CARGO_TARGET_DIR=/spfs/target \
                 cargo build -q --offline && cd /",
                project(world).display(),
                bin.display()
            ));
            assert_eq!(session.ok("/spfs/target/debug/hello"), "hello from spfs\n");
        }
        session.ok("rm -rf /spfs/share/section-[0-6]");
        session
            .ok("mv /spfs/share /spfs/renamed && mv /spfs/renamed/section-9 /spfs/section-moved");
        session.ok("cd /spfs/renamed/section-10 && for f in *; do echo changed >> $f; done; cd /");
        session.ok("ln /spfs/big/keep /spfs/big/hard && echo linked >> /spfs/big/hard");
        session.ok("truncate -s 10 /spfs/renamed/section-11/page-14.txt");
        session.ok("mkdir /spfs/share && echo again > /spfs/share/new");
        let lived = session.ok(&format!("(set -- /spfs; {LIST})"));
        session.ok("spfs commit layer -t result");
        assert_same_tree(&lived, &session.ok(&format!("(set -- /spfs; {LIST})")));
        session.end();

        let run = world.spfs(["run", "base+result", "--", "sh", "-c", LIST, "sh", "/spfs"]);
        assert_same_tree(&lived, &run.succeeds().stdout);
    });
}
