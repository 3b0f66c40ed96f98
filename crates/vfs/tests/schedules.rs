//! A few threads on one view in thousands of orders, chosen by shuttle: none of them deadlocks, each
//! leaves a consistent tree with everything that was acknowledged, and the same tree after a restart.
//!
//! `SPFS_SCHEDULES` says in how many orders each scenario runs under each of the two schedulers. A
//! failure prints its schedule; `shuttle::replay` runs that one again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;
use spfs_model::{Digest, DigestStrategy, Live, Manifest, Stack, diff};
use spfs_testkit::environment::memory_directory;
use spfs_testkit::image::{Image, ImageNode};
use spfs_testkit::layers::{BaseStack, PayloadStore, tree_of_vfs};
use spfs_testkit::ops::Rng;
use spfs_testkit::pair::Ticks;
use spfs_testkit::power::{PowerDisk, from_earlier_boot};
use spfs_testkit::view::{Time, ViewSubject, give_back, open_view, options};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::api::{
    Access, Error, File, NameBuf, NewKind, Replace, SetAttr, SetTime, Timestamp, Vfs,
};
use spfs_vfs::{Offer, View};

/// Orders of each scenario under each scheduler where nobody says how many.
const FEW: usize = 10;

/// How many threads PCT lets one change priority: enough for bugs of this many ordered events.
const PCT_DEPTH: usize = 3;

/// Runs a scenario in many orders.
fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let asked = std::env::var("SPFS_SCHEDULES").ok().and_then(|text| text.parse().ok());
    let orders = asked.unwrap_or(FEW);
    let scenario = Arc::new(scenario);
    run(RandomScheduler::new(orders), &scenario);
    run(PctScheduler::new(PCT_DEPTH, orders), &scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    let scenario = Arc::clone(scenario);
    shuttle::Runner::new(scheduler, config).run(move || scenario());
}

/// Longer than what is copied whole.
const LARGE: usize = 150_000;

fn base() -> BaseStack {
    let layer = TreeBuilder::new()
        .file("file", 0o644, *b"of the layer")
        .file("large", 0o644, vec![b'l'; LARGE])
        .file("dir/inner", 0o644, *b"inside");
    BaseStack::new(&[layer.build()])
}

/// A view that several threads use, and the layers committed from it.
struct Scene {
    subject: ViewSubject,
    view: Arc<View>,
    base: Arc<BaseStack>,
    /// Nobody waits for another thread while holding it, so that shuttle need not know it.
    committed: Mutex<Vec<Manifest>>,
}

impl Scene {
    fn new() -> Self {
        Self::of(ViewSubject::new(base(), Time::Ticks, Ticks::default()))
    }

    fn of(subject: ViewSubject) -> Self {
        let (view, base) = (Arc::clone(subject.view()), Arc::clone(subject.base()));
        Self { subject, view, base, committed: Mutex::default() }
    }

    /// Runs all at the same time.
    fn together(&self, threads: &[&(dyn Fn() + Sync)]) {
        thread::scope(|scope| {
            for body in threads {
                scope.spawn(body);
            }
        });
    }

    /// Commits what has changed; returns what the layer stack shows then.
    fn commit(&self) -> Option<Manifest> {
        let payloads = &*self.base.payloads;
        let (changes, commit) = self.view.begin_commit(payloads).expect("a layer can hold it");
        let manifest = self.manifest(&changes.live)?;
        let layer = manifest.digest(DigestStrategy::WithKindAndSalt);
        self.committed.lock().unwrap().push(manifest.clone());
        commit.finish(layer).expect("the disk works");
        Some(manifest)
    }

    fn manifest(&self, live: &Live) -> Option<Manifest> {
        let committed = self.committed.lock().unwrap().clone();
        let stack = Stack::on(&self.base.merged, committed.iter().collect());
        diff(&stack, live).expect("the names are UTF-8")
    }

    /// Puts everything back to what the stack has now.
    fn reset(&self, path: &str) {
        let committed = self.committed.lock().unwrap().clone();
        let stack = Stack::on(&self.base.merged, committed.iter().collect());
        tolerate(self.view.reset(&[path.as_bytes().to_vec()], &stack));
    }

