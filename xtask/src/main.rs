//! Developer tasks: `cargo xtask --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod conform;
mod demo;
mod fuzz;
mod nightly;
mod real;
mod run;
mod scale;
mod tidy;

/// Whatever went wrong, in words.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(about = "Developer tasks of SPFS")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the main job once: commit a directory, edit it at /spfs, commit, run the result
    Demo,
    /// Check rules that no compiler checks
    Tidy,
    /// Run the public file system suites inside an editable runtime (as root)
    Conform(conform::Args),
    /// Time copy-on-write mounts side by side: overlayfs, fuse-overlayfs and ours (as root)
    Bench(bench::Args),
    /// Commit, edit and compare large real trees
    Real(real::Args),
    /// Time the start and size of an environment of a million entries in fifty layers
    Scale(scale::Args),
    /// Run the long versions of the randomised proofs, and every fuzz target for a while
    Nightly(nightly::Args),
    /// Run the fuzz targets alone
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo => demo::demo(),
        Task::Tidy => tidy::tidy(),
        Task::Conform(args) => conform::conform(&args),
        Task::Bench(args) => bench::bench(&args),
        Task::Real(args) => real::real(&args),
        Task::Scale(args) => scale::scale(&args),
        Task::Nightly(args) => nightly::nightly(&args),
        Task::Fuzz(args) => fuzz::fuzz(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_task_can_be_asked_for() {
        super::Cli::command().debug_assert();
    }
}
