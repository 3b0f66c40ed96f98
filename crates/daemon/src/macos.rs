//! The `spfs-fuse` daemon under the name macOS users know.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spfs::serve()
}
