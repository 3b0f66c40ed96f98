//! Layers as plain files: content, modes, links, what is in the way, and what must not happen.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use spfs_model::{Content, Digest, ManifestBuilder, MergedTree, NameBuf, NewEntry, Object, merge};
use spfs_repo::clean::{CleanOptions, clean};
use spfs_repo::render::{RenderStore, RenderSummary, Strategy, render, render_manifest};
use spfs_repo::{
    AnyRepository, LayeredRepository, Layering, NoProgress, RepoError, Repository, commit_path,
    load_stack,
};

use crate::support::{repository, text, time, write_tree};

/// A layer of files, a link, an empty folder and unusual modes.
fn source_tree(root: &Path) {
    write_tree(root, &[("a", "one"), ("dir/b", "two"), ("dir/deep/c", ""), ("empty/", "")]);
    symlink("../a", root.join("dir/link")).unwrap();
    for (path, mode) in [("a", 0o755), ("dir/b", 0o400), ("dir", 0o500), ("empty", 0o2775)] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    repository: Repository,
    layer: Digest,
}

fn fixture() -> Fixture {
    let (dir, repository) = repository();
    let source = dir.path().join("source");
    source_tree(&source);
    let layer = commit_path(&repository, &source, &Default::default()).unwrap().layer;
    Fixture { dir, repository, layer }
}

impl Fixture {
    fn tree(&self) -> MergedTree {
        tree(&self.repository, &[self.layer])
    }

    fn render(
        &self,
        name: &str,
        strategy: Strategy,
        existing: bool,
    ) -> Result<RenderSummary, RepoError> {
        let target = self.dir.path().join(name);
        let store = RenderStore::new(&self.repository, false);
        render(&self.repository, &self.tree(), &target, strategy, existing, &store, &NoProgress)
    }

    fn manifest(&self) -> (Digest, spfs_model::Manifest) {
        let Object::Layer(layer) = self.repository.objects().read(&self.layer).unwrap().1 else {
            panic!("no layer")
        };
        let digest = layer.manifest.unwrap();
        let Object::Manifest(manifest) = self.repository.objects().read(&digest).unwrap().1 else {
            panic!("no manifest")
        };
        (digest, manifest)
    }
}

fn tree(repository: &Repository, stack: &[Digest]) -> MergedTree {
    let manifests = load_stack(&[repository], stack).unwrap();
    merge(&manifests.iter().collect::<Vec<_>>())
}

#[test]
fn a_copy_is_what_was_committed() {
    let fixture = fixture();
    let summary = fixture.render("out", Strategy::Copy, false).unwrap();
    assert_eq!((summary.entry_count, summary.copy_count, summary.symlink_count), (7, 3, 1));
    assert_eq!(summary.total_bytes_copied, 6);
    let out = fixture.dir.path().join("out");
    let again = commit_path(&fixture.repository, &out, &Default::default()).unwrap();
    assert_eq!(again.layer, fixture.layer);
    // a copy is nobody else's file
    let payload = fixture.repository.payloads().path(&Digest::of(b"one")).unwrap();
    assert_ne!(fs::metadata(payload).unwrap().ino(), fs::metadata(out.join("a")).unwrap().ino());
}

#[test]
fn masks_and_what_they_hide_are_not_rendered() {
    let fixture = fixture();
    let mut builder = ManifestBuilder::new();
    let mask = |name: &[u8]| NewEntry {
        name: NameBuf::new(name).unwrap(),
        content: Content::Mask { mode: spfs_model::mode::MASK },
    };
    let root = builder.directory(vec![mask(b"dir"), mask(b"never-there")]).unwrap();
    let manifest = builder.finish(root).unwrap();
    let upper = spfs_repo::write_layer(&fixture.repository, Some(manifest), &[], 0).unwrap();
    let tree = tree(&fixture.repository, &[fixture.layer, upper.layer]);
    let out = fixture.dir.path().join("out");
    let store = RenderStore::new(&fixture.repository, false);
    render(&fixture.repository, &tree, &out, Strategy::Copy, false, &store, &NoProgress).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "empty"]);
}

#[test]
fn something_in_the_target_is_refused_unless_allowed() {
    let fixture = fixture();
    let out = fixture.dir.path().join("out");
    write_tree(&out, &[("a", "one"), ("dir/b", "other"), ("mine", "kept")]);
    symlink("/etc/passwd", out.join("dir/link")).unwrap();
    let error = fixture.render("out", Strategy::Copy, false).unwrap_err();
    assert!(matches!(error, RepoError::NotEmpty { .. }), "{error}");
    assert_eq!(fs::read(out.join("dir/b")).unwrap(), b"other", "nothing was touched");
    let summary = fixture.render("out", Strategy::Copy, true).unwrap();
    assert_eq!((summary.already_existed_count, summary.copy_count), (1, 2));
    assert_eq!(fs::read(out.join("dir/b")).unwrap(), b"two");
    assert_eq!(fs::read(out.join("mine")).unwrap(), b"kept");
    assert_eq!(fs::read_link(out.join("dir/link")).unwrap(), Path::new("../a"));
    assert_eq!(fs::metadata(out.join("a")).unwrap().mode() & 0o777, 0o755);
    // a second time there is nothing to do
    let again = fixture.render("out", Strategy::Copy, true).unwrap();
    assert_eq!((again.already_existed_count, again.copy_count), (3, 0));
}

