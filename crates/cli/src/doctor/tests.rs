use spfs_sys::host::{Device, LinuxHost, MacHost, RootName};

use super::storage::{Clones, Crashed, Refused, Storage};
use super::*;

fn linux() -> LinuxHost {
    LinuxHost {
        release: "6.12.3-arch1".to_owned(),
        fuse_device: Device::Opens,
        fuse_known: true,
        privileged: false,
        namespaces_refused: None,
    }
}

fn mac() -> MacHost {
    MacHost {
        release: "15.4".to_owned(),
        macfuse: true,
        macfuse_version: Some("5.4.0".to_owned()),
        library: true,
        extension_loaded: true,
        mount_point: RootName::Directory,
        synthetic: Some("nix\nspfs\n".to_owned()),
    }
}

fn good(host: Host) -> Facts {
    Facts {
        host,
        nofile: Nofile { now: 1024, most: 1 << 20 },
        configuration: Ok(Vec::new()),
        backend: "FuseWithScratch".to_owned(),
        storage: Some(Storage {
            root: "/data/spfs".into(),
            there: true,
            startable: Ok(()),
            storable: Ok(()),
            runtimes_mode: Some(0o41777),
            clones: Clones::Shared,
            crashed: Ok(Vec::new()),
            unreadable: Vec::new(),
        }),
        stale: Ok(DeadMounts::default()),
        service: Service::None,
        agent: Agent { path: Some("/Users/ada/a.plist".into()), found: None, expected: "x".into() },
        mounted: None,
    }
}

/// The one finding that is not ok, as its state, its check and both of its sentences.
fn only_trouble(facts: &Facts) -> (State, &'static str, String) {
    let trouble: Vec<Finding> =
        findings(facts).into_iter().filter(|finding| finding.state != State::Ok).collect();
    let [finding] = trouble.as_slice() else { panic!("{trouble:#?}") };
    let fix = finding.fix.as_deref().expect("what is not ok has a fix");
    (finding.state, finding.check, format!("{}; {fix}", finding.found))
}

