//! One mount, many views: who sees what, and how services and runtimes begin and end.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use spfs_runtime::control::{CommitKind, CommitOptions, MacosFiles, ResetOptions};
use spfs_service::{Client, ClientError, FailureCode, MountRequest, Wanted};
use spfs_sys::process::End;
use spfs_testkit::environment::NOBODY;
use spfs_testkit::program::{Test, say};
use spfs_testkit::wait_until;

use crate::service::{Orphan, ROOTS, Service, Shell, daemon, spfs_fuse};
use crate::world::{LIMIT, outcome};

pub(crate) const TESTS: &[Test] = &[
    ("routed::each_process_sees_the_view_it_inherited", inherited),
    ("routed::orphans_and_daemons_keep_their_view", orphans),
    ("routed::a_process_with_a_pid_that_was_used_before_has_no_view", reused_pid),
    ("routed::two_editable_runtimes_of_one_base_are_isolated", two_runtimes),
    ("routed::edit_mode_waits_for_open_files_and_reset_gives_up_changes", edit_and_reset),
    ("routed::a_view_is_given_once", given_once),
    ("routed::other_users_see_nothing_and_may_ask_nothing", other_users),
    ("routed::a_port_answers_the_user_of_the_service_alone", port),
    ("routed::a_killed_service_can_be_started_again", killed),
    ("routed::a_second_service_is_refused", second_service),
    ("routed::of_services_that_start_at_once_one_mounts", started_at_once),
    ("routed::views_with_processes_come_and_go", churn),
    ("routed::the_program_gives_and_takes_views", program),
    ("routed::layers_are_mounted_for_everybody", plain),
];

fn inherited() {
    for root in ROOTS {
        let service = Service::start(root);
        let layer = service.layer(&[("name", "mine\n"), ("dir/f", "deep\n")]);
        let mut shell = service.shell("one", &[layer]);
        let mut outside = Shell::new(&service.mountpoint);
        for _ in 0..2 {
            assert_eq!(shell.says("cat $M/name; cat $M/dir/f; ls $M"), "mine deep dir name");
            assert_eq!(shell.says("sh -c 'sh -c \"cat $M/name\"'"), "mine");
            assert_eq!(outside.says("ls -A $M; cat $M/name >/dev/null 2>&1 || echo no"), "no");
            assert_eq!(std::fs::read_dir(&service.mountpoint).unwrap().count(), 0);
        }
        // Threads ask with numbers of their own.
        let listed = "import os,sys,threading\n\
                      t=threading.Thread(target=lambda: print(os.listdir(sys.argv[1])))\n\
                      t.start(); t.join()";
        assert_eq!(shell.says(&format!("python3 -c '{listed}' $M")), "['dir', 'name']");
        assert_eq!(
            outside.says("touch $M/x 2>/dev/null || echo refused"),
            "refused",
            "the default view cannot be changed"
        );
        shell.end();
        service.ends("one");
    }
}

fn orphans() {
    for root in ROOTS {
        let service = Service::start(root);
        if !service.client().status().unwrap().figures.unwrap().router.sees_all_forks {
            // Only in the machine's first pid namespace (cn_proc_mcast_ctl), which no test can
            // enter; what is done elsewhere has a test of its own.
            say("not tested in this pid namespace: members that nobody has met");
            return;
        }
        let layer = service.layer(&[("name", "mine\n")]);
        let mut shell = service.shell("one", &[layer]);
        // Each waits for a file before it touches the mount for the first time.
        let go = service.path("go");
        let waits = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
        let work =
            |to: &Path| format!("{waits}; cat $M/name > {0}.new; mv {0}.new {0}", to.display());
        let (grandchild, daemon, twice) =
            (service.path("grandchild"), service.path("daemon"), service.path("twice"));
        shell.says(&format!("(({}) </dev/null >/dev/null 2>&1 &)", work(&grandchild)));
        shell.says(&format!("setsid sh -c '{}' </dev/null >/dev/null 2>&1 &", work(&daemon)));
        let inner = format!("(setsid sh -c \"{}\" &)", work(&twice));
        shell.says(&format!("setsid sh -c '{inner}' </dev/null >/dev/null 2>&1"));
        shell.end();
        assert_eq!(service.names(), ["one"], "three processes are left");
        std::fs::write(&go, b"").unwrap();
        for path in [grandchild, daemon, twice] {
            assert!(wait_until(LIMIT, || path.exists()), "{}", path.display());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n", "{}", path.display());
        }
        service.ends("one");
        assert!(!service.folder_of("one").exists());
    }
}

