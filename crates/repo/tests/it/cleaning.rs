//! Cleaning removes what nobody needs, and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use spfs_model::Digest;
use spfs_repo::clean::{CleanOptions, CleanReport, PruneOptions, clean};
use spfs_repo::{
    AnyRepository, CommitOptions, Committed, MemoryRepository, Repository, TagNamespace,
    commit_path, write_platform,
};
use tempfile::TempDir;

use crate::support::{assert_complete, files_below, repository, time, write_tree};

fn now() -> Timestamp {
    let now = spfs_sys::clock::precise();
    Timestamp::new(now.secs, 0).unwrap()
}

/// Options for an hour from now, when everything has become old.
fn later() -> CleanOptions {
    CleanOptions::new(now() + SignedDuration::from_hours(1))
}

fn commit(dir: &TempDir, repository: &dyn AnyRepository, files: &[(&str, &str)]) -> Committed {
    let source = dir.path().join("source");
    let _ = fs::remove_dir_all(&source);
    write_tree(&source, files);
    commit_path(repository, &source, &CommitOptions::default()).unwrap()
}

fn tag(repository: &dyn AnyRepository, tag: &str, target: Digest, seconds: i64) {
    repository.tags().push(&tag.parse().unwrap(), target, "u", time(seconds)).unwrap();
}

fn cleaned(repository: &dyn AnyRepository, options: &CleanOptions) -> CleanReport {
    let report = clean(repository, options).unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    report
}

/// Once for each kind of repository.
fn for_each_kind(test: impl Fn(&TempDir, &dyn AnyRepository)) {
    let (dir, folder) = repository();
    test(&dir, &folder);
    test(&dir, &MemoryRepository::new());
}

#[test]
fn what_tags_lead_to_stays_and_the_rest_goes() {
    for_each_kind(|dir, repository| {
        let kept = commit(dir, repository, &[("a", "kept"), ("b/c", "shared")]);
        let lost = commit(dir, repository, &[("a", "lost"), ("b/c", "shared")]);
        let platform = write_platform(repository, &[kept.layer], false).unwrap();
        let loose = write_platform(repository, &[lost.layer], false).unwrap();
        tag(repository, "my/env", platform, 0);

        let dry = cleaned(repository, &CleanOptions { dry_run: true, ..later() });
        let real = cleaned(repository, &later());
        for report in [&dry, &real] {
            assert_eq!(report.tags, 1);
            // the platform, the layer, its manifest and one blob
            assert_eq!((report.objects, report.objects_removed), (9, 4));
            assert_eq!((report.payloads, report.payloads_removed), (3, 1));
            assert_eq!(report.bytes_removed, 4);
        }
        assert_complete(repository, &platform);
        for gone in [loose, lost.layer, lost.manifest, Digest::of(b"lost")] {
            assert!(!repository.objects().has(&gone).unwrap());
        }
        assert!(!repository.payloads().has(&Digest::of(b"lost")).unwrap());
        let again = cleaned(repository, &later());
        assert_eq!((again.objects_removed, again.payloads_removed), (0, 0));
    });
}

#[test]
fn a_dry_run_removes_nothing() {
    let (dir, repository) = repository();
    let lost = commit(&dir, &repository, &[("a", "lost")]);
    tag(&repository, "t", lost.layer, 0);
    tag(&repository, "t", Digest::EMPTY, 1);
    let before = files_below(repository.root());
    let prune = PruneOptions { if_version_more_than: Some(0), ..PruneOptions::default() };
    let report = cleaned(&repository, &CleanOptions { dry_run: true, prune, ..later() });
    assert_eq!((report.pruned.len(), report.objects_removed, report.payloads_removed), (1, 3, 1));
    assert_eq!(files_below(repository.root()), before);
}

#[test]
fn young_objects_stay_with_everything_they_lead_to() {
    for_each_kind(|dir, repository| {
        let committed = commit(dir, repository, &[("a", "1"), ("b", "2")]);
        repository.payloads().write(&mut &b"payload without a blob"[..], None).unwrap();
        let report = cleaned(repository, &CleanOptions::new(now()));
        assert_eq!((report.objects_removed, report.payloads_removed), (0, 0));
        assert_complete(repository, &committed.layer);
    });
}

/// Makes everything in a repository look old.
fn age(repository: &Repository) {
    let hour_ago = SystemTime::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(now().as_second()).unwrap() - 3600);
    for part in ["objects", "payloads"] {
        for file in files_below(&repository.root().join(part)) {
            fs::File::open(file).unwrap().set_modified(hour_ago).unwrap();
        }
    }
}

