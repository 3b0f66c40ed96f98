//! Stories of what went wrong once, each found by the random tests beside this file.

use spfs_testkit::layers::{BaseStack, Tree};
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{LAYER_OWNER, Time, ViewSubject};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::api::{Access, Error, File, NewKind, Pin, Replace, SetAttr, Vfs, XattrMode};

fn on(layers: &[Tree]) -> ViewSubject {
    ViewSubject::new(BaseStack::new(layers), Time::Machine, Ticks::default())
}

fn base() -> ViewSubject {
    let layer = TreeBuilder::new()
        .file("file", 0o644, *b"of the layer")
        .file("dir/inner", 0o755, *b"inside")
        .symlink("link", "target of the layer")
        .build();
    on(&[layer])
}

#[test]
fn regression_an_empty_write_leaves_no_trace() {
    let subject = base();
    let view = subject.view();
    let before = view.find("file").unwrap();
    let file = view.open_path("file", Access::Write).unwrap();
    file.write_at(5, b"", true).unwrap();
    assert_eq!(view.find("file").unwrap(), before);
    assert_eq!(view.change_count(), 0);
}

#[test]
fn regression_a_name_that_exists_is_told_before_a_directory_that_cannot_be_linked() {
    let subject = base();
    let error = subject.view().hard_link("dir", "file").unwrap_err();
    assert!(matches!(error, Error::Exists), "{error}");
    let error = subject.view().hard_link("dir", "new").unwrap_err();
    assert!(matches!(error, Error::NotPermitted), "{error}");
}

#[test]
fn regression_an_unlinked_file_cannot_be_linked_again() {
    for path in ["file", "new"] {
        let subject = base();
        let view = subject.view();
        view.write_file("new", b"x").unwrap();
        let (dir, name) = view.place("again").unwrap();
        let ino = view.find(path).unwrap().ino;
        let _open = view.open(ino, Access::Read).unwrap();
        view.unlink(path).unwrap();
        let error = view.link(ino, dir, name).unwrap_err();
        assert!(matches!(error, Error::NotFound), "{path}: {error}");
    }
}

#[test]
fn regression_a_removed_directory_is_told_before_a_cycle() {
    let subject = base();
    let view = subject.view();
    let removed = view.mkdir("dir/removed").unwrap().ino;
    let _held = Pin::new(view, removed);
    view.rmdir("dir/removed").unwrap();
    let (_, name) = view.place("dir").unwrap();
    let error = view.rename(view.place("dir").unwrap(), (removed, name), Replace::Allow);
    let error = error.unwrap_err();
    assert!(matches!(error, Error::NotFound), "{error}");
}

#[test]
fn regression_an_inode_of_the_layers_that_is_gone_is_stale() {
    let subject = base();
    let view = subject.view();
    let ino = view.find("file").unwrap().ino;
    view.unlink("file").unwrap();
    for error in [view.getattr(ino).err(), view.open(ino, Access::Read).err()] {
        assert!(matches!(error, Some(Error::Stale)), "{error:?}");
    }
}

#[test]
fn regression_what_was_written_before_edit_mode_went_off_is_accepted_from_anybody() {
    let subject = base();
    let view = subject.view();
    let ino = view.make("setuid", NewKind::Regular, 0o4755).unwrap().ino;
    let file = view.open(ino, Access::Write).unwrap();
    view.set_editable(false).unwrap();
    file.write_at(0, b"dirty page", true).unwrap();
    assert_eq!(view.read_file("setuid").unwrap(), b"dirty page");
    assert_eq!(view.getattr(ino).unwrap().perm, 0o755);
}

#[test]
fn regression_reset_of_a_file_in_a_new_directory_leaves_its_neighbours() {
    let subject = base();
    let view = subject.view();
    view.mkdir("new").unwrap();
    view.write_file("new/one", b"1").unwrap();
    view.write_file("new/two", b"2").unwrap();
    subject.reset_paths(&["new/one"]).unwrap();
    assert_eq!(view.names("new").unwrap(), ["two"]);
    assert_eq!(view.read_file("new/two").unwrap(), b"2");
}