fn reused_pid() {
    let service = Service::start("lookup");
    let layer = service.layer(&[("name", "mine\n")]);
    let mut shell = service.shell("one", &[layer]);
    let pid = shell.says("sh -c 'cat $M/name >/dev/null; echo $$'");
    let number: u32 = pid.parse().unwrap();
    let again = wait_until(LIMIT, || {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let output = Command::new("sh")
            .args(["-c", "echo $$; ls -A $M"])
            .env("M", &service.mountpoint)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() == format!("{pid}\n")
    });
    assert!(again, "no process with pid {pid} saw an empty root");
    assert_eq!(shell.says("cat $M/name"), "mine");
    shell.end();
}

fn commit(name: &str, service: &Service) -> spfs_model::Digest {
    let options = CommitOptions {
        kind: CommitKind::Layer,
        annotations: Vec::new(),
        keep_editing: false,
        allow_empty: false,
        macos_files: MacosFiles::Keep,
    };
    let mut client = service.client().for_runtime(name);
    client.commit(&options, &mut |_| {}).unwrap().digest
}

fn two_runtimes() {
    for root in ROOTS {
        let service = Service::start(root);
        let base = service.layer(&[("shared", "base\n"), ("dir/f", "base\n")]);
        let mut shells = [service.shell("one", &[base]), service.shell("two", &[base])];
        for (shell, name) in shells.iter_mut().zip(["one", "two"]) {
            shell.says(&format!(
                "echo {name} > $M/shared; echo {name} > $M/dir/f; mkdir $M/new; echo {name} > $M/new/{name}"
            ));
        }
        let layers: Vec<_> = shells
            .iter_mut()
            .zip(["one", "two"])
            .map(|(shell, name)| {
                let said =
                    shell.says("cat $M/shared; cat $M/dir/f; ls $M/new; cd $M/new; ls; cd /");
                assert_eq!(said, format!("{name} {name} {name} {name}"));
                commit(name, &service)
            })
            .collect();
        assert_ne!(layers[0], layers[1]);
        for (shell, name) in shells.iter_mut().zip(["one", "two"]) {
            let refused = "touch $M/dir/f 2>/dev/null || echo read-only; cat $M/shared";
            assert_eq!(shell.says(refused), format!("read-only {name}"), "a commit ends edit mode");
        }
        let [first, second] = shells;
        first.end();
        second.end();
        service.ends("one");
        service.ends("two");
        let mut again = service.shell("three", &[base, layers[1]]);
        assert_eq!(again.says("cat $M/shared; ls $M/new"), "two two");
        again.end();
    }
}