#[test]
fn old_blobs_of_a_young_untagged_layer_stay() {
    let (dir, repository) = repository();
    commit(&dir, &repository, &[("a", "old content")]);
    age(&repository);
    // the blob is there already: the new layer relies on it
    let young = commit(&dir, &repository, &[("a", "old content"), ("b", "new content")]);
    cleaned(&repository, &CleanOptions::new(now()));
    assert_complete(&repository, &young.layer);
}

#[test]
fn what_a_batch_relies_on_is_young_again() {
    let (dir, repository) = repository();
    let committed = commit(&dir, &repository, &[("a", "content")]);
    age(&repository);
    let digest = Digest::of(b"content");
    let batch = repository.batch().unwrap();
    batch.blob(b"content").unwrap();
    // cleaning runs before the batch is finished, when nothing refers to the blob yet
    let report = cleaned(&repository, &CleanOptions::new(now()));
    assert!(repository.objects().has(&digest).unwrap());
    assert!(repository.payloads().has(&digest).unwrap());
    assert!(!repository.objects().has(&committed.layer).unwrap());
    assert_eq!(report.objects_removed, 2);
    assert_eq!(batch.finish().unwrap().payloads, 0);
}

#[test]
fn records_of_runtimes_protect_their_stacks_whatever_is_pruned() {
    let (dir, repository) = repository();
    let used = commit(&dir, &repository, &[("a", "used")]);
    let platform = write_platform(&repository, &[used.layer], false).unwrap();
    tag(&repository, "spfs/runtimes/data/some-name", platform, 0);
    let prune = PruneOptions {
        if_older_than: Some(now()),
        if_version_more_than: Some(0),
        ..PruneOptions::default()
    };
    let report = cleaned(&repository, &CleanOptions { prune, ..later() });
    assert!(report.pruned.is_empty());
    assert_complete(&repository, &platform);
}

#[test]
fn what_is_protected_by_name_stays() {
    let (dir, repository) = repository();
    let committed = commit(&dir, &repository, &[("a", "1")]);
    cleaned(&repository, &CleanOptions { protect: vec![committed.layer], ..later() });
    assert_complete(&repository, &committed.layer);
}

#[test]
fn tags_in_namespaces_protect_too_and_are_pruned_only_when_asked_for() {
    for_each_kind(|dir, repository| {
        let first = commit(dir, repository, &[("a", "1")]);
        let second = commit(dir, repository, &[("a", "2")]);
        let show: TagNamespace = "show".parse().unwrap();
        let inside = repository.tags_in(Some(&show));
        for (number, layer) in (0..).zip([first.layer, second.layer]) {
            inside.push(&"t".parse().unwrap(), layer, "u", time(number)).unwrap();
        }
        let prune = PruneOptions { if_version_more_than: Some(0), ..PruneOptions::default() };
        let options = CleanOptions { prune: prune.clone(), ..later() };
        cleaned(repository, &options);
        assert_complete(repository, &first.layer);
        let prune = PruneOptions { all_namespaces: true, ..prune };
        let report = cleaned(repository, &CleanOptions { prune, ..later() });
        assert_eq!(report.pruned.len(), 1);
        assert_eq!(report.pruned[0].namespace, Some(show.clone()));
        assert!(!repository.objects().has(&first.layer).unwrap());
        assert_complete(repository, &second.layer);
    });
}

#[test]
fn versions_are_pruned_by_age_number_and_repetition() {
    let targets = [1, 2, 1, 3, 1_u8].map(|number| Digest::of(&[number]));
    let pruned = |prune: PruneOptions| -> Vec<u64> {
        let repository = MemoryRepository::new();
        for (number, target) in (0..).zip(targets) {
            tag(&repository, "t", target, number);
        }
        let report = cleaned(&repository, &CleanOptions { prune, ..later() });
        let left = repository.tags().stream(&"t".parse().unwrap()).unwrap().tags().len();
        assert_eq!(left + report.pruned.len(), targets.len());
        report.pruned.iter().map(|pruned| pruned.version).collect()
    };
    let none = PruneOptions::default();
    assert_eq!(pruned(none.clone()), [0_u64; 0]);
    assert_eq!(pruned(PruneOptions { if_older_than: Some(time(2)), ..none.clone() }), [3, 4]);
    assert_eq!(pruned(PruneOptions { if_version_more_than: Some(2), ..none.clone() }), [3, 4]);
    assert_eq!(pruned(PruneOptions { repeated_keep: Some(1), ..none.clone() }), [2, 4]);
    assert_eq!(pruned(PruneOptions { repeated_keep: Some(2), ..none.clone() }), [4]);
    let all = PruneOptions { if_older_than: Some(time(100)), ..none };
    assert_eq!(pruned(all.clone()), [0, 1, 2, 3, 4]);
    assert_eq!(pruned(PruneOptions { keep_if_newer_than: Some(time(1)), ..all.clone() }), [3, 4]);
    assert_eq!(pruned(PruneOptions { keep_if_version_less_than: Some(4), ..all }), [4]);
}

