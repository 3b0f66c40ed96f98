//! Times what is done with many small files: the commit into an empty repository and again with all
//! of it there, the push to another folder, check and clean.
//!
//! `cargo run --release -p spfs-repo --example commit_speed -- [FOLDER [FILES [FOLDERS [JOBS]]]]`
//!
//! Everything is made below FOLDER, which should lie on the volume that is to be measured, and is
//! left there: on ext4 whoever creates files within minutes of a large removal pays for it.
//!
//! What the volume itself takes for as many files as a commit of new content has to make is timed
//! too ("bare"), so that what is ours can be told from what is not.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs, io};

use jiff::Timestamp;
use rayon::prelude::*;
use spfs_model::Digest;
use spfs_repo::check::{CheckOptions, check};
use spfs_repo::clean::{CleanOptions, clean};
use spfs_repo::sync::{SyncOptions, sync};
use spfs_repo::{AnyRepository, CommitOptions, Repository, commit_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args_os().skip(1);
    let base = arguments.next().map_or_else(env::temp_dir, PathBuf::from);
    let mut number = |default: usize| match arguments.next() {
        Some(text) => text.to_string_lossy().parse(),
        None => Ok(default),
    };
    let (files, folders, jobs) = (number(50_000)?, number(1_000)?, number(0)?);
    let base = tempfile::Builder::new().prefix("commit-speed-").tempdir_in(base)?.keep();
    println!("{files} files of 23 bytes in {folders} folders, below {}", base.display());

    let source = base.join("source");
    timed("make the source", || make(&source, files, folders))?;
    timed("sync", || spfs_sys::files::syncfs(&fs::File::open(&base)?))?;
    timed("bare: as many files, sync", || bare(&base.join("bare"), 2 * files))?;
    let repository = Repository::create(base.join("repository"))?;
    let options = CommitOptions { jobs: NonZeroUsize::new(jobs), ..CommitOptions::default() };
    let cold = timed("commit, cold", || commit_path(&repository, &source, &options))?;
    let warm = timed("commit, all present", || commit_path(&repository, &source, &options))?;
    assert_eq!(cold.layer, warm.layer);
    fs::write(source.join("d0/f0"), "changed")?;
    let changed =
        timed("commit, one file changed", || commit_path(&repository, &source, &options))?;
    println!("layers {} and {}: {:?}", cold.layer.short(), changed.layer.short(), cold.stored);
    share(&repository, &base, cold.layer)?;
    println!("location {}", repository.location());
    Ok(())
}

/// What is done with the layer once it is there. The tag keeps it from being cleaned.
fn share(
    repository: &Repository,
    base: &Path,
    layer: Digest,
) -> Result<(), Box<dyn std::error::Error>> {
    let tag = "speed/layer".parse()?;
    repository.tags().push(&tag, layer, "user@host", Timestamp::UNIX_EPOCH)?;
    let other = Repository::create(base.join("other"))?;
    let (spec, options) = ("speed/layer".parse()?, SyncOptions::default());
    let first = timed("push", || sync(repository, &other, &spec, &options))?;
    let again = timed("push, all present", || sync(repository, &other, &spec, &options))?;
    assert_eq!((again.objects, again.payloads), (0, 0));
    let report = timed("check", || check(&other, &CheckOptions::default()))?;
    assert!(report.is_sound());
    let payloads = CheckOptions { payloads: true, ..CheckOptions::default() };
    timed("check, payloads too", || check(&other, &payloads))?;
    // Late enough for everything to be old; all of it is needed.
    let later = Timestamp::from_second(10_000_000_000)?;
    let cleaned = timed("clean, nothing to do", || clean(&other, &CleanOptions::new(later)))?;
    assert_eq!((cleaned.objects_removed, cleaned.payloads_removed), (0, 0));
    println!("{} objects and {} payloads were pushed", first.objects, first.payloads);
    Ok(())
}

fn make(source: &Path, files: usize, folders: usize) -> io::Result<()> {
    for folder in 0..folders {
        fs::create_dir_all(source.join(format!("d{folder}")))?;
    }
    for file in 0..files {
        let path = source.join(format!("d{}/f{file}", file % folders));
        fs::write(path, format!("content of file {file:07}"))?;
    }
    Ok(())
}

/// Makes files as small as those of the source, spread over the folders that a repository has for
/// as many digests, with as many threads as a commit, and brings them to disk.
fn bare(base: &Path, files: usize) -> io::Result<()> {
    const FOLDERS: usize = 1024;
    fs::create_dir_all(base)?;
    (0..FOLDERS).into_par_iter().try_for_each(|folder| {
        let path = base.join(format!("{folder:x}"));
        fs::create_dir(&path)?;
        (folder..files).step_by(FOLDERS).try_for_each(|file| {
            fs::write(path.join(format!("{file:056x}")), format!("content of file {file:07}"))
        })
    })?;
    spfs_sys::files::syncfs(&fs::File::open(base)?)
}

fn timed<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let (start, used) = (Instant::now(), processor_secs());
    let result = work();
    let (took, used) = (start.elapsed().as_secs_f64(), processor_secs() - used);
    println!("{what:26} {took:8.3} s   {used:8.3} s of processors");
    result
}

/// What this process has used of processors, which tells more than the time on a busy machine.
fn processor_secs() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
