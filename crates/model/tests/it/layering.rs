//! What layers on top of each other show, case by case.

use spfs_model::{
    Change, ChangeKind, DiffError, EntryKind, Live, ManifestError, MergedTree, Name, NameBuf,
    NameErrorReason, Node, NodeKind, Position, Stack, changes, changes_between, diff, merge,
};

use crate::support::{
    Naive, at, blob, dir, file, layer, link, live, merged_paths, name, paths, positions,
};

#[test]
fn directories_are_united_and_files_replaced() {
    let bottom = layer([("d", dir([("a", file("1")), ("b", file("1"))])), ("f", file("1"))]);
    let top = layer([("d", dir([("b", file("22")), ("c", file("2"))])), ("g", file("2"))]);
    let tree = merge(&[&bottom, &top]);
    assert_eq!(paths(&tree), ["d/", "d/a", "d/b", "d/c", "f", "g"]);
    assert_eq!(tree.node(at(&tree, "d/b")).size, 2);
    assert_eq!(tree.subdirectories(Position::ROOT), 1);
}

#[test]
fn the_mode_of_a_directory_is_the_topmost_ones() {
    let bottom = layer([("d", dir([]))]);
    let top = layer([("d", Node::directory(0o040_700))]);
    let tree = merge(&[&bottom, &top]);
    assert_eq!(tree.node(at(&tree, "d")).mode, 0o040_700);
    assert_eq!(tree.node(Position::ROOT).mode, 0o040_777);
}

#[test]
fn a_mask_hides_a_file_a_link_and_a_whole_directory() {
    let bottom = layer([
        ("dir", dir([("x", file("1"))])),
        ("file", file("1")),
        ("kept", file("1")),
        ("link", Node::Blob(link("file"))),
    ]);
    assert_eq!(merged_paths(&[&bottom]), ["dir/", "dir/x", "file", "kept", "link@"]);
    let top = layer([
        ("dir", Node::Mask),
        ("file", Node::Mask),
        ("link", Node::Mask),
        ("nothing", Node::Mask),
    ]);
    assert_eq!(merged_paths(&[&bottom, &top]), ["kept"]);
}

#[test]
fn a_directory_over_a_mask_does_not_bring_back_what_the_mask_hid() {
    let bottom = layer([("d", dir([("old", file("1"))]))]);
    let middle = layer([("d", Node::Mask)]);
    let top = layer([("d", dir([("new", file("1"))]))]);
    assert_eq!(merged_paths(&[&bottom, &middle, &top]), ["d/", "d/new"]);
}

#[test]
fn a_directory_over_a_file_over_a_directory_does_not_bring_back_its_children() {
    let bottom = layer([("d", dir([("old", file("1")), ("deep", dir([("x", file("1"))]))]))]);
    let middle = layer([("d", file("now a file"))]);
    let top = layer([("d", dir([("new", file("1"))]))]);
    assert_eq!(merged_paths(&[&bottom, &middle]), ["d"]);
    assert_eq!(merged_paths(&[&bottom, &middle, &top]), ["d/", "d/new"]);
    // the same when the lower two were put together before
    let lower = merge(&[&bottom, &middle]);
    assert_eq!(paths(&Stack::on(&lower, vec![&top]).merge()), ["d/", "d/new"]);
}

#[test]
fn types_follow_the_kind_even_when_a_writer_left_them_out_of_the_mode() {
    let bare = |mode| Node::Blob(spfs_model::BlobEntry { mode, ..blob("x") });
    let tree = merge(&[&layer([
        ("dir", Node::directory(0o755)),
        ("file", bare(0o644)),
        ("looks-like-a-dir", bare(0o040_755)),
        ("link", bare(0o120_777)),
    ])]);
    let seen: Vec<(String, NodeKind, u32)> = positions(&tree)
        .skip(1)
        .map(|position| {
            let node = tree.node(position);
            (node.name.to_string(), node.kind, node.mode)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("dir".to_owned(), NodeKind::Directory, 0o040_755),
            ("file".to_owned(), NodeKind::File, 0o100_644),
            ("link".to_owned(), NodeKind::Symlink, 0o120_777),
            ("looks-like-a-dir".to_owned(), NodeKind::File, 0o100_755),
        ]
    );
}

#[test]
fn names_with_equal_beginnings_stay_apart_and_sorted() {
    let bottom = layer([("same-start-1", file("1")), ("same-start-3", file("1"))]);
    let top = layer([
        ("same-sta", file("2")),
        ("same-start-2", file("2")),
        ("same-start-3", file("22")),
        ("é", file("2")),
    ]);
    let tree = merge(&[&bottom, &top]);
    let names: Vec<_> = positions(&tree).skip(1).map(|p| tree.name(p).to_string()).collect();
    assert_eq!(names, ["same-sta", "same-start-1", "same-start-2", "same-start-3", "é"]);
    assert_eq!(tree.node(at(&tree, "same-start-3")).size, 2);
}