/// Changes good facts and expects one finding of this state and check, with these words.
fn expect(facts: Facts, state: State, check: &str, words: &[&str]) {
    let (found, about, text) = only_trouble(&facts);
    assert_eq!((found, about), (state, check), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[test]
fn nothing_is_found_where_all_is_well() {
    for host in [Host::Linux(linux()), Host::MacOs(mac())] {
        let findings = findings(&good(host));
        assert!(findings.len() >= 8, "{findings:#?}");
        for finding in findings {
            assert_eq!((finding.state, &finding.fix), (State::Ok, &None), "{finding:?}");
        }
    }
}

#[test]
fn linux_without_a_device_that_opens_is_broken() {
    let with = |fuse_device, fuse_known| {
        good(Host::Linux(LinuxHost { fuse_device, fuse_known, ..linux() }))
    };
    expect(with(Device::Missing, true), State::Broken, "fuse", &["no /dev/fuse", "modprobe fuse"]);
    let refused = Device::Refused("Permission denied (os error 13)".to_owned());
    expect(with(refused, true), State::Broken, "fuse", &["Permission denied", "chmod 0666"]);
    expect(with(Device::Opens, false), State::Broken, "fuse", &["/proc/filesystems"]);
}

#[test]
fn refused_namespaces_matter_to_ordinary_users_alone() {
    let setting = "kernel.apparmor_restrict_unprivileged_userns = 1";
    let with = |privileged| {
        let namespaces_refused = Some(setting.to_owned());
        good(Host::Linux(LinuxHost { privileged, namespaces_refused, ..linux() }))
    };
    expect(with(false), State::Broken, "user namespaces", &[setting, "troubleshooting.md"]);
    assert!(findings(&with(true)).iter().all(|finding| finding.state == State::Ok));
}

#[test]
fn an_old_or_strange_kernel_is_a_warning() {
    for release in ["5.15.0-101-generic", "", "custom", "99999999999.1"] {
        let release = release.to_owned();
        let facts = good(Host::Linux(LinuxHost { release, ..linux() }));
        expect(facts, State::Warning, "kernel", &["Linux 6 or later"]);
    }
    let with = |privileged| {
        let release = "4.17.19".to_owned();
        good(Host::Linux(LinuxHost { release, privileged, ..linux() }))
    };
    expect(with(false), State::Broken, "kernel", &["4.17.19", "4.18 or later"]);
    expect(with(true), State::Warning, "kernel", &["Linux 6 or later"]);
}

#[test]
fn few_open_files_and_unknown_keys_are_warnings() {
    let mut facts = good(Host::Linux(linux()));
    facts.nofile = Nofile { now: 256, most: 256 };
    expect(facts, State::Warning, "open files", &["256", "ulimit -Hn", "4096"]);
    let mut facts = good(Host::Linux(linux()));
    facts.configuration = Ok(vec!["the key storage.rot is unknown".to_owned()]);
    expect(facts, State::Warning, "configuration", &["storage.rot", "spfs config"]);
}

#[test]
fn without_a_configuration_nothing_is_said_of_the_storage() {
    let mut facts = good(Host::Linux(linux()));
    facts.configuration = Err("/etc/spfs.toml is not valid TOML".to_owned());
    facts.storage = None;
    expect(facts, State::Broken, "configuration", &["/etc/spfs.toml"]);
}

#[test]
fn a_storage_that_cannot_be_written_or_made_is_broken() {
    let with = |path: &str, there| {
        let mut facts = good(Host::Linux(linux()));
        let storage = facts.storage.as_mut().expect("there is one");
        let refused = Refused { path: path.into(), why: "Permission denied".to_owned() };
        storage.startable = Err(refused.clone());
        storage.storable = Err(refused);
        storage.there = there;
        storage.clones = Clones::Unknown;
        facts
    };
    let words = ["/data/spfs cannot be written: /data/spfs/runtimes: Perm", "SPFS_STORAGE_ROOT"];
    expect(with("/data/spfs/runtimes", true), State::Broken, "storage root", &words);
    let words = ["/data/spfs cannot be made: /data: Permission denied"];
    expect(with("/data", false), State::Broken, "storage root", &words);
    // Others store what is shown here.
    let mut read_only = with("/data/spfs/objects", true);
    read_only.storage.as_mut().expect("there is one").startable = Ok(());
    let words = ["runtimes start", "/data/spfs/objects: Permission denied", "to commit"];
    expect(read_only, State::Warning, "storage root", &words);
}

#[test]
fn a_backend_that_no_runtime_starts_with_is_broken() {
    let with = |host, backend: &str| {
        let mut facts = good(host);
        facts.backend = backend.to_owned();
        facts
    };
    let words = ["\"Fuse\"", "FuseWithScratch", "filesystem.backend", "SPFS_FILESYSTEM_BACKEND"];
    expect(with(Host::Linux(linux()), "Fuse"), State::Broken, "backend", &words);
    expect(with(Host::MacOs(mac()), "Fuse"), State::Broken, "backend", &words);
    expect(with(Host::Linux(linux()), "WinFsp"), State::Broken, "backend", &["not available"]);
}

#[test]
fn a_folder_of_runtimes_that_others_may_change_is_broken() {
    let with = |mode| {
        let mut facts = good(Host::Linux(linux()));
        facts.storage.as_mut().expect("there is one").runtimes_mode = mode;
        facts
    };
    let words = ["mode 777", "chmod +t /data/spfs/runtimes"];
    expect(with(Some(0o40777)), State::Broken, "runtimes folder", &words);
    let words = ["of its group", "mode 2775", "chmod +t"];
    expect(with(Some(0o42775)), State::Warning, "runtimes folder", &words);
    for fine in [None, Some(0o40755), Some(0o41777)] {
        assert!(findings(&with(fine)).iter().all(|finding| finding.state == State::Ok));
    }
}

#[test]
fn copies_are_usual_and_two_volumes_are_a_warning() {
    let with = |clones| {
        let mut facts = good(Host::Linux(linux()));
        facts.storage.as_mut().expect("there is one").clones = clones;
        facts
    };
    let copied = findings(&with(Clones::Copied("Operation not supported".to_owned())));
    let cloning = copied.iter().find(|finding| finding.check == "cloning").expect("it was tried");
    assert!(cloning.state == State::Ok && cloning.found.contains("cannot clone (Operation not"));
    let apart = Clones::OtherVolume("/a/payloads".into(), "/a/runtimes".into());
    expect(with(apart), State::Warning, "cloning", &["/a/payloads", "/a/runtimes", "one volume"]);
}

#[test]
fn a_crashed_runtime_is_named_with_all_ways_on() {
    let with = |changes| {
        let mut facts = good(Host::Linux(linux()));
        let crashed = vec![Crashed { name: "work".to_owned(), changes }];
        facts.storage.as_mut().expect("there is one").crashed = Ok(crashed);
        facts
    };
    let words = ["3 changes", "spfs run --rerun work", "export --changes work", "remove work"];
    expect(with(Some(3)), State::Warning, "runtimes", &words);
    expect(with(None), State::Warning, "runtimes", &["cannot be counted"]);
    let mut facts = good(Host::Linux(linux()));
    facts.storage.as_mut().expect("there is one").unreadable = vec!["bad record x".to_owned()];
    expect(facts, State::Warning, "runtimes", &["bad record x", "spfs runtime remove"]);
}

fn entry(target: &str) -> MountEntry {
    MountEntry {
        target: target.into(),
        file_system: "fuse.spfs".into(),
        source: "spfs".into(),
        read_only: false,
        owner: Some(0),
        id: 1,
    }
}

#[test]
fn dead_mounts_and_services_are_told() {
    let mut facts = good(Host::Linux(linux()));
    facts.stale = Ok(DeadMounts { dead: vec![entry("/spfs")], ..DeadMounts::default() });
    expect(facts, State::Broken, "stale mounts", &["/spfs is gone", "umount -f /spfs"]);
    let mut facts = good(Host::Linux(linux()));
    facts.stale = Ok(DeadMounts { silent: vec![entry("/spfs")], ..DeadMounts::default() });
    expect(facts, State::Warning, "stale mounts", &["/spfs did not answer", "stopped"]);
    let mut facts = good(Host::MacOs(mac()));
    facts.service = Service::Hangs("/data/control.sock".into());
    expect(facts, State::Warning, "service", &["/data/control.sock", "did not answer"]);
    let mut facts = good(Host::MacOs(mac()));
    facts.service = Service::Silent("/data/control.sock".into());
    expect(facts, State::Warning, "service", &["/data/control.sock", "spfs-fuse service"]);
    let mut facts = good(Host::MacOs(mac()));
    facts.service = Service::Answers("/data/control.sock".into());
    assert!(findings(&facts).iter().any(|finding| finding.check == "service"));
}

#[test]
fn a_mac_needs_macfuse_of_a_version_that_works() {
    let with = |change: fn(&mut MacHost)| {
        let mut host = mac();
        change(&mut host);
        good(Host::MacOs(host))
    };
    let missing = with(|host| {
        host.macfuse = false;
        host.macfuse_version = None;
    });
    expect(missing, State::Broken, "macFUSE", &["not installed", "macfuse.github.io"]);
    let library = with(|host| host.library = false);
    expect(library, State::Broken, "macFUSE", &["libfuse.2.dylib"]);
    for version in ["4.10.2", "5.3.0", "5.3.2", "none"] {
        let mut host = mac();
        host.macfuse_version = Some(version.to_owned());
        expect(good(Host::MacOs(host)), State::Broken, "macFUSE", &[version]);
    }
    let unknown = with(|host| host.macfuse_version = None);
    expect(unknown, State::Warning, "macFUSE", &["cannot be read", "version 5"]);
    let unapproved = with(|host| host.extension_loaded = false);
    expect(unapproved, State::Warning, "kernel extension", &["Recovery", "Reduced Security"]);
}

#[test]
fn the_fskit_backend_is_refused_with_the_reason() {
    let mut facts = good(Host::MacOs(mac()));
    facts.backend = "backend=FSKit".to_owned();
    expect(facts, State::Broken, "macFUSE backend", &["which process asks", "filesystem.backend"]);
    let mut facts = good(Host::MacOs(mac()));
    facts.mounted = Some("macfuse-fskit".to_owned());
    expect(facts, State::Broken, "macFUSE backend", &["/Volumes"]);
}

#[test]
fn the_line_to_add_is_told_where_a_mac_has_no_directory_to_mount_on() {
    let with = |mount_point, synthetic: Option<&str>| {
        let synthetic = synthetic.map(str::to_owned);
        good(Host::MacOs(MacHost { mount_point, synthetic, ..mac() }))
    };
    let line = "one line \"spfs\" to /etc/synthetic.conf";
    for text in [None, Some(""), Some("nix\n")] {
        let words = ["does not exist", "sudo spfs service install", line];
        expect(with(RootName::Missing, text), State::Broken, "/spfs", &words);
    }
    let words = ["has not taken effect", "apfs.util -t"];
    expect(with(RootName::Missing, Some("spfs\n")), State::Broken, "/spfs", &words);
    expect(with(RootName::Directory, None), State::Warning, "/spfs", &["no line", line]);
    expect(with(RootName::Other, Some("spfs\n")), State::Broken, "/spfs", &["no directory"]);
    let link = Some("spfs\tUsers/x\n");
    expect(with(RootName::Other, link), State::Broken, "/spfs", &["a link to Users/x", line]);
}

#[test]
fn an_agent_of_another_version_is_to_be_written_again() {
    let mut facts = good(Host::MacOs(mac()));
    facts.agent.found = Some("x".to_owned());
    assert!(findings(&facts).iter().all(|finding| finding.state == State::Ok));
    facts.agent.found = Some("y".to_owned());
    expect(facts.clone(), State::Warning, "launchd", &["a.plist", "spfs service install"]);
    facts.agent.path = None;
    expect(facts, State::Warning, "launchd", &["HOME"]);
}
