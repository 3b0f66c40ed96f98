//! When scratch files that nothing needs any more are removed.

use std::io::ErrorKind;
use std::sync::Arc;

use spfs_testkit::faults::Faults;
use spfs_testkit::layers::BaseStack;
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{Time, ViewSubject};
use spfs_testkit::{Paths, TreeBuilder};
use spfs_vfs::Leftovers;
use spfs_vfs::api::{Access, Error, File, Vfs};

const FILES: usize = 100;

/// A view in which `FILES` new files were removed again, and the number of scratch files.
fn subject() -> ViewSubject {
    let layer = TreeBuilder::new().file("file", 0o644, *b"of the layer").build();
    let subject = ViewSubject::new(BaseStack::new(&[layer]), Time::Machine, Ticks::default());
    let names = || (0..FILES).map(|number| format!("new{number}"));
    for name in names() {
        subject.view().write_file(&name, b"x").expect("a new file");
    }
    assert_eq!(scratch_files(&subject), FILES);
    names().for_each(|name| subject.view().unlink(&name).expect("it is there"));
    subject
}

fn scratch_files(subject: &ViewSubject) -> usize {
    std::fs::read_dir(subject.dir().join("scratch")).expect("the scratch folder").count()
}

#[test]
fn what_the_disk_may_need_stays() {
    let subject = subject();
    subject.view().remove_leftovers();
    assert_eq!(subject.view().remove_leftovers_in_peace(), Leftovers::None);
    assert_eq!(scratch_files(&subject), FILES);
    subject.view().sync().unwrap();
    subject.view().remove_leftovers();
    assert_eq!(scratch_files(&subject), 0);
}

#[test]
fn leftovers_go_when_nobody_has_synced_for_a_moment() {
    let subject = subject();
    assert!(subject.view().sync_if_changed().unwrap());
    assert_eq!(subject.view().remove_leftovers_in_peace(), Leftovers::PutOff);
    assert_eq!(scratch_files(&subject), FILES);
    assert_eq!(subject.view().remove_leftovers_in_peace(), Leftovers::None);
    assert_eq!(scratch_files(&subject), 0);
}

#[test]
fn who_syncs_all_the_time_puts_it_off_but_not_for_ever() {
    let subject = subject();
    let file = subject.view().open_path("file", Access::Read).unwrap();
    let mut put_off = 0;
    loop {
        file.sync().unwrap();
        if subject.view().remove_leftovers_in_peace() == Leftovers::None {
            break;
        }
        put_off += 1;
        assert_eq!(scratch_files(&subject), FILES);
    }
    assert!((10..100).contains(&put_off), "put off {put_off} times");
    assert_eq!(scratch_files(&subject), 0);
}

#[test]
fn a_full_volume_has_room_again_as_soon_as_something_was_removed() {
    let faults = Arc::new(Faults::default());
    let layer = TreeBuilder::new().file("file", 0o644, *b"of the layer").build();
    let subject = ViewSubject::with_faults(BaseStack::new(&[layer]), Ticks::default(), &faults);
    let view = subject.view();
    view.write_file("large", b"large").unwrap();
    let full = || faults.fail_next("write a scratch file", ErrorKind::StorageFull);
    // Nothing was removed that could make room.
    full();
    assert!(matches!(view.write_file("small", b"small"), Err(Error::NoSpace)));
    assert_eq!(view.read_file("small").unwrap(), b"");
    view.unlink("large").unwrap();
    full();
    view.write_file("small", b"small").unwrap();
    assert!(faults.has_failed());
    assert_eq!(view.read_file("small").unwrap(), b"small");
    assert_eq!(scratch_files(&subject), 1);
    // Nor is what a file held kept longer than that when it is written anew.
    view.sync().unwrap();
    full();
    view.write_file("small", b"again").unwrap();
    assert_eq!(view.read_file("small").unwrap(), b"again");
    view.sync().unwrap();
    assert_eq!(scratch_files(&subject), 1);
}

#[test]
fn a_file_that_lost_collected_bytes_is_not_committed_as_if_it_were_whole() {
    let faults = Arc::new(Faults::default());
    let layer = TreeBuilder::new().file("file", 0o644, *b"of the layer").build();
    let mut subject = ViewSubject::with_faults(BaseStack::new(&[layer]), Ticks::default(), &faults);
    subject.view().write_file("new", b"new").unwrap();
    let file = subject.view().open_path("new", Access::Write).unwrap();
    faults.fail_next("write a scratch file", ErrorKind::StorageFull);
    assert!(matches!(file.write_back(3, b" and more"), Err(Error::NoSpace)));
    drop(file);
    let refused = subject.commit_all().unwrap_err();
    assert!(refused.contains("/new") && refused.contains("Lost"), "{refused}");
    // Written anew it is whole.
    subject.view().write_file("new", b"new and more").unwrap();
    subject.commit_all().unwrap();
}