#[test]
fn regression_reset_in_a_directory_that_replaced_a_file_leaves_the_directory() {
    let subject = base();
    let view = subject.view();
    view.unlink("file").unwrap();
    view.mkdir("file").unwrap();
    view.write_file("file/one", b"1").unwrap();
    view.write_file("file/two", b"2").unwrap();
    subject.reset_paths(&["file/one"]).unwrap();
    assert_eq!(view.names("file").unwrap(), ["two"]);
}

#[test]
fn regression_reset_gives_back_owners_and_extended_attributes() {
    let subject = base();
    let view = subject.view();
    for path in ["file", "dir", "dir/inner"] {
        let ino = view.find(path).unwrap().ino;
        let owner = SetAttr { uid: Some(1), gid: Some(2), ..SetAttr::default() };
        view.setattr(ino, &owner).unwrap();
        view.setxattr(ino, b"user.a", b"value", XattrMode::Set).unwrap();
    }
    subject.reset_paths(&[""]).unwrap();
    for path in ["file", "dir", "dir/inner"] {
        let attr = view.find(path).unwrap();
        assert_eq!(attr.owner, LAYER_OWNER, "{path}");
        assert!(view.listxattr(attr.ino).unwrap().is_empty(), "{path}");
    }
}

#[test]
fn regression_reset_of_one_name_leaves_the_others_of_a_file() {
    let mut subject = base();
    let view = subject.view();
    view.hard_link("file", "other").unwrap();
    view.write_file("other", b"written through both names").unwrap();
    subject.reset_paths(&["file"]).unwrap();
    let check = |subject: &ViewSubject| {
        let view = subject.view();
        assert_eq!(view.read_file("file").unwrap(), b"of the layer");
        assert_eq!(view.read_file("other").unwrap(), b"written through both names");
        assert_eq!(view.find("file").unwrap().nlink, 1);
    };
    check(&subject);
    subject.restart().unwrap();
    check(&subject);
}

#[test]
fn regression_a_reset_link_leads_where_the_last_commit_says() {
    let mut subject = base();
    subject.view().make("new", NewKind::Symlink(b"committed target"), 0o777).unwrap();
    subject.view().mv("new", "link").unwrap();
    subject.commit_all().unwrap();
    subject.reset_paths(&["link"]).unwrap();
    assert_eq!(subject.view().target("link").unwrap(), "committed target");
}

#[test]
fn regression_a_scratch_area_opens_after_a_reset_that_brought_a_directory_back() {
    let mut subject = base();
    let view = subject.view();
    view.unlink("dir/inner").unwrap();
    view.rmdir("dir").unwrap();
    subject.reset_paths(&["dir"]).unwrap();
    view.mv("dir/inner", "dir/moved").unwrap();
    subject.restart().unwrap();
    assert_eq!(subject.view().read_file("dir/moved").unwrap(), b"inside");
}

#[test]
fn regression_a_restart_keeps_the_time_of_a_write_before_another_change() {
    let mut subject = base();
    let view = subject.view();
    view.write_file("file", b"written").unwrap();
    let ino = view.find("file").unwrap().ino;
    view.setattr(ino, &SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
    let before = view.find("file").unwrap();
    subject.restart().unwrap();
    let after = subject.view().find("file").unwrap();
    assert_eq!((after.mtime, after.ctime), (before.mtime, before.ctime));
}

#[test]
fn regression_a_restart_after_a_commit_keeps_the_time_of_the_last_write() {
    let mut subject = base();
    subject.view().write_file("file", b"written").unwrap();
    let before = subject.view().find("file").unwrap();
    subject.commit_all().unwrap();
    assert_eq!(subject.view().find("file").unwrap().mtime, before.mtime);
    subject.restart().unwrap();
    assert_eq!(subject.view().find("file").unwrap().mtime, before.mtime);
}
