use super::*;

fn remove(number: u64) -> Record {
    let time = crate::api::Timestamp { secs: number as i64, nanos: 0 };
    Record::Remove { dir: 1, name: format!("name{number}").into_bytes(), directory: false, time }
}

#[test]
fn what_is_encoded_is_read_back() {
    let records: Vec<_> = (0..50).map(remove).collect();
    let bytes = Journal::encode(&records);
    let contents = read(&bytes).unwrap();
    assert_eq!(contents.records, records);
    assert_eq!(contents.end, bytes.len() as u64);
}

#[test]
fn a_cut_at_any_byte_leaves_the_whole_records_before_it() {
    let records: Vec<_> = (0..8).map(remove).collect();
    let bytes = Journal::encode(&records);
    for cut in 0..bytes.len() {
        let contents = read(&bytes[..cut]).unwrap();
        assert!(contents.end <= cut as u64);
        assert_eq!(contents.records, records[..contents.records.len()]);
    }
}

#[test]
fn damage_in_the_middle_is_told_from_a_torn_tail() {
    let records: Vec<_> = (0..8).map(remove).collect();
    let whole = Journal::encode(&records);
    let last = Journal::encode(&records[..7]).len();
    for at in MAGIC.len()..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let (damage, contents) = read(&bytes).unwrap_err();
        assert!(matches!(damage, Damage::Middle { .. }), "{at}: {damage}");
        assert_eq!(contents.records, records[..contents.records.len()]);
    }
    for at in last..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        assert_eq!(read(&bytes).unwrap().records, records[..7], "{at}");
    }
}

#[test]
fn zeros_behind_the_end_are_a_torn_tail() {
    let records: Vec<_> = (0..3).map(remove).collect();
    let mut bytes = Journal::encode(&records);
    bytes.resize(bytes.len() + 4096, 0);
    assert_eq!(read(&bytes).unwrap().records, records);
}
