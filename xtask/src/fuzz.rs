//! The fuzz targets of everything that reads what others wrote.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::Result;
use crate::conform::tool;
use crate::run::{check, root};

/// The version that runs them.
const CARGO_FUZZ: &str = "0.13.2";

/// What is put in for a single input at most; a bomb that needs more is a finding.
const MEMORY_MB: u32 = 2048;

/// Which targets, and how long.
#[derive(clap::Args)]
#[group(id = "fuzz")]
pub(crate) struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    fuzz_seconds: u32,
    /// Only these targets
    #[arg(long, value_delimiter = ',')]
    fuzz_only: Vec<String>,
}

pub(crate) fn fuzz(args: &Args) -> Result {
    let program = tool("cargo-fuzz", CARGO_FUZZ)?;
    let folder = root().join("fuzz");
    from_vectors(&folder)?;
    for target in targets(&folder)? {
        if !(args.fuzz_only.is_empty() || args.fuzz_only.contains(&target)) {
            continue;
        }
        let corpus = folder.join("corpus").join(&target);
        fs::create_dir_all(&corpus)?;
        let mut fuzz = Command::new(&program);
        fuzz.current_dir(root()).env("RUSTUP_TOOLCHAIN", "nightly");
        fuzz.args(["fuzz", "run", &target]).arg(&corpus);
        let seeds = folder.join("seeds").join(&target);
        if seeds.is_dir() {
            fuzz.arg(seeds);
        }
        fuzz.args(["--", &format!("-max_total_time={}", args.fuzz_seconds)]);
        fuzz.args([&format!("-rss_limit_mb={MEMORY_MB}"), "-timeout=10", "-print_final_stats=1"]);
        check(&mut fuzz)?;
    }
    Ok(())
}

/// One file for each target.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// Puts the objects and tags of the vectors into the corpora.
fn from_vectors(folder: &Path) -> Result {
    for entry in fs::read_dir(root().join("crates/model/tests/vectors"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "tar") {
            continue;
        }
        let unpacked = TempDir::new()?;
        check(Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(unpacked.path()))?;
        for (kind, target) in [("objects", "object"), ("tags", "tag_stream")] {
            let corpus = folder.join("corpus").join(target);
            fs::create_dir_all(&corpus)?;
            let from = unpacked.path().join(kind);
            if !from.is_dir() {
                continue;
            }
            let vector = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            copy_files(&from, &corpus, &vector)?;
        }
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path, prefix: &str) -> Result {
    let mut pending = vec![from.to_owned()];
    let mut number = 0;
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else {
                number += 1;
                fs::copy(entry.path(), to.join(format!("{prefix}-{number}")))?;
            }
        }
    }
    Ok(())
}
