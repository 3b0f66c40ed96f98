//! The FUSE edge: translates between the kernel protocol and the core.
#![forbid(unsafe_code)]
