//! The daemon: control protocol, router and the client that talks to it.
#![forbid(unsafe_code)]

mod proto;
