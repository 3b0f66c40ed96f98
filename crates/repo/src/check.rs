//! Finds what is missing or damaged, and can fetch it from another repository.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rayon::prelude::*;
use spfs_model::{Digest, Manifest, Object, ObjectKind, TagName, TagSpec};

use crate::fs::objects::{encode_object, verify_object};
use crate::progress::{NoProgress, Progress};
use crate::repository::AnyRepository;
use crate::traits::TagNamespace;
use crate::walk::{children, walk};
use crate::{RepoError, Result, copy};

/// How a repository is checked.
pub struct CheckOptions<'a> {
    /// Whether the content of every payload is hashed, or only its size looked at.
    pub payloads: bool,
    /// Where to fetch what is missing or damaged.
    pub repair_from: Option<&'a dyn AnyRepository>,
    /// Told how far it has come.
    pub progress: &'a dyn Progress,
}

impl Default for CheckOptions<'_> {
    fn default() -> Self {
        Self { payloads: false, repair_from: None, progress: &NoProgress }
    }
}

impl fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckOptions")
            .field("payloads", &self.payloads)
            .field("repair_from", &self.repair_from)
            .finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Records of tags.
    pub tags: u64,
    /// Objects, whether they could be read or not.
    pub objects: u64,
    /// Payloads, whether they could be read or not.
    pub payloads: u64,
    /// Bytes of the payloads that are there.
    pub bytes: u64,
    /// Everything that is wrong or was, sorted.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether nothing is wrong any more.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.repaired)
    }
}

/// Something that is wrong, or was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// With what.
    pub subject: Subject,
    /// In what way.
    pub fault: Fault,
    /// Whether it is in order now.
    pub repaired: bool,
    /// What cannot be used because of it: tags first.
    pub needed_by: Vec<Dependent>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.fault)?;
        if self.repaired { f.write_str(" (repaired)") } else { Ok(()) }
    }
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A tag with all its versions.
    Tag {
        /// Its namespace.
        namespace: Option<TagNamespace>,
        /// Its name.
        tag: String,
    },
    /// An object.
    Object(Digest),
    /// A payload.
    Payload(Digest),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { namespace: None, tag } => write!(f, "tag {tag}"),
            Self::Tag { namespace: Some(namespace), tag } => {
                write!(f, "tag {tag} in the namespace {namespace}")
            }
            Self::Object(digest) => write!(f, "object {digest}"),
            Self::Payload(digest) => write!(f, "payload {digest}"),
        }
    }
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is there, and not what it should be.
    Damaged(
        /// In what way.
        String,
    ),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Damaged(how) => write!(f, "is damaged: {how}"),
        }
    }
}

/// What needs something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependent {
    /// A version of a tag.
    Tag {
        /// Its namespace.
        namespace: Option<TagNamespace>,
        /// The version.
        tag: String,
    },
    /// An object.
    Object {
        /// Its digest.
        digest: Digest,
        /// `platform`, `layer` or `manifest`.
        kind: &'static str,
    },
}

impl fmt::Display for Dependent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { namespace: None, tag } => write!(f, "tag {tag}"),
            Self::Tag { namespace: Some(namespace), tag } => {
                write!(f, "tag {tag} in the namespace {namespace}")
            }
            Self::Object { digest, kind } => write!(f, "{kind} {digest}"),
        }
    }
}

/// Checks what these objects lead to.
pub fn check_objects(
    repository: &dyn AnyRepository,
    roots: &[Digest],
    options: &CheckOptions<'_>,
) -> Result<CheckReport> {
    let check = Check::new(repository, options);
    check.run(roots.to_vec())
}

/// Checks all tags, all objects and the payloads that belong to them.
///
/// Only what keeps the check itself from going on is an error, such as a folder that cannot be
/// listed. Everything else stands in the report.
pub fn check(repository: &dyn AnyRepository, options: &CheckOptions<'_>) -> Result<CheckReport> {
    let check = Check::new(repository, options);
    check.tags(None)?;
    for namespace in repository.namespaces()? {
        check.tags(Some(&namespace))?;
    }
    let mut roots = repository.objects().iterate(None)?.collect::<Result<Vec<_>>>()?;
    roots.extend(check.edges.lock().tags.iter().map(|(target, _)| *target));
    check.run(roots)
}

struct Check<'a> {
    repository: &'a dyn AnyRepository,
    options: &'a CheckOptions<'a>,
    tags: AtomicU64,
    payloads: AtomicU64,
    bytes: AtomicU64,
    problems: Mutex<Vec<Problem>>,
    edges: Mutex<Edges>,
}

/// Who needs what, as far as it cannot be found out again cheaply.
#[derive(Default)]
struct Edges {
    /// Target and version.
    tags: Vec<(Digest, Dependent)>,
    /// Child and parent, for the children of layers and platforms.
    inner: Vec<(Digest, Dependent)>,
    manifests: Vec<Digest>,
}

