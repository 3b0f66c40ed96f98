//! Laws that hold for all layers, views and objects.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use spfs_model::{
    Annotation, AnnotationValue, BlobEntry, Digest, DigestStrategy, EncodingFormat, Header, Layer,
    Live, Manifest, MergedEntry, MergedTree, NameBuf, Node, NodeKind, Object, Platform, Position,
    Stack, Tag, TagName, TagStream, changes, changes_between, changes_from, decode, diff, digest,
    encode, merge,
};

use crate::support::{FORMATS, Naive, STRATEGIES, name, positions};

/// Few names, so that layers meet; some with equal beginnings, some that sort in odd places.
const NAMES: [&str; 8] = ["a", "a.b", "ab", "b", "same-start-1", "same-start-2", "same-sta", "é"];

pub(crate) fn any_name() -> impl Strategy<Value = NameBuf> {
    proptest::sample::select(&NAMES[..]).prop_map(name)
}

fn any_blob() -> impl Strategy<Value = BlobEntry> {
    let mode = proptest::sample::select(&[0o100_644, 0o100_755, 0o120_777][..]);
    (mode, 0..3u64).prop_map(|(mode, size)| BlobEntry {
        mode,
        size,
        object: Digest::of(&size.to_be_bytes()),
    })
}

fn any_directory_mode() -> impl Strategy<Value = u32> {
    proptest::sample::select(&[0o040_755, 0o040_700][..])
}

/// The root of a layer.
pub(crate) fn any_layer() -> impl Strategy<Value = BTreeMap<NameBuf, Node>> {
    let leaf = prop_oneof![3 => any_blob().prop_map(Plan::Blob), 1 => Just(Plan::Mask)];
    let node = leaf.prop_recursive(4, 32, 5, |inner| {
        (any_directory_mode(), btree_map(any_name(), inner, 0..5))
            .prop_map(|(mode, entries)| Plan::Directory { mode, keep: false, entries })
    });
    btree_map(any_name(), node, 0..6)
        .prop_map(|entries| entries.into_iter().map(|(name, plan)| (name, plan.node())).collect())
}

/// What may become a node of a layer or of a view.
#[derive(Debug, Clone)]
enum Plan {
    Mask,
    Same,
    Blob(BlobEntry),
    /// A node of the bottom of the base, counted around.
    Lower(u32),
    /// With `keep`, everything of the base that is not mentioned stays.
    Directory {
        mode: u32,
        keep: bool,
        entries: BTreeMap<NameBuf, Self>,
    },
}

impl Plan {
    fn node(self) -> Node {
        match self {
            Self::Blob(blob) => Node::Blob(blob),
            Self::Directory { mode, entries, .. } => Node::Directory {
                mode,
                entries: entries.into_iter().map(|(name, plan)| (name, plan.node())).collect(),
            },
            Self::Mask | Self::Same | Self::Lower(_) => Node::Mask,
        }
    }

    /// A view that fits the base; `None` where it has nothing.
    fn live(&self, stack: &Stack<'_>, below: Option<&MergedEntry<'_>>) -> Option<Live> {
        match self {
            Self::Mask => None,
            Self::Same => below.map(|_| Live::Same),
            Self::Blob(blob) => Some(Live::Blob(*blob)),
            Self::Lower(number) => {
                let bottom = stack.bottom()?;
                Some(Live::Lower(Position(number % u32::try_from(bottom.len()).unwrap())))
            }
            Self::Directory { mode, keep, entries } => {
                let dir = below.and_then(|below| below.dir.as_ref());
                let listed = dir.map_or_else(Vec::new, |dir| stack.list(dir));
                let mut live = BTreeMap::new();
                for entry in listed.iter().filter(|_| *keep) {
                    live.insert(NameBuf::from(entry.name), Live::Same);
                }
                for (name, plan) in entries {
                    let below = listed.iter().find(|entry| entry.name == name.as_name());
                    match plan.live(stack, below) {
                        Some(node) => live.insert(name.clone(), node),
                        None => live.remove(name),
                    };
                }
                Some(Live::Directory { mode: *mode, entries: live })
            }
        }
    }
}

fn any_view() -> impl Strategy<Value = Plan> {
    let leaf = prop_oneof![
        2 => Just(Plan::Same),
        2 => any_blob().prop_map(Plan::Blob),
        2 => any::<u32>().prop_map(Plan::Lower),
        1 => Just(Plan::Mask),
    ];
    let directory = |inner| {
        (any_directory_mode(), any::<bool>(), btree_map(any_name(), inner, 0..5))
            .prop_map(|(mode, keep, entries)| Plan::Directory { mode, keep, entries })
    };
    directory(leaf.prop_recursive(3, 32, 5, directory).boxed())
}

