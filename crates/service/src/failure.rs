//! Why a request failed: what a program can act on, beside the text for the user.

use crate::proto;

/// The reason of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCode {
    /// None of the others.
    Other,
    /// The runtime is read-only.
    NotEditable,
    /// Nothing was changed.
    NothingToCommit,
    /// All that was changed is left out of what is stored.
    OnlyLeftOut,
    /// Files are open for writing, or processes are in the runtime.
    Busy,
    /// The backend, or this kind of service, cannot do that.
    Unsupported,
    /// The repository's format has no way to say what is in the runtime.
    NotRepresentable,
    /// No room.
    NoSpace,
    /// The caller belongs to another user.
    Denied,
    /// No such runtime is served here.
    UnknownRuntime,
    /// A pattern or another argument is malformed.
    Invalid,
    /// The runtime is served already, or the process was given a view before.
    Exists,
}

/// A failed request: reason, text, and the paths it is about (the first of them, after it has
/// crossed the wire).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The reason.
    pub code: FailureCode,
    /// What happened, with its causes.
    pub message: String,
    /// The paths it is about, relative to the root of the view.
    pub paths: Vec<Vec<u8>>,
}

impl Failure {
    /// A failure about no path in particular.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), paths: Vec::new() }
    }
}

/// Returns an error and all its causes as one text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Transparent errors repeat the text of their cause.
    texts.dedup();
    texts.join(": ")
}

impl From<FailureCode> for proto::FailureCode {
    fn from(code: FailureCode) -> Self {
        match code {
            FailureCode::Other => Self::Other,
            FailureCode::NotEditable => Self::NotEditable,
            FailureCode::NothingToCommit => Self::NothingToCommit,
            FailureCode::OnlyLeftOut => Self::OnlyLeftOut,
            FailureCode::Busy => Self::Busy,
            FailureCode::Unsupported => Self::Unsupported,
            FailureCode::NotRepresentable => Self::NotRepresentable,
            FailureCode::NoSpace => Self::NoSpace,
            FailureCode::Denied => Self::Denied,
            FailureCode::UnknownRuntime => Self::UnknownRuntime,
            FailureCode::Invalid => Self::Invalid,
            FailureCode::Exists => Self::Exists,
        }
    }
}

impl From<proto::FailureCode> for FailureCode {
    fn from(code: proto::FailureCode) -> Self {
        match code {
            proto::FailureCode::Other => Self::Other,
            proto::FailureCode::NotEditable => Self::NotEditable,
            proto::FailureCode::NothingToCommit => Self::NothingToCommit,
            proto::FailureCode::OnlyLeftOut => Self::OnlyLeftOut,
            proto::FailureCode::Busy => Self::Busy,
            proto::FailureCode::Unsupported => Self::Unsupported,
            proto::FailureCode::NotRepresentable => Self::NotRepresentable,
            proto::FailureCode::NoSpace => Self::NoSpace,
            proto::FailureCode::Denied => Self::Denied,
            proto::FailureCode::UnknownRuntime => Self::UnknownRuntime,
            proto::FailureCode::Invalid => Self::Invalid,
            proto::FailureCode::Exists => Self::Exists,
        }
    }
}

/// The gRPC status that other clients than ours go by.
fn grpc_code(code: FailureCode) -> tonic::Code {
    match code {
        FailureCode::Other => tonic::Code::Internal,
        FailureCode::NotEditable
        | FailureCode::NothingToCommit
        | FailureCode::OnlyLeftOut
        | FailureCode::Busy
        | FailureCode::NotRepresentable => tonic::Code::FailedPrecondition,
        FailureCode::Unsupported => tonic::Code::Unimplemented,
        FailureCode::NoSpace => tonic::Code::ResourceExhausted,
        FailureCode::Denied => tonic::Code::PermissionDenied,
        FailureCode::UnknownRuntime => tonic::Code::NotFound,
        FailureCode::Invalid => tonic::Code::InvalidArgument,
        FailureCode::Exists => tonic::Code::AlreadyExists,
    }
}

/// A status travels in headers, of which clients take no more than 16 KiB: the paths and the text
/// of a failure get so much of it (the text has up to three characters for a byte, the paths four
/// for three).
const PATH_BYTES_MAX: usize = 4 << 10;
const TEXT_BYTES_MAX: usize = 2 << 10;

/// The beginning of a list of paths.
fn beginning(paths: Vec<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let mut left = PATH_BYTES_MAX;
    paths.into_iter().map_while(move |path| {
        // As much as its place in the message needs.
        left = left.checked_sub(path.len() + 4)?;
        Some(path)
    })
}

fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let details = proto::Failure {
            code: proto::FailureCode::from(failure.code).into(),
            paths: beginning(failure.paths).map(Into::into).collect(),
        };
        let details = prost::Message::encode_to_vec(&details);
        Self::with_details(grpc_code(failure.code), shortened(failure.message), details.into())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let details: proto::Failure = prost::Message::decode(status.details()).unwrap_or_default();
        let code = match (details.code().into(), status.code()) {
            // Refused before any of our code saw the request.
            (FailureCode::Other, tonic::Code::PermissionDenied) => FailureCode::Denied,
            (FailureCode::Other, tonic::Code::Unimplemented) => FailureCode::Unsupported,
            (code, _) => code,
        };
        Self {
            code,
            message: status.message().to_owned(),
            paths: details.paths.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_wire_whole() {
        for code in [
            FailureCode::Other,
            FailureCode::NotEditable,
            FailureCode::NothingToCommit,
            FailureCode::OnlyLeftOut,
            FailureCode::Busy,
            FailureCode::Unsupported,
            FailureCode::NotRepresentable,
            FailureCode::NoSpace,
            FailureCode::Denied,
            FailureCode::UnknownRuntime,
            FailureCode::Invalid,
            FailureCode::Exists,
        ] {
            let failure = Failure {
                code,
                message: "files are open: a/b".to_owned(),
                paths: vec![b"a/b".to_vec(), b"\xff".to_vec()],
            };
            assert_eq!(Failure::from(tonic::Status::from(failure.clone())), failure);
        }
    }

    #[test]
    fn of_long_lists_and_texts_the_beginning_crosses_the_wire() {
        let failure = Failure {
            code: FailureCode::Busy,
            message: "ä".repeat(1 << 20),
            paths: vec![vec![0xff; 100]; 1 << 16],
        };
        let status = tonic::Status::from(failure);
        // Each character of the text takes six bytes in a header, each three bytes of the rest four.
        assert!(status.message().len() * 3 + status.details().len() * 4 / 3 < 15 << 10);
        let arrived = Failure::from(status);
        assert!(arrived.message.starts_with("ää") && arrived.message.ends_with('…'));
        assert_eq!(arrived.code, FailureCode::Busy);
        assert!((10..100).contains(&arrived.paths.len()), "{}", arrived.paths.len());
    }

    #[test]
    fn a_status_of_another_program_keeps_its_meaning() {
        let failure = Failure::from(tonic::Status::permission_denied("no"));
        assert_eq!(failure, Failure::new(FailureCode::Denied, "no"));
        let failure = Failure::from(tonic::Status::internal("broken"));
        assert_eq!(failure, Failure::new(FailureCode::Other, "broken"));
    }
}
