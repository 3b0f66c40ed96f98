//! Views that stand on another stack from now on, or that have ended, while something of them is open.

use std::sync::Arc;

use spfs_testkit::layers::BaseStack;
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{LAYER_OWNER, Time, ViewSubject, open_view};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::api::{Access, Error, File, New, NewKind, SetAttr, Vfs};

#[test]
fn regression_what_is_open_on_a_former_stack_changes_nothing_and_the_view_opens_again() {
    let base = |name: &str| {
        let layer = TreeBuilder::new()
            .file("file", 0o644, *b"of the layer")
            .file(&format!("{name}/inner"), 0o644, *b"inside")
            .build();
        BaseStack::new(&[layer])
    };
    let (before, after) = (base("before"), base("after"));
    let subject = ViewSubject::new(before, Time::Machine, Ticks::default());
    let view = subject.view();
    let file = view.open_path("file", Access::Write).unwrap();
    file.write_at(0, b"changed", false).unwrap();
    let dir = view.find("before").unwrap().ino;
    view.pin(dir);
    view.restack(&after.layers, Arc::clone(&after.merged)).unwrap();
    // The old ones are read as they were, and not changed any more.
    assert!(matches!(file.write_at(0, b"again", false), Err(Error::Stale)));
    assert!(matches!(file.write_back(0, b"again"), Err(Error::Stale)));
    drop(file.sync());
    let name = spfs_model::Name::new(b"new").unwrap();
    let new = New { kind: NewKind::Regular, perm: 0o644, owner: LAYER_OWNER };
    assert!(matches!(view.create(dir, name, new), Err(Error::Stale)));
    let grown = SetAttr { perm: Some(0o600), ..SetAttr::default() };
    assert!(matches!(view.setattr(dir, &grown), Err(Error::Stale)));
    view.unpin(dir);
    // As long as somebody holds them, and no longer.
    let scratch_files = || std::fs::read_dir(subject.dir().join("scratch")).unwrap().count();
    let settle = || {
        view.sync().unwrap();
        view.remove_leftovers();
    };
    settle();
    let mut content = [0; 7];
    assert_eq!(file.read_at(0, &mut content).unwrap(), 7);
    assert_eq!(&content, b"changed");
    assert_eq!(scratch_files(), 1);
    drop(file);
    view.mkdir("after/dir").unwrap();
    settle();
    assert_eq!(scratch_files(), 0);
    view.write_file("after/new", b"new").unwrap();
    view.sync().unwrap();
    let options = spfs_testkit::view::options(Time::Machine, &Ticks::default());
    let again = open_view(&after, subject.dir(), options).unwrap();
    assert_eq!(again.read_file("after/new").unwrap(), b"new");
    assert!(matches!(again.find("before"), Err(Error::NotFound)));
    assert_eq!(again.read_file("file").unwrap(), b"of the layer");
}

#[test]
fn a_closed_view_changes_nothing_of_what_may_belong_to_another() {
    let layer = TreeBuilder::new().file("file", 0o644, *b"of the layer").build();
    let base = BaseStack::new(&[layer]);
    let subject = ViewSubject::new(base, Time::Machine, Ticks::default());
    let view = subject.view();
    let file = view.open_path("file", Access::Write).unwrap();
    file.write_at(0, b"changed", false).unwrap();
    view.close();
    let journal = std::fs::read(subject.dir().join("journal")).unwrap();
    assert!(matches!(file.write_at(0, b"again", false), Err(Error::Stale)));
    assert!(matches!(view.write_file("new", b"new"), Err(Error::Stale)));
    assert!(!view.sync_if_changed().unwrap());
    view.compact().unwrap_err();
    assert!(std::fs::read(subject.dir().join("journal")).unwrap() == journal);
    assert_eq!(view.read_file("file").unwrap(), b"changedlayer");
}