impl<'a> Check<'a> {
    fn new(repository: &'a dyn AnyRepository, options: &'a CheckOptions<'a>) -> Self {
        Self {
            repository,
            options,
            tags: AtomicU64::new(0),
            payloads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            problems: Mutex::default(),
            edges: Mutex::default(),
        }
    }

    fn run(self, roots: Vec<Digest>) -> Result<CheckReport> {
        self.options.progress.found(roots.len() as u64, 0);
        let visited = walk(roots, |digest| {
            let children = self.object(digest);
            self.options.progress.done(1, 0);
            Ok(children)
        })?;
        let mut problems = std::mem::take(&mut *self.problems.lock());
        self.name_dependents(&mut problems);
        problems.sort();
        Ok(CheckReport {
            tags: self.tags.into_inner(),
            objects: visited.len() as u64,
            payloads: self.payloads.into_inner(),
            bytes: self.bytes.into_inner(),
            problems,
        })
    }

    /// Reads the tags of a namespace.
    fn tags(&self, namespace: Option<&TagNamespace>) -> Result<()> {
        let tags = self.repository.tags_in(namespace);
        for name in tags.names()? {
            match tags.stream(&name) {
                Ok(stream) => {
                    self.tags.fetch_add(stream.tags().len() as u64, Ordering::Relaxed);
                    let mut edges = self.edges.lock();
                    for (version, record) in (0..).zip(stream.tags().iter().rev()) {
                        let tag = TagSpec::new(name.clone(), version).to_string();
                        let namespace = namespace.cloned();
                        edges.tags.push((record.target, Dependent::Tag { namespace, tag }));
                    }
                }
                Err(error) => self.damaged_tag(namespace, &name, &error),
            }
        }
        Ok(())
    }

    fn damaged_tag(&self, namespace: Option<&TagNamespace>, tag: &TagName, error: &RepoError) {
        let subject = Subject::Tag { namespace: namespace.cloned(), tag: tag.to_string() };
        self.problem(subject, Fault::Damaged(chain(error)), false);
    }

    fn problem(&self, subject: Subject, fault: Fault, repaired: bool) {
        self.problems.lock().push(Problem { subject, fault, repaired, needed_by: Vec::new() });
    }

    /// Checks one object, and returns what it leads to.
    fn object(&self, digest: &Digest) -> Vec<Digest> {
        let object = match read(self.repository, digest) {
            Ok(object) => object,
            Err(fault) => {
                let repaired = self.repair_object(digest);
                self.problem(Subject::Object(*digest), fault, repaired.is_some());
                match repaired {
                    Some(object) => object,
                    None => return Vec::new(),
                }
            }
        };
        if let Object::Blob { payload, size } = object {
            self.payload(&payload, size);
            return Vec::new();
        }
        if let Object::Manifest(manifest) = &object {
            self.sizes(digest, manifest);
        }
        let children = children(&object);
        let all: Vec<Digest> = children.inner.into_iter().chain(children.blobs).collect();
        let mut edges = self.edges.lock();
        match object.kind() {
            ObjectKind::Manifest => edges.manifests.push(*digest),
            kind => {
                let parent = Dependent::Object { digest: *digest, kind: kind.as_str() };
                edges.inner.extend(all.iter().map(|child| (*child, parent.clone())));
            }
        }
        all
    }

