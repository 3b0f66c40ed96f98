//! The record of a runtime: one JSON document, in upstream's form.
//!
//! Members that this program does not know are kept, and what upstream leaves out is left out, so
//! that both programs can read, change and save each other's records. Upstream refuses a record
//! whose `mount_backend` it does not know: there `FuseOnly` is written, and the backend in use
//! stands in the member `backend`, which upstream ignores.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spfs_model::Digest;
use spfs_repo::LiveLayer;

use crate::backend::MountBackend;
use crate::mount_points::LiveShown;

mod digests;

/// Members of a record that this program does not know.
pub type Unknown = Map<String, Value>;

/// Everything that is written down about a runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// The runtime's name.
    pub name: String,
    /// Who made it.
    pub author: Author,
    /// What it is made of and what it is doing.
    pub status: RecordStatus,
    /// How it is to be mounted.
    pub config: RecordConfig,
    /// Kept for other programs.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Who made a runtime, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Login name.
    pub user_name: String,
    /// Name of the host the runtime lives on.
    pub host_name: String,
    /// When, in the text form of RFC 3339.
    pub created: String,
    /// Kept for other programs.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a runtime is made of and what it is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordStatus {
    /// The layers, **top first**; [`RuntimeRecord::stack`] has them in the usual order.
    #[serde(with = "digests")]
    pub stack: Vec<Digest>,
    /// Layers that upstream merged to shorten mount options.
    #[serde(default, with = "digests", skip_serializing_if = "Vec::is_empty")]
    pub flattened_layers: Vec<Digest>,
    /// Whether files may be changed.
    pub editable: bool,
    /// Whether processes are using the runtime, as far as the last save knew.
    pub running: bool,
    /// The process that the runtime was started for.
    pub owner: Option<u32>,
    /// The process that serves the runtime.
    pub monitor: Option<u32>,
    /// What was started in it; one empty string for an interactive shell.
    pub command: Vec<String>,
    /// When it was started last, in the text form of RFC 3339; absent from upstream's records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Kept for other programs.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How a runtime is to be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordConfig {
    /// The runtime's folder.
    pub runtime_dir: Option<PathBuf>,
    /// Size limit of upstream's tmpfs.
    pub tmpfs_size: Option<String>,
    /// Upstream's overlayfs upper directory.
    pub upper_dir: PathBuf,
    /// Upstream's overlayfs lower directory.
    pub lower_dir: PathBuf,
    /// Upstream's overlayfs work directory.
    pub work_dir: PathBuf,
    /// Startup script for PowerShell.
    #[serde(default)]
    pub ps_startup_file: PathBuf,
    /// Startup script for bash and other Bourne shells.
    pub sh_startup_file: PathBuf,
    /// Startup script for tcsh.
    pub csh_startup_file: PathBuf,
    /// Unused, always `/dev/null`.
    #[serde(default = "dev_null", deserialize_with = "ignored")]
    pub csh_expect_file: PathBuf,
    /// The mount namespace of the runtime, as the kernel's link text.
    pub mount_namespace: Option<String>,
    /// The backend as upstream may read it; [`RuntimeRecord::backend`] tells the one in use.
    #[serde(default = "upstream_default", skip_serializing_if = "is_upstream_default")]
    pub mount_backend: String,
    /// Repositories that are asked for what the local one lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_repositories: Vec<String>,
    /// Whether tags are looked up in them as well.
    #[serde(default = "yes")]
    pub include_secondary_tags: bool,
    /// Whether the runtime is kept when its last process ends.
    #[serde(default)]
    pub durable: bool,
    /// What the runtime shows of the host; [`RuntimeRecord::live_layers`] reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live_layers: Vec<Value>,
    /// The backend in use; absent from records that upstream made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The layer on top of the stack that holds the mount points of the live layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_points: Option<Digest>,
    /// How the live layers are shown.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub live_shown: LiveShown,
    /// Kept for other programs.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A record that is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The document does not parse.
    #[error("the record of runtime {name} cannot be read")]
    Malformed {
        /// The runtime.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The document names another runtime than the tag it was found under.
    #[error("the record of runtime {name} is that of {found:?}")]
    OtherRuntime {
        /// The runtime that was looked for.
        name: String,
        /// The name in the record.
        found: String,
    },
    /// The live layers do not parse.
    #[error("the record of runtime {name} holds live layers that cannot be read")]
    LiveLayers {
        /// The runtime.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The runtime needs a backend that this program does not know.
    #[error("runtime {name} was made for the backend {backend:?}, which this program lacks")]
    UnknownBackend {
        /// The runtime.
        name: String,
        /// The backend.
        backend: String,
    },
}

impl RuntimeRecord {
    /// Reads the record of `name` from its document.
    pub fn from_json(name: &str, document: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(document)
            .map_err(|source| RecordError::Malformed { name: name.to_owned(), source })?;
        if record.name != name {
            return Err(RecordError::OtherRuntime { name: name.to_owned(), found: record.name });
        }
        Ok(record)
    }

    /// Writes the record as one compact document.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and string-keyed maps always serialise")
    }

    /// Returns the layers of the stack, bottom first.
    pub fn stack(&self) -> Vec<Digest> {
        self.status.stack.iter().rev().copied().collect()
    }

    /// Replaces the stack by these layers, given bottom first.
    pub fn set_stack(&mut self, bottom_first: &[Digest]) {
        self.status.stack = bottom_first.iter().rev().copied().collect();
    }

    /// Puts a layer on top of the stack; one that is there already moves up.
    pub fn push_layer(&mut self, layer: Digest) {
        let mut stack = self.stack();
        push_on_top(&mut stack, layer);
        self.set_stack(&stack);
    }

    /// Reads what the runtime shows of the host.
    pub fn live_layers(&self) -> Result<Vec<LiveLayer>, RecordError> {
        let layer = |value: &Value| LiveLayer::deserialize(value);
        let layers = self.config.live_layers.iter().map(layer).collect::<Result<_, _>>();
        layers.map_err(|source| RecordError::LiveLayers { name: self.name.clone(), source })
    }

    /// Returns the layers of the stack without that of the mount points, bottom first.
    pub fn stored_stack(&self) -> Vec<Digest> {
        let mut stack = self.stack();
        stack.retain(|layer| Some(*layer) != self.config.mount_points);
        stack
    }

    /// Whether this program made the runtime, and its folder and daemon are as we make them.
    pub fn is_ours(&self) -> bool {
        self.config.backend.is_some()
    }

    /// Returns the backend in use.
    pub fn backend(&self) -> Result<MountBackend, RecordError> {
        let name = self.config.backend.as_deref().unwrap_or(&self.config.mount_backend);
        MountBackend::from_name(name).ok_or_else(|| RecordError::UnknownBackend {
            name: self.name.clone(),
            backend: name.to_owned(),
        })
    }

    /// Notes the backend in use, in a form that upstream can read too.
    pub fn set_backend(&mut self, backend: MountBackend) {
        self.config.mount_backend = MountBackend::FuseOnly.name().to_owned();
        self.config.backend = Some(backend.name().to_owned());
    }

    /// Points all paths into the runtime's folder.
    pub(crate) fn set_folder(&mut self, folder: &Path) {
        self.config.runtime_dir = Some(folder.to_owned());
        self.config.upper_dir = folder.join("upper");
        self.config.lower_dir = folder.join("lower");
        self.config.work_dir = folder.join("work");
        self.config.ps_startup_file = folder.join("startup.ps1");
        self.config.sh_startup_file = folder.join("startup.sh");
        self.config.csh_startup_file = folder.join(".cshrc");
        self.config.csh_expect_file = dev_null();
    }

    /// Returns when the runtime was started last; `None` when that is not known.
    pub fn started(&self) -> Option<jiff::Timestamp> {
        self.status.started.as_ref()?.parse().ok()
    }

    /// Returns when the runtime was made; `None` when the text is no time.
    pub fn created(&self) -> Option<jiff::Timestamp> {
        self.author.created.parse().ok()
    }
}

/// Puts a layer on top of a stack given bottom first; one that is there already moves up.
pub(crate) fn push_on_top(stack: &mut Vec<Digest>, layer: Digest) {
    stack.retain(|below| *below != layer);
    stack.push(layer);
}

fn dev_null() -> PathBuf {
    PathBuf::from("/dev/null")
}

fn ignored<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer)?;
    Ok(dev_null())
}

fn upstream_default() -> String {
    MountBackend::OverlayFsWithRenders.name().to_owned()
}

fn is_upstream_default(name: &str) -> bool {
    name == MountBackend::OverlayFsWithRenders.name()
}

fn is_usual(shown: &LiveShown) -> bool {
    *shown == LiveShown::default()
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests;
