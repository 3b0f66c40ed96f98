//! File names inside a tree.

use std::borrow::Borrow;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name in bytes, as NAME_MAX.
const LEN_MAX: usize = 255;

/// The name of one entry of a directory: 1 to 255 bytes without `/` and NUL, not `.` or `..`.
///
/// Names order by their bytes. They need not be UTF-8; only the object format asks for that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// What stands where the root of a tree is asked for its name: the one empty name.
    pub const ROOT: Name<'static> = Name(b"");

    /// Checks `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, NameError> {
        // without an early end, so that many bytes are looked at together
        let bad = bytes.iter().fold(false, |bad, &byte| bad | (byte == b'/') | (byte == 0));
        let reason = match bytes {
            b"" => NameErrorReason::Empty,
            b"." | b".." => NameErrorReason::Reserved,
            _ if bytes.len() > LEN_MAX => NameErrorReason::TooLong,
            _ if !bad => return Ok(Self(bytes)),
            _ if bytes.contains(&b'/') => NameErrorReason::Slash,
            _ => NameErrorReason::Nul,
        };
        Err(NameError { name: bytes.escape_ascii().to_string(), reason })
    }

    /// A name that was checked before it was stored.
    pub(crate) const fn trusted(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    pub fn to_owned(self) -> NameBuf {
        NameBuf(self.0.into())
    }

    /// The name as text, when it is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&String::from_utf8_lossy(self.0), f)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<'a> TryFrom<&'a [u8]> for Name<'a> {
    type Error = NameError;

    fn try_from(bytes: &'a [u8]) -> Result<Self, NameError> {
        Self::new(bytes)
    }
}

impl<'a> TryFrom<&'a str> for Name<'a> {
    type Error = NameError;

    fn try_from(text: &'a str) -> Result<Self, NameError> {
        Self::new(text.as_bytes())
    }
}

/// An owned [`Name`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Box<[u8]>);

impl NameBuf {
    /// Checks `bytes`.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        Name::new(&bytes)?;
        Ok(Self(bytes))
    }

    /// The borrowed form.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

// Ordering, equality and hashing of `NameBuf` are those of its bytes, as `Borrow` demands.
impl Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Name<'_>> for NameBuf {
    fn from(name: Name<'_>) -> Self {
        name.to_owned()
    }
}

impl TryFrom<&str> for NameBuf {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_name(), f)
    }
}

impl Serialize for NameBuf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for NameBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = NameBuf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a file name")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<NameBuf, E> {
        NameBuf::new(bytes).map_err(E::custom)
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<NameBuf, E> {
        NameBuf::new(bytes).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<NameBuf, A::Error> {
        let mut name = Vec::new();
        while let Some(byte) = bytes.next_element()? {
            if name.len() == LEN_MAX {
                return Err(A::Error::custom("a file name longer than 255 bytes"));
            }
            name.push(byte);
        }
        NameBuf::new(name).map_err(A::Error::custom)
    }
}

/// Bytes that cannot be a file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" cannot be a file name: {reason}")]
pub struct NameError {
    /// The bytes, with what is not printable escaped.
    pub name: String,
    /// What is wrong with them.
    pub reason: NameErrorReason,
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameErrorReason {
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is `.` or `..`.
    #[error("\".\" and \"..\" stand for directories")]
    Reserved,
    /// It has more than 255 bytes.
    #[error("it is longer than 255 bytes")]
    TooLong,
    /// It contains the separator of paths.
    #[error("it contains a slash")]
    Slash,
    /// It contains the terminator of strings.
    #[error("it contains a NUL byte")]
    Nul,
    /// It is not UTF-8, which the object format asks for.
    #[error("the object format holds UTF-8 names only")]
    NotUtf8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_accepts_is_a_name() {
        for good in [&b"a"[..], b"...", b".wh.x", b"\xff\xfe", b"new\nline", &[b'x'; 255]] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn what_could_leave_the_directory_is_refused() {
        let refused = [
            (&b""[..], NameErrorReason::Empty),
            (b".", NameErrorReason::Reserved),
            (b"..", NameErrorReason::Reserved),
            (b"a/b", NameErrorReason::Slash),
            (b"/", NameErrorReason::Slash),
            (b"a\0", NameErrorReason::Nul),
            (&[b'x'; 256], NameErrorReason::TooLong),
        ];
        for (bad, reason) in refused {
            assert_eq!(Name::new(bad).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn stored_names_are_checked_when_read_back() {
        let json = serde_json::to_string(&NameBuf::try_from("ab").unwrap()).unwrap();
        assert_eq!(json, "[97,98]");
        assert_eq!(serde_json::from_str::<NameBuf>(&json).unwrap().as_bytes(), b"ab");
        assert!(serde_json::from_str::<NameBuf>("[46,46]").is_err());
    }
}
