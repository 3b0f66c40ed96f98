//! The daemon: control protocol, router and the client that talks to it.
#![forbid(unsafe_code)]

mod client;
mod failure;
mod handshake;
mod messages;
mod proto;
mod serve;

pub use client::{Client, ClientError, ServiceStatus};
pub use failure::{Failure, FailureCode};
