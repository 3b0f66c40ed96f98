//! Digests, names, objects and their encodings, references, merge and diff; no I/O.
#![forbid(unsafe_code)]