    /// The same as a kernel helps with.
    fn reset_in_place(&self, path: &str) {
        let committed = self.committed.lock().unwrap().clone();
        let stack = Stack::on(&self.base.merged, committed.iter().collect());
        let paths = [path.as_bytes().to_vec()];
        let offers = self.view.offer_in_place(&paths, &stack);
        let helped = |offer: &&Offer| tolerate(give_back(&self.view, offer)).is_some();
        let settled = offers.files().iter().filter(helped).map(|offer| offer.ino).collect();
        let given_back = offers.end(&settled);
        tolerate(self.view.reset_rest(&paths, &stack, &given_back));
    }

    /// Checks what must be so in the end whatever happened: the tree is consistent, a restart shows
    /// the same, nothing is left in scratch, and everything can be committed.
    fn settle(self) -> Image {
        let Self { mut subject, view, committed, .. } = self;
        let before = Image::read(&view).expect("the view is consistent");
        for layer in committed.into_inner().unwrap() {
            subject.note_committed(layer);
        }
        drop(view);
        subject.restart().expect("the scratch area opens again");
        let after = Image::read(subject.view()).expect("the view is consistent");
        let same_date = |one: &ImageNode, two: &ImageNode| one.times.mtime == two.times.mtime;
        assert_eq!(before.difference(&after, &same_date), None);
        let scratch = std::fs::read_dir(subject.dir().join("scratch")).unwrap().count();
        assert!(scratch <= after.nodes.len(), "{scratch} scratch files are left");
        subject.commit_all().expect("everything can be committed");
        let shown = subject.shown().expect("the stack can be read");
        assert_eq!(shown, tree_of_vfs(subject.view()).expect("a layer holds all of it"));
        after
    }
}

/// Errors that other threads may cause; all others are bugs.
fn tolerate<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::NotFound | Error::Exists | Error::Stale) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn content<'a>(image: &'a Image, path: &str) -> Option<&'a [u8]> {
    let found = image.nodes.iter().find(|(at, _)| at.0 == path.as_bytes());
    found.map(|(_, node)| node.content.as_slice())
}

/// Writes so that both layouts of a file, copied whole and in parts, take part.
fn write(view: &Arc<View>, path: &str, at: u64, data: &[u8]) {
    let file = view.open_path(path, Access::Write).expect("it is there");
    file.write_at(at, data, true).expect("the disk works");
}

/// What a committed layer holds under a name of its root.
fn committed(layer: Option<&Manifest>, name: &str, store: &PayloadStore) -> Option<Vec<u8>> {
    let merged = spfs_model::merge(&[layer?]);
    let name = NameBuf::new(name.as_bytes()).unwrap();
    let position = merged.child(spfs_model::Position::ROOT, name.as_name())?;
    let digest: Digest = merged.node(position).object;
    Some(store.get(&digest).expect("a layer's payload is there"))
}

#[test]
fn write_commit_and_rename_of_one_file() {
    for path in ["file", "large"] {
        explore(move || {
            let scene = Scene::new();
            let view = &scene.view;
            let file = view.open_path(path, Access::Write).unwrap();
            let written = AtomicBool::new(false);
            scene.together(&[
                &|| {
                    file.write_at(0, b"AAAA", true).unwrap();
                    written.store(true, Ordering::SeqCst);
                    file.write_at(4, b"BBBB", true).unwrap();
                },
                &|| {
                    let returned = written.load(Ordering::SeqCst);
                    let layer = scene.commit();
                    if returned {
                        let name = if layer.is_some() { path } else { "" };
                        let stored = committed(layer.as_ref(), name, &scene.base.payloads)
                            .or_else(|| committed(layer.as_ref(), "moved", &scene.base.payloads));
                        let stored = stored.expect("a write that returned is in the commit");
                        assert!(stored.starts_with(b"AAAA"), "{:?}", &stored[..8]);
                    }
                },
                &|| view.mv(path, "moved").unwrap(),
            ]);
            drop(file);
            let image = scene.settle();
            assert!(content(&image, "moved").unwrap().starts_with(b"AAAABBBB"));
        });
    }
}

#[test]
fn regression_a_write_to_a_file_that_another_is_copying_up_is_in_the_commit() {
    explore(|| {
        let scene = Scene::new();
        let second = AtomicBool::new(false);
        scene.together(&[
            &|| write(&scene.view, "file", 0, b"one"),
            &|| {
                write(&scene.view, "file", 3, b"two");
                second.store(true, Ordering::SeqCst);
            },
            &|| {
                let returned = second.load(Ordering::SeqCst);
                let layer = scene.commit();
                if returned {
                    let stored = committed(layer.as_ref(), "file", &scene.base.payloads)
                        .expect("a write that returned is in the commit");
                    assert_eq!(&stored[3..6], b"two");
                }
            },
        ]);
        let image = scene.settle();
        assert_eq!(content(&image, "file").unwrap(), b"onetwo layer".as_slice());
    });
}