#[test]
fn links_in_the_target_lead_nowhere() {
    let fixture = fixture();
    let outside = fixture.dir.path().join("outside");
    write_tree(&outside, &[("b", "precious"), ("a", "precious")]);
    let out = fixture.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    // in place of a directory: refused; in place of a file: replaced, not written through
    symlink(&outside, out.join("dir")).unwrap();
    symlink(outside.join("a"), out.join("a")).unwrap();
    let error = fixture.render("out", Strategy::Copy, true).unwrap_err();
    assert!(text(&error).contains("out/dir"), "{}", text(&error));
    fs::remove_file(out.join("dir")).unwrap();
    fixture.render("out", Strategy::Copy, true).unwrap();
    assert!(fs::symlink_metadata(out.join("a")).unwrap().is_file());
    for name in ["a", "b"] {
        assert_eq!(fs::read(outside.join(name)).unwrap(), b"precious");
    }
    // a directory in place of a file is in the way
    let blocked = fixture.dir.path().join("blocked");
    write_tree(&blocked, &[("a/mine", "kept")]);
    let error = fixture.render("blocked", Strategy::Copy, true).unwrap_err();
    assert!(text(&error).contains("blocked/a"), "{}", text(&error));
    assert!(blocked.join("a/mine").exists());
}

#[test]
fn hard_links_are_of_files_with_the_right_mode() {
    let fixture = fixture();
    let summary = fixture.render("out", Strategy::HardLink, false).unwrap();
    assert_eq!(summary.copy_wrong_mode_count, 3, "payloads have the mode 0666: {summary:?}");
    let out = fixture.dir.path().join("out");
    let again = commit_path(&fixture.repository, &out, &Default::default()).unwrap();
    assert_eq!(again.layer, fixture.layer);
    // the second one finds the files that the first one made
    let summary = fixture.render("other", Strategy::HardLink, false).unwrap();
    assert_eq!((summary.link_count, summary.copy_wrong_mode_count), (3, 0));
    let inode = |name: &str| fs::metadata(fixture.dir.path().join(name)).unwrap().ino();
    assert_eq!(inode("out/a"), inode("other/a"));
    let payload = fixture.repository.payloads().path(&Digest::of(b"one")).unwrap();
    assert_ne!(inode("out/a"), fs::metadata(&payload).unwrap().ino());

    let summary = fixture.render("bare", Strategy::HardLinkNoProxy, false).unwrap();
    assert_eq!((summary.link_count, summary.total_bytes_linked), (3, 6));
    assert_eq!(inode("bare/a"), fs::metadata(&payload).unwrap().ino());
    assert_eq!(fs::metadata(payload).unwrap().mode() & 0o777, 0o666, "its mode is not set");
}

#[test]
fn a_render_is_kept_as_long_as_its_manifest() {
    let fixture = fixture();
    let (digest, manifest) = fixture.manifest();
    let store = RenderStore::new(&fixture.repository, false);
    let repository = &fixture.repository;
    let rendered = || {
        render_manifest(repository, &digest, &manifest, Strategy::HardLink, &store, &NoProgress)
            .unwrap()
    };
    let (place, summary) = rendered();
    assert_eq!(place, store.place(&digest));
    assert_eq!(summary.entry_count, 7);
    assert_eq!(fs::read(place.join("a")).unwrap(), b"one");
    assert_eq!(rendered().1, RenderSummary::default(), "it is there already");

    let now = time(10_000_000_000 - 1_700_000_000);
    let name = "t".parse().unwrap();
    repository.tags().push(&name, fixture.layer, "user", time(0)).unwrap();
    let report = clean(repository, &CleanOptions::new(now)).unwrap();
    assert_eq!((report.renders.renders, report.renders.renders_removed), (1, 0));
    assert_eq!((report.renders.proxies, report.renders.proxies_removed), (3, 0));
    assert!(place.exists());

    repository.tags().remove_stream(&name).unwrap();
    let dry = CleanOptions { dry_run: true, ..CleanOptions::new(now) };
    assert_eq!(clean(repository, &dry).unwrap().renders.renders_removed, 1);
    assert!(place.exists());
    let keep = CleanOptions { keep_proxies: true, ..CleanOptions::new(now) };
    let report = clean(repository, &keep).unwrap();
    assert_eq!((report.renders.renders_removed, report.renders.proxies_removed), (1, 0));
    assert!(!place.exists());
    // A repository that stands before others has its renders cleaned, too.
    let primary = Arc::new(Repository::open(repository.root()).unwrap());
    let proxy = LayeredRepository::new(primary, Vec::new(), Layering::default());
    let report = clean(&proxy, &CleanOptions::new(now)).unwrap();
    assert_eq!((report.renders.proxies, report.renders.proxies_removed), (3, 3));
}

#[test]
fn a_damaged_payload_is_not_rendered_as_if_it_were_whole() {
    let fixture = fixture();
    let payload = fixture.repository.payloads().path(&Digest::of(b"two")).unwrap();
    fs::write(payload, "torn off").unwrap();
    let error = fixture.render("out", Strategy::Copy, false).unwrap_err();
    assert!(matches!(error, RepoError::WrongPayload { .. }), "{error}");
    let missing = fixture.repository.payloads().path(&Digest::of(b"one")).unwrap();
    fs::remove_file(missing).unwrap();
    assert!(fixture.render("other", Strategy::HardLink, false).is_err());
}
