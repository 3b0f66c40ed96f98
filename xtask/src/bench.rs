//! Copy-on-write mounts side by side, workload by workload (cowbench.py).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::run::{Spfs, check, output, root, shell};

mod table;
mod volume;

use table::{Kind, Table};
use volume::Volume;

/// What to time.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark program
    #[arg(long, default_value = "../shared/bench/cowbench.py")]
    program: PathBuf,
    /// Where to work: a disk, not a tmpfs, with 16 GiB free
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["overlay", "fuse-overlayfs", "ours", "fuse-only"])]
    only: Vec<Kind>,
    /// Rounds; the least of each workload counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// Runs every kind of mount in turn, `rounds` times, each time on a fresh copy of one volume: what an
/// earlier run left on a disk changes the figures (ext4 gives the number of a removed inode again only
/// after minutes, and steps over each such number when it looks for a free one).
pub(crate) fn bench(args: &Args) -> Result {
    let program = root().join(&args.program).canonicalize()?;
    let mut spfs = Spfs::new(args.dir.as_deref())?;
    let volume = Volume::new(spfs.dir.path())?;
    spfs.storage = volume.mounted().join("storage");
    let lower = volume.mounted().join("lower");
    {
        let _mounted = volume.mount_original()?;
        println!("making the base tree …");
        check(Command::new("python3").arg(&program).arg("make").arg(&lower))?;
        println!("committing it …");
        spfs.run(["commit", "--path", &lower.to_string_lossy(), "-t", "bench/base"])?;
    }
    let mut table = Table::default();
    for round in 1..=args.rounds {
        for kind in &args.only {
            println!("== {kind}, round {round} of {}", args.rounds);
            let json = spfs.dir.path().join("figures.json");
            let _mounted = volume.mount_copy()?;
            time(*kind, &spfs, &program, &volume, &json)?;
            table.add(*kind, &fs::read_to_string(&json)?)?;
        }
    }
    println!("\n{}", machine()?);
    print!("{table}");
    Ok(())
}

/// What the figures depend on.
fn machine() -> Result<String> {
    let kernel = output(Command::new("uname").args(["-sr"]))?;
    let processors = std::thread::available_parallelism()?;
    let fuse_overlayfs =
        output(&mut shell("fuse-overlayfs --version 2>/dev/null | grep ^fuse-over"))
            .unwrap_or_else(|_| "no fuse-overlayfs".to_owned());
    Ok(format!(
        "{}, {processors} processors, ext4 on a loop device, {}",
        kernel.trim(),
        fuse_overlayfs.trim()
    ))
}

/// The workloads.
const WORKLOADS: &str = include_str!("bench/workloads.py");

fn time(kind: Kind, spfs: &Spfs, program: &Path, volume: &Volume, json: &Path) -> Result {
    let (program, json) = (program.display().to_string(), json.display().to_string());
    let workloads = |mount, which| ["python3", "-c", WORKLOADS, &program, mount, &json, which];
    let mount = match kind {
        Kind::Ours => {
            let run = ["run", "--edit", "bench/base", "--"];
            return spfs.run(run.into_iter().chain(workloads("/spfs", "all")));
        }
        Kind::FuseOnly => {
            let run = ["run", "--backend", "FuseOnly", "bench/base", "--"];
            return spfs.run(run.into_iter().chain(workloads("/spfs", "reads")));
        }
        Kind::Overlay => "mount -t overlay overlay",
        Kind::FuseOverlayfs => "fuse-overlayfs",
    };
    let script = format!(
        "mkdir $DIR/work; cd $DIR/work; mkdir upper work merged
         {mount} -o lowerdir=$DIR/lower,upperdir=$PWD/upper,workdir=$PWD/work merged
         trap 'cd /; umount $DIR/work/merged' EXIT
         \"$@\""
    );
    let mut bash = shell(&script);
    bash.arg("bash").args(workloads("merged", "all"));
    check(bash.env("DIR", volume.mounted()))
}