fn edit_and_reset() {
    for root in ROOTS {
        let service = Service::start(root);
        let base = service.layer(&[("f", "base\n"), ("dir/g", "base\n")]);
        let mut shell = service.shell("one", &[base]);
        let mut client = service.client().for_runtime("one");
        shell.says("exec 7>> $M/f; echo more >&7");
        match client.set_editable(false, false) {
            Err(ClientError::Failed(failure)) => {
                assert_eq!((failure.code, failure.paths), (FailureCode::Busy, vec![b"f".to_vec()]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(shell.says("echo again >&7; exec 7>&-; cat $M/f"), "base more again");
        assert!(client.set_editable(false, false).unwrap().changed);
        assert_eq!(shell.says("(echo x > $M/dir/g) 2>/dev/null || echo refused"), "refused");
        assert!(client.set_editable(true, false).unwrap().changed);
        assert_eq!(
            shell.says("echo longer > $M/dir/g; rm $M/f; cat $M/dir/g; ls $M"),
            "longer dir"
        );
        assert!(client.reset(&ResetOptions::default()).unwrap() > 0);
        assert_eq!(shell.says("cat $M/f $M/dir/g; ls $M"), "base base dir f");
        assert_eq!(client.diff().unwrap(), []);
        shell.end();
    }
}

fn given_once() {
    let service = Service::start("lookup");
    let (first, second) = (service.shell("one", &[]), Shell::new(&service.mountpoint));
    let request = |pid, name: Option<&str>| {
        let name = name.map(str::to_owned);
        let runtime = Wanted::New { env_spec: "-".to_owned(), editable: true, name };
        service.client().mount(&MountRequest { root_pid: pid, runtime })
    };
    let refused = |pid, name, code, text: &str| match request(pid, name) {
        Err(ClientError::Failed(failure)) => {
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.contains(text), "{failure}");
        }
        other => panic!("{other:?}"),
    };
    let pid = first.pid();
    refused(pid, None, FailureCode::Exists, "that of runtime one");
    refused(second.pid(), Some("one"), FailureCode::Exists, "runtime one already exists");
    refused(second.pid(), Some("a/b"), FailureCode::Invalid, "invalid runtime name");
    refused(u32::MAX, None, FailureCode::Invalid, "there is no process");
    assert_eq!(service.names(), ["one"]);
    assert!(!service.folder_of(&format!("runtime-{pid}")).exists(), "nothing is left of a refusal");
    let given = request(second.pid(), None).unwrap();
    assert_eq!(given.runtime, format!("runtime-{}", second.pid()));
    // A process of a view may have another one inside it.
    let mut second = second;
    let inner = Orphan::of(&second.says("sleep 1000 >/dev/null & echo $!"));
    assert_eq!(request(inner.0.pid, Some("inner")).unwrap().runtime, "inner");
    inner.end();
    service.ends("inner");
    assert_eq!(service.names(), ["one".to_owned(), given.runtime]);
    first.end();
    second.end();
}

/// Runs this program as somebody else, to ask a service.
fn ask_as(user: u32, service: &Service, address: &str) -> String {
    let program = service.path("program");
    if !program.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&program);
    command.arg0("spfs-fuse").args(["status", "--service", address]);
    let done = outcome(command.current_dir("/").uid(user).gid(user));
    done.out + &done.err
}

fn other_users() {
    for root in ROOTS {
        let service = Service::start(root);
        let layer = service.layer(&[("name", "mine\n")]);
        let mut shell = service.shell("one", &[layer]);
        assert_eq!(shell.says("cat $M/name"), "mine");
        // A process of the view that becomes somebody else.
        let script = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups ls -A $M");
        assert_eq!(shell.says(&format!("{script}; echo end")), "end");
        let socket = service.socket();
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // What keeps others out in the first place must not hide what is tested here.
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(socket.parent().unwrap(), 0o755);
        open(&socket, 0o666);
        let address = socket.display().to_string();
        let said = ask_as(NOBODY, &service, &address);
        assert!(said.contains("belongs to uid 0, not to uid 65534"), "{said}");
        assert!(ask_as(0, &service, &address).contains("one"));
        shell.end();
    }
}

fn port() {
    // Somebody else may take the port between the question and the start: then another is tried.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = free.to_string();
    let service = Service::start_with("lookup", &["--listen", &address]);
    let shell = service.shell("one", &[]);
    let mut client = Client::connect_port(free).unwrap();
    assert_eq!(client.status().unwrap().views.len(), 1);
    assert!(ask_as(0, &service, &address).contains("one"));
    let said = ask_as(NOBODY, &service, &address);
    assert!(said.contains("belongs to uid 0, not to uid 65534"), "{said}");
    let done = outcome(service.command().args(["--listen", "0.0.0.0:37738"]));
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("other machines"), "{}", done.err);
    shell.end();
}

fn killed() {
    for root in ROOTS {
        let mut service = Service::start(root);
        let base = service.layer(&[("f", "base\n")]);
        let mut shell = service.shell("kept", &[base]);
        service.client().for_runtime("kept").set_editable(true, true).unwrap();
        shell.says("echo work > $M/new; echo changed > $M/f; cd $M");
        for round in 0..3 {
            shell.says(&format!("echo {round} > $M/round"));
            service.signal(End::Kill);
            assert!(service.is_mounted(), "the kernel keeps it");
            let said = shell.says("ls $M >/dev/null 2>&1 || echo gone");
            assert_eq!(said, "gone");
            shell.end();
            service.run(&[]);
            assert!(service.is_mounted());
            let mounts = spfs_sys::mount::mounts().unwrap();
            let ours = mounts.iter().filter(|entry| entry.target == service.mountpoint).count();
            assert_eq!(ours, 1, "the stale mount is gone");
            shell = Shell::new(&service.mountpoint);
            let runtime = Wanted::Existing("kept".to_owned());
            service.client().mount(&MountRequest { root_pid: shell.pid(), runtime }).unwrap();
            let said = shell.says("cat $M/new $M/f $M/round");
            assert_eq!(said, format!("work changed {round}"));
        }
        shell.end();
        service.ends("kept");
    }
}

fn second_service() {
    let service = Service::start("lookup");
    let done = outcome(service.command().arg("--foreground"));
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("is running already"), "{}", done.err);
    // For another repository, but at the same place.
    let other = Service::start("lookup");
    let mut command = daemon();
    command.args(["service", "--foreground", "--storage"]).arg(other.path("third"));
    drop(spfs_repo::Repository::create(other.path("third")).unwrap());
    let done = outcome(command.arg("--mountpoint").arg(&service.mountpoint));
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("is served already by a process of root (uid 0)"), "{}", done.err);
    assert!(service.is_mounted() && other.is_mounted());
}