#[test]
fn an_unchanged_view_makes_no_layer() {
    let bottom = layer([("d", dir([("a", file("1"))])), ("f", file("1"))]);
    let stack = Stack::new(vec![&bottom]);
    let same = [
        Live::Same,
        live([("d", Live::Same), ("f", Live::Same)]),
        live([("d", live([("a", Live::Blob(blob("1")))])), ("f", Live::Blob(blob("1")))]),
    ];
    for view in same {
        assert_eq!(diff(&stack, &view), Ok(None));
        assert_eq!(changes(&stack, &view), Ok(vec![]));
    }
    assert_eq!(diff(&Stack::new(vec![]), &live([])), Ok(None));
}

#[test]
fn a_layer_holds_what_changed_and_nothing_else() {
    let bottom = layer([
        ("d", dir([("a", file("1")), ("b", file("1"))])),
        ("gone", dir([("x", file("1"))])),
        ("same", dir([("x", file("1"))])),
    ]);
    let stack = Stack::new(vec![&bottom]);
    let view = live([
        ("d", live([("a", Live::Same), ("b", Live::Blob(blob("new")))])),
        ("same", live([("x", Live::Same)])),
    ]);
    let top = diff(&stack, &view).unwrap().unwrap();
    let entries: Vec<_> =
        top.entries(top.root()).map(|e| (e.name.to_string(), e.kind, e.mode, e.size)).collect();
    assert_eq!(
        entries,
        [
            ("d".to_owned(), EntryKind::Tree, 0o040_755, 0),
            ("gone".to_owned(), EntryKind::Mask, 0o020_000, 0),
        ]
    );
    assert_eq!(top.len(), 3);
    assert_eq!(merged_paths(&[&bottom, &top]), ["d/", "d/a", "d/b", "same/", "same/x"]);
}

#[test]
fn a_directory_removed_and_made_again_masks_what_was_in_it() {
    let bottom = layer([("d", dir([("old", file("1")), ("both", file("1"))]))]);
    let stack = Stack::new(vec![&bottom]);
    let view =
        live([("d", live([("both", Live::Blob(blob("2"))), ("new", Live::Blob(blob("2")))]))]);
    let top = diff(&stack, &view).unwrap().unwrap();
    let d = top.find(top.root(), Name::new(b"d").unwrap()).unwrap();
    let old = top.find(d.tree.unwrap(), Name::new(b"old").unwrap()).unwrap();
    assert_eq!((old.kind, old.object.is_null()), (EntryKind::Mask, true));
    assert_eq!(merged_paths(&[&bottom, &top]), ["d/", "d/both", "d/new"]);
}

#[test]
fn masks_of_lower_layers_are_not_stored_again() {
    let bottom = layer([("a", file("1")), ("b", file("1"))]);
    let middle = layer([("a", Node::Mask)]);
    let stack = Stack::new(vec![&bottom, &middle]);
    let top = diff(&stack, &live([("b", Live::Same), ("c", Live::Blob(blob("1")))])).unwrap();
    let top = top.unwrap();
    let names: Vec<_> = top.entries(top.root()).map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["c"]);
}

#[test]
fn a_moved_directory_is_stored_whole_and_its_old_place_masked() {
    let bottom = layer([
        ("from", dir([("a", file("1")), ("sub", dir([("b", file("1"))]))])),
        ("to", dir([("a", file("2")), ("c", file("2"))])),
    ]);
    let lower = merge(&[&bottom]);
    let stack = Stack::on(&lower, vec![]);
    // `from` replaced the emptied `to`
    let top = diff(&stack, &live([("to", Live::Lower(at(&lower, "from")))])).unwrap().unwrap();
    assert_eq!(merged_paths(&[&bottom, &top]), ["to/", "to/a", "to/sub/", "to/sub/b"]);
    // moved there and back
    let view =
        live([("from", Live::Lower(at(&lower, "from"))), ("to", Live::Lower(at(&lower, "to")))]);
    assert_eq!(diff(&stack, &view), Ok(None));
    // a file can be moved as well
    let view = live([
        ("b", Live::Lower(at(&lower, "from/sub/b"))),
        ("from", live([("a", Live::Same), ("sub", live([]))])),
        ("to", Live::Same),
    ]);
    let top = diff(&stack, &view).unwrap().unwrap();
    assert_eq!(
        merged_paths(&[&bottom, &top]),
        ["b", "from/", "from/a", "from/sub/", "to/", "to/a", "to/c"]
    );
}

