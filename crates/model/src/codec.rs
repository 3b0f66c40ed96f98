//! Encodings of objects, and the digests that do not depend on them.
//!
//! An object's file is a header of 17 bytes and a body in one of two formats. Both formats are
//! written exactly as upstream writes them, so that the same object is the same file.

mod flat;
mod legacy;

use crate::name::NameError;
use crate::{
    AnnotationValue, Digest, DigestStrategy, EncodingFormat, Header, Layer, ManifestError, Object,
    ObjectKind, Platform,
};

/// What every object's file starts with.
const MAGIC: &[u8; 9] = b"--SPFS--\n";

impl Header {
    /// Length in bytes.
    pub const LEN: usize = 17;

    /// The bytes of the header.
    ///
    /// They were once the magic and the kind as a big-endian number of eight bytes. With the
    /// legacy strategy and format they still are.
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[9] = match self.strategy {
            DigestStrategy::Legacy => 0,
            DigestStrategy::WithKindAndSalt => 1,
        };
        bytes[10] = match self.format {
            EncodingFormat::Legacy => 0,
            EncodingFormat::FlatBuffers => 1,
        };
        bytes[16] = self.kind.number();
        bytes
    }

    /// Reads the header of an object's file.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(header) = bytes.first_chunk::<{ Self::LEN }>() else {
            return Err(DecodeError::Truncated { what: "header", at: bytes.len() });
        };
        if !header.starts_with(MAGIC) {
            return Err(DecodeError::Magic);
        }
        let strategy = match header[9] {
            0 => DigestStrategy::Legacy,
            1 => DigestStrategy::WithKindAndSalt,
            number => return Err(DecodeError::Unknown { what: "digest strategy", number }),
        };
        let format = match header[10] {
            0 => EncodingFormat::Legacy,
            1 => EncodingFormat::FlatBuffers,
            number => return Err(DecodeError::Unknown { what: "encoding format", number }),
        };
        let kind = ObjectKind::from_number(header[16])
            .ok_or(DecodeError::Unknown { what: "object kind", number: header[16] })?;
        Ok(Self { strategy, format, kind })
    }
}

/// The whole file of an object: header and body.
pub fn encode(
    object: &Object,
    strategy: DigestStrategy,
    format: EncodingFormat,
) -> Result<Vec<u8>, EncodeError> {
    let header = Header { strategy, format, kind: object.kind() };
    match format {
        EncodingFormat::Legacy => legacy::encode(header, object),
        EncodingFormat::FlatBuffers => flat::encode(header, object),
    }
}

/// Reads the whole file of an object.
///
/// Everything that is used is checked, down to the digests of a manifest's trees. What the bytes
/// describe takes memory in proportion to their number.
pub fn decode(bytes: &[u8]) -> Result<(Header, Object), DecodeError> {
    let header = Header::decode(bytes)?;
    let body = &bytes[Header::LEN..];
    let object = match header.format {
        EncodingFormat::Legacy => legacy::decode(header.kind, body)?,
        EncodingFormat::FlatBuffers => flat::decode(header.kind, body)?,
    };
    Ok((header, object))
}

/// The digest of an object.
pub fn digest(object: &Object, strategy: DigestStrategy) -> Result<Digest, EncodeError> {
    let body = match object {
        Object::Blob { payload, .. } => return Ok(*payload),
        Object::Manifest(manifest) => return Ok(manifest.digest(strategy)),
        Object::Layer(layer) => layer_body(layer)?,
        Object::Platform(platform) => platform_body(platform),
    };
    let mut hasher = strategy.hasher(object.kind());
    hasher.update(&body);
    Ok(hasher.finish())
}

/// What is hashed for a layer.
fn layer_body(layer: &Layer) -> Result<Vec<u8>, EncodeError> {
    if layer.manifest.is_none() && layer.annotations.is_empty() {
        return Err(EncodeError::EmptyLayer);
    }
    let mut body = Vec::new();
    body.extend(layer.manifest.iter().flat_map(Digest::as_bytes));
    for annotation in &layer.annotations {
        push_string(&mut body, &annotation.key)?;
        match &annotation.value {
            AnnotationValue::Inline(text) => {
                body.push(1);
                push_string(&mut body, text)?;
            }
            AnnotationValue::Blob(digest) => {
                body.push(2);
                body.extend_from_slice(digest.as_bytes());
            }
        }
    }
    Ok(body)
}

/// What is hashed for a platform, which is also its legacy encoding: the topmost layer first.
fn platform_body(platform: &Platform) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + 32 * platform.stack.len());
    body.extend_from_slice(&(platform.stack.len() as u64).to_be_bytes());
    body.extend(platform.stack.iter().rev().flat_map(Digest::as_bytes));
    body
}

fn push_string(body: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    if text.contains('\0') {
        return Err(EncodeError::Nul { text: text.to_owned() });
    }
    body.extend_from_slice(text.as_bytes());
    body.push(0);
    Ok(())
}

/// Why an object cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The layer has neither manifest nor annotations.
    #[error("a layer needs a manifest or annotations")]
    EmptyLayer,
    /// The layer is more than a manifest.
    #[error("the legacy encoding holds neither annotations nor a layer without a manifest")]
    LegacyLayer,
    /// A string of an annotation ends before its end.
    #[error("{text:?} holds a NUL byte, which cannot be stored")]
    Nul {
        /// The string.
        text: String,
    },
    /// The file would be larger than offsets can say.
    #[error("the object would take {size} bytes, the format allows two GiB")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
}

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not start as an object does.
    #[error("not an object: it does not start with \"--SPFS--\"")]
    Magic,
    /// A number that stands for nothing.
    #[error("unknown {what} {number}")]
    Unknown {
        /// What the number is.
        what: &'static str,
        /// The number.
        number: u8,
    },
    /// Something lies beyond the end of the bytes.
    #[error("the object is cut off or damaged: {what} at byte {at} lies beyond its end")]
    Truncated {
        /// What lies there.
        what: &'static str,
        /// Where, counted from the start of the file's body.
        at: usize,
    },
    /// Something cannot be what it should be.
    #[error("the object is damaged: bad {what} at byte {at}")]
    Bad {
        /// What it should be.
        what: &'static str,
        /// Where, counted from the start of the file's body.
        at: usize,
    },
    /// Something is not there.
    #[error("the object is damaged: no {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// The body holds another kind than the header says.
    #[error("the object is damaged: its header says {header}, its body is something else")]
    OtherKind {
        /// The kind of the header.
        header: ObjectKind,
    },
    /// The file is longer than the encoding can address.
    #[error("the object is damaged: no object is as long as {size} bytes")]
    TooLong {
        /// The size of the file.
        size: u64,
    },
    /// The same bytes are used for so many things that they cannot have been written so.
    #[error("the object is damaged: it describes more than its {size} bytes can hold")]
    Overfull {
        /// The size of the body.
        size: usize,
    },
    /// Bytes follow the end of the object.
    #[error("the object is damaged: {count} bytes follow its end")]
    Trailing {
        /// Number of bytes.
        count: usize,
    },
    /// They make no manifest.
    #[error("not a manifest")]
    Manifest {
        /// Why.
        #[from]
        source: ManifestError,
    },
}

impl From<NameError> for DecodeError {
    fn from(error: NameError) -> Self {
        ManifestError::from(error).into()
    }
}