fn started_at_once() {
    for _ in 0..4 {
        let services: Vec<_> = (0..4).map(|_| Service::prepare("lookup", 0)).collect();
        let place = &services[0].mountpoint;
        let start = |service: &Service| outcome(&mut service.command_at(place));
        let done: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> =
                services.iter().map(|service| scope.spawn(|| start(service))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mounts = spfs_sys::mount::mounts().unwrap();
        assert_eq!(mounts.iter().filter(|entry| entry.target == *place).count(), 1);
        let (won, lost): (Vec<_>, Vec<_>) =
            services.iter().zip(&done).partition(|(_, done)| done.code == Some(0));
        assert_eq!(won.len(), 1, "{done:?}");
        for (_, done) in lost {
            assert!(done.err.contains("is served already by a process of root"), "{done:?}");
        }
        won[0].0.client().shutdown(false).unwrap();
        assert!(wait_until(LIMIT, || !services[0].is_mounted()));
    }
}

/// How many views come and go, and how many processes are in each; more when asked for.
fn churn_size() -> (usize, usize) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    (number("SPFS_TEST_VIEWS").unwrap_or(24), number("SPFS_TEST_MEMBERS").unwrap_or(5))
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Pages of memory that are the process's own.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn churn() {
    let (views, members) = churn_size();
    let service = Service::start("lookup");
    let base = service.layer(&[("name", "base\n"), ("dir/f", "deep\n")]);
    let pid = service.pid();
    let files = open_files(pid);
    let round = |round: usize| {
        let mut shells: Vec<Shell> =
            (0..views).map(|number| service.shell(&format!("view-{number}"), &[base])).collect();
        // All at once.
        for (number, shell) in shells.iter_mut().enumerate() {
            shell.tell(&format!(
                "for i in $(seq {members}); do (echo {round}-{number} > $M/$i; cat $M/name $M/dir/f $M/$i) \
                 > /dev/null & done; wait"
            ));
        }
        let said: Vec<String> = shells.iter_mut().map(Shell::answer).collect();
        assert!(said.iter().all(String::is_empty), "{said:?}");
        for (number, shell) in shells.iter_mut().enumerate() {
            assert_eq!(
                shell.says("cat $M/1; ls $M | wc -l"),
                format!("{round}-{number} {}", members + 2)
            );
        }
        let peak = open_files(pid);
        shells.into_iter().for_each(Shell::end);
        assert!(wait_until(LIMIT, || service.names().is_empty()), "{:?}", service.names());
        peak
    };
    // The kernel says by and by that files are closed. The processes that these all descend from
    // stay known, with a descriptor each.
    let closed = || {
        let figures = service.client().status().unwrap().figures.unwrap();
        let followed = usize::try_from(figures.router.followed).unwrap();
        open_files(pid) <= files + followed + 4
    };
    let settled = |number| {
        let peak = round(number);
        assert!(wait_until(LIMIT, closed), "{files} to {} open files", open_files(pid));
        peak
    };
    settled(0);
    let kilobytes = memory(pid);
    let peaks: Vec<usize> = (1..4).map(settled).collect();
    let figures = service.client().status().unwrap().figures.unwrap();
    let (files_after, kilobytes_after) = (open_files(pid), memory(pid));
    say(&format!(
        "{views} views with {members} processes each, 4 rounds: {files} to {files_after} files \
         (at most {peaks:?}), {kilobytes} to {kilobytes_after} kB, {figures:?}"
    ));
    assert!(
        kilobytes_after < kilobytes + kilobytes / 4 + 4096,
        "{kilobytes} to {kilobytes_after} kB"
    );
    assert_eq!(figures.handles, 0);
}

