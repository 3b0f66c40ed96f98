//! A run spec: a file that lists layers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    drop(spfs_repo::check_spec_text(&format!("api: spfs/v0/runspec\n{text}")));
});