#[test]
fn nothing_is_removed_when_it_is_not_known_what_is_needed() {
    let (dir, repository) = repository();
    let committed = commit(&dir, &repository, &[("a", "1")]);
    tag(&repository, "t", committed.layer, 0);
    commit(&dir, &repository, &[("b", "loose")]);
    let path = repository.root().join("tags/t.tag");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..10]).unwrap();
    let error = clean(&repository, &later()).unwrap_err();
    assert_eq!(error.to_string(), format!("the tag file {} is damaged", path.display()));
    assert!(repository.payloads().has(&Digest::of(b"loose")).unwrap());
    fs::write(&path, whole).unwrap();
    let text = committed.manifest.to_string();
    let manifest = repository.root().join("objects").join(&text[..2]).join(&text[2..]);
    fs::write(&manifest, "damaged, and longer than that").unwrap();
    let error = clean(&repository, &later()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("the object {text} is damaged")), "{error}");
    assert!(repository.payloads().has(&Digest::of(b"loose")).unwrap());
}

#[test]
fn nothing_is_removed_through_links() {
    let (dir, repository) = repository();
    let (_other_dir, other) = crate::support::repository();
    let loose = commit(&dir, &repository, &[("a", "loose")]);
    let needed = commit(&dir, &other, &[("b", "needed elsewhere"), ("c", "this as well")]);
    tag(&other, "t", needed.layer, 0);
    // Folders of another repository in place of our own, for objects, payloads, work and renders.
    let link = |from: &str, to: &str| {
        let to = repository.root().join(to);
        let _ = fs::remove_dir_all(&to);
        symlink(other.root().join(from), to).unwrap();
    };
    let folder = |digest: &Digest| digest.to_string()[..2].to_owned();
    let blob = Digest::of(b"needed elsewhere");
    let linked = [
        format!("objects/{}", folder(&needed.manifest)),
        format!("payloads/{}", folder(&blob)),
        "payloads/work".to_owned(),
    ];
    fs::create_dir_all(other.root().join("payloads/work")).unwrap();
    fs::write(other.root().join("payloads/work/draft"), "x").unwrap();
    for path in &linked {
        link(path, path);
    }
    let renders = fs::read_dir(repository.root().join("renders")).unwrap().next().unwrap();
    link("payloads", &format!("renders/{}", renders.unwrap().file_name().display()));
    let tomorrow = CleanOptions::new(now() + SignedDuration::from_hours(25));
    let report = clean(&repository, &tomorrow).unwrap();
    let told: Vec<String> = report.failed.iter().map(ToString::to_string).collect();
    for path in &linked {
        let path = repository.root().join(path).display().to_string();
        let refused = format!("{path} is a symbolic link: nothing is removed through it");
        assert!(told.contains(&refused), "{path}: {told:?}");
    }
    assert!(!repository.objects().has(&loose.layer).unwrap(), "all else goes");
    assert!(other.root().join("payloads/work/draft").exists());
    assert_complete(&other, &needed.layer);
}

#[test]
fn a_repository_behind_a_link_is_cleaned_like_any_other() {
    let (dir, repository) = repository();
    let loose = commit(&dir, &repository, &[("a", "loose")]);
    // The parts of a repository may lie on other volumes.
    let payloads = repository.root().join("payloads");
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&payloads, &elsewhere).unwrap();
    symlink(&elsewhere, &payloads).unwrap();
    let link = dir.path().join("link");
    symlink(repository.root(), &link).unwrap();
    let repository = Repository::open(&link).unwrap();
    assert_eq!(cleaned(&repository, &later()).payloads_removed, 1);
    assert!(!repository.objects().has(&loose.layer).unwrap());
}

#[test]
fn what_somebody_never_finished_is_removed_after_a_day() {
    let (dir, repository) = repository();
    let committed = commit(&dir, &repository, &[("a", "1")]);
    tag(&repository, "t", committed.layer, 0);
    let batch = repository.batch().unwrap();
    batch.blob(b"in the middle of it").unwrap();
    std::mem::forget(batch);
    fs::write(repository.root().join("payloads/work/left-by-upstream"), "x").unwrap();
    assert_eq!(cleaned(&repository, &later()).leftovers_removed, 0);
    let tomorrow = CleanOptions::new(now() + SignedDuration::from_hours(25));
    assert_eq!(cleaned(&repository, &tomorrow).leftovers_removed, 3);
    for part in ["objects/work", "payloads/work"] {
        assert_eq!(fs::read_dir(repository.root().join(part)).unwrap().count(), 0, "{part}");
    }
    assert_complete(&repository, &committed.layer);
}
