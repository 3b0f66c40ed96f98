//! The `spfs` program; called `spfs-fuse`, it is the process that serves a runtime.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if spfs::called_as_daemon() { spfs::serve() } else { spfs::main() }
}
