//! The spfs command line.
#![forbid(unsafe_code)]
