//! Between our values and the messages that carry them, in both directions.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use prost::bytes::Bytes;
use spfs_model::{Change, ChangeKind, Digest, NodeKind, Shown, mode};
use spfs_runtime::control::{
    CommitKind, CommitOptions, CommitProgress, Committed, EditMode, ExportOptions, Exported,
    LiveStatus, MacosFiles, ResetOptions,
};

use crate::failure::{Failure, FailureCode};
use crate::proto;
use crate::remount::MOUNTPOINT;

/// Paths of one list in an answer: their longest form stays below the message size that clients
/// accept.
const EXPORT_PATHS_MAX: usize = 256;

/// A message that the protocol does not allow.
pub(crate) fn malformed(what: &str) -> Failure {
    Failure::new(FailureCode::Invalid, format!("malformed message: {what}"))
}

pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, Failure> {
    let bytes = bytes.try_into().map_err(|_| malformed("a digest has 32 bytes"))?;
    Ok(Digest::from_bytes(bytes))
}

fn digest_bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

pub(crate) fn digests(list: &[Bytes]) -> Result<Vec<Digest>, Failure> {
    list.iter().map(|bytes| digest(bytes)).collect()
}

pub(crate) fn digest_list(digests: &[Digest]) -> Vec<Bytes> {
    digests.iter().map(digest_bytes).collect()
}

pub(crate) fn path_list(paths: Vec<Vec<u8>>) -> Vec<Bytes> {
    paths.into_iter().map(Into::into).collect()
}

pub(crate) fn paths(list: Vec<Bytes>) -> Vec<Vec<u8>> {
    list.into_iter().map(Into::into).collect()
}

impl From<&CommitOptions> for proto::CommitRequest {
    fn from(options: &CommitOptions) -> Self {
        Self {
            runtime_name: String::new(),
            kind: match options.kind {
                CommitKind::Layer => proto::CommitKind::Layer,
                CommitKind::Platform => proto::CommitKind::Platform,
            }
            .into(),
            annotations: options
                .annotations
                .iter()
                .map(|(key, value)| proto::Annotation { key: key.clone(), value: value.clone() })
                .collect(),
            keep_editing: options.keep_editing,
            allow_empty: options.allow_empty,
            leave_out_macos_files: options.macos_files == MacosFiles::LeaveOut,
        }
    }
}

impl TryFrom<proto::CommitRequest> for CommitOptions {
    type Error = Failure;

    fn try_from(request: proto::CommitRequest) -> Result<Self, Failure> {
        Ok(Self {
            kind: match proto::CommitKind::try_from(request.kind) {
                Ok(proto::CommitKind::Layer) => CommitKind::Layer,
                Ok(proto::CommitKind::Platform) => CommitKind::Platform,
                Err(_) => return Err(malformed("no such kind of commit")),
            },
            annotations: request.annotations.into_iter().map(|a| (a.key, a.value)).collect(),
            keep_editing: request.keep_editing,
            allow_empty: request.allow_empty,
            macos_files: match request.leave_out_macos_files {
                true => MacosFiles::LeaveOut,
                false => MacosFiles::Keep,
            },
        })
    }
}

impl From<CommitProgress> for proto::CommitEvent {
    fn from(progress: CommitProgress) -> Self {
        let progress = proto::CommitProgress { files: progress.files, bytes: progress.bytes };
        Self { event: Some(proto::commit_event::Event::Progress(progress)) }
    }
}

impl From<Committed> for proto::CommitEvent {
    fn from(done: Committed) -> Self {
        let done = proto::CommitResponse {
            digest: digest_bytes(&done.digest),
            layer: done.layer.as_ref().map(digest_bytes).unwrap_or_default(),
            files: done.stored.files,
            bytes: done.stored.bytes,
            editable: done.editable,
            busy: path_list(done.busy),
            left_out: done.left_out,
        };
        Self { event: Some(proto::commit_event::Event::Done(done)) }
    }
}

impl TryFrom<proto::CommitResponse> for Committed {
    type Error = Failure;

    fn try_from(done: proto::CommitResponse) -> Result<Self, Failure> {
        Ok(Self {
            digest: digest(&done.digest)?,
            layer: if done.layer.is_empty() { None } else { Some(digest(&done.layer)?) },
            stored: CommitProgress { files: done.files, bytes: done.bytes },
            editable: done.editable,
            busy: paths(done.busy),
            left_out: done.left_out,
        })
    }
}

impl From<EditMode> for proto::SetEditableResponse {
    fn from(mode: EditMode) -> Self {
        Self { changed: mode.changed, durable: mode.durable }
    }
}

impl From<proto::SetEditableResponse> for EditMode {
    fn from(mode: proto::SetEditableResponse) -> Self {
        Self { changed: mode.changed, durable: mode.durable }
    }
}

impl From<&ResetOptions> for proto::ResetRequest {
    fn from(options: &ResetOptions) -> Self {
        Self {
            runtime_name: String::new(),
            patterns: options.patterns.clone(),
            replace_stack: options.stack.is_some(),
            stack: digest_list(options.stack.as_deref().unwrap_or_default()),
        }
    }
}

