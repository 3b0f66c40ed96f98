//! Several repositories as one: reading through, tags, repair, and times.

use std::fs;
use std::sync::Arc;

use spfs_model::{Digest, Object, TagName};
use spfs_repo::{
    AnyRepository, LayeredRepository, Layering, MemoryRepository, PinnedRepository, RepoError,
    Repository, TagListing, commit_path, load_stack, resolve,
};
use tempfile::TempDir;

use crate::support::{assert_complete, repository, text, time, write_tree};

/// A folder in front of another one that holds a layer under the tag `base`.
struct Pair {
    _dirs: [TempDir; 2],
    primary: Arc<Repository>,
    secondary: Arc<Repository>,
    layer: Digest,
}

impl Pair {
    fn new() -> Self {
        let (first, primary) = repository();
        let (second, secondary) = repository();
        let source = second.path().join("source");
        write_tree(&source, &[("a", "one"), ("dir/b", "two")]);
        let layer = commit_path(&secondary, &source, &Default::default()).unwrap().layer;
        let dirs = [first, second];
        let pair =
            Self { _dirs: dirs, primary: primary.into(), secondary: secondary.into(), layer };
        pair.secondary.tags().push(&name("base"), layer, "user", time(0)).unwrap();
        pair
    }

    fn as_one(&self, layering: Layering) -> LayeredRepository {
        LayeredRepository::new(self.primary.clone(), vec![self.secondary.clone()], layering)
    }
}

const FALLBACK: Layering = Layering { include_secondary_tags: true, repair: true };

fn name(text: &str) -> TagName {
    text.parse().unwrap()
}

fn blob(repository: &dyn AnyRepository, data: &[u8]) -> Digest {
    let batch = repository.batch().unwrap();
    let digest = batch.blob(data).unwrap();
    batch.finish().unwrap();
    digest
}

#[test]
fn a_proxy_reads_objects_payloads_and_tags_through() {
    let pair = Pair::new();
    let proxy = pair.as_one(Layering::default());
    assert_complete(&proxy, &pair.layer);
    assert_eq!(proxy.tags().resolve(&"base".parse().unwrap()).unwrap().target, pair.layer);
    assert_eq!(proxy.tags().list("").unwrap(), [TagListing::Tag("base".to_owned())]);
    assert_eq!(resolve(&[&proxy], &"base".parse().unwrap()).unwrap(), [pair.layer]);
    // upstream sees the primary alone here
    let partial = pair.layer.to_string()[..8].parse().unwrap();
    assert_eq!(proxy.objects().resolve(&partial).unwrap(), pair.layer);
    assert_eq!(
        proxy.objects().iterate(None).unwrap().count(),
        pair.secondary.objects().iterate(None).unwrap().count()
    );
    // and nothing was written by it
    assert_eq!(pair.primary.objects().iterate(None).unwrap().count(), 0);
    assert_eq!(pair.primary.payloads().iterate().unwrap().count(), 0);
}

#[test]
fn a_proxy_writes_to_the_primary_repository_alone() {
    let pair = Pair::new();
    let before = pair.secondary.objects().iterate(None).unwrap().count();
    let proxy = pair.as_one(Layering::default());
    let digest = blob(&proxy, b"new");
    assert!(pair.primary.objects().has(&digest).unwrap());
    proxy.tags().push(&name("base"), digest, "user", time(1)).unwrap();
    assert_eq!(pair.primary.tags().stream(&name("base")).unwrap().tags().len(), 1);
    assert_eq!(pair.secondary.tags().stream(&name("base")).unwrap().tags().len(), 1);
    // The primary one's comes first.
    assert_eq!(proxy.tags().resolve(&"base".parse().unwrap()).unwrap().target, digest);
    assert!(!proxy.objects().remove(&pair.layer).unwrap());
    assert!(proxy.tags().remove_stream(&name("base")).unwrap());
    assert_eq!(proxy.tags().resolve(&"base".parse().unwrap()).unwrap().target, pair.layer);
    assert_eq!(pair.secondary.objects().iterate(None).unwrap().count(), before);
}

#[test]
fn secondary_tags_can_be_left_out() {
    let pair = Pair::new();
    let proxy = pair.as_one(Layering { include_secondary_tags: false, repair: false });
    assert!(proxy.tags().stream(&name("base")).unwrap().is_empty());
    assert!(proxy.tags().names().unwrap().is_empty());
    assert!(proxy.tags_in(None).names().unwrap().is_empty());
    assert_complete(&proxy, &pair.layer);
}

