//! What is typed as an environment, a tag, or a time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spfs_model::{EnvSpec, PartialDigest, TagSpec, TimeSpec};

fuzz_target!(|text: &str| {
    if let Ok(spec) = text.parse::<EnvSpec>() {
        let again: EnvSpec = spec.to_string().parse().expect("what was printed is read");
        assert_eq!(again, spec);
    }
    if let Ok(tag) = text.parse::<TagSpec>() {
        assert_eq!(tag.to_string().parse::<TagSpec>().as_ref(), Ok(&tag));
    }
    if let Ok(partial) = text.parse::<PartialDigest>() {
        drop(partial.to_string());
    }
    if let Ok(time) = text.parse::<TimeSpec>() {
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        drop(time.resolve(&now));
    }
});
