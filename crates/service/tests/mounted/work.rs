//! Changing, committing and resetting, in place.

use spfs_model::{Change, ChangeKind, Digest, NodeKind, changes_between};
use spfs_testkit::program::Test;

use crate::world::{World, outcome};

pub(crate) const TESTS: &[Test] = &[
    ("work::a_commit_holds_everything_that_was_written_before", commit),
    ("work::edit_mode_does_not_end_under_a_writer", writers),
    ("work::edit_mode_comes_and_goes_in_place", edit_mode),
    ("work::a_platform_runs_as_the_runtime_was", platform),
    ("work::a_reset_shows_the_layers_again", reset),
    ("work::what_a_layer_cannot_hold_is_refused_by_name", refused),
    ("work::a_process_in_a_directory_stays_there", working_directory),
];

/// What a commit in a script answered.
fn digest_in(line: &str) -> Digest {
    line.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("no digest in {line}"))
}

fn commit() {
    let world = World::new();
    let layer = world.layer(&[("base", "one\n"), ("gone", "x"), ("dir/below", "y")]);
    // One file is open, and what was written to it is still in the kernel's memory.
    let script = "echo new >/spfs/new; rm /spfs/gone; mv /spfs/dir /spfs/moved; \
                  exec 5>>/spfs/open; echo written >&5; \
                  spfs commit layer keep; \
                  exec 5>&-; spfs diff; echo more >>/spfs/base; spfs diff; spfs commit layer";
    let done = world.run("one", &[layer], script);
    let lines: Vec<&str> = done.out.lines().map(str::trim_end).collect();
    assert_eq!(lines.len(), 4, "{done:#?}");
    let first = digest_in(lines[0]);
    assert!(lines[0].ends_with("editable=true busy=[\"open\"]"), "{done:#?}");
    assert_eq!(lines[1..3], ["", "~base"]);
    assert!(lines[3].ends_with("editable=false busy=[]"), "{done:#?}");
    world.vanishes("one");
    let look = "cd /spfs; cat new open base; find . | sort; ls -l open | cut -c1-10";
    world.run("two", &[layer, first], look).says(&[
        "new",
        "written",
        "one",
        ".",
        "./base",
        "./moved",
        "./moved/below",
        "./new",
        "./open",
        "-rw-r--r--",
    ]);
    let second = digest_in(lines[3]);
    let shown = world.run("three", &[layer, first, second], "cat /spfs/base");
    shown.says(&["one", "more"]);
}

fn writers() {
    let world = World::new();
    let script = "exec 5>/spfs/log; echo one >&5; spfs edit off; echo two >&5; \
                  spfs commit layer; exec 5>&-; spfs edit off; touch /spfs/x || echo refused";
    let done = world.run("one", &[], script);
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("FAILED Busy") && lines[0].contains("/spfs/log"), "{done:#?}");
    assert!(lines[1].ends_with("editable=true busy=[\"log\"]"), "{done:#?}");
    assert_eq!(lines[2..], ["changed=true durable=false", "refused"]);
}

fn edit_mode() {
    let world = World::new();
    let layer = world.layer(&[("file", "one")]);
    // A reader keeps its file open all the time.
    let script = "exec 4</spfs/file; echo changed >/spfs/file; spfs edit off; \
                  echo x >/spfs/file || echo refused; spfs edit off; spfs edit on; \
                  echo y >/spfs/y; cat /spfs/file /spfs/y; cat <&4; spfs diff";
    let done = world.run("one", &[layer], script);
    done.says(&[
        "changed=true durable=false",
        "refused",
        "changed=false durable=false",
        "changed=true durable=false",
        "changed",
        "y",
        "changed",
        "~file +y",
    ]);
}

fn platform() {
    let world = World::new();
    let layer = world.layer(&[("a/one", "1"), ("a/two", "2"), ("b", "3")]);
    let script = "rm -r /spfs/a; mkdir /spfs/a; echo new >/spfs/a/three; ln -s a/three /spfs/link; \
                  chmod 755 /spfs/b; spfs commit platform";
    let done = world.run("one", &[layer], script);
    let platform = digest_in(done.out.lines().last().unwrap());
    let repository = &**world.runtimes.repository();
    let spec = platform.to_string().parse().unwrap();
    let stack = spfs_repo::resolve(&[repository], &spec).unwrap();
    assert_eq!(stack.len(), 2);
    let shown = world.run("two", &stack, "cd /spfs; find . | sort; cat link; stat -c %a b");
    shown.says(&[".", "./a", "./a/three", "./b", "./link", "new", "755"]);
    // Nothing is in the layer that did not change.
    let top = spfs_repo::load_stack(&[repository], &stack[1..]).unwrap();
    let empty = spfs_model::MergedTree::empty();
    let merged = spfs_model::merge(&top.iter().collect::<Vec<_>>());
    let new: Vec<Change> = changes_between(&empty, &merged).unwrap();
    let files = new.iter().filter(|change| {
        matches!(&change.kind, ChangeKind::Added(shown) if shown.kind != NodeKind::Directory)
    });
    assert_eq!(files.count(), 3, "{new:?}");
}

fn reset() {
    let world = World::new();
    let layer = world.layer(&[("a", "one\n"), ("b", "two\n"), ("d/c", "three\n")]);
    let script = "echo uno >/spfs/a; rm /spfs/b; rm -r /spfs/d; echo x >/spfs/x.o; \
                  spfs reset '*.o' b; ls /spfs; spfs diff; spfs reset >/dev/null; spfs diff; \
                  cat /spfs/a /spfs/b /spfs/d/c; ls /spfs; spfs edit off; spfs reset";
    world.run("one", &[layer], script).says(&[
        "reset 2",
        "a",
        "b",
        "~a -d -d/c",
        "",
        "one",
        "two",
        "three",
        "a",
        "b",
        "d",
        "changed=true durable=false",
        "reset 0",
    ]);
}

fn refused() {
    let world = World::new();
    let script = "mkfifo /spfs/pipe; spfs commit layer; rm /spfs/pipe; spfs commit layer; \
                  echo x >/spfs/x; spfs commit layer";
    let done = world.run("one", &[], script);
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("FAILED NotRepresentable") && lines[0].contains("pipe"));
    assert!(lines[1].starts_with("FAILED NothingToCommit"), "{done:#?}");
    digest_in(lines[2]);
}

fn working_directory() {
    let world = World::new();
    let layer = world.layer(&[("d/e/file", "one\n")]);
    let script = "cd /spfs/d/e; echo two >file; spfs commit layer keep >/dev/null; /bin/pwd; \
                  cat file; rm -r /spfs/d/e/file; spfs reset >/dev/null; /bin/pwd; cat file";
    let done = outcome(&mut world.start(world.new_runtime("one", &[layer]), script));
    done.says(&["/spfs/d/e", "two", "/spfs/d/e", "two"]);
}
