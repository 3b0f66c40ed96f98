//! What is installed on a Mac for the service: a name in the root directory, and an agent of
//! launchd. What is written is decided by functions of what is there.

pub(crate) mod agent;
pub(crate) mod synthetic;
