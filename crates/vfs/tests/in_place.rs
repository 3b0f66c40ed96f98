//! Files that get their content back where they are, with the help of a kernel.

use std::collections::HashSet;

use spfs_testkit::layers::BaseStack;
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{Time, ViewSubject, give_back};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::api::{Access, Allocate, File, Ino, Replace, Vfs};
use spfs_vfs::{Invalidation, WHOLE_FILE};

const LARGE: usize = 300_000;

fn subject() -> ViewSubject {
    let layer = TreeBuilder::new()
        .file("file", 0o644, *b"of the layer")
        .file("large", 0o644, vec![b'L'; LARGE])
        .file("empty", 0o600, *b"")
        .file("dir/inner", 0o755, *b"inside")
        .build();
    ViewSubject::new(BaseStack::new(&[layer]), Time::Machine, Ticks::default())
}

fn everything() -> Vec<Vec<u8>> {
    vec![Vec::new()]
}

#[test]
fn only_files_that_need_help_are_offered() {
    let subject = subject();
    let view = subject.view();
    // Longer, shorter, of the same size, the same again, with two names, new, and elsewhere.
    view.write_file("file", b"much longer than that of the layer").unwrap();
    view.write_file("large", b"short").unwrap();
    view.write_file("dir/inner", b"INSIDE").unwrap();
    view.write_file("new", b"new").unwrap();
    let offered = |paths: &[&str]| -> Vec<String> {
        let paths: Vec<_> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let offers = view.offer_in_place(&paths, &subject.stack());
        let path = |offer: &spfs_vfs::Offer| String::from_utf8(offer.path.clone()).unwrap();
        let mut found: Vec<String> = offers.files().iter().map(path).collect();
        found.sort();
        found
    };
    assert_eq!(offered(&[""]), ["file", "large"]);
    assert_eq!(offered(&["large", "dir"]), ["large"]);
    // The kernel may hold pages of what is open for writing.
    let writer = view.open_path("dir/inner", Access::Write).unwrap();
    assert_eq!(offered(&["dir"]), ["dir/inner"]);
    drop(writer);
    view.hard_link("file", "other").unwrap();
    view.mv("large", "moved").unwrap();
    assert_eq!(offered(&[""]), [""; 0]);
}

#[test]
fn files_in_use_get_their_content_back_where_they_are() {
    let mut subject = subject();
    let view = subject.view();
    let files = ["file", "large", "empty"];
    let before = files.map(|path| view.find(path).unwrap());
    let open = files.map(|path| view.open_path(path, Access::Write).unwrap());
    open.iter().for_each(|file| file.write_at(3, &[b'u'; 200], false).unwrap());
    let report = subject.reset_in_place(&everything()).unwrap();
    assert_eq!(report.restored, 3);
    for ((path, open), before) in files.iter().zip(&open).zip(before) {
        let after = view.find(path).unwrap();
        assert_eq!((after.ino, after.size), (before.ino, before.size));
        assert!(report.invalidate.contains(&Invalidation::Inode(before.ino)), "{report:?}");
        let mut content = vec![0; LARGE];
        let read = open.read_at(0, &mut content).unwrap();
        assert!(content[..read] == view.read_file(path).unwrap(), "{path}");
    }
    assert_eq!(view.read_file("file").unwrap(), b"of the layer");
    assert_eq!(view.change_count(), 0);
    drop(open);
    subject.commit_all().unwrap();
    subject.restart().unwrap();
    assert!(subject.view().read_file("large").unwrap() == vec![b'L'; LARGE]);
}

#[test]
fn what_is_written_after_a_file_got_its_content_back_stays_and_is_committed() {
    for paths in [everything(), vec![b"file".to_vec()]] {
        let mut subject = subject();
        let view = subject.view();
        let file = view.open_path("file", Access::Write).unwrap();
        file.write_at(0, b"much longer than that of the layer", false).unwrap();
        let offers = view.offer_in_place(&paths, &subject.stack());
        give_back(view, &offers.files()[0]).unwrap();
        file.write_at(20, b"later", false).unwrap();
        let settled = HashSet::from([view.find("file").unwrap().ino]);
        let given_back = offers.end(&settled);
        view.reset_rest(&paths, &subject.stack(), &given_back).unwrap();
        let expected = b"of the layer\0\0\0\0\0\0\0\0later";
        assert_eq!(view.read_file("file").unwrap(), expected);
        assert_eq!(view.change_count(), 1, "a commit must know of it");
        drop(file);
        subject.restart().unwrap();
        assert_eq!(subject.view().read_file("file").unwrap(), expected);
        assert_eq!(subject.view().change_count(), 1);
        subject.commit_all().unwrap();
        assert_eq!(subject.view().read_file("file").unwrap(), expected);
    }
}

