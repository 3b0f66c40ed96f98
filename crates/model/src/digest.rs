//! Digests: what names an object or a payload.

use std::fmt;
use std::io;
use std::str::FromStr;

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

/// Length of the text form: 52 base32 characters and four of padding.
const TEXT_LEN: usize = 56;

/// The SHA-256 digest of a payload or of an object's canonical encoding.
///
/// Its text form is upper case base32 with padding, always 56 characters; parsing accepts nothing
/// else. Digests order by their bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Thirty-two zero bytes: the digest of nothing at all, such as a mask or a missing parent.
    pub const NULL: Self = Self([0; 32]);

    /// The digest of an empty payload.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// The first eight characters of the text form, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }

    /// Whether this is [`Digest::NULL`].
    pub fn is_null(&self) -> bool {
        *self == Self::NULL
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_LEN];
        BASE32.encode_mut(&self.0, &mut text);
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseDigestError { text: text.to_owned() };
        if text.len() != TEXT_LEN {
            return Err(refuse());
        }
        let bytes = BASE32.decode(text.as_bytes()).map_err(|_| refuse())?;
        bytes.try_into().map(Self).map_err(|_| refuse())
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest: it takes 52 characters of A-Z and 2-7 followed by \"====\"")]
pub struct ParseDigestError {
    /// The text.
    pub text: String,
}

/// Computes a digest piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl io::Write for Hasher {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_one_of_the_format() {
        assert_eq!(
            Digest::of(b"hello world\n").to_string(),
            "VFEJATZPB5DZXD4BS5UUWMAYJMGS5UOBZUVB5QH3QXJJTIMSURDQ===="
        );
        assert_eq!(
            Digest::NULL.to_string(),
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA===="
        );
        assert_eq!(
            Digest::EMPTY.to_string(),
            "4OYMIQUY7QOBJGX36TEJS35ZEQT24QPEMSNZGTFESWMRW6CSXBKQ===="
        );
        assert_eq!(Digest::EMPTY, Digest::of(b""));
        assert_eq!(Digest::EMPTY.short(), "4OYMIQUY");
    }

    #[test]
    fn parsing_is_strict() {
        let text = Digest::EMPTY.to_string();
        assert_eq!(text.parse(), Ok(Digest::EMPTY));
        let refused = [
            text.to_lowercase(),
            text.trim_end_matches('=').to_owned(),
            format!("{text} "),
            String::new(),
            // the last character of 52 carries one bit only; R sets a bit beyond it
            text.replace("XBKQ====", "XBKR===="),
            text.replace('4', "1"),
        ];
        for text in refused {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn hashing_in_pieces_equals_hashing_at_once() {
        let mut hasher = Hasher::new();
        hasher.update(b"hello ");
        io::Write::write_all(&mut hasher, b"world\n").unwrap();
        assert_eq!(hasher.finish(), Digest::of(b"hello world\n"));
    }
}
