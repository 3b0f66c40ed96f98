//! Annotations of the command line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pairs) = spfs_repo::parse_annotations(text) {
        assert!(pairs.iter().all(|(key, _)| !key.is_empty()));
    }
});
