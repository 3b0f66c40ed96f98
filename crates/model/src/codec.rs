//! Encodings of objects.

use crate::{Digest, DigestStrategy, EncodingFormat, Header, ManifestError, Object};

/// The whole file of an object: header and body, byte for byte as upstream writes it.
pub fn encode(
    _object: &Object,
    _strategy: DigestStrategy,
    _format: EncodingFormat,
) -> Result<Vec<u8>, EncodeError> {
    unimplemented!()
}

/// Reads the whole file of an object.
pub fn decode(_bytes: &[u8]) -> Result<(Header, Object), DecodeError> {
    unimplemented!()
}

/// The digest of an object.
pub fn digest(_object: &Object, _strategy: DigestStrategy) -> Result<Digest, EncodeError> {
    unimplemented!()
}

/// Why an object cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The layer has neither manifest nor annotations.
    #[error("a layer needs a manifest or annotations")]
    EmptyLayer,
}

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They make no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}