impl TryFrom<proto::ResetRequest> for ResetOptions {
    type Error = Failure;

    fn try_from(request: proto::ResetRequest) -> Result<Self, Failure> {
        let stack = request.replace_stack.then(|| digests(&request.stack)).transpose()?;
        Ok(Self { patterns: request.patterns, stack })
    }
}

impl From<&ExportOptions> for proto::ExportRequest {
    fn from(options: &ExportOptions) -> Self {
        Self {
            runtime_name: String::new(),
            directory: options.directory.as_os_str().as_encoded_bytes().to_vec().into(),
            changes_only: options.changes_only,
        }
    }
}

impl TryFrom<proto::ExportRequest> for ExportOptions {
    type Error = Failure;

    fn try_from(request: proto::ExportRequest) -> Result<Self, Failure> {
        let directory = PathBuf::from(OsString::from_vec(request.directory.into()));
        if !directory.is_absolute() || directory.starts_with(MOUNTPOINT) {
            let text = format!("{} is no place to save a runtime to", directory.display());
            return Err(Failure::new(FailureCode::Invalid, text));
        }
        Ok(Self { directory, changes_only: request.changes_only })
    }
}

impl From<Exported> for proto::ExportResponse {
    fn from(mut exported: Exported) -> Self {
        exported.removed.truncate(EXPORT_PATHS_MAX);
        let skipped = exported.skipped.into_iter().take(EXPORT_PATHS_MAX);
        Self {
            files: exported.files,
            directories: exported.directories,
            links: exported.links,
            bytes: exported.bytes,
            removed: path_list(exported.removed),
            skipped: skipped
                .map(|(path, reason)| proto::Skipped { path: path.into(), reason })
                .collect(),
        }
    }
}

impl From<proto::ExportResponse> for Exported {
    fn from(answer: proto::ExportResponse) -> Self {
        let skipped = answer.skipped.into_iter();
        Self {
            files: answer.files,
            directories: answer.directories,
            links: answer.links,
            bytes: answer.bytes,
            removed: paths(answer.removed),
            skipped: skipped.map(|skipped| (skipped.path.into(), skipped.reason)).collect(),
            damage: None,
        }
    }
}

impl From<LiveStatus> for proto::ViewStatus {
    fn from(view: LiveStatus) -> Self {
        Self {
            runtime_name: view.name,
            backend: view.backend,
            editable: view.editable,
            durable: view.durable,
            stack: digest_list(&view.stack),
            changes: view.changes,
            open_for_writing: path_list(view.open_for_writing),
            mount_namespace: view.mount_namespace.unwrap_or_default(),
            root_pids: view.roots,
            members: view.members,
        }
    }
}

impl TryFrom<proto::ViewStatus> for LiveStatus {
    type Error = Failure;

    fn try_from(view: proto::ViewStatus) -> Result<Self, Failure> {
        Ok(Self {
            name: view.runtime_name,
            backend: view.backend,
            editable: view.editable,
            durable: view.durable,
            stack: digests(&view.stack)?,
            changes: view.changes,
            open_for_writing: paths(view.open_for_writing),
            mount_namespace: Some(view.mount_namespace).filter(|text| !text.is_empty()),
            roots: view.root_pids,
            members: view.members,
        })
    }
}

impl From<&Shown> for proto::Shown {
    fn from(shown: &Shown) -> Self {
        Self { mode: shown.mode, size: shown.size, object: digest_bytes(&shown.object) }
    }
}

impl TryFrom<proto::Shown> for Shown {
    type Error = Failure;

    fn try_from(shown: proto::Shown) -> Result<Self, Failure> {
        let kind = if shown.mode & mode::TYPE == mode::DIRECTORY {
            NodeKind::Directory
        } else {
            NodeKind::of_blob(shown.mode)
        };
        Ok(Self { kind, mode: shown.mode, size: shown.size, object: digest(&shown.object)? })
    }
}

impl From<Change> for proto::Change {
    fn from(change: Change) -> Self {
        let (before, after) = match &change.kind {
            ChangeKind::Added(after) => (None, Some(after.into())),
            ChangeKind::Removed(before) => (Some(before.into()), None),
            ChangeKind::Changed { before, after } => (Some(before.into()), Some(after.into())),
        };
        Self { path: change.path.into(), before, after }
    }
}

impl TryFrom<proto::Change> for Change {
    type Error = Failure;

    fn try_from(change: proto::Change) -> Result<Self, Failure> {
        let before = change.before.map(Shown::try_from).transpose()?;
        let after = change.after.map(Shown::try_from).transpose()?;
        let kind = match (before, after) {
            (None, Some(after)) => ChangeKind::Added(after),
            (Some(before), None) => ChangeKind::Removed(before),
            (Some(before), Some(after)) => ChangeKind::Changed { before, after },
            (None, None) => return Err(malformed("a change that is none")),
        };
        Ok(Self { path: change.path.into(), kind })
    }
}
