//! The file of a tag.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spfs_model::TagStream;

fuzz_target!(|bytes: &[u8]| {
    let Ok(stream) = TagStream::decode(bytes) else { return };
    let Ok(again) = stream.encode() else { return };
    let same = TagStream::decode(&again).expect("what was written is read");
    assert_eq!(same.tags(), stream.tags());
});