#[test]
fn two_commits_and_a_writer() {
    for links in [false, true] {
        explore(move || {
            let scene = Scene::new();
            scene.base.payloads.set_links(links);
            write(&scene.view, "file", 0, b"0000");
            scene.together(&[&|| drop(scene.commit()), &|| drop(scene.commit()), &|| {
                write(&scene.view, "file", 0, b"1111");
                write(&scene.view, "large", 70_000, b"2222");
            }]);
            let payloads = Arc::clone(&scene.base.payloads);
            let image = scene.settle();
            payloads.verify().expect("no payload was written to");
            assert!(content(&image, "file").unwrap().starts_with(b"1111"));
            assert_eq!(content(&image, "large").unwrap()[70_000..70_004], *b"2222");
        });
    }
}

#[test]
fn unlink_write_and_reap() {
    for path in ["file", "large", "new"] {
        explore(move || {
            let scene = Scene::new();
            let view = &scene.view;
            if path == "new" {
                view.write_file("new", b"new").unwrap();
            }
            let expected = view.read_file(path).unwrap();
            scene.together(&[
                &|| {
                    let Some(file) = tolerate(view.open_path(path, Access::Write)) else { return };
                    file.write_at(1, b"written", true).unwrap();
                    let mut read = [0; 8];
                    assert_eq!(file.read_at(0, &mut read).unwrap(), 8, "it is all there");
                    assert_eq!(read[0], expected[0]);
                    assert_eq!(read[1..], *b"written");
                },
                &|| view.unlink(path).unwrap(),
                &|| {
                    let Some(attr) = tolerate(view.find(path)) else { return };
                    let size = Some(expected.len() as u64 + 9000);
                    let grow = SetAttr { size, perm: Some(0o600), ..SetAttr::default() };
                    tolerate(view.setattr(attr.ino, &grow));
                },
            ]);
            assert!(matches!(view.find(path).unwrap_err(), Error::NotFound));
            view.sync().unwrap();
            view.remove_leftovers();
            assert_eq!(std::fs::read_dir(scene.subject.dir().join("scratch")).unwrap().count(), 0);
            scene.settle();
        });
    }
}

#[test]
fn setattr_write_back_and_fsync() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        let file = view.open_path("file", Access::Write).unwrap();
        let ino = view.find("file").unwrap().ino;
        let dated = Timestamp { secs: 5, nanos: 7 };
        scene.together(&[
            &|| {
                let mtime = Some(SetTime::At(dated));
                view.setattr(ino, &SetAttr { mtime, ..SetAttr::default() }).unwrap();
                view.setattr(ino, &SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
            },
            &|| file.write_back(0, b"written back").unwrap(),
            &|| file.sync().unwrap(),
        ]);
        assert_eq!(view.find("file").unwrap().mtime, dated, "a page written back has no date");
        drop(file);
        let image = scene.settle();
        assert_eq!(content(&image, "file").unwrap(), b"written back");
    });
}

/// Resets a changed file of a layer while somebody who has it open writes to it, and others are at
/// work. What it was before the change, and what is written, are all it may hold then.
fn reset_beside_a_writer(
    scene: Scene,
    path: &str,
    before: &[u8],
    file: impl File,
    reset: impl Fn(&Scene) + Sync,
) {
    scene.together(&[&|| file.write_at(0, b"later", true).unwrap(), &|| reset(&scene), &|| {
        tolerate(scene.view.make("dir/other", NewKind::Regular, 0o644));
    }]);
    drop(file);
    let image = scene.settle();
    let found = content(&image, path).unwrap();
    let written: Vec<u8> = [b"later", &before[5..]].concat();
    assert!(found == before || found == written, "{:?}", &found[..5]);
}

#[test]
fn reset_and_a_writer() {
    for (path, reset) in [("file", "file"), ("file", ""), ("large", "large"), ("dir/inner", "dir")]
    {
        explore(move || {
            let scene = Scene::new();
            let before = scene.view.read_file(path).unwrap();
            write(&scene.view, path, 0, b"first");
            let file = scene.view.open_path(path, Access::Write).unwrap();
            reset_beside_a_writer(scene, path, &before, file, |scene| scene.reset(reset));
        });
    }
}

