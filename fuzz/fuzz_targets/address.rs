//! Addresses of repositories; nothing is opened.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spfs_repo::{Address, PlainAddresses};

fuzz_target!(|text: &str| {
    let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
    let context = PlainAddresses { now };
    if let Ok(address) = Address::parse(text, &context) {
        let printed = address.to_string();
        let again = Address::parse(&printed, &context).expect("what was printed is read");
        assert_eq!(again, address, "{printed}");
    }
});
