//! The file of an object: what is read is written and read again, hashed, and put together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spfs_model::{Object, decode, digest, encode, merge};

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, object)) = decode(bytes) else { return };
    let first = digest(&object, header.strategy);
    if let Ok(again) = encode(&object, header.strategy, header.format) {
        let (_, same) = decode(&again).expect("what was written is read");
        assert_eq!(same, object);
        assert_eq!(digest(&same, header.strategy).ok(), first.ok());
    }
    if let Object::Manifest(manifest) = &object {
        // A small manifest may describe a tree that is large beyond bounds, by naming a tree again.
        if manifest.trees().len() < 16 {
            let tree = merge(&[manifest, manifest]);
            assert_eq!(merge(&[manifest]), tree);
        }
    }
});