#[test]
fn reset_in_place_and_a_writer() {
    for (path, reset) in [("file", ""), ("large", ""), ("large", "large"), ("dir/inner", "dir")] {
        explore(move || {
            let scene = Scene::new();
            let before = scene.view.read_file(path).unwrap();
            let file = scene.view.open_path(path, Access::Write).unwrap();
            file.write_at(before.len() as u64, b"longer", false).unwrap();
            reset_beside_a_writer(scene, path, &before, file, |scene| scene.reset_in_place(reset));
        });
    }
}

#[test]
fn compaction_and_changes() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        view.write_file("new", b"new").unwrap();
        let unlinked: Vec<_> = ["new", "large"]
            .into_iter()
            .map(|path| {
                let file = view.open_path(path, Access::Write).unwrap();
                file.write_at(0, b"x", true).unwrap();
                view.unlink(path).unwrap();
                file
            })
            .collect();
        scene.together(&[
            &|| view.compact().unwrap(),
            &|| {
                for file in &unlinked {
                    file.write_at(1, b"without a name", true).unwrap();
                }
                unlinked[1].write_at(100_000, b"y", true).unwrap();
                write(view, "file", 0, b"AAAA");
            },
            &|| {
                view.mv("dir/inner", "moved").unwrap();
                view.open_path("moved", Access::Read).unwrap().sync().unwrap();
                view.make("created", NewKind::Regular, 0o644).unwrap();
            },
        ]);
        let mut read = [0; 4];
        unlinked[1].read_at(100_000, &mut read).unwrap();
        assert_eq!(read, *b"ylll");
        let files: Vec<_> = unlinked;
        // A crash: the handles are still open when the journal is read.
        let crashed = memory_directory().unwrap();
        copy_runtime(scene.subject.dir(), crashed.path());
        let found = Image::read(&reopen(&scene.base, crashed.path())).unwrap();
        assert!(content(&found, "new").is_none() && content(&found, "large").is_none());
        drop(files);
        let image = scene.settle();
        assert_eq!(image.difference(&found, &|_, _| true), None);
        assert_eq!(content(&image, "file").unwrap(), b"AAAAhe layer");
    });
}

#[test]
fn edit_mode_ends_beside_a_writer() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        let file = view.open_path("file", Access::Write).unwrap();
        let refused = |result: Result<(), Error>| match result {
            Ok(()) => false,
            Err(Error::ReadOnly) => true,
            Err(error) => panic!("{error:?}"),
        };
        let (made, moved) = (AtomicBool::new(false), AtomicBool::new(false));
        scene.together(&[
            &|| view.set_editable(false).unwrap(),
            // Pages that were dirty before are accepted all the same.
            &|| file.write_at(0, b"AAAA", false).unwrap(),
            &|| {
                let result = view.make("new", NewKind::Regular, 0o644).map(drop);
                made.store(!refused(result), Ordering::SeqCst);
                let places = || Ok((view.place("dir/inner")?, view.place("moved")?));
                let (from, to) = places().unwrap_or_else(|error: Error| panic!("{error:?}"));
                moved.store(!refused(view.rename(from, to, Replace::Refuse)), Ordering::SeqCst);
            },
        ]);
        assert!(refused(view.unlink("file")));
        drop(file);
        view.set_editable(true).unwrap();
        let image = scene.settle();
        assert_eq!(content(&image, "file").unwrap(), b"AAAAhe layer");
        assert_eq!(content(&image, "new").is_some(), made.into_inner());
        assert_eq!(content(&image, "moved").is_some(), moved.into_inner());
    });
}

#[test]
fn regression_fsync_and_compaction_do_not_wait_for_each_other() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        view.write_file("new", b"new").unwrap();
        scene.together(&[&|| view.compact().unwrap(), &|| {
            view.open_path("new", Access::Read).unwrap().sync().unwrap();
        }]);
        scene.settle();
    });
}

#[test]
fn regression_a_write_just_after_its_file_was_committed_survives_a_restart() {
    explore(|| {
        let scene = Scene::new();
        write(&scene.view, "file", 0, b"1111");
        scene.together(&[&|| drop(scene.commit()), &|| write(&scene.view, "file", 0, b"2222")]);
        assert!(content(&scene.settle(), "file").unwrap().starts_with(b"2222"));
    });
}

#[test]
fn regression_a_write_just_after_its_file_was_reset_survives_a_restart() {
    explore(|| {
        let scene = Scene::new();
        write(&scene.view, "file", 0, b"1111");
        scene.together(&[&|| scene.reset("file"), &|| write(&scene.view, "file", 4, b"2222")]);
        scene.settle();
    });
}

