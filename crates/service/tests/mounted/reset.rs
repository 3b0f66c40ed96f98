//! Resetting files that are in use, on a real mount.

use std::path::PathBuf;

use spfs_model::Digest;
use spfs_runtime::NewRuntime;
use spfs_testkit::program::Test;

use crate::helpers::STORAGE;
use crate::service::{ROOTS, Service};
use crate::world::{World, outcome};

pub(crate) const TESTS: &[Test] = &[
    ("reset::open_files_keep_their_inodes", || alone("open")),
    ("reset::one_path_leaves_the_others_alone", || alone("paths")),
    ("reset::a_mapping_shows_the_layers_again", || alone("mapped")),
    ("reset::busy_writers_mix_nothing_of_before_in", || alone("busy")),
    ("reset::what_cannot_stay_comes_back_as_another_inode", || alone("running")),
    ("reset::a_read_only_runtime_is_reset_in_place", read_only),
    ("reset::a_daemon_that_is_killed_leaves_each_file_whole", killed_daemon),
    ("reset::without_help_the_rest_is_reset_all_the_same", killed_helper),
    ("routed::open_files_keep_their_inodes_in_a_reset", || routed("open")),
    ("routed::a_reset_of_one_path_leaves_the_others_alone", || routed("paths")),
    ("routed::a_mapping_shows_the_layers_again_after_a_reset", || routed("mapped")),
    ("routed::busy_writers_mix_nothing_of_before_into_reset_files", || routed("busy")),
];

/// The program that does what is tested. Within reach of an ordinary user.
const PROGRAM: &str = include_str!("reset.py");

fn files() -> Vec<(&'static str, String)> {
    [("short", 7), ("long", 300_000), ("empty", 0), ("dir/same", 100)]
        .map(|(name, size)| (name, "B".repeat(size)))
        .into()
}

fn layer(make: impl FnOnce(&[(&str, &str)]) -> Digest) -> Digest {
    let files = files();
    make(&files.iter().map(|(name, content)| (*name, content.as_str())).collect::<Vec<_>>())
}

fn program(folder: PathBuf) -> String {
    let path = folder.join("reset.py");
    std::fs::write(&path, PROGRAM).unwrap();
    path.display().to_string()
}

fn alone(what: &str) {
    let world = World::new();
    let layer = layer(|files| world.layer(files));
    let program = program(world.path(""));
    let script = format!("python3 {program} {what} /spfs $SELF --helper spfs; spfs diff");
    let done = world.run("one", &[layer], &script);
    let left = match what {
        "paths" => "~dir ~dir/same ~empty ~long ~short",
        "busy" | "running" | "open" | "mapped" => "",
        other => panic!("{other}"),
    };
    assert_eq!(done.code, Some(0), "{done:#?} {}", world.log("one"));
    let lines: Vec<&str> = done.out.lines().map(str::trim_end).collect();
    let right = format!("{what} is right");
    assert_eq!(lines.first(), Some(&right.as_str()), "{done:#?}");
    if what != "busy" {
        assert_eq!(lines.get(1).copied().unwrap_or_default(), left, "{done:#?}");
    }
}

fn read_only() {
    let world = World::new();
    let layer = layer(|files| world.layer(files));
    let script = "cd /spfs; exec 5<short; before=$(stat -c %i short); echo much longer >short; \
                  spfs edit off; spfs reset; cat <&5; echo; \
                  [ $(stat -c %i short) = $before ] && echo the same inode; \
                  touch short || echo refused; spfs edit on; echo x >>short; cat short";
    world.run("one", &[layer], script).says(&[
        "changed=true durable=false",
        "reset 1",
        "BBBBBBB",
        "the same inode",
        "refused",
        "changed=true durable=false",
        "BBBBBBBx",
    ]);
}

/// How many files are to be reset when something is killed.
const MOMENTS: [u32; 4] = [1, 30, 70, 99];

fn many(world: &World) -> Digest {
    let files: Vec<_> = (0..100).map(|i| (i.to_string(), "B".repeat(100 + 41 * i))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    world.layer(&files)
}

fn killed_daemon() {
    let world = World::new();
    let layer = many(&world);
    let program = program(world.path(""));
    let script = |what: &str| format!("python3 {program} {what} /spfs $SELF --helper spfs");
    for moment in MOMENTS {
        let name = format!("killed-{moment}");
        let new = NewRuntime { durable: true, ..world.new_runtime(&name, &[layer]) };
        let what = format!("daemon-{moment}");
        let done = outcome(&mut world.start(new, &script(&what)));
        assert_eq!(done.out.trim_end(), format!("{what} is right"), "{done:#?}");
        let again = outcome(&mut world.start_again(&name, &script("whole")));
        assert_eq!(again.out.lines().last(), Some("whole is right"), "{moment}: {again:#?}");
    }
}

fn killed_helper() {
    let world = World::new();
    let layer = many(&world);
    let program = program(world.path(""));
    for moment in MOMENTS {
        let what = format!("helper-{moment}");
        let script = format!("python3 {program} {what} /spfs $SELF --helper spfs");
        let done = world.run(&format!("helped-{moment}"), &[layer], &script);
        assert_eq!(done.out.trim_end(), format!("{what} is right"), "{done:#?}");
    }
}

fn routed(what: &str) {
    for root in ROOTS {
        let service = Service::start(root);
        let layer = layer(|files| service.layer(files));
        let mut shell = service.shell("one", &[layer]);
        let program = program(service.mountpoint.with_file_name(""));
        let own = std::env::current_exe().unwrap();
        let said = shell.says(&format!(
            "export SPFS_RUNTIME=one {STORAGE}={}; \
             python3 {program} {what} $M {} --helper spfs 2>&1",
            service.settings.storage_root.display(),
            own.display()
        ));
        assert_eq!(said, format!("{what} is right"), "{root}");
        shell.end();
    }
}
