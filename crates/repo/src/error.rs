//! What can go wrong with a repository.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spfs_model::{
    DecodeError, Digest, EncodeError, ManifestError, ObjectKind, ParseEnvError, TagError, TagSpec,
};

/// A result of this crate.
pub type Result<T, E = RepoError> = std::result::Result<T, E>;

/// What can go wrong with a repository; every case says what it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The volume of a repository has no room left.
    #[error("no space is left for {}", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is none of ours.
    #[error("{} is not a repository: it has no folder \"{missing}\"", root.display())]
    NotARepository {
        /// The folder.
        root: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// Repositories are named by absolute paths only.
    #[error("the path of a repository must be absolute, and {} is not", path.display())]
    RelativeRoot {
        /// The path.
        path: PathBuf,
    },
    /// A repository of another major version.
    #[error(
        "the repository {} has version {found}, which is too {age} for this program: it knows {known}",
        root.display()
    )]
    Version {
        /// The repository.
        root: PathBuf,
        /// Its version.
        found: String,
        /// `new` or `old`.
        age: &'static str,
        /// The version that is known.
        known: &'static str,
    },
    /// A VERSION file that holds something else.
    #[error("{} holds {text:?}, which is not a version", path.display())]
    BadVersion {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// No object has this digest.
    #[error("unknown object {digest}")]
    UnknownObject {
        /// The digest.
        digest: Digest,
    },
    /// A payload is not there.
    #[error("the payload {digest} is missing")]
    MissingPayload {
        /// The digest.
        digest: Digest,
    },
    /// An object cannot be read.
    #[error("the object {digest} is damaged ({place})")]
    DamagedObject {
        /// Its digest.
        digest: Digest,
        /// Where it stands.
        place: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// An object is another one than its name says.
    #[error("the object {digest} is damaged: its content has the digest {found}")]
    WrongObject {
        /// Its name.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// A payload is another one than its name says.
    #[error("the payload {digest} is damaged: its content has the digest {found}")]
    WrongPayload {
        /// Its name.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// Something failed before, so that what belongs together cannot be stored together.
    #[error("nothing is stored in {repository}: a part of it could not be written before")]
    IncompleteBatch {
        /// The repository.
        repository: String,
    },
    /// An object cannot be stored.
    #[error("cannot store a {kind}")]
    Encode {
        /// What it is.
        kind: ObjectKind,
        /// Why not.
        source: EncodeError,
    },
    /// The file of a tag cannot be read.
    #[error("the tag file {} is damaged", path.display())]
    DamagedTag {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TagError,
    },
    /// A symbolic link in place of a folder of a repository.
    #[error("{} is a symbolic link: {refused} through it", path.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// What is not done.
        refused: &'static str,
    },
    /// A record that cannot be stored.
    #[error("cannot write the tag {tag}")]
    EncodeTag {
        /// The tag.
        tag: String,
        /// Why not.
        source: TagError,
    },
    /// Somebody else is changing a tag, and has been for long.
    #[error("the tag {tag} is locked by another program for {}s already ({})", held.as_secs(), lock.display())]
    TagLocked {
        /// The tag.
        tag: String,
        /// The lock.
        lock: PathBuf,
        /// For how long it has been waited for.
        held: Duration,
    },
    /// A text that names no tag namespace.
    #[error(
        "{name:?} is not a tag namespace: it takes ASCII letters and digits, '-', '_' and '.' only"
    )]
    BadNamespace {
        /// The text.
        name: String,
    },
    /// A folder of tags that cannot be.
    #[error("{folder:?} is not a folder of tags")]
    BadTagFolder {
        /// The text.
        folder: String,
    },
    /// Nothing is called so.
    #[error("unknown reference {reference}")]
    UnknownReference {
        /// What was asked for.
        reference: String,
    },
    /// The tag is there, that version is not.
    #[error("the tag {} has {versions} version{}, so there is no {tag}", tag.tag(), plural(*versions))]
    UnknownVersion {
        /// What was asked for.
        tag: TagSpec,
        /// How many versions there are.
        versions: usize,
    },
    /// More than one object is called so.
    #[error("the reference {reference} is ambiguous, it could be: {}", list(candidates))]
    AmbiguousReference {
        /// What was asked for.
        reference: String,
        /// What it could be.
        candidates: Vec<Digest>,
    },
    /// A text that is no reference.
    #[error("{reference:?} is not a reference")]
    BadReference {
        /// The text.
        reference: String,
        /// Why not.
        source: ParseEnvError,
    },
    /// Something in a stack is no layer.
    #[error("{reference} is a {kind}: only layers and platforms can be stacked")]
    NotStackable {
        /// What was asked for.
        reference: String,
        /// What it is.
        kind: ObjectKind,
    },
    /// Another kind of object was needed.
    #[error("the object {digest} is a {found}, and a {wanted} is needed")]
    WrongKind {
        /// Its digest.
        digest: Digest,
        /// What it is.
        found: ObjectKind,
        /// What is needed.
        wanted: ObjectKind,
    },
    /// A platform without layers.
    #[error("nothing to commit: the platform would be empty")]
    EmptyPlatform,
    /// A commit without content.
    #[error("nothing to commit: {} is empty", path.display())]
    NothingToCommit {
        /// The folder.
        path: PathBuf,
    },
    /// Only folders can be committed.
    #[error("cannot commit {}: it is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A file of a kind that the format does not have.
    #[error("cannot commit {}: a {kind} cannot be stored in a layer", path.display())]
    UnsupportedFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A name that the format does not have.
    #[error("cannot commit {}: its name is not UTF-8, which a layer cannot hold", path.display())]
    NameNotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// A link that the format does not have.
    #[error("cannot commit the symbolic link {}: its target {reason}", path.display())]
    LinkTarget {
        /// The path of the link.
        path: PathBuf,
        /// What is wrong with its target.
        reason: &'static str,
    },
    /// Somebody writes to a file while it is being stored.
    #[error("cannot commit {}: it is being changed", path.display())]
    Changing {
        /// The path.
        path: PathBuf,
    },
    /// Entries that make no manifest.
    #[error("cannot make a manifest of {}", path.display())]
    Manifest {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: ManifestError,
    },
    /// The threads for the work cannot be had.
    #[error("cannot start {jobs} threads")]
    Threads {
        /// How many.
        jobs: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
    /// A spec file that cannot be used.
    #[error("the spec file {} cannot be used: {reason}", path.display())]
    SpecFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A spec file that includes itself.
    #[error("the spec file {} includes itself", path.display())]
    SpecFileLoop {
        /// The file.
        path: PathBuf,
    },
    /// Something is in a directory that is to be filled.
    #[error("the directory {} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A payload is too long for what it is used as.
    #[error("the payload {digest} is longer than {limit} bytes")]
    TooLong {
        /// The digest.
        digest: Digest,
        /// What is allowed.
        limit: usize,
    },
    /// A text, or a file, that holds no annotations.
    #[error("{text} is no annotation: {reason}")]
    Annotation {
        /// The text, or the path of the file.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A text that is no address.
    #[error("{address:?} is not the address of a repository: {reason}")]
    BadAddress {
        /// The text.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// Repositories of a kind that is not known here.
    #[error("repositories of the kind '{scheme}:' are not supported yet: {address}")]
    UnsupportedScheme {
        /// The kind.
        scheme: String,
        /// The address.
        address: String,
    },
    /// A name that stands for no repository.
    #[error("no remote named {name:?} is configured")]
    UnknownRemote {
        /// The name.
        name: String,
    },
    /// Tags of another time cannot be changed.
    #[error("the tags of {repository} are seen as they were at {time} and cannot be changed")]
    Pinned {
        /// The repository.
        repository: String,
        /// The time.
        time: jiff::Timestamp,
    },
    /// A tar file that is no repository.
    #[error("the archive {} cannot be used: {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Where the archive of a repository should be, nothing is.
    #[error("the archive {} does not exist", path.display())]
    NoArchive {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else wrote the archive meanwhile.
    #[error("the archive {} was changed by somebody else since it was opened", path.display())]
    ArchiveChanged {
        /// The file.
        path: PathBuf,
    },
    /// A live layer where only what is in repositories can be used.
    #[error("{} is a live layer: only runtimes can show one", path.display())]
    LiveLayer {
        /// Its spec file.
        path: PathBuf,
    },
    /// Something that is understood and not there yet.
    #[error("{what} not supported yet: {}", path.display())]
    NotSupportedYet {
        /// What it is.
        what: &'static str,
        /// Where it was asked for.
        path: PathBuf,
    },
}

impl RepoError {
    /// Says what was tried and on what; a full volume gets its own case.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

/// Puts what was tried, and on what, to an error of the system.
pub(crate) trait Context<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| RepoError::io(action, path, source.into()))
    }
}

/// The first candidates, and how many more there are.
fn list(candidates: &[Digest]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown = candidates.iter().take(SHOWN_MAX).map(Digest::to_string);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if candidates.len() > SHOWN_MAX {
        text += &format!(", and {} more", candidates.len() - SHOWN_MAX);
    }
    text
}

/// What a noun ends with after that number.
const fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
