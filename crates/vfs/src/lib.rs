//! The copy-on-write core: a view of immutable layers with a scratch area on top.
#![forbid(unsafe_code)]

pub mod api;
