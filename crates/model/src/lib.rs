//! Digests, names, objects and their encodings, references, merge and diff; no I/O.
#![forbid(unsafe_code)]

mod codec;
mod diff;
mod digest;
mod entry;
mod env_spec;
mod live;
mod manifest;
mod merged;
mod name;
mod object;
mod partial;
mod stack;
mod tag;
mod tag_spec;
mod time_spec;

pub use codec::{DecodeError, EncodeError, decode, digest, encode};
pub use diff::{
    Change, ChangeKind, DiffError, Shown, changes, changes_between, changes_from, diff,
};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use entry::{BlobEntry, EntryKind, NodeKind, mode};
pub use env_spec::{EnvItem, EnvSpec, ParseEnvError};
pub use live::Live;
pub use manifest::{
    Content, Entries, EntryRef, Manifest, ManifestBuilder, ManifestError, NewEntry, Node, Tree,
    TreeIndex,
};
pub use merged::{MergedNode, MergedTree, Position};
pub use name::{Name, NameBuf, NameError, NameErrorReason};
pub use object::{
    Annotation, AnnotationValue, DigestStrategy, EncodingFormat, Header, Layer, Object, ObjectKind,
    Platform,
};
pub use partial::{ParsePartialDigestError, PartialDigest};
pub use stack::{Dir, MergedEntry, Stack, merge};
pub use tag::{Tag, TagError, TagStream};
pub use tag_spec::{ParseTagError, ParseTagErrorReason, TagName, TagSpec};
pub use time_spec::{ParseTimeError, ResolveTimeError, TimeSpec};
