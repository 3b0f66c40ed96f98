//! The objects of a repository and what surrounds their encodings.

use crate::{Digest, Hasher, Manifest};

/// What is hashed before an object's body, besides the kind, so that objects of different kinds
/// never share a digest.
const SALT: &[u8; 48] = b"spfs digest da8d8e62-9459-11ee-adab-00155dcb338b";

/// An object: a node of the graph that tags lead into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Stands for a payload, whose digest is its own.
    Blob {
        /// The payload.
        payload: Digest,
        /// The payload's size in bytes.
        size: u64,
    },
    /// The hierarchy of a layer.
    Manifest(Manifest),
    /// A manifest with what is said about it.
    Layer(Layer),
    /// A stored list of layers.
    Platform(Platform),
}

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::Blob { .. } => ObjectKind::Blob,
            Self::Manifest(_) => ObjectKind::Manifest,
            Self::Layer(_) => ObjectKind::Layer,
            Self::Platform(_) => ObjectKind::Platform,
        }
    }
}

/// A layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// Its hierarchy; a layer of annotations alone has none.
    pub manifest: Option<Digest>,
    /// What is said about it, in stored order; keys may repeat.
    pub annotations: Vec<Annotation>,
}

/// A note on a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: AnnotationValue,
}

/// The value of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnotationValue {
    /// Stored in the layer.
    Inline(String),
    /// Stored in a blob of its own.
    Blob(Digest),
}

/// A platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platform {
    /// Layers, or further platforms, bottom first.
    pub stack: Vec<Digest>,
}

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// [`Object::Blob`]
    Blob,
    /// [`Object::Manifest`]
    Manifest,
    /// [`Object::Layer`]
    Layer,
    /// [`Object::Platform`]
    Platform,
}

impl ObjectKind {
    /// The number of the kind in headers and digests.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Blob => 0,
            Self::Manifest => 1,
            Self::Layer => 2,
            Self::Platform => 3,
        }
    }

    /// The kind with that number.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Blob),
            1 => Some(Self::Manifest),
            2 => Some(Self::Layer),
            3 => Some(Self::Platform),
            _ => None,
        }
    }

    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Manifest => "manifest",
            Self::Layer => "layer",
            Self::Platform => "platform",
        }
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How an object's digest is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DigestStrategy {
    /// The body alone, as the first releases of the format did.
    Legacy,
    /// A salt and the kind, then the body.
    #[default]
    WithKindAndSalt,
}

impl DigestStrategy {
    /// A hasher that has seen what comes before the body.
    pub(crate) fn hasher(self, kind: ObjectKind) -> Hasher {
        let mut hasher = Hasher::new();
        if self == Self::WithKindAndSalt {
            hasher.update(SALT);
            hasher.update(&[0, kind.number()]);
        }
        hasher
    }
}

/// How an object's body is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum EncodingFormat {
    /// The concatenation of what is hashed.
    Legacy,
    /// A FlatBuffer.
    #[default]
    FlatBuffers,
}

/// What the first bytes of an object's file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How its digest is computed.
    pub strategy: DigestStrategy,
    /// How its body is encoded.
    pub format: EncodingFormat,
    /// What it is.
    pub kind: ObjectKind,
}