fn program() {
    let mut service = Service::start("lookup");
    service.client().shutdown(false).unwrap();
    assert_eq!(service.wait(), Some(0));
    // In the background: the command returns when the service is there. What earlier ones have
    // logged does not stay for ever.
    let log = service.socket().with_file_name("service.log");
    std::fs::write(&log, "of an earlier one\n".repeat(1 << 19)).unwrap();
    let done = outcome(service.command().args(["--log", "trace"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    let layer = service.layer(&[("name", "mine\n")]).to_string();
    let mut shell = Shell::new(&service.mountpoint);
    let pid = shell.pid().to_string();
    let given = spfs_fuse(&service, &["mount", "--root-process", &pid, "--editable", &layer]);
    assert_eq!(given.out, format!("runtime-{pid}\n"), "{given:?}");
    assert_eq!(shell.says("echo x > $M/new; cat $M/name"), "mine");
    let again = spfs_fuse(&service, &["mount", "--root-process", &pid, &layer]);
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""));
    assert!(again.err.contains(&format!("that of runtime runtime-{pid}")), "{again:?}");
    let status = spfs_fuse(&service, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["mountpoint"], service.mountpoint.display().to_string());
    let view = &status["views"][0];
    assert_eq!(view["name"], format!("runtime-{pid}"));
    assert_eq!(view["roots"][0].to_string(), pid);
    assert_eq!((&view["editable"], &view["members"]), (&true.into(), &1.into()));
    assert!(view["changes"].as_u64().unwrap() > 0);
    assert!(spfs_fuse(&service, &["status"]).out.contains("editable"));
    shell.says("exec 7> $M/open");
    let busy = spfs_fuse(&service, &["unmount", "--root-process", &pid]);
    assert!(busy.err.contains("open for writing") && busy.err.contains("open"), "{busy:?}");
    shell.says("exec 7>&-");
    assert_eq!(spfs_fuse(&service, &["unmount", "--root-process", &pid]).code, Some(0));
    assert_eq!(shell.says("ls -A $M; echo end"), "end");
    let nothing = spfs_fuse(&service, &["unmount", "--root-process", &pid]);
    assert!(nothing.err.contains("was given no view"), "{nothing:?}");
    assert_eq!(spfs_fuse(&service, &["shutdown"]).code, Some(0));
    assert!(wait_until(LIMIT, || !service.is_mounted() && !service.socket().exists()));
    let nobody = spfs_fuse(&service, &["status"]);
    assert!(nobody.err.contains("no service is running"), "{nobody:?}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.len() <= 4 << 20 && logged.contains(" TRACE "), "{} bytes", logged.len());
    shell.end();
}

fn plain() {
    let service = Service::start("lookup");
    let layer = service.layer(&[("name", "mine\n")]).to_string();
    let place = service.path("plain");
    std::fs::create_dir(&place).unwrap();
    let mount = |reference: &str, options: &str| {
        let mut command = daemon();
        command.arg("--storage").arg(&service.settings.storage_root).args(["-o", options]);
        outcome(command.arg(reference).arg(&place))
    };
    let refused = mount(&layer, "ro,size=1G");
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("size=1G"), "{refused:?}");
    let refused = mount(&layer, "incl_sec_tags=perhaps");
    assert!(refused.err.contains("true or false"), "{refused:?}");
    let refused = mount(&layer, "remote=file:///no/repository");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("cannot use remote=file:///no/repository"), "{refused:?}");
    let failed = mount("no/such/tag", "ro");
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("no/such/tag"), "{failed:?}");
    let done = mount(&layer, "ro,uid=65534,gid=1,allow_other");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(std::fs::read_to_string(place.join("name")).unwrap(), "mine\n");
    let error = std::fs::write(place.join("name"), b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let metadata = std::fs::metadata(place.join("name")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, 1));
    spfs_sys::mount::unmount(&place).unwrap();
    // What another repository has.
    let far = Service::prepare("lookup", 0);
    let layer = far.layer(&[("name", "far\n")]).to_string();
    let failed = mount(&layer, "ro");
    assert!(failed.err.contains(&layer), "{failed:?}");
    let done = mount(&layer, &format!("remote=file://{}", far.settings.storage_root.display()));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(std::fs::read_to_string(place.join("name")).unwrap(), "far\n");
    spfs_sys::mount::unmount(&place).unwrap();
}
