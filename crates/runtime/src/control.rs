//! What can be asked of a live runtime, and what it answers: plain values.

use std::path::PathBuf;

use spfs_model::Digest;

/// What a commit makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitKind {
    /// A layer of the changes.
    Layer,
    /// A platform of the stack, with a layer of the changes on top when there are any.
    Platform,
}

/// What becomes of the files that macOS leaves wherever it looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MacosFiles {
    /// They are stored like all others.
    #[default]
    Keep,
    /// They are left out of the layer, and stay in the runtime.
    LeaveOut,
}

impl MacosFiles {
    /// Whether what has this name is left out: what Finder and Spotlight keep for themselves, and
    /// the `._` files that hold extended attributes where a volume has none.
    pub fn leaves_out(self, name: &[u8]) -> bool {
        const NAMES: [&[u8]; 4] = [b".DS_Store", b".Spotlight-V100", b".fseventsd", b".Trashes"];
        self == Self::LeaveOut && (NAMES.contains(&name) || name.starts_with(b"._"))
    }
}

/// A commit to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOptions {
    /// What to make.
    pub kind: CommitKind,
    /// Facts to store with the layer, such as `message`.
    pub annotations: Vec<(String, String)>,
    /// Whether edit mode stays on.
    pub keep_editing: bool,
    /// Whether to make a layer even when nothing changed.
    pub allow_empty: bool,
    /// What becomes of the files that macOS leaves.
    pub macos_files: MacosFiles,
}

/// Where a commit stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitProgress {
    /// Files stored so far.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a commit made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The layer or the platform.
    pub digest: Digest,
    /// The layer of the changes, when there were any.
    pub layer: Option<Digest>,
    /// What was stored for it.
    pub stored: CommitProgress,
    /// Whether the runtime is in edit mode now.
    pub editable: bool,
    /// Files that were open for writing. What the commit holds of them is their content at one
    /// instant; when edit mode was to end and did not, they are the reason.
    pub busy: Vec<Vec<u8>>,
    /// How many files and directories of macOS were left out.
    pub left_out: u64,
}

/// What became of a change of edit mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditMode {
    /// Whether the mode is another than before.
    pub changed: bool,
    /// Whether the runtime is kept when its last process ends.
    pub durable: bool,
}

/// Changes to drop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResetOptions {
    /// What to drop, as patterns in the manner of gitignore; everything when empty.
    pub patterns: Vec<String>,
    /// The layers, bottom first, that replace the runtime's.
    pub stack: Option<Vec<Digest>>,
}

/// What to save as plain files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// Where to, as an absolute path; nothing may be in it.
    pub directory: PathBuf,
    /// Only what differs from the layers, rather than everything that is shown.
    pub changes_only: bool,
}

/// What was saved as plain files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What the layers have and the runtime has not; told when only changes are saved.
    pub removed: Vec<Vec<u8>>,
    /// What could not be saved, and why.
    pub skipped: Vec<(Vec<u8>, String)>,
    /// What is wrong with the journal: what happened after that place is not in it.
    pub damage: Option<String>,
}

/// What is known of a live runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveStatus {
    /// The runtime.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Whether files can be changed now.
    pub editable: bool,
    /// Whether it is kept when its last process ends.
    pub durable: bool,
    /// Its layers, bottom first.
    pub stack: Vec<Digest>,
    /// Number of changed inodes.
    pub changes: u64,
    /// Files that are open for writing.
    pub open_for_writing: Vec<Vec<u8>>,
    /// The mount namespace it is mounted in, when it has one of its own.
    pub mount_namespace: Option<String>,
    /// The processes it was given to, where one mount shows several runtimes.
    pub roots: Vec<u32>,
    /// How many processes are in it, as far as that is known without asking.
    pub members: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_macos_are_known_by_their_whole_names() {
        let left_out = |name: &str| MacosFiles::LeaveOut.leaves_out(name.as_bytes());
        for name in [".DS_Store", "._x", "._", ".Spotlight-V100", ".fseventsd", ".Trashes"] {
            assert!(left_out(name), "{name}");
            assert!(!MacosFiles::Keep.leaves_out(name.as_bytes()), "{name}");
        }
        for name in ["DS_Store", ".DS_Store2", ".ds_store", "x._y", ".x", ".", "Trashes"] {
            assert!(!left_out(name), "{name}");
        }
    }
}
