//! A very large environment: what its start and its daemon cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::Result;
use crate::run::Spfs;

/// How large.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Entries in all
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Layers
    #[arg(long, default_value_t = 50)]
    layers: usize,
    /// Where to work
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Names in one directory.
const PER_DIRECTORY: usize = 200;

/// Looks at the daemon from inside: its resident memory before and after a walk of everything.
const LOOK: &str = r#"
ls /spfs > /dev/null
pid=$("$SPFS" runtime info --json "$SPFS_RUNTIME" | sed -n 's/.*"monitor": *\([0-9]*\).*/\1/p' | head -n 1)
rss() { awk '/VmRSS|VmHWM/ {printf "%s %d MB  ", $1, $2 / 1024}' /proc/$pid/status; echo; }
echo "daemon after ls: $(rss)"
time find /spfs | wc -l
echo "daemon after find: $(rss)"
"#;

pub(crate) fn scale(args: &Args) -> Result {
    let spfs = Spfs::new(args.dir.as_deref())?;
    let per_layer = args.entries / args.layers;
    let mut tags = Vec::new();
    println!("making {} layers of {per_layer} entries …", args.layers);
    let tree = spfs.dir.path().join("tree");
    make_layer(&tree.join("layer"), per_layer)?;
    let mut name = tree.join("layer");
    for layer in 0..args.layers {
        // The same files under another name: the layers share payloads, no entries.
        let next = tree.join(format!("layer{layer:02}"));
        fs::rename(&name, &next)?;
        name = next;
        let tag = format!("scale/l{layer}");
        spfs.run(["commit", "--path", &tree.to_string_lossy(), "-t", &tag])?;
        tags.push(tag);
    }
    fs::remove_dir_all(&tree)?;
    let environment = tags.join("+");
    for round in 1..=3 {
        let start = Instant::now();
        spfs.run(["run", &environment, "--", "ls", "/spfs"])?;
        println!("run -- ls /spfs, round {round}: {:.3} s", start.elapsed().as_secs_f64());
    }
    spfs.run(["run", &environment, "--", "bash", "-c", LOOK])
}

/// Makes a directory of about `entries` small files.
fn make_layer(layer: &Path, entries: usize) -> Result {
    for dir in 0..entries.div_ceil(PER_DIRECTORY) {
        let dir = layer.join(format!("d{dir:04}"));
        fs::create_dir_all(&dir)?;
        for file in 0..PER_DIRECTORY - 1 {
            fs::write(dir.join(format!("f{file:04}.txt")), [b'x'; 8])?;
        }
    }
    Ok(())
}
