//! Every kind of damage is found, named with what needs it, and can be repaired.

use std::fs;
use std::path::PathBuf;

use spfs_model::{BlobEntry, Content, Digest, ManifestBuilder, NameBuf, NewEntry};
use spfs_repo::check::{CheckOptions, CheckReport, check, check_objects};
use spfs_repo::sync::{SyncOptions, sync};
use spfs_repo::{
    AnyRepository, CommitOptions, Committed, MemoryRepository, Repository, TagNamespace,
    commit_path, write_layer, write_platform,
};
use tempfile::TempDir;

use crate::support::{assert_complete, repository, time, write_tree};

struct Case {
    _dir: TempDir,
    repository: Repository,
    committed: Committed,
    platform: Digest,
    /// The same again, in order.
    other: MemoryRepository,
}

impl Case {
    fn new() -> Self {
        let (dir, repository) = repository();
        let source = dir.path().join("source");
        write_tree(&source, &[("a", "first"), ("b/c", "second"), ("b/d", "third")]);
        let committed = commit_path(&repository, &source, &CommitOptions::default()).unwrap();
        let platform = write_platform(&repository, &[committed.layer], false).unwrap();
        repository.tags().push(&"my/env".parse().unwrap(), platform, "u", time(0)).unwrap();
        let show: TagNamespace = "show".parse().unwrap();
        let inside = repository.tags_in(Some(&show));
        inside.push(&"my/layer".parse().unwrap(), committed.layer, "u", time(0)).unwrap();
        drop(inside);
        let other = MemoryRepository::new();
        let options = SyncOptions::default();
        sync(&repository, &other, &platform.to_string().parse().unwrap(), &options).unwrap();
        Self { _dir: dir, repository, committed, platform, other }
    }

    fn check(&self) -> CheckReport {
        let options = CheckOptions { payloads: true, ..CheckOptions::default() };
        check(&self.repository, &options).unwrap()
    }

    fn object(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        self.repository.root().join("objects").join(&text[..2]).join(&text[2..])
    }

    /// The problems as people see them, with what needs them.
    fn problems(&self) -> Vec<String> {
        let shown = |problem: &spfs_repo::check::Problem| {
            let needed: Vec<String> = problem.needed_by.iter().map(ToString::to_string).collect();
            format!("{problem} <- {}", needed.join(", "))
        };
        self.check().problems.iter().map(shown).collect()
    }

    fn needed_by(&self, kinds: &[&str]) -> String {
        let mut needed =
            vec!["tag my/env".to_owned(), "tag my/layer in the namespace show".to_owned()];
        let mut objects = vec![
            (self.platform, "platform"),
            (self.committed.layer, "layer"),
            (self.committed.manifest, "manifest"),
        ];
        objects.retain(|(_, kind)| kinds.contains(kind));
        objects.sort_unstable();
        needed.extend(objects.iter().map(|(digest, kind)| format!("{kind} {digest}")));
        needed.join(", ")
    }

    fn assert_repaired(&self) {
        assert!(!self.check().is_sound());
        let options = CheckOptions {
            payloads: true,
            repair_from: Some(&self.other),
            ..CheckOptions::default()
        };
        let report = check(&self.repository, &options).unwrap();
        assert!(report.is_sound() && !report.problems.is_empty(), "{report:?}");
        assert_eq!(self.check().problems, []);
        assert_complete(&self.repository, &self.platform);
    }
}

#[test]
fn a_sound_repository_has_no_problems() {
    let case = Case::new();
    let report = case.check();
    assert!(report.is_sound());
    assert_eq!(report.problems, []);
    assert_eq!((report.tags, report.objects, report.payloads, report.bytes), (2, 6, 3, 16));
    let report =
        check_objects(&case.repository, &[case.committed.layer], &CheckOptions::default()).unwrap();
    assert_eq!((report.tags, report.objects, report.payloads), (0, 5, 3));
}

#[test]
fn a_missing_payload_is_found_and_repaired() {
    let case = Case::new();
    let digest = Digest::of(b"second");
    case.repository.payloads().remove(&digest).unwrap();
    let needed = case.needed_by(&["platform", "layer", "manifest"]);
    assert_eq!(case.problems(), [format!("payload {digest} is missing <- {needed}")]);
    case.assert_repaired();
}

#[test]
fn a_flipped_bit_in_a_payload_is_found_when_payloads_are_hashed() {
    let case = Case::new();
    let digest = Digest::of(b"second");
    let path = case.repository.payloads().path(&digest).unwrap();
    fs::write(&path, "secone").unwrap();
    let found = Digest::of(b"secone");
    let needed = case.needed_by(&["platform", "layer", "manifest"]);
    let wanted =
        format!("payload {digest} is damaged: its content has the digest {found} <- {needed}");
    assert_eq!(case.problems(), [wanted]);
    let quick = check(&case.repository, &CheckOptions::default()).unwrap();
    assert!(quick.is_sound(), "sizes alone do not show it");
    case.assert_repaired();
}

