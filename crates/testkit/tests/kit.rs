//! The test support itself.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use spfs_repo::{AnyRepository, load_stack};
use spfs_testkit::campaign::{Campaign, replay};
use spfs_testkit::drive::Outcome;
use spfs_testkit::environment::{NOBODY, is_mount_point, is_root};
use spfs_testkit::image::Image;
use spfs_testkit::layers::{BaseStack, tree_of_merged, tree_of_vfs};
use spfs_testkit::model_fs::{ModelFs, counting_clock};
use spfs_testkit::ops::{Call, Op, Profile, sample};
use spfs_testkit::pair::{Pair, Subject, Ticks};
use spfs_testkit::{Mounted, Paths, TestRepo, TreeBuilder, unprivileged, wait_until};
use spfs_vfs::api::{Access, Error, File, NewKind, Owner, Pin, Vfs};

const OWNER: Owner = Owner { uid: 1, gid: 2 };

/// A model as subject, which answers wrongly to one kind of call when it is told to.
struct Other {
    fs: Arc<ModelFs>,
    wrong: bool,
}

impl Subject for Other {
    type Fs = ModelFs;

    fn fs(&self) -> Arc<ModelFs> {
        Arc::clone(&self.fs)
    }

    fn check(&self) -> Result<(), String> {
        let links = Image::read(&self.fs)?.nodes.values().filter(|node| node.nlink > 2).count();
        if self.wrong && links > 0 { Err("a third link".to_owned()) } else { Ok(()) }
    }
}

fn pair(wrong: bool) -> Pair<Other> {
    let ticks = Ticks::default();
    let model = || ModelFs::new(ticks.clock(), 0o755, OWNER);
    let other = Other { fs: Arc::new(model()), wrong };
    let mut pair = Pair::new(other, model(), ticks.clone(), Profile::core());
    pair.audit_every = 1;
    pair
}

#[test]
fn a_model_behaves_like_itself() {
    let campaign = Campaign { ops: 2000, sequence: 200, seed: 1, profile: Profile::core() };
    let statistics = campaign.run(|_| pair(false));
    assert!(statistics.times("Rename", "done") > 20, "{statistics}");
}

#[test]
fn a_failure_is_made_short_and_printed_as_a_test() {
    let campaign = Campaign { ops: 2000, sequence: 200, seed: 1, profile: Profile::core() };
    let panic = std::panic::catch_unwind(|| campaign.run(|_| pair(true))).unwrap_err();
    let report = panic.downcast_ref::<String>().unwrap();
    assert!(report.contains("a third link"), "{report}");
    let ops = report.split("let ops = [").nth(1).unwrap().split("];").next().unwrap();
    // A root with two sub-directories has four links already.
    assert_eq!(ops.trim().lines().count(), 1, "{report}");
    assert!(ops.contains("NewDir"), "{report}");
}

#[test]
fn a_panic_below_counts_as_a_failure() {
    struct Panics(Arc<ModelFs>, Cell<u32>);
    impl Subject for Panics {
        type Fs = ModelFs;
        fn fs(&self) -> Arc<ModelFs> {
            Arc::clone(&self.0)
        }
        fn allows(&self, _: &Call, _: &Outcome, _: &Outcome) -> Option<&'static str> {
            None
        }
        fn check(&self) -> Result<(), String> {
            self.1.set(self.1.get() + 1);
            assert!(self.1.get() < 3, "the third check panics");
            Ok(())
        }
    }
    let make = || {
        let ticks = Ticks::default();
        let model = || ModelFs::new(ticks.clock(), 0o755, OWNER);
        let subject = Panics(Arc::new(model()), Cell::new(0));
        let mut pair = Pair::new(subject, model(), ticks.clone(), Profile::core());
        pair.audit_every = 1;
        pair
    };
    let failure = replay(&[Op::SyncAll; 5], make).unwrap_err();
    assert!(failure.message.contains("the third check panics"), "{failure:?}");
    assert_eq!(failure.step, 2);
}

#[test]
fn sequences_for_proptest_keep_to_the_profile() {
    let ops = sample(Profile::core(), 100).unwrap();
    assert!(!ops.is_empty());
    assert!(!ops.iter().any(|op| matches!(op, Op::Control(_))), "{ops:?}");
    replay(&ops, || pair(false)).unwrap();
}

#[test]
fn layers_are_merged_as_nested_maps_say() {
    for seed in 0..300 {
        let base = BaseStack::random_up_to(seed, 100);
        assert_eq!(tree_of_merged(&base.merged, &base.payloads).unwrap(), base.shown, "{seed}");
        let model = Arc::new(base.model(counting_clock(0), OWNER, Default::default()));
        assert_eq!(tree_of_vfs(&model).unwrap(), base.shown, "{seed}");
        model.check_invariants().unwrap();
    }
}

