//! Repositories: objects, payloads and tags, and what is done with them.
//!
//! [`Repository`] is a folder in upstream's format, [`TarRepository`] one that is packed into a file,
//! [`MemoryRepository`] one without a disk, and [`LayeredRepository`] several as one; an [`Address`]
//! names any of them. All are an [`AnyRepository`], which is [`Objects`], [`Payloads`] and [`Tags`]. Everything else
//! is written against that trait: [`commit_path`], [`write_layer`], [`resolve`], [`load_stack`],
//! [`check`](check::check), [`clean`](clean::clean) and [`sync`](sync::sync).
//!
//! **Invariant:** what is visible under its final name is complete, and everything that a tag leads
//! to is on disk before the tag is. What still is found damaged at its place (another program, a
//! failing disk) counts as absent when it is about to be written again.
#![forbid(unsafe_code)]

mod address;
mod annotation;
pub mod check;
pub mod clean;
mod commit;
mod copy;
mod error;
mod fs;
mod layer;
mod layered;
mod live_layer;
mod memory;
mod nearest;
mod over;
mod pinned;
mod progress;
pub mod render;
mod repository;
mod resolve;
mod spec_file;
mod stack;
pub mod sync;
mod tar;
mod target;
mod traits;
mod walk;

pub use address::{Address, AddressContext, LayerTexts, PlainAddresses, TagScope, time};
pub use annotation::{last_values, parse_annotations, read_annotations};
pub use commit::{CommitOptions, Committed, commit_path};
pub use error::{RepoError, Result};
pub use fs::Repository;
pub use layer::{
    ANNOTATION_INLINE_MAX, MESSAGE, WrittenLayer, annotations, find_annotation, stage_layer,
    upstream_can_read, write_layer, write_platform,
};
pub use layered::{LayeredRepository, Layering};
pub use live_layer::{LiveEntry, LiveLayer, LivePath, LivePathError};
pub use memory::MemoryRepository;
pub use nearest::nearest;
pub use pinned::PinnedRepository;
pub use progress::{NoProgress, Progress};
pub use repository::{AnyRepository, Batch, Encoding, Found, Stored};
pub use resolve::{
    ResolvedEnvironment, resolve, resolve_environment, resolve_item, resolve_reference,
};
pub use spec_file::{check_spec_text, stored_items};
pub use stack::{LoadedLayer, load_layers, load_stack};
pub use tar::{TarRepository, remove_unpacked};
pub use target::{Folder, Place, TargetDir};
pub use traits::{Digests, Objects, Payloads, TagListing, TagNamespace, Tags};
