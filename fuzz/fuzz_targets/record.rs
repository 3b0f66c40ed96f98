//! The record of a runtime, as another program may have written it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spfs_runtime::RuntimeRecord;

fuzz_target!(|document: &[u8]| {
    let Ok(record) = RuntimeRecord::from_json("one", document) else { return };
    let again = RuntimeRecord::from_json("one", &record.to_json()).expect("what was written is read");
    assert_eq!(again, record);
    drop((record.backend(), record.started(), record.created(), record.stored_stack()));
    for layer in record.live_layers().unwrap_or_default() {
        for entry in layer.contents {
            assert!(!entry.dest.as_path().is_absolute());
        }
    }
});