#[test]
fn regression_a_file_that_is_unlinked_while_it_is_opened_is_stale_or_whole() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        let ino = view.write_file("new", b"new").unwrap().ino;
        scene.together(&[&|| view.unlink("new").unwrap(), &|| {
            let Some(file) = tolerate(view.open(ino, Access::Read)) else { return };
            let mut read = [0; 3];
            assert_eq!((file.read_at(0, &mut read).unwrap(), &read), (3, b"new"));
        }]);
        scene.settle();
    });
}

#[test]
fn regression_a_date_set_beside_the_first_page_written_back_survives_a_restart() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        let file = view.open_path("file", Access::Write).unwrap();
        let ino = view.find("file").unwrap().ino;
        let mtime = Some(SetTime::At(Timestamp { secs: 5, nanos: 7 }));
        scene.together(&[&|| file.write_back(0, b"1111").unwrap(), &|| {
            view.setattr(ino, &SetAttr { mtime, ..SetAttr::default() }).unwrap();
        }]);
        drop(file);
        scene.settle();
    });
}

#[test]
fn regression_chmod_beside_a_write_leaves_the_time_of_the_write() {
    explore(|| {
        let ticks = Ticks::default();
        let scene = Scene::of(ViewSubject::new(base(), Time::Ticks, ticks.clone()));
        let view = &scene.view;
        write(view, "file", 0, b"early");
        ticks.advance();
        let ino = view.find("file").unwrap().ino;
        scene.together(&[&|| write(view, "file", 0, b"later"), &|| {
            view.setattr(ino, &SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
        }]);
        assert_eq!(view.find("file").unwrap().mtime, ticks.now());
        scene.settle();
    });
}

/// How many files are written, so that a sync of everything goes one way or the other.
const ONE_BY_ONE: usize = 2;
const ALL_AT_ONCE: usize = 17;

#[test]
fn regression_fsync_beside_another_sync_returns_no_earlier_than_its_bytes_are_safe() {
    for files in [ONE_BY_ONE, ALL_AT_ONCE] {
        for whole in [false, true] {
            explore(move || {
                let disk = Arc::new(PowerDisk::default());
                let subject = ViewSubject::with_power(base(), Ticks::default(), &disk);
                let scene = Scene::of(subject);
                let view = &scene.view;
                for number in 1..files {
                    view.write_file(&format!("other{number}"), b"x").unwrap();
                }
                write(view, "file", 0, b"AAAA");
                scene.together(&[&|| assert!(view.sync_if_changed().is_ok()), &|| {
                    if whole {
                        view.sync().unwrap();
                    } else {
                        view.open_path("file", Access::Read).unwrap().sync().unwrap();
                    }
                    let found = after_power_loss(&scene, &disk, 1);
                    assert_eq!(content(&found, "file").unwrap(), b"AAAAhe layer");
                }]);
                scene.settle();
            });
        }
    }
}

#[test]
fn regression_a_file_that_takes_the_place_of_another_beside_a_sync_is_one_of_them() {
    for all in [false, true] {
        explore(move || {
            let disk = Arc::new(PowerDisk::default());
            let scene = Scene::of(ViewSubject::with_power(base(), Ticks::default(), &disk));
            let view = &scene.view;
            write(view, "file", 0, b"AAAA");
            view.sync().unwrap();
            view.write_file("new", b"new").unwrap();
            let take_the_place = || view.mv("new", "file").unwrap();
            scene.together(&[&take_the_place, &|| {
                if all {
                    view.sync().unwrap();
                } else {
                    view.write_file("other", b"other").unwrap();
                    view.open_path("other", Access::Read).unwrap().sync().unwrap();
                }
                let found =
                    after_a_loss(&scene, |to| disk.fail_with_the_least(scene.subject.dir(), to));
                let text = String::from_utf8_lossy(content(&found, "file").unwrap());
                assert!(["AAAAhe layer", "new"].contains(&&*text), "{text:?}");
            }]);
            scene.settle();
        });
    }
}

#[test]
fn regression_a_file_that_is_written_all_the_time_is_synced_with_the_others() {
    explore(|| {
        let disk = Arc::new(PowerDisk::default());
        let scene = Scene::of(ViewSubject::with_power(base(), Ticks::default(), &disk));
        let view = &scene.view;
        for number in 1..ALL_AT_ONCE {
            view.write_file(&format!("other{number}"), b"x").unwrap();
        }
        write(view, "large", 0, b"AAAA");
        let sync = || {
            view.sync().unwrap();
            let found =
                after_a_loss(&scene, |to| disk.fail_with_the_least(scene.subject.dir(), to));
            assert!(content(&found, "large").unwrap().starts_with(b"AAAAl"));
        };
        scene.together(&[&sync, &|| write(view, "large", 40_000, b"BBBB")]);
        scene.settle();
    });
}

#[test]
fn regression_compaction_beside_fsync_trusts_nothing_that_is_not_safe() {
    explore(|| {
        let disk = Arc::new(PowerDisk::default());
        let scene = Scene::of(ViewSubject::with_power(base(), Ticks::default(), &disk));
        let view = &scene.view;
        write(view, "file", 0, b"AAAA");
        scene.together(&[
            &|| {
                view.compact().unwrap();
                // The disk of this test knows only what goes through the journal's file.
                view.make("new", NewKind::Regular, 0o644).unwrap();
                view.sync().unwrap();
                for seed in 0..8 {
                    let found = after_power_loss(&scene, &disk, seed);
                    let text = String::from_utf8_lossy(content(&found, "file").unwrap());
                    assert!(["AAAAhe layer", "of the layer"].contains(&&*text), "{text:?}");
                }
            },
            &|| view.open_path("file", Access::Read).unwrap().sync().unwrap(),
        ]);
        scene.settle();
    });
}

#[test]
fn regression_the_last_close_of_a_removed_file_beside_its_reset_leaves_it_as_the_layers_have_it() {
    explore(|| {
        let scene = Scene::new();
        let view = &scene.view;
        let file = view.open_path("file", Access::Write).unwrap();
        file.write_at(0, b"AAAA", true).unwrap();
        view.unlink("file").unwrap();
        let file = Mutex::new(Some(file));
        scene.together(&[
            &|| {
                let file = file.lock().unwrap().take();
                drop(file);
            },
            &|| scene.reset("file"),
        ]);
        let found = Image::read(view).unwrap();
        assert_eq!(
            content(&found, "file").map(String::from_utf8_lossy),
            Some("of the layer".into())
        );
        drop(file);
        scene.settle();
    });
}

#[test]
fn regression_a_file_written_anew_beside_a_sync_is_the_old_or_the_new_one() {
    explore(|| {
        let disk = Arc::new(PowerDisk::default());
        let scene = Scene::of(ViewSubject::with_power(base(), Ticks::default(), &disk));
        let view = &scene.view;
        view.write_file("file", b"AAAA").unwrap();
        view.sync().unwrap();
        view.make("name", NewKind::Regular, 0o644).unwrap();
        scene.together(&[
            &|| {
                view.write_file("file", b"BBBB").unwrap();
            },
            &|| view.sync_names().unwrap(),
        ]);
        view.write_file("fourth", b"y").unwrap();
        view.open_path("fourth", Access::Read).unwrap().sync().unwrap();
        view.remove_leftovers();
        for seed in 0..8 {
            let found = after_power_loss(&scene, &disk, seed);
            let text = String::from_utf8_lossy(content(&found, "file").unwrap());
            assert!(["AAAA", "BBBB"].contains(&&*text), "{text:?}");
        }
        scene.settle();
    });
}

/// What a new start finds when the power goes now. Nothing here lets another thread go on before
/// the disk is copied.
fn after_power_loss(scene: &Scene, disk: &PowerDisk, seed: u64) -> Image {
    after_a_loss(scene, |to| disk.fail(&mut Rng::new(seed), scene.subject.dir(), to))
}

fn after_a_loss(
    scene: &Scene,
    fail: impl FnOnce(&std::path::Path) -> std::io::Result<()>,
) -> Image {
    let dir = memory_directory().unwrap();
    fail(dir.path()).unwrap();
    let journal = dir.path().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    from_earlier_boot(&mut bytes, crc32c::crc32c).unwrap();
    std::fs::write(&journal, bytes).unwrap();
    Image::read(&reopen(&scene.base, dir.path())).expect("the view is consistent")
}

fn reopen(base: &BaseStack, dir: &std::path::Path) -> Arc<View> {
    open_view(base, dir, options(Time::Ticks, &Ticks::default())).expect("it opens")
}

fn copy_runtime(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to.join("scratch")).unwrap();
    std::fs::copy(from.join("journal"), to.join("journal")).unwrap();
    for entry in std::fs::read_dir(from.join("scratch")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join("scratch").join(entry.file_name())).unwrap();
    }
}
