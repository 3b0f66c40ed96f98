//! Several views in one mount, told apart by who asks for the root.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::Arc;

use spfs_fuse::{Caller, Invalidation, Op, Options, ViewId, Views};
use spfs_testkit::ModelFs;
use spfs_vfs::api::{Ino, NameBuf, SetAttr, Vfs};

use crate::support::{self, Mounted, NOBODY, VIEW, Watched};

/// Each user has a view; users without one share the first.
pub(crate) struct ByUser {
    views: Vec<(u32, Arc<Watched>)>,
}

impl Views for ByUser {
    type Vfs = Watched;
    type Ref<'a> = Arc<Watched>;

    const ROUTED: bool = true;

    fn of_caller(&self, caller: Caller) -> ViewId {
        let found = self.views.iter().position(|(user, _)| *user == caller.uid);
        ViewId::new(found.unwrap_or(0) as u32).unwrap()
    }

    fn view(&self, id: ViewId) -> Option<Arc<Watched>> {
        self.views.get(id.number() as usize).map(|(_, view)| Arc::clone(view))
    }
}

pub(crate) struct Two {
    pub(crate) mount: Mounted<Watched, ByUser>,
    other: Arc<Watched>,
}

const OTHER: ViewId = match ViewId::new(1) {
    Some(view) => view,
    None => VIEW,
};

fn two() -> Option<Two> {
    two_with(Options::default())
}

pub(crate) fn two_with(options: Options) -> Option<Two> {
    let new = || Arc::new(Watched::new(ModelFs::with_system_clock()));
    let (first, other) = (new(), new());
    let views = ByUser { views: vec![(0, Arc::clone(&first)), (NOBODY, Arc::clone(&other))] };
    let mount = support::mount_views(views, first, options)?;
    Some(Two { mount, other })
}

impl Two {
    /// Runs a shell command in the mount as the user of the other view.
    pub(crate) fn other(&self, script: &str) -> Output {
        Command::new("sh")
            .args(["-c", script])
            .current_dir(self.mount.root())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap()
    }

    pub(crate) fn other_says(&self, script: &str) -> String {
        let output = self.other(script);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn each_caller_sees_its_own_root() {
    let Some(two) = two() else { return };
    fs::create_dir(two.mount.path("dir")).unwrap();
    fs::write(two.mount.path("dir/file"), b"first").unwrap();
    fs::write(two.mount.path("only-first"), b"").unwrap();
    two.other_says("mkdir dir && printf other > dir/file && : > only-other");
    for _ in 0..3 {
        assert_eq!(fs::read(two.mount.path("dir/file")).unwrap(), b"first");
        assert_eq!(two.other_says("cat dir/file"), "other");
        assert_eq!(two.other_says("ls"), "dir\nonly-other\n");
        let mut names: Vec<_> = fs::read_dir(two.mount.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["dir", "only-first"]);
        assert!(!two.mount.path("only-other").exists());
        assert!(!two.other("cat only-first").status.success());
    }
}

#[test]
fn what_is_below_the_root_stays_in_its_view_whoever_uses_it() {
    let Some(two) = two() else { return };
    two.other_says("mkdir -p dir/sub && printf other > dir/sub/file");
    fs::create_dir_all(two.mount.path("dir/sub")).unwrap();
    fs::write(two.mount.path("dir/sub/file"), b"first").unwrap();
    // A descriptor that is handed over belongs to the view that opened it.
    let dir = File::open(two.mount.path("dir/sub")).unwrap();
    let output = Command::new("sh")
        .args(["-c", "cat /proc/self/fd/0/file && echo more > /proc/self/fd/0/new"])
        .stdin(dir)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"first");
    assert!(!output.status.success(), "permissions bind as ever");
    assert_eq!(two.other_says("cat dir/sub/file; ls dir/sub"), "otherfile\n");
    let (mine, theirs) = (
        fs::metadata(two.mount.path("dir/sub/file")).unwrap().ino(),
        two.other_says("stat -c %i dir/sub/file").trim().parse::<u64>().unwrap(),
    );
    assert_ne!(mine, theirs);
    assert_eq!(two.mount.session().write_handles(VIEW), []);
}

#[test]
fn names_in_the_root_are_asked_for_each_time_and_those_below_are_not() {
    let Some(two) = two() else { return };
    fs::create_dir_all(two.mount.path("dir/sub")).unwrap();
    fs::write(two.mount.path("dir/sub/file"), b"content").unwrap();
    let stat = || support::stat(two.mount.path("dir/sub/file"));
    stat();
    let ((), requests) = two.mount.requests_of(|| (0..10).for_each(|_| stat()));
    assert_eq!(requests.of(Op::Lookup), 10, "{requests:?}");
}

#[test]
fn a_write_handle_is_that_of_its_view() {
    let Some(two) = two() else { return };
    two.other_says(": > file");
    let file = File::create(two.mount.path("file")).unwrap();
    file.write_all_at(b"content", 0).unwrap();
    assert_eq!(two.mount.session().write_handles(VIEW), [two.mount.ino("file")]);
    assert_eq!(two.mount.session().write_handles(OTHER), []);
}

#[test]
fn notifications_go_to_the_view_they_are_for() {
    let Some(two) = two() else { return };
    for (user, mode) in [(0, "first"), (NOBODY, "other")] {
        let status = Command::new("sh")
            .args(["-c", &format!("mkdir -p d; printf {mode} > d/file; stat d/file")])
            .current_dir(two.mount.root())
            .uid(user)
            .gid(user)
            .output()
            .unwrap();
        assert!(status.status.success());
    }
    let name = NameBuf::new(&b"d"[..]).unwrap();
    let dir = two.other.lookup(Ino::ROOT, name.as_name()).unwrap().ino;
    let file_name = NameBuf::new(&b"file"[..]).unwrap();
    let file = two.other.lookup(dir, file_name.as_name()).unwrap().ino;
    two.other.setattr(file, &SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
    let notifier = two.mount.session().notifier();
    notifier.send(OTHER, vec![Invalidation::Inode(file)]).wait().unwrap();
    assert_eq!(two.other_says("stat -c %a d/file"), "600\n");
    assert_eq!(fs::metadata(two.mount.path("d/file")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn everything_is_given_back_to_both_views() {
    let Some(two) = two() else { return };
    fs::create_dir(two.mount.path("dir")).unwrap();
    two.other_says("mkdir dir; for i in 1 2 3 4 5; do : > dir/$i; done; ls -l dir");
    assert!(two.other.pins().0 > 5);
    let (first, other) = (Arc::clone(two.mount.fs()), two.other);
    two.mount.unmount();
    assert_eq!((first.pins(), other.pins()), ((0, 0), (0, 0)));
}
