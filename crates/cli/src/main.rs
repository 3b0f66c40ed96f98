//! The `spfs` program.
#![forbid(unsafe_code)]

fn main() {}