fn root_entry<'a>(stack: &Stack<'a>) -> MergedEntry<'a> {
    MergedEntry {
        name: spfs_model::Name::ROOT,
        kind: NodeKind::Directory,
        mode: 0o040_777,
        size: 0,
        object: Digest::NULL,
        dir: Some(stack.root()),
    }
}

fn build(layers: &[BTreeMap<NameBuf, Node>]) -> Vec<Manifest> {
    layers.iter().map(|layer| Manifest::build(layer).unwrap()).collect()
}

/// What the layout of a merged tree promises.
fn check_layout(tree: &MergedTree) {
    let mut next = 1;
    for position in positions(tree) {
        let children = tree.children(position);
        assert_eq!(children.start, next, "children follow those of the node before");
        next = children.end;
        let node = tree.node(position);
        assert!(node.kind == NodeKind::Directory || children.is_empty());
        assert_eq!(node.mode & 0o170_000, node.kind.type_bits());
        let children: Vec<Position> = children.map(Position).collect();
        assert!(children.is_sorted_by(|&a, &b| tree.name(a) < tree.name(b)));
        for &child in &children {
            assert_eq!(tree.parent(child), position);
            assert_eq!(tree.child(position, tree.name(child)), Some(child));
        }
        let directories = children.iter().filter(|&&c| tree.kind(c) == NodeKind::Directory);
        assert_eq!(tree.subdirectories(position) as usize, directories.count());
        let found = String::from_utf8(tree.path(position)).unwrap();
        let found = found
            .split('/')
            .filter(|part| !part.is_empty())
            .try_fold(Position::ROOT, |position, part| tree.child(position, name(part).as_name()));
        assert_eq!(found, Some(position));
    }
    assert_eq!(next as usize, tree.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_what_maps_in_maps_say(layers in vec(any_layer(), 0..6)) {
        let manifests = build(&layers);
        let tree = merge(&manifests.iter().collect::<Vec<_>>());
        check_layout(&tree);
        let mut naive = Naive::root();
        for layer in &layers {
            naive.put(layer);
        }
        prop_assert_eq!(Naive::of_tree(&tree, Position::ROOT), naive);
    }

    #[test]
    fn merging_the_lower_layers_first_changes_nothing(
        layers in vec(any_layer(), 1..6),
        split in 0..6usize,
    ) {
        let manifests = build(&layers);
        let all: Vec<&Manifest> = manifests.iter().collect();
        let (lower, upper) = all.split_at(split.min(all.len()));
        let bottom = merge(lower);
        let stack = Stack::on(&bottom, upper.to_vec());
        let tree = stack.merge();
        prop_assert_eq!(&tree, &merge(&all));
        // a directory at a time shows the same
        let listed = Naive::of_dir(&stack, &stack.root(), 0o040_777);
        prop_assert_eq!(listed, Naive::of_tree(&tree, Position::ROOT));
    }

    #[test]
    fn the_base_with_the_difference_on_top_is_the_view(
        layers in vec(any_layer(), 0..5),
        split in 0..5usize,
        view in any_view(),
    ) {
        let manifests = build(&layers);
        let all: Vec<&Manifest> = manifests.iter().collect();
        let (lower, upper) = all.split_at(split.min(all.len()));
        let bottom = merge(lower);
        let stack = Stack::on(&bottom, upper.to_vec());
        let live = view.live(&stack, Some(&root_entry(&stack))).unwrap();
        let expected = Naive::of_live(&stack, &live, None, true);

        let base = stack.merge();
        let top = diff(&stack, &live).unwrap();
        let layers = all.iter().copied().chain(&top).collect::<Vec<_>>();
        let tree = merge(&layers);
        prop_assert_eq!(Naive::of_tree(&tree, Position::ROOT), expected);
        prop_assert_eq!(top.is_none(), tree == base, "a layer only when something differs");
        prop_assert_eq!(
            changes(&stack, &live).unwrap(),
            changes_between(&base, &tree).unwrap()
        );
    }

    #[test]
    fn differences_can_be_put_together(
        from in vec(any_layer(), 0..4),
        layers in vec(any_layer(), 0..4),
        now in vec(any_layer(), 0..4),
    ) {
        let tree = |layers| {
            let manifests = build(layers);
            merge(&manifests.iter().collect::<Vec<_>>())
        };
        let [from, layers, now] = [tree(&from), tree(&layers), tree(&now)];
        let live = changes_between(&layers, &now).unwrap();
        prop_assert_eq!(
            changes_from(&from, &layers, &live),
            changes_between(&from, &now).unwrap()
        );
    }

    #[test]
    fn a_merged_tree_stored_as_one_layer_merges_to_itself(layers in vec(any_layer(), 0..5)) {
        let manifests = build(&layers);
        let tree = merge(&manifests.iter().collect::<Vec<_>>());
        let empty = MergedTree::empty();
        // the same tree as a view of nothing
        let view = as_live(&tree, Position::ROOT);
        let flat = diff(&Stack::on(&empty, vec![]), &view).unwrap();
        prop_assert_eq!(merge(&flat.iter().collect::<Vec<_>>()), tree);
    }

    #[test]
    fn objects_decode_to_what_was_encoded(object in any_object()) {
        for strategy in STRATEGIES {
            for format in FORMATS {
                let Ok(bytes) = encode(&object, strategy, format) else {
                    prop_assert_eq!((object.kind().as_str(), format), ("layer", EncodingFormat::Legacy));
                    continue;
                };
                let (header, read) = decode(&bytes).unwrap();
                prop_assert_eq!(header, Header { strategy, format, kind: object.kind() });
                prop_assert_eq!(digest(&read, strategy), digest(&object, strategy));
                prop_assert_eq!(encode(&read, strategy, format), Ok(bytes));
                if format == EncodingFormat::FlatBuffers {
                    prop_assert_eq!(&read, &object);
                }
                // what came from one format keeps its digest and its order in the other
                for other in FORMATS {
                    let Ok(bytes) = encode(&read, strategy, other) else { continue };
                    let again = decode(&bytes).unwrap().1;
                    prop_assert_eq!(digest(&again, strategy), digest(&object, strategy));
                }
                if let (Object::Manifest(read), Object::Manifest(object)) = (&read, &object) {
                    prop_assert_eq!(merge(&[read]), merge(&[object]));
                }
            }
        }
    }

    #[test]
    fn tag_streams_decode_to_what_was_encoded(tags in vec(any_tag(), 0..8)) {
        let mut stream = TagStream::default();
        for tag in &tags {
            stream.insert(tag.clone());
            prop_assert!(!stream.insert(tag.clone()), "nothing is added twice");
        }
        let read = TagStream::decode(&stream.encode().unwrap()).unwrap();
        prop_assert!(read.tags().is_sorted());
        prop_assert_eq!(&read, &stream);
        for tag in &tags {
            stream.remove(tag);
        }
        prop_assert!(stream.is_empty());
    }

    #[test]
    fn tag_names_read_back_as_they_are_printed(text in "[a-z0-9._/~-]{1,12}") {
        if let Ok(spec) = text.parse::<spfs_model::TagSpec>() {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }
}

fn as_live(tree: &MergedTree, position: Position) -> Live {
    let node = tree.node(position);
    match node.kind {
        NodeKind::Directory => Live::Directory {
            mode: node.mode,
            entries: tree
                .children(position)
                .map(|child| (tree.name(Position(child)).into(), as_live(tree, Position(child))))
                .collect(),
        },
        NodeKind::File | NodeKind::Symlink => {
            Live::Blob(BlobEntry { mode: node.mode, size: node.size, object: node.object })
        }
    }
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn any_annotation() -> impl Strategy<Value = Annotation> {
    let value = prop_oneof![
        "[^\\x00]{0,9}".prop_map(AnnotationValue::Inline),
        any_digest().prop_map(AnnotationValue::Blob),
    ];
    ("[^\\x00]{0,9}", value).prop_map(|(key, value)| Annotation { key, value })
}

pub(crate) fn any_object() -> impl Strategy<Value = Object> {
    let layer = (proptest::option::of(any_digest()), vec(any_annotation(), 0..4))
        .prop_filter("a layer is not empty", |(manifest, annotations)| {
            manifest.is_some() || !annotations.is_empty()
        })
        .prop_map(|(manifest, annotations)| Object::Layer(Layer { manifest, annotations }));
    prop_oneof![
        1 => (any_digest(), any::<u64>())
            .prop_map(|(payload, size)| Object::Blob { payload, size }),
        4 => any_layer().prop_map(|root| Object::Manifest(Manifest::build(&root).unwrap())),
        2 => layer,
        1 => vec(any_digest(), 0..5).prop_map(|stack| Object::Platform(Platform { stack })),
    ]
}

fn any_tag() -> impl Strategy<Value = Tag> {
    let time = (0..3i64, proptest::sample::select(&[0, 450_000, 1_000, 456_008][..]));
    (0..2u8, time, any_digest(), "[^\\x00]{0,5}").prop_map(|(target, time, parent, user)| {
        let time = jiff::Timestamp::new(time.0, time.1 * 1_000).unwrap();
        let name: TagName = "org/name".parse().unwrap();
        Tag { parent, ..Tag::new(&name, Digest::of(&[target]), user, time) }
    })
}

#[test]
fn digests_of_one_hierarchy_differ_by_strategy_only() {
    let manifest = Manifest::build(&BTreeMap::from([(name("a"), Node::directory(0o040_755))]));
    let manifest = manifest.unwrap();
    let salted = manifest.digest(DigestStrategy::WithKindAndSalt);
    assert_ne!(salted, manifest.digest(DigestStrategy::Legacy));
}