#[test]
fn a_name_that_is_not_utf8_is_refused_with_its_path() {
    let bad = NameBuf::new(&b"caf\xe9"[..]).unwrap();
    let mut d = live([]);
    if let Live::Directory { entries, .. } = &mut d {
        entries.insert(bad, Live::Blob(blob("1")));
    }
    match diff(&Stack::new(vec![]), &live([("d", d)])) {
        Err(DiffError::Entry { path, source: ManifestError::Name(error) }) => {
            assert_eq!(path, "d/caf\u{fffd}");
            assert_eq!((error.reason, &*error.name), (NameErrorReason::NotUtf8, "caf\\xe9"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_view_that_does_not_fit_its_base_is_refused() {
    let stack = Stack::new(vec![]);
    let lower = MergedTree::empty();
    let on = Stack::on(&lower, vec![]);
    let nothing = DiffError::NothingBelow { path: "a".to_owned() };
    let node = |position| DiffError::NoSuchNode { path: "a".to_owned(), position };
    assert_eq!(diff(&stack, &live([("a", Live::Same)])), Err(nothing));
    assert_eq!(diff(&stack, &live([("a", Live::Lower(Position(0)))])), Err(node(0)));
    assert_eq!(diff(&on, &live([("a", Live::Lower(Position(1)))])), Err(node(1)));
    assert_eq!(diff(&stack, &Live::Blob(blob("1"))), Err(DiffError::RootIsNoDirectory));
}

fn shown(changes: &[Change]) -> Vec<String> {
    let text = |change: &Change| {
        let path = String::from_utf8(change.path.clone()).unwrap();
        match change.kind {
            ChangeKind::Added(_) => format!("+{path}"),
            ChangeKind::Removed(_) => format!("-{path}"),
            ChangeKind::Changed { before, after } if before.mode != after.mode => {
                format!("~{path} {:o}=>{:o}", before.mode, after.mode)
            }
            ChangeKind::Changed { before, after } if before.size != after.size => {
                format!("~{path} {}=>{}", before.size, after.size)
            }
            ChangeKind::Changed { .. } => format!("~{path}"),
        }
    };
    changes.iter().map(text).collect()
}

#[test]
fn changes_list_every_path_a_directory_before_its_entries() {
    let bottom = layer([
        ("bin", dir([("tool", file("1"))])),
        ("bin-2", file("1")),
        ("gone", dir([("sub", dir([("x", file("1"))]))])),
        ("lib", dir([("data", file("12345")), ("same", file("1"))])),
        ("quiet", dir([("x", file("1"))])),
        ("was-dir", dir([("x", file("1"))])),
        ("was-file", file("1")),
    ]);
    let lower = merge(&[&bottom]);
    let stack = Stack::on(&lower, vec![]);
    let view = live([
        (
            "bin",
            live([("tool", Live::Blob(spfs_model::BlobEntry { mode: 0o100_700, ..blob("1") }))]),
        ),
        ("bin-2", Live::Same),
        ("lib", live([("data", Live::Blob(blob("1234567890"))), ("same", Live::Same)])),
        ("new", live([("x", Live::Blob(blob("1")))])),
        ("quiet", live([("x", Live::Same)])),
        ("was-dir", Live::Blob(blob(""))),
        ("was-file", live([("x", Live::Blob(blob("1")))])),
    ]);
    let listed = changes(&stack, &view).unwrap();
    assert_eq!(
        shown(&listed),
        [
            "~bin",
            "~bin/tool 100644=>100700",
            "-gone",
            "-gone/sub",
            "-gone/sub/x",
            "~lib",
            "~lib/data 5=>10",
            "+new",
            "+new/x",
            "~was-dir 40755=>100644",
            "-was-dir/x",
            "~was-file 100644=>40755",
            "+was-file/x",
        ]
    );
    let top = diff(&stack, &view).unwrap().unwrap();
    let after = Stack::on(&lower, vec![&top]).merge();
    assert_eq!(changes_between(&lower, &after).unwrap(), listed);
    assert_eq!(changes_between(&after, &after).unwrap(), []);
}

#[test]
fn single_directories_show_what_the_whole_shows() {
    let bottom = layer([("d", dir([("a", file("1")), ("z", Node::Mask)])), ("f", file("1"))]);
    let top = layer([("d", dir([("a", Node::Mask), ("b", file("2"))])), ("f", Node::Mask)]);
    let stack = Stack::new(vec![&bottom, &top]);
    let root = stack.list(&stack.root());
    assert_eq!(root.len(), 1);
    let d = stack.lookup(&stack.root(), name("d").as_name()).unwrap();
    assert_eq!(root[0], d);
    assert_eq!(stack.lookup(&stack.root(), name("f").as_name()), None);
    let inside = d.dir.unwrap();
    assert_eq!(stack.lookup(&inside, name("a").as_name()), None);
    assert_eq!(stack.list(&inside)[0].name, name("b").as_name());
    assert_eq!(
        Naive::of_dir(&stack, &stack.root(), 0o040_777),
        Naive::of_tree(&stack.merge(), Position::ROOT)
    );
}

#[test]
fn of_what_is_left_out_a_layer_says_nothing() {
    let bottom = diff(&Stack::new(vec![]), &live([("old", Live::Blob(blob("1")))]));
    let bottom = bottom.unwrap().unwrap();
    let stack = Stack::new(vec![&bottom]);
    let nothing = live([("new", Live::LeftOut), ("old", Live::LeftOut)]);
    assert_eq!(diff(&stack, &nothing), Ok(None));
    assert_eq!(diff(&stack, &Live::LeftOut), Ok(None));
    let some = live([("dir", live([("new", Live::LeftOut)])), ("old", Live::LeftOut)]);
    let manifest = diff(&stack, &some).unwrap().unwrap();
    let names: Vec<_> = manifest.entries(manifest.root()).map(|entry| entry.name).collect();
    assert_eq!(names, [Name::new(b"dir").unwrap()]);
}
