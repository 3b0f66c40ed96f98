//! Copy-on-write mounts side by side, workload by workload (cowbench.py).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::run::{Spfs, check, root, shell};

/// What to time.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark program
    #[arg(long, default_value = "../shared/bench/cowbench.py")]
    program: PathBuf,
    /// Where to work: a disk, not a tmpfs, with 8 GiB free
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these: ours, overlay, fuse-overlayfs
    #[arg(long, value_delimiter = ',', default_value = "overlay,fuse-overlayfs,ours")]
    only: Vec<String>,
    /// Rounds; the table shows each
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

pub(crate) fn bench(args: &Args) -> Result {
    let program = root().join(&args.program).canonicalize()?;
    let spfs = Spfs::new(args.dir.as_deref())?;
    let dir = spfs.dir.path();
    let lower = dir.join("lower");
    println!("making the base tree …");
    check(Command::new("python3").arg(&program).arg("make").arg(&lower))?;
    println!("committing it …");
    spfs.run(["commit", "--path", &lower.to_string_lossy(), "-t", "bench/base"])?;
    let mut tables = Vec::new();
    for round in 0..args.rounds {
        for kind in &args.only {
            println!("== {kind}, round {}", round + 1);
            let json = dir.join(format!("{kind}-{}.json", round + 1));
            time(kind, &spfs, &program, &lower, &json)?;
            tables.push(json);
        }
    }
    check(Command::new("python3").arg(&program).arg("table").args(&tables))
}

fn time(kind: &str, spfs: &Spfs, program: &Path, lower: &Path, json: &Path) -> Result {
    let run = format!("python3 {} run", program.display());
    let json = json.display();
    match kind {
        "ours" => spfs.edit("bench/base", &format!("{run} /spfs --json {json}")),
        "overlay" | "fuse-overlayfs" => {
            let work = spfs.dir.path().join(format!("{kind}-work"));
            fs::create_dir_all(&work)?;
            let mount = if kind == "overlay" {
                "mount -t overlay overlay -o lowerdir=$LOWER,upperdir=$PWD/upper,workdir=$PWD/work merged"
            } else {
                "fuse-overlayfs -o lowerdir=$LOWER,upperdir=$PWD/upper,workdir=$PWD/work merged"
            };
            let script = format!(
                "cd {}; mkdir -p upper work merged; {mount}
                 trap 'cd /; umount {}/merged; rm -rf {}' EXIT
                 {run} merged --json {json}",
                work.display(),
                work.display(),
                work.display(),
            );
            check(shell(&script).env("LOWER", lower))
        }
        other => Err(format!("unknown kind {other}").into()),
    }
}
