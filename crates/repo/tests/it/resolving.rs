//! From references to stacks.

use std::fs;
use std::path::Path;

use spfs_model::{Digest, EnvSpec, Layer, Object};
use spfs_repo::{
    AnyRepository, CommitOptions, MemoryRepository, RepoError, Repository, commit_path,
    load_layers, load_stack, resolve, resolve_reference, write_layer, write_platform,
};

use crate::support::{repository, text, time, write_tree};

/// A layer that differs from all others.
fn layer(repository: &dyn AnyRepository, number: u8) -> Digest {
    let notes = [("number".to_owned(), number.to_string())];
    write_layer(repository, None, &notes, 100).unwrap().layer
}

fn spec(text: impl AsRef<str>) -> EnvSpec {
    text.as_ref().parse().unwrap()
}

#[test]
fn items_are_stacked_in_order_and_platforms_replaced_by_what_they_hold() {
    let repository = MemoryRepository::new();
    let [a, b, c, d] = [1, 2, 3, 4].map(|number| layer(&repository, number));
    repository.tags().push(&"my/b".parse().unwrap(), b, "u", time(0)).unwrap();
    let inner = write_platform(&repository, &[b, c], false).unwrap();
    let outer = write_platform(&repository, &[a, inner, d], false).unwrap();
    let resolve = |text: &str| resolve(&[&repository], &spec(text)).unwrap();
    assert_eq!(resolve(""), []);
    assert_eq!(resolve("-"), []);
    assert_eq!(resolve(&format!("{a}+my/b+{c}")), [a, b, c]);
    assert_eq!(resolve(&format!("{outer}")), [a, b, c, d]);
    assert_eq!(resolve(&format!("{}+my/b", &a.to_string()[..16])), [a, b]);
    // what comes again counts where it comes last
    assert_eq!(resolve(&format!("{a}+{b}+{a}")), [b, a]);
    assert_eq!(resolve(&format!("{outer}+{a}")), [b, c, d, a]);
    assert_eq!(resolve(&format!("{inner}+{a}+{inner}")), [a, b, c]);
    assert_eq!(resolve(&format!("{b}+{inner}")), [b, c]);
}

#[test]
fn layers_of_annotations_alone_are_not_taken_for_each_other() {
    let repository = MemoryRepository::new();
    let [a, b] = [1, 2].map(|number| layer(&repository, number));
    assert_eq!(resolve(&[&repository], &spec(format!("{a}+{b}"))).unwrap(), [a, b]);
    let loaded = load_layers(&[&repository], &[a, b]).unwrap();
    assert_eq!(loaded.iter().map(|layer| layer.digest).collect::<Vec<_>>(), [a, b]);
    assert!(loaded.iter().all(|layer| layer.manifest.is_none()));
    assert_eq!(load_stack(&[&repository], &[a, b]).unwrap().len(), 0);
}

#[test]
fn platforms_that_name_each_other_again_and_again_are_looked_at_once() {
    let repository = MemoryRepository::new();
    let mut below = vec![layer(&repository, 1), layer(&repository, 2)];
    for _ in 0..60 {
        let left = write_platform(&repository, &below, false).unwrap();
        below.reverse();
        let right = write_platform(&repository, &below, false).unwrap();
        below = vec![left, right];
    }
    let top = write_platform(&repository, &below, false).unwrap();
    assert_eq!(resolve(&[&repository], &spec(top.to_string())).unwrap().len(), 2);
}

#[test]
fn a_platform_that_holds_itself_ends() {
    let repository = MemoryRepository::new();
    let inside = layer(&repository, 1);
    let platform = write_platform(&repository, &[inside], false).unwrap();
    // no honest digest does that, a hostile repository may
    let object = Object::Platform(spfs_model::Platform { stack: vec![inside, platform] });
    let encoding = repository.encoding();
    let bytes = spfs_model::encode(&object, encoding.strategy, encoding.format).unwrap();
    repository.objects().remove(&platform).unwrap();
    repository.objects().write_raw(&platform, &bytes).unwrap();
    assert_eq!(resolve(&[&repository], &spec(platform.to_string())).unwrap(), [inside]);
}

