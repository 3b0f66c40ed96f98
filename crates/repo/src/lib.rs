//! Repositories: objects, payloads and tags on disk or in memory; commit, check, sync and clean.
#![forbid(unsafe_code)]
