//! The `spfs-fuse` daemon; `spfs-fuse-macos` is the same program under the name macOS users know.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spfs::serve()
}