#[test]
fn the_first_repository_that_knows_a_reference_answers() {
    let (near, far) = (MemoryRepository::new(), MemoryRepository::new());
    let (a, b) = (layer(&near, 1), layer(&far, 2));
    far.tags().push(&"both".parse().unwrap(), b, "u", time(0)).unwrap();
    far.tags().push(&"far".parse().unwrap(), b, "u", time(0)).unwrap();
    near.tags().push(&"both".parse().unwrap(), a, "u", time(0)).unwrap();
    let repositories: [&dyn AnyRepository; 2] = [&near, &far];
    assert_eq!(resolve(&repositories, &spec("both+far")).unwrap(), [a, b]);
    assert_eq!(resolve(&repositories, &spec(&b.to_string()[..8])).unwrap(), [b]);
    let error = resolve(&[&near], &spec("far")).unwrap_err();
    assert_eq!(error.to_string(), "unknown reference far");
}

#[test]
fn references_that_lead_nowhere_are_named() {
    let repository = MemoryRepository::new();
    let a = layer(&repository, 1);
    let unknown = Digest::of(b"unknown");
    for reference in ["nope", "no/pe~3", "ABCDEFGH", &unknown.to_string()] {
        let error = resolve(&[&repository], &spec(format!("{a}+{reference}"))).unwrap_err();
        assert_eq!(error.to_string(), format!("unknown reference {reference}"));
        let error = resolve_reference(&[&repository], reference).unwrap_err();
        assert_eq!(error.to_string(), format!("unknown reference {reference}"));
    }
    for (reference, reason) in [
        ("not a reference", "' ' is not allowed"),
        ("tag~-1", "a version is a number"),
        ("foo//bar~x", "a version is a number"),
        (".../..", "it cannot contain '..'"),
        ("", "its name is empty"),
    ] {
        let error = text(&resolve_reference(&[&repository], reference).unwrap_err());
        assert!(error.starts_with(&format!("{reference:?} is not a reference")), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    // a tag to something that is gone
    repository.tags().push(&"gone".parse().unwrap(), unknown, "u", time(0)).unwrap();
    let error = resolve(&[&repository], &spec("gone")).unwrap_err();
    assert_eq!(error.to_string(), format!("unknown object {unknown}"));
}

#[test]
fn ambiguous_digests_list_what_they_could_be() {
    let repository = MemoryRepository::new();
    let mut layers: Vec<Digest> = (0..200).map(|number| layer(&repository, number)).collect();
    layers.sort_unstable();
    let prefix = &layers[0].to_string()[..1];
    let expected: Vec<Digest> =
        layers.iter().copied().filter(|layer| layer.to_string().starts_with(prefix)).collect();
    assert!(expected.len() > 1);
    let error = resolve_reference(&[&repository], prefix).unwrap_err();
    let RepoError::AmbiguousReference { candidates, .. } = &error else { panic!("{error}") };
    assert_eq!(*candidates, expected);
    assert!(error.to_string().contains(&expected[0].to_string()), "{error}");
    // two repositories that both have it are not ambiguous
    let other = MemoryRepository::new();
    let same = layer(&other, 7);
    let repositories: [&dyn AnyRepository; 2] = [&repository, &other];
    assert_eq!(resolve_reference(&repositories, &same.to_string()[..20]).unwrap(), same);
}

#[test]
fn a_tag_may_look_like_the_start_of_a_digest() {
    let repository = MemoryRepository::new();
    let a = layer(&repository, 1);
    repository.tags().push(&"HOUDINI2".parse().unwrap(), a, "u", time(0)).unwrap();
    repository.tags().push(&"USD".parse().unwrap(), a, "u", time(0)).unwrap();
    assert_eq!(resolve(&[&repository], &spec("HOUDINI2+USD")).unwrap(), [a]);
    assert_eq!(resolve_reference(&[&repository], "HOUDINI2").unwrap(), a);
}

#[test]
fn blobs_cannot_be_stacked() {
    let repository = MemoryRepository::new();
    let batch = repository.batch().unwrap();
    let blob = batch.blob(b"data").unwrap();
    batch.finish().unwrap();
    repository.tags().push(&"my/blob".parse().unwrap(), blob, "u", time(0)).unwrap();
    let error = resolve(&[&repository], &spec("my/blob")).unwrap_err();
    assert_eq!(error.to_string(), "my/blob is a blob: only layers and platforms can be stacked");
}

#[test]
fn run_specs_are_put_in_their_place() {
    let (dir, repository) = repository();
    let [a, b, c] = [1, 2, 3].map(|number| layer(&repository, number));
    repository.tags().push(&"my/b".parse().unwrap(), b, "u", time(0)).unwrap();
    let inner = dir.path().join("inner.spfs.yaml");
    fs::write(&inner, "api: spfs/v0/runspec\nlayers: [my/b]\n").unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("layer.spfs.yaml"),
        format!("# a comment\napi: spfs/v0/runspec\nlayers:\n  - {a}\n  - {}\n", inner.display()),
    )
    .unwrap();
    let text = format!("{}+{c}", folder.display());
    assert_eq!(resolve(&[&repository], &spec(&text)).unwrap(), [a, b, c]);
    // one file may be named twice, as long as not within itself
    let text = format!("{}+{c}+{}", inner.display(), inner.display());
    assert_eq!(resolve(&[&repository], &spec(&text)).unwrap(), [c, b]);
}

fn refused(repository: &Repository, path: &Path, content: Option<&str>) -> String {
    if let Some(content) = content {
        fs::write(path, content).unwrap();
    }
    text(&resolve(&[repository], &spec(path.to_str().unwrap())).unwrap_err())
}

#[test]
fn spec_files_that_cannot_be_used_are_named_with_the_reason() {
    let (dir, repository) = repository();
    let path = dir.path().join("env.spfs.yaml");
    let shown = fs::canonicalize(dir.path()).unwrap().join("env.spfs.yaml").display().to_string();

    let error = refused(&repository, &path, None);
    assert!(error.starts_with(&format!("cannot read the spec file {}", path.display())), "{error}");

    let other = dir.path().join("env.yaml");
    let error = refused(&repository, &other, Some("api: spfs/v0/runspec\n"));
    assert!(error.contains("its name does not end in \".spfs.yaml\""), "{error}");

    fs::create_dir(dir.path().join("docs")).unwrap();
    let live = "api: spfs/v0/livelayer\ncontents:\n  - {bind: docs, dest: /docs}\n";
    for live in [live, "contents: []\n"] {
        let error = refused(&repository, &path, Some(live));
        assert_eq!(error, format!("{shown} is a live layer: only runtimes can show one"));
    }
    let error = refused(&repository, &path, Some("api: spfs/v9/other\n"));
    assert!(error.contains("\"spfs/v9/other\" is an api that is not known here"), "{error}");

    let error = refused(&repository, &path, Some("api: spfs/v0/runspec\nlayers: [\"a b\"]\n"));
    assert!(error.contains("\"a b\" is not an item"), "{error}");

    for broken in
        ["layers: [", "api: [1]\n", "- just\n- a list\n", "api: spfs/v0/runspec\nlayers: 5\n"]
    {
        let error = refused(&repository, &path, Some(broken));
        assert!(error.starts_with(&format!("the spec file {shown} cannot be used: ")), "{error}");
    }
    let within = format!("api: spfs/v0/runspec\nlayers: [{}]\n", path.display());
    let error = refused(&repository, &path, Some(&within));
    assert_eq!(error, format!("the spec file {shown} includes itself"));

    let huge = format!("api: spfs/v0/runspec\n# {}\n", "x".repeat(2 << 20));
    let error = refused(&repository, &path, Some(&huge));
    assert!(error.contains("it is longer than"), "{error}");
}

#[test]
fn live_layers_are_told_apart_from_layers() {
    let (dir, repository) = repository();
    let host = fs::canonicalize(dir.path()).unwrap().join("live");
    write_tree(
        &host,
        &[("docs/a", "a"), ("layer.spfs.yaml", "contents: [{src: docs, dest: d}]\n")],
    );
    let layer = commit_path(&repository, &host, &CommitOptions::default()).unwrap().layer;
    // named twice, shown once
    let all = spec(format!("{0}+{layer}+{0}", host.display()));
    let found = spfs_repo::resolve_environment(&[&repository], &all).unwrap();
    assert_eq!(found.layers, [layer]);
    let [live] = &*found.live else { panic!("{found:?}") };
    assert_eq!(live.contents.len(), 1);
    assert_eq!(live.contents[0].src, host.join("docs"));
    assert_eq!(live.contents[0].dest.to_string(), "/spfs/d");
    fs::write(host.join("layer.spfs.yaml"), "contents: [{src: ../.., dest: d}]\n").unwrap();
    let error = spfs_repo::resolve_environment(&[&repository], &all).unwrap_err();
    assert!(text(&error).contains("leads out of the directory"), "{error}");
}

#[test]
fn stacks_are_loaded_bottom_first() {
    let (dir, repository) = repository();
    let commit = |number: usize| {
        let source = dir.path().join(number.to_string());
        write_tree(&source, &[("file", &number.to_string())]);
        commit_path(&repository, &source, &CommitOptions::default()).unwrap()
    };
    let committed: Vec<_> = (0..20).map(commit).collect();
    let stack: Vec<Digest> = committed.iter().map(|committed| committed.layer).collect();
    let manifests = load_stack(&[&repository], &stack).unwrap();
    let strategy = repository.encoding().strategy;
    let digests: Vec<Digest> = manifests.iter().map(|manifest| manifest.digest(strategy)).collect();
    assert_eq!(digests, committed.iter().map(|committed| committed.manifest).collect::<Vec<_>>());
    let error = load_stack(&[&repository], &[Digest::of(b"no")]).unwrap_err();
    assert_eq!(error.to_string(), format!("unknown object {}", Digest::of(b"no")));
    let platform = write_platform(&repository, &stack, false).unwrap();
    let error = load_stack(&[&repository], &[platform]).unwrap_err();
    assert!(error.to_string().contains("is a platform, and a layer is needed"), "{error}");
}

#[test]
fn an_edit_that_leads_back_to_a_lower_layer_is_kept() {
    let (dir, repository) = repository();
    let commit = |name: &str, content: &str| {
        let source = dir.path().join(name);
        write_tree(&source, &[("file", content)]);
        commit_path(&repository, &source, &CommitOptions::default()).unwrap()
    };
    let (one, two) = (commit("one", "1"), commit("two", "2"));
    // another layer with the manifest of the lowest one
    let back = Object::Layer(Layer {
        manifest: Some(one.manifest),
        annotations: vec![spfs_model::Annotation {
            key: "message".into(),
            value: spfs_model::AnnotationValue::Inline("back".into()),
        }],
    });
    let back = repository.objects().write(&back, repository.encoding()).unwrap();
    let stack = [one.layer, two.layer, back];
    assert_eq!(
        resolve(&[&repository], &spec(format!("{}+{}+{back}", one.layer, two.layer))).unwrap(),
        stack
    );
    let manifests = load_stack(&[&repository], &stack).unwrap();
    assert_eq!(manifests.len(), 2);
    let merged = spfs_model::merge(&manifests.iter().collect::<Vec<_>>());
    let file = merged.child(spfs_model::Position::ROOT, "file".try_into().unwrap()).unwrap();
    assert_eq!(merged.node(file).object, Digest::of(b"1"));
}

#[test]
fn an_object_that_is_damaged_here_is_read_from_the_next_repository() {
    let (near, far) = (MemoryRepository::new(), MemoryRepository::new());
    let a = layer(&near, 1);
    assert_eq!(layer(&far, 1), a);
    near.objects().remove(&a).unwrap();
    near.objects().write_raw(&a, b"damaged").unwrap();
    assert_eq!(resolve(&[&near, &far], &spec(a.to_string())).unwrap(), [a]);
    let error = resolve(&[&near], &spec(a.to_string())).unwrap_err();
    assert!(matches!(error, RepoError::DamagedObject { .. }), "{error}");
}