#[test]
fn a_blob_whose_payload_is_missing_is_read_from_the_next_repository() {
    for layering in [Layering::default(), FALLBACK] {
        let pair = Pair::new();
        let both = [&*pair.primary, &*pair.secondary].map(|repository| blob(repository, b"data"));
        assert!(pair.primary.payloads().remove(&both[0]).unwrap());
        let layered = pair.as_one(layering);
        assert_eq!(layered.payloads().find(&both[0]).unwrap().unwrap().size, 4);
        assert_eq!(layered.payloads().read(&both[0]).unwrap(), b"data");
        assert_eq!(pair.primary.payloads().has(&both[0]).unwrap(), layering.repair);
    }
}

#[test]
fn a_fallback_repairs_what_is_missing_or_damaged() {
    let pair = Pair::new();
    let fallback = pair.as_one(FALLBACK);
    let partial = pair.layer;
    // damaged in place
    let text_of = partial.to_string();
    let path = pair.primary.root().join("objects").join(&text_of[..2]).join(&text_of[2..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"rubbish that is no object").unwrap();
    assert!(matches!(fallback.objects().read(&partial).unwrap().1, Object::Layer(_)));
    assert!(matches!(pair.primary.objects().read(&partial).unwrap().1, Object::Layer(_)));
    // missing
    load_stack(&[&fallback], &[partial]).unwrap();
    assert_complete(&fallback, &partial);
    assert_complete(&*pair.primary, &partial);
}

#[test]
fn a_wrong_payload_never_repairs_anything() {
    let pair = Pair::new();
    let digest = blob(&*pair.secondary, b"true");
    let text_of = digest.to_string();
    let path = pair.secondary.payloads().path(&digest).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"false").unwrap();
    let error = pair.as_one(FALLBACK).payloads().open(&digest).unwrap_err();
    assert!(text(&error).contains(&text_of), "{error}");
    assert!(!pair.primary.payloads().has(&digest).unwrap());
}

#[test]
fn what_no_repository_has_is_told_as_by_the_first_unless_one_is_damaged() {
    let pair = Pair::new();
    let proxy = pair.as_one(Layering::default());
    let digest = Digest::of(b"nowhere");
    assert!(matches!(proxy.objects().read(&digest), Err(RepoError::UnknownObject { .. })));
    assert!(matches!(proxy.payloads().open(&digest), Err(RepoError::MissingPayload { .. })));
    let text = digest.to_string();
    let path = pair.secondary.root().join("objects").join(&text[..2]).join(&text[2..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"rubbish that is no object").unwrap();
    assert!(matches!(proxy.objects().read(&digest), Err(RepoError::DamagedObject { .. })));
}

#[test]
fn a_pinned_repository_numbers_versions_from_its_time() {
    let inner = Arc::new(MemoryRepository::new());
    let digests = [b"1", b"2", b"3"].map(|data| blob(&*inner, data));
    for (seconds, digest) in (0..).zip(digests) {
        inner.tags().push(&name("a/t"), digest, "user", time(10 * seconds)).unwrap();
    }
    inner.tags().push(&name("late"), digests[0], "user", time(100)).unwrap();
    let pinned = PinnedRepository::new(inner.clone(), time(15));
    let target = |spec: &str| pinned.tags().resolve(&spec.parse().unwrap()).map(|tag| tag.target);
    assert_eq!(target("a/t").unwrap(), digests[1]);
    assert_eq!(target("a/t~1").unwrap(), digests[0]);
    assert!(target("a/t~2").is_err() && target("late").is_err());
    assert_eq!(pinned.tags().names().unwrap(), [name("a/t")]);
    assert_eq!(pinned.tags().list("").unwrap(), [TagListing::Folder("a".to_owned())]);
    assert_eq!(pinned.tags_in(None).list("a").unwrap(), [TagListing::Tag("t".to_owned())]);
    let error = pinned.tags().push(&name("x"), digests[0], "user", time(0)).unwrap_err();
    assert!(text(&error).contains("cannot be changed"), "{error}");
    assert!(pinned.tags().remove_stream(&name("a/t")).is_err());
    assert_eq!(inner.tags().stream(&name("a/t")).unwrap().tags().len(), 3);
}
