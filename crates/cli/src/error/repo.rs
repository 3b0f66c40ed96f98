//! Errors of repositories and of what is written in them.

use std::error::Error;

use spfs_model::ParseTagError;
use spfs_repo::RepoError;

use super::CliError;

impl CliError {
    /// A text that is no reference.
    pub(crate) fn reference(reference: &str, error: &dyn Error) -> Self {
        Self::failed(format!("{reference:?} is not a reference"))
            .because(error)
            .hint("a reference is a tag, a digest or its beginning; several are joined with '+'")
    }
}

impl From<ParseTagError> for CliError {
    fn from(error: ParseTagError) -> Self {
        Self::of(&error)
    }
}

impl From<RepoError> for CliError {
    fn from(error: RepoError) -> Self {
        let told = Self::of(&error);
        match &error {
            RepoError::UnknownReference { .. } => told.hint(
                "'spfs tags' lists what is here, 'spfs search TERM' looks in the remotes too",
            ),
            RepoError::UnknownVersion { tag, .. } => {
                told.hint(format!("'spfs log {}' lists its versions", tag.tag()))
            }
            RepoError::AmbiguousReference { .. } => told.hint("give more of the digest"),
            RepoError::BadReference { reference, source } => Self::reference(reference, source),
            RepoError::UnknownObject { .. } | RepoError::MissingPayload { .. } => {
                told.hint("the repository is incomplete: commit or copy what is missing again")
            }
            RepoError::DamagedObject { .. }
            | RepoError::WrongObject { .. }
            | RepoError::WrongPayload { .. } => {
                told.hint("remove the damaged file, then commit or copy its content again")
            }
            RepoError::DamagedTag { .. } => told.hint(
                "restore that file, or give the tag up with 'spfs untag --all TAG'",
            ),
            RepoError::Link { .. } => told.hint("put a folder in its place"),
            RepoError::NoSpace { .. } => told.hint("make room on that volume and try again"),
            RepoError::NotARepository { root, .. } => {
                told.hint(format!("make one with 'spfs init repo {}'", root.display()))
            }
            RepoError::TagLocked { .. } => {
                told.hint("when no other program is using the repository, remove the lock")
            }
            RepoError::NotEmpty { .. } => {
                told.hint("name an empty directory, or one that is not there yet")
            }
            RepoError::UnknownRemote { .. } => {
                told.hint("'spfs config' shows those that are; a path needs a '/'")
            }
            RepoError::UnsupportedScheme { .. } => told.hint(
                "use a folder (a path, or 'file:PATH'), 'tar:PATH', or several by 'proxy:' or 'fallback:'",
            ),
            RepoError::NoArchive { path } => told.hint(format!(
                "'spfs push REF --to tar:{0}' makes it with something in it, 'spfs init repo tar:{0}' empty",
                path.display()
            )),
            RepoError::ArchiveChanged { .. } => told.hint("try again; nothing of this call is in it"),
            RepoError::Pinned { .. } => told.hint("leave 'when' out of its address"),
            RepoError::LiveLayer { .. } => {
                told.hint("'spfs run' and 'spfs shell' take live layers")
            }
            RepoError::Changing { .. } => told.hint("try again when nobody writes to it"),
            _ => told,
        }
    }
}