#[test]
fn a_mask_and_a_file_hide_the_directory_below_for_good() {
    let bottom = TreeBuilder::new().file("a/x", 0o644, *b"1").file("b/x", 0o644, *b"1").build();
    let middle = TreeBuilder::new().mask("a").file("b", 0o644, *b"2").build();
    let top = TreeBuilder::new().file("a/y", 0o644, *b"3").file("b/y", 0o644, *b"3").build();
    let base = BaseStack::new(&[bottom, middle, top]);
    let model = Arc::new(base.model(counting_clock(0), OWNER, Default::default()));
    assert_eq!(model.names("a").unwrap(), ["y"]);
    assert_eq!(model.names("b").unwrap(), ["y"]);
    assert_eq!(tree_of_merged(&base.merged, &base.payloads).unwrap(), base.shown);
}

#[test]
fn an_inode_lives_as_long_as_a_name_a_pin_or_an_open_file_leads_to_it() {
    let model = Arc::new(ModelFs::new(counting_clock(0), 0o755, OWNER));
    let ino = model.write_file("file", b"content").unwrap().ino;
    let pin = Pin::new(&model, ino);
    let file = model.open(ino, Access::Read).unwrap();
    model.unlink("file").unwrap();
    assert_eq!(model.getattr(ino).unwrap().nlink, 0);
    drop(pin);
    let mut content = [0; 7];
    assert_eq!(file.read_at(0, &mut content).unwrap(), 7);
    assert_eq!(&content, b"content");
    drop(file);
    assert!(matches!(model.getattr(ino), Err(Error::Stale)));
    model.check_invariants().unwrap();
}

#[test]
fn a_setgid_directory_hands_its_group_down() {
    let model = Arc::new(ModelFs::new(counting_clock(0), 0o2775, OWNER));
    let dir = model.mkdir("dir").unwrap();
    assert_eq!((dir.owner, dir.perm), (Owner { uid: 0, gid: 2 }, 0o2755));
    let file = model.make("dir/file", NewKind::Regular, 0o644).unwrap();
    assert_eq!((file.owner, file.perm), (Owner { uid: 0, gid: 2 }, 0o644));
}

#[test]
fn a_repository_for_tests_holds_what_was_committed() {
    let repo = TestRepo::new();
    let tree = TreeBuilder::new()
        .file("bin/tool", 0o755, *b"#!")
        .symlink("link", "bin/tool")
        .dir("empty", 0o700)
        .build();
    let layer = repo.publish("test/tool", &tree);
    let tag = repo.repository().tags().resolve(&"test/tool".parse().unwrap()).unwrap();
    assert_eq!(tag.target, layer);
    let stack = load_stack(&[repo.repository()], &[layer]).unwrap();
    let merged = spfs_model::merge(&stack.iter().collect::<Vec<_>>());
    let names: Vec<_> =
        merged.children(spfs_model::Position::ROOT).map(spfs_model::Position).collect();
    let names: Vec<_> = names.into_iter().map(|at| merged.name(at).to_string()).collect();
    assert_eq!(names, ["bin", "empty", "link"]);
}

#[test]
fn waiting_ends_with_the_condition_or_the_limit() {
    let mut left = 3;
    let counts_down = || {
        left -= 1;
        left == 0
    };
    assert!(wait_until(Duration::from_secs(10), counts_down));
    assert!(!wait_until(Duration::from_millis(1), || false));
}

#[test]
fn an_unprivileged_command_is_not_root() {
    let output = unprivileged(Command::new("id").arg("-u")).output().unwrap();
    let uid: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert_ne!(uid, 0);
    if is_root() {
        assert_eq!(uid, NOBODY);
        let groups = unprivileged(Command::new("id").arg("-G")).output().unwrap();
        assert_eq!(String::from_utf8(groups.stdout).unwrap().trim(), NOBODY.to_string());
    }
}

#[test]
fn a_mount_point_is_made_for_the_mount_and_removed_after_it() {
    let mounted = Mounted::new(|path| {
        assert_eq!(std::fs::metadata(path)?.mode() & 0o777, 0o777);
        Ok::<_, std::io::Error>(path.to_owned())
    });
    let mounted = mounted.unwrap();
    let path = mounted.guard().clone();
    assert!(!is_mount_point(&path));
    assert_eq!(mounted.path(), path);
    drop(mounted);
    assert!(!path.exists());
}

#[test]
fn mount_points_are_told_from_directories() {
    assert!(is_mount_point(std::path::Path::new("/proc")));
    assert!(!is_mount_point(std::path::Path::new("/proc/self")));
}
