//! Runtimes: records, storage, entering, editing, committing and their state.
#![forbid(unsafe_code)]