#[test]
fn a_file_whose_size_the_kernel_does_not_know_gets_a_new_inode() {
    let subject = subject();
    let view = subject.view();
    view.write_file("file", b"much longer than that of the layer").unwrap();
    let before = view.find("file").unwrap().ino;
    let open = view.open_path("file", Access::Read).unwrap();
    let offers = view.offer_in_place(&everything(), &subject.stack());
    give_back(view, &offers.files()[0]).unwrap();
    let given_back = offers.end(&HashSet::new());
    assert!(given_back.is_astray(before), "{given_back:?}");
    view.reset_rest(&everything(), &subject.stack(), &given_back).unwrap();
    assert_ne!(view.find("file").unwrap().ino, before);
    assert_eq!(view.read_file("file").unwrap(), b"of the layer");
    let mut content = [0; 100];
    assert_eq!(open.read_at(0, &mut content).unwrap(), 12);
}

#[test]
fn the_end_of_the_daemon_leaves_a_file_whole() {
    for given in [false, true] {
        let mut subject = subject();
        let view = subject.view();
        view.write_file("large", b"the user's").unwrap();
        {
            let offers = view.offer_in_place(&everything(), &subject.stack());
            if given {
                give_back(view, &offers.files()[0]).unwrap();
            }
        }
        subject.restart().unwrap();
        let content = subject.view().read_file("large").unwrap();
        assert_eq!(content.len(), if given { LARGE } else { 10 });
        assert!(content == if given { vec![b'L'; LARGE] } else { b"the user's".to_vec() });
        subject.reset_paths(&[""]).unwrap();
        assert!(subject.view().read_file("large").unwrap() == vec![b'L'; LARGE]);
    }
}

#[test]
fn without_an_offer_a_hole_is_a_hole() {
    let subject = subject();
    let view = subject.view();
    let file = view.open_path("file", Access::Write).unwrap();
    file.write_at(0, b"much longer than that of the layer", false).unwrap();
    let zeros = [0; 34];
    {
        let offers = view.offer_in_place(&everything(), &subject.stack());
        // A part of it is none of ours.
        file.allocate(0, 4, Allocate::PunchHole, false).unwrap();
        assert_eq!(view.read_file("file").unwrap()[..8], *b"\0\0\0\0 lon");
        assert!(!offers.end(&HashSet::new()).is_astray(view.find("file").unwrap().ino));
    }
    file.allocate(0, WHOLE_FILE, Allocate::PunchHole, false).unwrap();
    assert_eq!(view.read_file("file").unwrap(), zeros);
    view.reset(&everything(), &subject.stack()).unwrap();
    assert_eq!(view.read_file("file").unwrap(), b"of the layer");
}

#[test]
fn a_file_that_is_moved_meanwhile_is_reset_where_it_was() {
    let subject = subject();
    let view = subject.view();
    view.write_file("file", b"much longer than that of the layer").unwrap();
    let ino = view.find("file").unwrap().ino;
    let offers = view.offer_in_place(&everything(), &subject.stack());
    give_back(view, &offers.files()[0]).unwrap();
    view.rename(view.place("file").unwrap(), view.place("large").unwrap(), Replace::Exchange)
        .unwrap();
    let settled: HashSet<Ino> = [ino].into();
    let given_back = offers.end(&settled);
    view.reset_rest(&everything(), &subject.stack(), &given_back).unwrap();
    assert_eq!(view.read_file("file").unwrap(), b"of the layer");
    assert!(view.read_file("large").unwrap() == vec![b'L'; LARGE]);
    assert_eq!(view.change_count(), 0);
}
