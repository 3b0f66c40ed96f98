//! A live layer, and spec files in general; whatever is accepted stays inside.
#![no_main]

use std::path::{Component, PathBuf};

use libfuzzer_sys::fuzz_target;
use spfs_repo::LivePath;

fuzz_target!(|text: &str| {
    drop(spfs_repo::check_spec_text(text));
    if let Ok(place) = LivePath::try_from(PathBuf::from(text)) {
        assert!(!place.names().is_empty());
        let mut parts = place.as_path().components();
        assert!(parts.all(|part| matches!(part, Component::Normal(_))));
    }
});
