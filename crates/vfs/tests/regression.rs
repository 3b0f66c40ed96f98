//! Stories of what went wrong once, each found by the random tests beside this file.

use std::io::ErrorKind;
use std::sync::Arc;

use spfs_testkit::faults::{Faults, Plan};
use spfs_testkit::layers::{BaseStack, Tree};
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{LAYER_OWNER, Time, ViewSubject, open_view, options};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::api::{
    Access, Error, File, NewKind, Pin, Replace, SetAttr, SetTime, Timestamp, Vfs, XattrMode,
};

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

/// A view of one file whose calls may fail.
fn failing(content: &[u8]) -> (ViewSubject, Arc<Faults>) {
    let layer = TreeBuilder::new().file("file", 0o644, content.to_vec()).build();
    let faults = Arc::new(Faults::default());
    let base = BaseStack::new(&[layer]);
    (ViewSubject::with_faults(base, Ticks::default(), &faults), faults)
}

fn content(subject: &ViewSubject, path: &str) -> Vec<u8> {
    let read = || {
        let attr = subject.view().find(path)?;
        let mut content = vec![0; attr.size as usize];
        let read = subject.view().open(attr.ino, Access::Read)?.read_at(0, &mut content)?;
        assert_eq!(read, content.len());
        Ok::<_, Error>(content)
    };
    read().expect("what is there can be read")
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
fn regression_a_restart_keeps_the_time_of_a_write_in_the_same_tick_as_another_change() {
    let mut subject = base();
    let view = subject.view();
    let ino = view.find("file").unwrap().ino;
    let file = view.open(ino, Access::Write).unwrap();
    // The coarse clock gives all of these the same time, most of the times.
    for _ in 0..20 {
        view.setattr(ino, &SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
        let early = Timestamp { secs: 5, nanos: 0 };
        let early = SetAttr { mtime: Some(SetTime::At(early)), ..SetAttr::default() };
        view.setattr(ino, &early).unwrap();
        file.write_at(0, b"written", false).unwrap();
    }
    drop(file);
    let before = subject.view().find("file").unwrap();
    subject.restart().unwrap();
    let after = subject.view().find("file").unwrap();
    assert_eq!(after.mtime, before.mtime);
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

#[test]
fn what_a_caching_kernel_dates_needs_no_record_and_survives_a_restart() {
    let mut subject = base();
    subject.view().write_file("file", b"written").unwrap();
    let journal = |subject: &ViewSubject| std::fs::read(subject.dir().join("journal")).unwrap();
    let recorded = journal(&subject);
    let ino = subject.view().find("file").unwrap().ino;
    let later = subject.view().find("file").unwrap().ctime.secs + 100;
    let date = |subject: &ViewSubject, mtime: Timestamp, ctime: Timestamp| {
        let (mtime, ctime) = (Some(SetTime::At(mtime)), Some(ctime));
        subject.view().setattr(ino, &SetAttr { mtime, ctime, ..SetAttr::default() }).unwrap();
    };
    let time = Timestamp { secs: later, nanos: 7 };
    date(&subject, time, time);
    assert!(journal(&subject) == recorded);
    for _ in 0..2 {
        let attr = subject.view().find("file").unwrap();
        assert_eq!((attr.mtime, attr.ctime), (time, time));
        subject.restart().unwrap();
    }
    // Two times that differ are more than a scratch file can say, and no time goes back.
    for (mtime, ctime) in [(later + 1, later + 2), (later - 50, later - 50)] {
        let (mtime, ctime) =
            (Timestamp { secs: mtime, nanos: 0 }, Timestamp { secs: ctime, nanos: 0 });
        date(&subject, mtime, ctime);
        for _ in 0..2 {
            let attr = subject.view().find("file").unwrap();
            assert_eq!((attr.mtime, attr.ctime), (mtime, ctime));
            subject.restart().unwrap();
        }
    }
}

#[test]
fn a_new_file_that_is_synced_syncs_the_journal_once_and_not_for_later_bytes() {
    let (subject, faults) = failing(b"of the layer");
    let view = subject.view();
    let synced = |path: &str, bytes: &[u8]| {
        faults.fail_next("sync the journal", ErrorKind::Other);
        let file = view.open_path(path, Access::Write).unwrap();
        file.write_at(0, bytes, false).unwrap();
        file.sync()
    };
    view.write_file("new", b"").unwrap();
    assert!(synced("new", b"first").is_err());
    // That it failed is not forgotten.
    assert!(synced("new", b"again").is_err());
    view.sync().unwrap();
    synced("new", b"third").unwrap();
    assert_eq!(view.read_file("new").unwrap(), b"third");
    // A file of a layer falls back to that unless the journal says that the bytes are there.
    assert!(synced("file", b"changed").is_err());
}

#[test]
fn regression_a_write_that_failed_beyond_the_end_leaves_no_bytes_there() {
    // Copied whole, and kept beside the payload.
    for size in [10, 200_000] {
        let (mut subject, faults) = failing(&vec![1; size]);
        let file = subject.view().open_path("file", Access::Write).unwrap();
        faults.fail_next("write a scratch file", ErrorKind::StorageFull);
        file.write_at(size as u64 - 1, &[2; 3_000], false).unwrap_err();
        let grown = SetAttr { size: Some(size as u64 + 9_000), ..SetAttr::default() };
        let ino = subject.view().find("file").unwrap().ino;
        subject.view().setattr(ino, &grown).unwrap();
        file.write_at(size as u64 + 8_000, &[3; 10], false).unwrap();
        drop(file);
        for _ in 0..2 {
            let content = content(&subject, "file");
            assert!(content[..size - 1].iter().all(|byte| *byte == 1), "{size}");
            assert!(content[size..size + 8_000].iter().all(|byte| *byte == 0), "{size}");
            subject.restart().unwrap();
        }
    }
}

#[test]
fn regression_a_truncation_that_failed_turns_no_byte_into_zero() {
    let (mut subject, faults) = failing(&[7; 20_000]);
    let ino = subject.view().find("file").unwrap().ino;
    faults.fail_next("truncate a scratch file", ErrorKind::Other);
    let shrunk = SetAttr { size: Some(11_887), ..SetAttr::default() };
    subject.view().setattr(ino, &shrunk).unwrap_err();
    for _ in 0..2 {
        let content = content(&subject, "file");
        assert!([11_887, 20_000].contains(&content.len()), "{} bytes", content.len());
        assert!(content.iter().all(|byte| *byte == 7));
        subject.commit_all().unwrap();
        subject.restart().unwrap();
    }
}

#[test]
fn regression_what_is_written_after_a_write_that_failed_is_committed() {
    let (mut subject, faults) = failing(&[7; 200_000]);
    let file = subject.view().open_path("file", Access::Write).unwrap();
    faults.fail_next("write a scratch file", ErrorKind::Other);
    file.write_at(0, &[8; 4096], false).unwrap_err();
    file.write_at(4096, &[9; 4096], false).unwrap();
    drop(file);
    assert_eq!(subject.view().change_count(), 1);
    let before = content(&subject, "file");
    subject.commit_all().unwrap();
    assert_eq!(subject.view().change_count(), 0);
    assert_eq!(content(&subject, "file"), before);
    assert_eq!(before[4096..8192], [9; 4096]);
}

#[test]
fn regression_an_unlink_that_was_not_recorded_frees_the_inode() {
    let (subject, faults) = failing(b"");
    let view = subject.view();
    view.write_file("new", b"x").unwrap();
    let ino = view.find("new").unwrap().ino;
    faults.fail_next("write the journal", ErrorKind::Other);
    view.unlink("new").unwrap_err();
    assert!(matches!(view.find("new").unwrap_err(), Error::NotFound));
    assert!(matches!(view.getattr(ino).unwrap_err(), Error::Stale));
}

#[test]
fn regression_a_journal_compacted_while_an_unlinked_file_is_open_can_be_read() {
    for path in ["new", "file"] {
        let mut subject = base();
        let view = subject.view();
        view.write_file("new", b"x").unwrap();
        let ino = view.find(path).unwrap().ino;
        let file = view.open(ino, Access::Write).unwrap();
        view.unlink(path).unwrap();
        view.compact().unwrap();
        // A new file is emptied, which is recorded; one of the layers is copied up.
        view.setattr(ino, &SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
        file.write_at(0, b"without a name", false).unwrap();
        file.sync().unwrap();
        drop(file);
        subject.restart().unwrap_or_else(|reason| panic!("{path}: {reason}"));
        assert!(matches!(subject.view().find(path).unwrap_err(), Error::NotFound), "{path}");
    }
}

#[test]
fn regression_a_journal_compacted_while_a_removed_directory_is_held_can_be_read() {
    let mut subject = base();
    let view = subject.view();
    let dir = view.mkdir("new").unwrap().ino;
    let held = Pin::new(view, dir);
    view.rmdir("new").unwrap();
    view.compact().unwrap();
    view.setattr(dir, &SetAttr { perm: Some(0o700), ..SetAttr::default() }).unwrap();
    view.setxattr(dir, b"user.a", b"value", XattrMode::Set).unwrap();
    view.removexattr(dir, b"user.a").unwrap();
    drop(held);
    subject.restart().unwrap();
    assert!(matches!(subject.view().find("new").unwrap_err(), Error::NotFound));
}

#[test]
fn regression_a_file_written_after_a_commit_that_failed_needs_no_payload_that_cleaning_may_remove()
{
    let mut subject = base();
    subject.base().payloads.set_links(true);
    let view = Arc::clone(subject.view());
    let long = vec![b'n'; 300_000];
    view.write_file("new", &long).unwrap();
    let payloads = Arc::clone(&subject.base().payloads);
    drop(view.begin_commit(&*payloads).unwrap());
    view.open_path("new", Access::Write).unwrap().write_at(0, b"S", false).unwrap();
    view.sync().unwrap();
    view.remove_leftovers();
    drop(view);
    std::fs::remove_file(payloads.path(&spfs_model::Digest::of(&long))).unwrap();
    subject.restart().unwrap();
    assert!(content(&subject, "new") == [b"S", &long[1..]].concat());
}

#[test]
fn regression_a_file_of_a_layer_that_lost_its_first_bytes_is_not_committed_also_after_a_restart() {
    let (mut subject, faults) = failing(b"of the layer");
    let file = subject.view().open_path("file", Access::Write).unwrap();
    faults.arm(Plan { call: 1, lasting: true, kind: ErrorKind::StorageFull });
    assert!(matches!(file.write_back(0, b"LOST"), Err(Error::NoSpace)));
    faults.disarm();
    drop(file);
    subject.view().write_file("new", b"new").unwrap();
    for compacted in [false, true] {
        let refused = subject.commit_all().unwrap_err();
        assert!(refused.contains("/file") && refused.contains("Lost"), "{refused}");
        if compacted {
            subject.view().compact().unwrap();
        }
        subject.restart().unwrap();
    }
    assert!(subject.commit_all().unwrap_err().contains("/file"));
    subject.view().write_file("file", b"whole").unwrap();
    subject.restart().unwrap();
    subject.commit_all().unwrap();
}

#[test]
fn regression_a_sync_that_failed_leaves_synced_bytes_where_they_are() {
    let (subject, faults) = failing(b"of the layer");
    let view = subject.view();
    view.write_file("file", b"synced").unwrap();
    view.sync().unwrap();
    let scratch = || -> Vec<Vec<u8>> {
        let files = std::fs::read_dir(subject.dir().join("scratch")).unwrap();
        files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    };
    view.open_path("file", Access::Write).unwrap().write_at(0, b"S", false).unwrap();
    faults.fail_next("sync a scratch file", ErrorKind::Other);
    assert!(view.open_path("file", Access::Read).unwrap().sync().is_err());
    let ino = view.find("file").unwrap().ino;
    view.setattr(ino, &SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    assert_eq!(scratch(), [b"Synced"]);
}

#[test]
fn regression_scratch_files_without_a_journal_are_in_nobodys_way() {
    let subject = base();
    let dir = spfs_testkit::environment::memory_directory().unwrap();
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    for number in 1..4 {
        std::fs::write(scratch.join(number.to_string()), b"of nobody").unwrap();
    }
    let options = options(Time::Machine, &Ticks::default());
    let view = open_view(subject.base(), dir.path(), options).unwrap();
    for number in 0..5 {
        view.write_file(&format!("new{number}"), b"new").unwrap();
    }
    view.sync().unwrap();
    view.remove_leftovers();
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 5);
}

#[test]
fn regression_a_page_written_back_after_a_commit_leaves_the_time_of_the_write_over_a_restart() {
    let ticks = Ticks::default();
    let layer = TreeBuilder::new().file("file", 0o644, *b"of the layer").build();
    let mut subject = ViewSubject::new(BaseStack::new(&[layer]), Time::Ticks, ticks.clone());
    let view = Arc::clone(subject.view());
    let ino = view.find("file").unwrap().ino;
    let old = SetTime::At(Timestamp { secs: 77, nanos: 0 });
    view.setattr(ino, &SetAttr { mtime: Some(old), ..SetAttr::default() }).unwrap();
    ticks.advance();
    view.open_path("file", Access::Write).unwrap().write_at(0, b"S", false).unwrap();
    drop(view);
    subject.commit_all().unwrap();
    let view = Arc::clone(subject.view());
    view.open_path("file", Access::Write).unwrap().write_back(0, b"T").unwrap();
    let mtime = view.find("file").unwrap().mtime;
    drop(view);
    subject.restart().unwrap();
    assert_eq!(subject.view().find("file").unwrap().mtime, mtime);
}

#[test]
fn regression_a_page_written_back_beside_a_commit_leaves_the_time_of_the_file_over_a_restart() {
    let mut subject = base();
    subject.base().payloads.set_links(true);
    let view = Arc::clone(subject.view());
    view.write_file("new", b"new").unwrap();
    let ino = view.find("new").unwrap().ino;
    let old = SetTime::At(Timestamp { secs: 77, nanos: 0 });
    view.setattr(ino, &SetAttr { mtime: Some(old), ..SetAttr::default() }).unwrap();
    let file = view.open_path("new", Access::Write).unwrap();
    let payloads = Arc::clone(&subject.base().payloads);
    let (_, commit) = view.begin_commit(&*payloads).unwrap();
    // As a repository does with what it takes.
    let payload = payloads.path(&spfs_model::Digest::of(b"new"));
    let payload = std::fs::File::options().write(true).open(payload).unwrap();
    spfs_sys::files::renew(&payload).unwrap();
    file.write_back(0, b"N").unwrap();
    drop(commit);
    drop((file, view));
    subject.restart().unwrap();
    assert_eq!(subject.view().find("new").unwrap().mtime.secs, 77);
}

#[test]
fn regression_a_file_that_lost_all_its_bytes_is_whole_when_it_is_written_once_more() {
    let (mut subject, faults) = failing(b"of the layer");
    let view = Arc::clone(subject.view());
    let ino = view.make("new", NewKind::Regular, 0o644).unwrap().ino;
    let file = view.open(ino, Access::Write).unwrap();
    faults.fail_next("create a scratch file", ErrorKind::StorageFull);
    assert!(matches!(file.write_back(0, b"new"), Err(Error::NoSpace)));
    view.setattr(ino, &SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    file.write_back(0, b"new").unwrap();
    drop((file, view));
    subject.commit_all().unwrap();
}

#[test]
fn regression_a_file_that_lost_bytes_is_whole_when_it_is_reset() {
    let (mut subject, faults) = failing(b"of the layer");
    let view = Arc::clone(subject.view());
    let file = view.open_path("file", Access::Write).unwrap();
    faults.fail_next("create a scratch file", ErrorKind::StorageFull);
    assert!(matches!(file.write_back(0, b"LOST"), Err(Error::NoSpace)));
    view.reset(&[b"file".to_vec()], &subject.stack()).unwrap();
    view.write_file("new", b"new").unwrap();
    drop((file, view));
    subject.commit_all().unwrap();
    subject.view().write_file("file", b"changed").unwrap();
    subject.restart().unwrap();
    subject.commit_all().unwrap();
}

#[test]
fn a_file_that_was_synced_and_renamed_over_another_is_not_synced_again_for_its_time() {
    let (subject, faults) = failing(b"of the layer");
    let view = subject.view();
    let sync = |path: &str| view.open_path(path, Access::Read).unwrap().sync();
    view.write_file("saved.tmp", b"saved").unwrap();
    sync("saved.tmp").unwrap();
    view.mv("saved.tmp", "file").unwrap();
    // As a kernel does that has kept the times itself.
    let ino = view.find("file").unwrap().ino;
    let time = Timestamp { secs: 4_000_000_000, nanos: 0 };
    let mtime = Some(SetTime::At(time));
    view.setattr(ino, &SetAttr { mtime, ctime: Some(time), ..SetAttr::default() }).unwrap();
    view.write_file("next", b"next").unwrap();
    faults.fail_next("sync a scratch file with its times", ErrorKind::Other);
    sync("next").unwrap();
    assert!(sync("file").is_err(), "its time is not safe yet");
}
