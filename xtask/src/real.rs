//! Large real trees: committed, run, edited, committed again and compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::Result;
use crate::run::{Spfs, check, output, shell};

/// Which trees.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Trees to use; the toolchain's documentation and /usr/share where none is given
    trees: Vec<PathBuf>,
    /// Where to work
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Work that people do: a clone, a build, a large removal, a rename of what the layer had.
const WORK: &str = r#"
git -c safe.directory='*' clone -q "$WORK/project" /spfs/project
cd /spfs/project && git -c safe.directory='*' fsck --no-progress && cargo build -q --offline && cargo run -q --offline
cd /spfs
first=$(find . -mindepth 1 -maxdepth 1 -type d ! -name project | sort | head -n 1)
mv "$first" "$first-renamed"
find . -path ./project -prune -o -type f -print | sort | awk 'NR % 3 == 0' | tr '\n' '\0' | xargs -0 rm -f
"#;

/// One line for each name: type, mode, size, link target, and content by digest.
const LIST: &str = r#"
cd /spfs
find . -mindepth 1 \( -type d -printf '%P d %m\n' -o -type l -printf '%P l %l\n' -o -printf '%P %y %m %s\n' \) | LC_ALL=C sort
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | LC_ALL=C sort -k 2
"#;

pub(crate) fn real(args: &Args) -> Result {
    let trees = if args.trees.is_empty() { default_trees()? } else { args.trees.clone() };
    for tree in &trees {
        let spfs = Spfs::new(args.dir.as_deref())?;
        let entries = output(shell("find \"$TREE\" | wc -l").env("TREE", tree))?;
        println!("== {} ({} entries)", tree.display(), entries.trim());
        one(&spfs, tree)?;
    }
    Ok(())
}

fn default_trees() -> Result<Vec<PathBuf>> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(vec![Path::new(sysroot.trim()).join("share"), PathBuf::from("/usr/share")])
}

fn one(spfs: &Spfs, tree: &Path) -> Result {
    let dir = spfs.dir.path();
    project(&dir.join("project"))?;
    timed("commit --path", || {
        spfs.run(["commit", "--path", &tree.to_string_lossy(), "-t", "real/base"])
    })?;
    timed("commit --path, everything present", || {
        spfs.run(["commit", "--path", &tree.to_string_lossy(), "-t", "real/again"])
    })?;
    timed("run -- true", || spfs.run(["run", "real/base", "--", "true"]))?;
    timed("run -- find", || {
        spfs.run(["run", "real/base", "--", "sh", "-c", "find /spfs >/dev/null"])
    })?;
    let compare = format!("diff -r --no-dereference {} /spfs", tree.display());
    timed("run -- diff -r", || spfs.run(["run", "real/base", "--", "sh", "-c", &compare]))?;
    let live = dir.join("live.txt");
    let again = dir.join("again.txt");
    let script = format!(
        "{WORK}\n({LIST}) > {}\ntime \"$SPFS\" commit layer -m 'real work' -t real/edited",
        live.display(),
    );
    timed("edit, build, delete, rename, commit layer", || {
        let mut command = spfs.command(["run", "--edit", "real/base", "--"]);
        command.env("WORK", dir).env("CARGO_TARGET_DIR", "/spfs/project/target");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CARGO_HOME", cargo_home()).env("RUSTUP_HOME", rustup_home());
        check(command.args(["bash", "-euo", "pipefail", "-c", &script]))
    })?;
    let script = format!("({LIST}) > {}", again.display());
    timed("run the result and list it", || {
        spfs.run(["run", "real/base+real/edited", "--", "bash", "-c", &script])
    })?;
    check(Command::new("cmp").arg(&live).arg(&again))?;
    let lines = fs::read_to_string(&live)?.lines().count();
    println!("equal in {lines} lines of names, types, modes, sizes, contents and targets");
    Ok(())
}

fn cargo_home() -> PathBuf {
    home("CARGO_HOME", ".cargo")
}

fn rustup_home() -> PathBuf {
    home("RUSTUP_HOME", ".rustup")
}

fn home(variable: &str, folder: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(folder))
}

/// A small cargo project in a git repository.
fn project(dir: &Path) -> Result {
    fs::create_dir_all(dir.join("src"))?;
    let manifest =
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
    fs::write(dir.join("Cargo.toml"), manifest)?;
    fs::write(dir.join("src/main.rs"), "fn main() {\n    println!(\"built in /spfs\");\n}\n")?;
    let script = "git init -q . && git add . && git -c user.name=x -c user.email=x@localhost commit -q -m one";
    check(shell(script).current_dir(dir))
}

fn timed(what: &str, work: impl FnOnce() -> Result) -> Result {
    let start = Instant::now();
    work()?;
    println!("{what:45} {:8.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
