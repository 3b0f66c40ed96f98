//! Test support: a model file system, a host file system, an operation generator, builders and faults.
#![forbid(unsafe_code)]
