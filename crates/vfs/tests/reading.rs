//! Reading what is at hand, and ahead of who reads.

use std::time::{Duration, Instant};

use spfs_testkit::TreeBuilder;
use spfs_testkit::layers::BaseStack;
use spfs_testkit::pair::Ticks;
use spfs_testkit::view::{Time, ViewSubject};
use spfs_testkit::{Paths, layers::Tree};
use spfs_vfs::api::{Access, File, SetAttr, Vfs};

const LIMIT: Duration = Duration::from_secs(30);

fn on(layer: Tree) -> ViewSubject {
    ViewSubject::new(BaseStack::new(&[layer]), Time::Machine, Ticks::default())
}

/// Both ways of reading tell the same wherever the bytes are, or the quick one tells nothing.
#[test]
fn what_is_at_hand_reads_as_after_waiting() {
    let content: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
    let subject = on(TreeBuilder::new()
        .file("payload", 0o644, content.clone())
        .file("partly", 0o644, content)
        .build());
    let view = subject.view();
    view.write_file("whole", b"of scratch").unwrap();
    view.write_file("zeros", b"").unwrap();
    let zeros = view.find("zeros").unwrap().ino;
    view.setattr(zeros, &SetAttr { size: Some(10_000), ..SetAttr::default() }).unwrap();
    view.open_path("partly", Access::Write).unwrap().write_at(200_000, b"new", false).unwrap();
    let mut at_hand = 0;
    for path in ["payload", "partly", "whole", "zeros"] {
        let file = view.open_path(path, Access::Read).unwrap();
        for (offset, len) in [(0, 5), (0, 400_000), (199_990, 20), (299_990, 100), (400_000, 1)] {
            let (mut now, mut waited) = (vec![1; len], vec![2; len]);
            let count = file.read_at(offset, &mut waited).unwrap();
            if let Some(found) = file.read_now(offset, &mut now).unwrap() {
                assert_eq!(now[..found], waited[..count], "{path} at {offset}");
                at_hand += 1;
            }
        }
    }
    assert!(at_hand >= 5, "of holes all is at hand");
}

#[test]
fn small_files_read_in_order_are_read_ahead_once_that_is_wanted() {
    let name = |number| format!("dir/{number:03}");
    let tree = (0..40).fold(TreeBuilder::new(), |tree, number| {
        tree.file(&name(number), 0o644, format!("content of {number}").into_bytes())
    });
    let subject = on(tree.build());
    let (view, payloads) = (subject.view(), &subject.base().payloads);
    let read = |number| {
        let file = view.open_path(&name(number), Access::Read).unwrap();
        let mut content = [0; 100];
        let len = file.read_at(0, &mut content).unwrap();
        assert_eq!(content[..len], *format!("content of {number}").as_bytes());
    };
    read(0);
    read(1);
    assert_eq!(payloads.opened(), 2, "nobody asked for reading ahead");
    view.start_reading_ahead().unwrap();
    view.start_reading_ahead().unwrap();
    for number in 2..10 {
        read(number);
    }
    // Those that were read, and some that were not.
    let end = Instant::now() + LIMIT;
    while payloads.opened() < 15 {
        assert!(Instant::now() < end, "only {} were opened", payloads.opened());
        std::thread::yield_now();
    }
    for number in (10..40).rev() {
        read(number);
    }
}