#[test]
fn a_short_payload_is_found_without_hashing() {
    let case = Case::new();
    let digest = Digest::of(b"second");
    fs::write(case.repository.payloads().path(&digest).unwrap(), "sec").unwrap();
    let quick = check(&case.repository, &CheckOptions::default()).unwrap();
    assert_eq!(
        quick.problems[0].to_string(),
        format!("payload {digest} is damaged: it has 3 bytes, and should have 6")
    );
    case.assert_repaired();
}

#[test]
fn a_manifest_that_tells_another_size_than_a_payload_has_is_found() {
    let case = Case::new();
    let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
    let file = |name: &[u8], object, size| NewEntry {
        name: NameBuf::new(name).unwrap(),
        content: Content::Blob(BlobEntry { mode: 0o100_644, size, object }),
    };
    let mut builder = ManifestBuilder::new();
    let entries = vec![file(b"a", first, 5), file(b"b", second, 7), file(b"c", second, 7)];
    let root = builder.directory(entries).unwrap();
    let manifest = builder.finish(root).unwrap();
    let layer = write_layer(&case.repository, Some(manifest), &[], 0).unwrap();
    let manifest = layer.manifest.unwrap();
    let told = format!(
        "object {manifest} is damaged: it says that the payload {second} has 7 bytes, which has 6 \
         <- layer {}",
        layer.layer
    );
    assert_eq!(case.problems(), std::slice::from_ref(&told));
    // A payload that was cut off is told alone, and no manifest for it.
    fs::write(case.repository.payloads().path(&first).unwrap(), "fir").unwrap();
    let problems = case.problems();
    let [_, cut] = &*problems else { panic!("{problems:?}") };
    assert_eq!(problems[0], told);
    assert!(cut.starts_with(&format!("payload {first} is damaged: it has 3 bytes")), "{cut}");
}

#[test]
fn damaged_objects_of_every_kind_are_found_and_repaired() {
    let case = Case::new();
    let blob = Digest::of(b"first");
    let chain = ["platform", "layer", "manifest"];
    for (digest, above) in [
        (case.platform, &chain[..0]),
        (case.committed.layer, &chain[..1]),
        (case.committed.manifest, &chain[..2]),
        (blob, &chain[..3]),
    ] {
        let path = case.object(&digest);
        let whole = fs::read(&path).unwrap();
        let needed =
            if digest == case.platform { "tag my/env".to_owned() } else { case.needed_by(above) };

        fs::remove_file(&path).unwrap();
        assert_eq!(case.problems(), [format!("object {digest} is missing <- {needed}")]);
        case.assert_repaired();

        fs::write(&path, &whole[..20]).unwrap();
        let problems = case.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("object {digest} is damaged: ")), "{problems:?}");
        assert!(problems[0].ends_with(&format!(" <- {needed}")), "{problems:?}");
        case.assert_repaired();

        // another object under its name
        let other = fs::read(case.object(&Digest::of(b"third"))).unwrap();
        fs::write(&path, other).unwrap();
        let problems = case.problems();
        let wanted = format!(
            "object {digest} is damaged: its content has the digest {} <- {needed}",
            Digest::of(b"third")
        );
        assert_eq!(problems, [wanted]);
        case.assert_repaired();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn the_check_goes_on_after_the_first_problem() {
    let case = Case::new();
    case.repository.payloads().remove(&Digest::of(b"first")).unwrap();
    fs::write(case.object(&Digest::of(b"second")), "garbage, and long enough for one").unwrap();
    case.repository.objects().remove(&Digest::of(b"third")).unwrap();
    fs::write(case.repository.root().join("tags/my/torn.tag"), [0, 0, 0]).unwrap();
    let problems = case.problems();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[0].starts_with("tag my/torn is damaged: "), "{problems:?}");
    case.repository.tags().remove_stream(&"my/torn".parse().unwrap()).unwrap();
    case.assert_repaired();
}

#[test]
fn a_blob_that_lost_its_object_is_made_again_from_its_payload() {
    let case = Case::new();
    let digest = Digest::of(b"first");
    let path = case.object(&digest);
    let whole = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let empty = MemoryRepository::new();
    let options = CheckOptions { repair_from: Some(&empty), ..CheckOptions::default() };
    let report = check(&case.repository, &options).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn damage_in_the_source_of_a_repair_is_not_copied() {
    let case = Case::new();
    let digest = Digest::of(b"first");
    case.repository.payloads().remove(&digest).unwrap();
    let (_dir, broken) = repository();
    let copied = sync(
        &case.other,
        &broken,
        &case.platform.to_string().parse().unwrap(),
        &SyncOptions::default(),
    );
    copied.unwrap();
    fs::write(broken.payloads().path(&digest).unwrap(), "fIrst").unwrap();
    let options = CheckOptions { repair_from: Some(&broken), ..CheckOptions::default() };
    let report = check(&case.repository, &options).unwrap();
    assert!(!report.is_sound());
    assert!(!case.repository.payloads().has(&digest).unwrap());
}
