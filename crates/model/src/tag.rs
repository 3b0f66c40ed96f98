//! Tag records and their streams.

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::{Digest, TagName};

/// Bytes of a record before its content: the content's length.
const LENGTH_LEN: usize = 8;

/// One record of a tag stream: that somebody pointed the tag at something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Everything of the tag's name before the last slash.
    pub org: Option<String>,
    /// What follows the last slash.
    pub name: String,
    /// What the tag points at.
    pub target: Digest,
    /// Who did it, `name@domain`.
    pub user: String,
    /// When; new records have whole microseconds.
    pub time: Timestamp,
    /// The record that was newest before; null when there was none.
    pub parent: Digest,
}

impl Tag {
    /// A record for a tag; its time is cut to microseconds.
    pub fn new(tag: &TagName, target: Digest, user: String, time: Timestamp) -> Self {
        let time = Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time);
        Self {
            org: tag.org().map(str::to_owned),
            name: tag.name().to_owned(),
            target,
            user,
            time,
            parent: Digest::NULL,
        }
    }

    /// The digest of the record.
    pub fn digest(&self) -> Result<Digest, TagError> {
        self.encode().map(|record| Digest::of(&record))
    }

    /// The record's content, without its length.
    pub fn encode(&self) -> Result<Vec<u8>, TagError> {
        let mut record = Vec::new();
        push_string(&mut record, "org", self.org.as_deref().unwrap_or_default())?;
        push_string(&mut record, "name", &self.name)?;
        record.extend_from_slice(self.target.as_bytes());
        push_string(&mut record, "user", &self.user)?;
        push_string(&mut record, "time", &self.time_text())?;
        record.extend_from_slice(self.parent.as_bytes());
        Ok(record)
    }

    /// Reads the content of one record.
    pub fn decode(record: &[u8]) -> Result<Self, TagError> {
        let mut rest = record;
        let org = take_string(&mut rest, "org")?;
        let name = take_string(&mut rest, "name")?;
        let target = take_digest(&mut rest, "target")?;
        let user = take_string(&mut rest, "user")?;
        let text = take_string(&mut rest, "time")?;
        let parent = take_digest(&mut rest, "parent")?;
        if !rest.is_empty() {
            return Err(TagError::Trailing { count: rest.len() });
        }
        let time = text.parse().map_err(|source| TagError::Time { text, source })?;
        let org = (!org.is_empty()).then_some(org);
        Ok(Self { org, name, target, user, time, parent })
    }

    /// The order in which records stand in a stream.
    fn rank(&self) -> impl Ord + '_ {
        (self.time, &self.org, &self.name, self.target, self.parent, &self.user)
    }

    /// RFC 3339 with as many groups of three digits after the second as it takes.
    fn time_text(&self) -> String {
        let nanoseconds = self.time.subsec_nanosecond();
        let digits = match nanoseconds {
            0 => 0,
            _ if nanoseconds % 1_000_000 == 0 => 3,
            _ if nanoseconds % 1_000 == 0 => 6,
            _ => 9,
        };
        format!("{:.digits$}", self.time.display_with_offset(Offset::UTC))
    }
}

impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tag {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// All the records of a tag, oldest first, as its file holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagStream(Vec<Tag>);

impl TagStream {
    /// Reads the content of a file.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, TagError> {
        let mut tags = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_LEN>() {
            let length = usize::try_from(i64::from_be_bytes(*length)).ok();
            let record = length.and_then(|length| rest.split_at_checked(length));
            let (record, rest) = record.ok_or(TagError::Truncated { field: "record" })?;
            tags.push(Tag::decode(record)?);
            bytes = rest;
        }
        if bytes.is_empty() { Ok(Self(tags)) } else { Err(TagError::Truncated { field: "length" }) }
    }

    /// The content of a file.
    pub fn encode(&self) -> Result<Vec<u8>, TagError> {
        let mut bytes = Vec::new();
        for tag in &self.0 {
            let record = tag.encode()?;
            // an allocation never exceeds what an i64 counts
            bytes.extend_from_slice(&(record.len() as u64).to_be_bytes());
            bytes.extend_from_slice(&record);
        }
        Ok(bytes)
    }

    /// The records, oldest first.
    pub fn tags(&self) -> &[Tag] {
        &self.0
    }

    /// The version that many records before the newest.
    pub fn version(&self, version: u64) -> Option<&Tag> {
        let back = usize::try_from(version).ok()?;
        self.0.iter().rev().nth(back)
    }

    /// Adds a record at its place; one that is there already is not added again.
    ///
    /// Says whether it was added.
    pub fn insert(&mut self, tag: Tag) -> bool {
        // A stream need not be sorted, since other programs write to it: look at all of it.
        if self.0.contains(&tag) {
            return false;
        }
        self.0.push(tag);
        self.0.sort();
        true
    }

    /// Points the tag at something else: adds a record whose parent is the newest one.
    ///
    /// Returns the newest record, which is the old one when that has the same target.
    pub fn push(&mut self, mut tag: Tag) -> Result<&Tag, TagError> {
        match self.0.last() {
            Some(head) if head.target == tag.target => {}
            head => {
                tag.parent = head.map_or(Ok(Digest::NULL), Tag::digest)?;
                self.insert(tag);
            }
        }
        self.0.last().ok_or(TagError::Truncated { field: "record" })
    }

    /// Removes every record equal to this one; says whether there was one.
    pub fn remove(&mut self, tag: &Tag) -> bool {
        let before = self.0.len();
        self.0.retain(|other| other != tag);
        self.0.len() != before
    }

    /// Keeps the records that are wanted; versions are counted among those.
    pub fn retain(&mut self, wanted: impl Fn(&Tag) -> bool) {
        self.0.retain(wanted);
    }

    /// Whether no record is left, when the file of the stream is to be removed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for TagStream {
    type Item = Tag;
    type IntoIter = std::vec::IntoIter<Tag>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn push_string(record: &mut Vec<u8>, field: &'static str, text: &str) -> Result<(), TagError> {
    if text.contains('\0') {
        return Err(TagError::Nul { field });
    }
    record.extend_from_slice(text.as_bytes());
    record.push(0);
    Ok(())
}

fn take_string(rest: &mut &[u8], field: &'static str) -> Result<String, TagError> {
    let end = rest.iter().position(|&byte| byte == 0).ok_or(TagError::Truncated { field })?;
    let text = std::str::from_utf8(&rest[..end]).map_err(|_| TagError::NotUtf8 { field })?;
    *rest = &rest[end + 1..];
    Ok(text.to_owned())
}

fn take_digest(rest: &mut &[u8], field: &'static str) -> Result<Digest, TagError> {
    let (digest, after) = rest.split_first_chunk().ok_or(TagError::Truncated { field })?;
    *rest = after;
    Ok(Digest::from_bytes(*digest))
}

/// What is wrong with a tag record.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// There is a file and no record in it.
    #[error("the tag file is empty")]
    Empty,
    /// The stream ends within a record.
    #[error("the tag stream is cut off in the field {field}")]
    Truncated {
        /// The field that is not all there.
        field: &'static str,
    },
    /// A record is longer than its fields.
    #[error("a tag record has {count} bytes too many")]
    Trailing {
        /// Number of bytes.
        count: usize,
    },
    /// A text is not UTF-8.
    #[error("the field {field} of a tag record is not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A text that cannot be stored.
    #[error("the field {field} of a tag record cannot hold a NUL byte")]
    Nul {
        /// The field.
        field: &'static str,
    },
    /// A time that is none.
    #[error("{text:?} in a tag record is not a time")]
    Time {
        /// The text.
        text: String,
        /// Why.
        source: jiff::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(time: &str, target: &[u8]) -> Tag {
        let name = "org/name".parse().unwrap();
        Tag::new(&name, Digest::of(target), "user@host".to_owned(), time.parse().unwrap())
    }

    #[test]
    fn times_are_cut_to_microseconds_and_printed_as_short_as_they_can_be() {
        let printed = |time: &str| tag(time, b"").time_text();
        assert_eq!(printed("2026-11-22T06:30:20Z"), "2026-11-22T06:30:20+00:00");
        assert_eq!(printed("2026-11-22T06:30:20.45Z"), "2026-11-22T06:30:20.450+00:00");
        assert_eq!(printed("2026-11-22T06:30:20.456008Z"), "2026-11-22T06:30:20.456008+00:00");
        assert_eq!(printed("2026-11-22T06:30:20.456008999Z"), "2026-11-22T06:30:20.456008+00:00");
        // a record of somebody else may be finer
        let mut fine = tag("2026-11-22T06:30:20Z", b"");
        fine.time = "2026-11-22T06:30:20.000000001Z".parse().unwrap();
        assert_eq!(fine.time_text(), "2026-11-22T06:30:20.000000001+00:00");
        assert_eq!(Tag::decode(&fine.encode().unwrap()).unwrap(), fine);
    }

    #[test]
    fn a_push_links_to_the_head_and_the_same_target_is_not_pushed_again() {
        let mut stream = TagStream::default();
        let first = stream.push(tag("2026-11-22T06:00:00Z", b"1")).unwrap().clone();
        assert_eq!(first.parent, Digest::NULL);
        let again = stream.push(tag("2026-11-22T07:00:00Z", b"1")).unwrap().clone();
        assert_eq!((again, stream.tags().len()), (first.clone(), 1));
        let second = stream.push(tag("2026-11-22T08:00:00Z", b"2")).unwrap().clone();
        assert_eq!(second.parent, first.digest().unwrap());
        assert_eq!(stream.version(0), Some(&second));
        assert_eq!(stream.version(1), Some(&first));
        assert_eq!(stream.version(2), None);
        assert_eq!(stream.version(u64::MAX), None);
    }

    #[test]
    fn records_stand_in_order_of_time_and_removing_leaves_parents_alone() {
        let mut stream = TagStream::default();
        let [old, middle, new] = ["05", "06", "07"]
            .map(|hour| tag(&format!("2026-11-22T{hour}:00:00Z"), hour.as_bytes()));
        for tag in [&middle, &new, &old] {
            assert!(stream.insert(tag.clone()));
        }
        assert_eq!(stream.tags(), [old.clone(), middle.clone(), new.clone()]);
        assert!(stream.remove(&middle));
        assert!(!stream.remove(&middle));
        assert_eq!(stream.tags(), [old, new]);
    }

    #[test]
    fn records_that_cannot_be_written_are_refused() {
        let nul = Tag { user: "a\0b".to_owned(), ..tag("2026-11-22T06:00:00Z", b"1") };
        assert!(matches!(nul.encode(), Err(TagError::Nul { field: "user" })));
    }

    #[test]
    fn damaged_records_are_refused() {
        let good = tag("2026-11-22T06:00:00Z", b"1").encode().unwrap();
        for len in 0..good.len() {
            assert!(Tag::decode(&good[..len]).is_err(), "{len}");
        }
        let mut long = good.clone();
        long.push(0);
        assert!(matches!(Tag::decode(&long), Err(TagError::Trailing { count: 1 })));
        for length in [-1, i64::MIN, i64::MAX, 1] {
            let stream = [&length.to_be_bytes()[..], &good].concat();
            assert!(TagStream::decode(&stream).is_err(), "{length}");
        }
    }
}
