//! The long versions of the randomised proofs.

use std::process::Command;

use crate::run::{check, root};
use crate::{Result, fuzz};

/// How long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Operations in the comparison of the view with the model
    #[arg(long, default_value_t = 250_000)]
    ops: u64,
    /// How often the daemon is killed under load
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// In how many orders each scenario of threads runs under each scheduler
    #[arg(long, default_value_t = 1000)]
    schedules: u32,
    /// Views that come and go in one mount, with five processes in each
    #[arg(long, default_value_t = 200)]
    views: u32,
    #[command(flatten)]
    fuzz: fuzz::Args,
}

pub(crate) fn nightly(args: &Args) -> Result {
    check(
        test(&["--release", "--package", "spfs-vfs", "--package", "spfs-model"])
            .env("PROPTEST_CASES", "2000")
            .env("SPFS_OPS", args.ops.to_string()),
    )?;
    // With debug assertions, which check the order of locks as well.
    check(
        test(&["--package", "spfs-vfs", "--features", "shuttle", "--test", "schedules"])
            .env("SPFS_SCHEDULES", args.schedules.to_string()),
    )?;
    let killing = ["--release", "--package", "spfs-service", "--test", "mounted", "--", "killing"];
    check(
        test(&killing)
            .env("SPFS_TEST_KILLS", args.kills.to_string())
            .env("SPFS_TEST_REQUIRE_MOUNTS", "1"),
    )?;
    let churning =
        ["--release", "--package", "spfs-service", "--test", "mounted", "--", "come_and_go"];
    check(
        test(&churning)
            .env("SPFS_TEST_VIEWS", args.views.to_string())
            .env("SPFS_TEST_REQUIRE_MOUNTS", "1"),
    )?;
    fuzz::fuzz(&args.fuzz)
}

fn test(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).arg("test").args(arguments);
    // Linking a dozen test programs that way takes longer than it saves.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo
}
