//! The long versions of the randomised proofs.

use std::process::Command;

use crate::Result;
use crate::run::{check, root};

/// How long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Operations in the comparison of the view with the model
    #[arg(long, default_value_t = 250_000)]
    ops: u64,
    /// How often the daemon is killed under load
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// Views that come and go in one mount, with five processes in each
    #[arg(long, default_value_t = 200)]
    views: u32,
}

pub(crate) fn nightly(args: &Args) -> Result {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["test", "--release", "--package", "spfs-vfs", "--package", "spfs-model"])
        .env("PROPTEST_CASES", "2000")
        .env("SPFS_OPS", args.ops.to_string());
    check(&mut cargo)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["test", "--release", "--package", "spfs", "--test", "e2e", "--", "kill"])
        .env("SPFS_TEST_KILLS", args.kills.to_string())
        .env("SPFS_TEST_REQUIRE_MOUNTS", "1");
    check(&mut cargo)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["test", "--release", "--package", "spfs-service", "--test", "mounted"])
        .args(["--", "come_and_go"])
        .env("SPFS_TEST_VIEWS", args.views.to_string())
        .env("SPFS_TEST_REQUIRE_MOUNTS", "1");
    check(&mut cargo)
}