    /// Compares the sizes that a manifest tells of its files with those of the payloads: its digest
    /// is right whatever it tells.
    fn sizes(&self, digest: &Digest, manifest: &Manifest) {
        let mut sizes: Vec<_> = manifest.blobs().map(|(blob, size, _)| (blob, size)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let wrong = sizes.into_iter().filter_map(|(blob, size)| {
            let length = self.other_length(&blob, size)?;
            Some(format!("it says that the payload {blob} has {size} bytes, which has {length}"))
        });
        let mut wrong = wrong.fuse();
        let Some(first) = wrong.next() else { return };
        let how = match wrong.count() {
            0 => first,
            more => format!("{first}; and {more} more like that"),
        };
        self.problem(Subject::Object(*digest), Fault::Damaged(how), false);
    }

    /// The length of a payload when it is not `size`. Where its blob says `size` as well it is the
    /// payload that is damaged, as is told there.
    fn other_length(&self, blob: &Digest, size: u64) -> Option<u64> {
        let found = self.repository.payloads().find(blob).ok()??;
        if found.size == size {
            return None;
        }
        let (_, blob) = self.repository.objects().read(blob).ok()?;
        matches!(blob, Object::Blob { size: told, .. } if told != size).then_some(found.size)
    }

    fn payload(&self, digest: &Digest, size: u64) {
        self.payloads.fetch_add(1, Ordering::Relaxed);
        match self.payload_fault(digest, size) {
            Ok(()) => {
                self.bytes.fetch_add(size, Ordering::Relaxed);
            }
            Err(fault) => {
                let repaired = self.repair_payload(digest, size);
                self.problem(Subject::Payload(*digest), fault, repaired);
            }
        }
    }

    fn payload_fault(&self, digest: &Digest, size: u64) -> Result<(), Fault> {
        let payloads = self.repository.payloads();
        let unreadable = |error: RepoError| Fault::Damaged(chain(&error));
        let found = payloads.find(digest).map_err(unreadable)?.ok_or(Fault::Missing)?;
        if found.size != size {
            let how = format!("it has {} bytes, and should have {size}", found.size);
            return Err(Fault::Damaged(how));
        }
        if self.options.payloads {
            let mut file = payloads.open(digest).map_err(unreadable)?;
            let (content, _) =
                copy::hash(&mut file).map_err(|error| Fault::Damaged(error.to_string()))?;
            if content != *digest {
                return Err(Fault::Damaged(format!("its content has the digest {content}")));
            }
        }
        Ok(())
    }

    /// Fetches an object; a blob whose payload is here is made again.
    fn repair_object(&self, digest: &Digest) -> Option<Object> {
        let source = self.options.repair_from?;
        let objects = self.repository.objects();
        let (bytes, object) = match source.objects().read_raw(digest) {
            Ok(bytes) => {
                let object = verify_object(digest, &bytes, &source.objects().place(digest)).ok()?;
                (bytes, object)
            }
            Err(_) => {
                let mut file = self.repository.payloads().open(digest).ok()?;
                let (payload, size) = copy::hash(&mut file).ok()?;
                let blob = (payload == *digest).then_some(Object::Blob { payload, size })?;
                (encode_object(&blob, self.repository.encoding()).ok()?.1, blob)
            }
        };
        // one that can be decoded, and is another, would be kept
        objects.remove(digest).ok()?;
        objects.write_raw(digest, &bytes).ok()?;
        Some(object)
    }

    fn repair_payload(&self, digest: &Digest, size: u64) -> bool {
        let Some(source) = self.options.repair_from else { return false };
        let Ok(mut file) = source.payloads().open(digest) else { return false };
        let written = self.repository.payloads().write(&mut file, None);
        written.is_ok_and(|written| written == (*digest, size))
            && self.payload_fault(digest, size).is_ok()
    }

    /// Finds out who needs what is wrong. Manifests are read again for that, rather than keeping
    /// in memory who needs which of millions of blobs.
    fn name_dependents(&self, problems: &mut [Problem]) {
        let wrong: HashSet<Digest> =
            problems.iter().filter_map(|p| digest_of(&p.subject)).collect();
        if wrong.is_empty() {
            return;
        }
        let edges = std::mem::take(&mut *self.edges.lock());
        let in_manifests = edges.manifests.par_iter().flat_map_iter(|digest| {
            let object = self.repository.objects().read(digest);
            let blobs = object.map(|(_, object)| children(&object).blobs).unwrap_or_default();
            let parent = Dependent::Object { digest: *digest, kind: "manifest" };
            let needed = blobs.into_iter().filter(|blob| wrong.contains(blob));
            needed.map(move |blob| (blob, parent.clone())).collect::<Vec<_>>()
        });
        let in_manifests: Vec<_> = in_manifests.collect();
        let mut parents: HashMap<Digest, Vec<Dependent>> = HashMap::new();
        for (child, parent) in edges.tags.into_iter().chain(edges.inner).chain(in_manifests) {
            parents.entry(child).or_default().push(parent);
        }
        for problem in problems {
            problem.needed_by =
                digest_of(&problem.subject).map(|of| ancestors(of, &parents)).unwrap_or_default();
        }
    }
}

const fn digest_of(subject: &Subject) -> Option<Digest> {
    match subject {
        Subject::Tag { .. } => None,
        Subject::Object(digest) | Subject::Payload(digest) => Some(*digest),
    }
}

fn ancestors(of: Digest, parents: &HashMap<Digest, Vec<Dependent>>) -> Vec<Dependent> {
    let mut found = BTreeSet::new();
    let mut pending = vec![of];
    while let Some(child) = pending.pop() {
        for parent in parents.get(&child).into_iter().flatten() {
            if found.insert(parent.clone())
                && let Dependent::Object { digest, .. } = parent
            {
                pending.push(*digest);
            }
        }
    }
    found.into_iter().collect()
}

/// Reads an object and compares it with its digest.
fn read(repository: &dyn AnyRepository, digest: &Digest) -> Result<Object, Fault> {
    let objects = repository.objects();
    let bytes = objects.read_raw(digest);
    match bytes.and_then(|bytes| verify_object(digest, &bytes, &objects.place(digest))) {
        Ok(object) => Ok(object),
        Err(RepoError::UnknownObject { .. }) => Err(Fault::Missing),
        Err(RepoError::DamagedObject { source, .. }) => Err(Fault::Damaged(source.to_string())),
        Err(RepoError::WrongObject { found, .. }) => {
            Err(Fault::Damaged(format!("its content has the digest {found}")))
        }
        Err(error) => Err(Fault::Damaged(chain(&error))),
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
