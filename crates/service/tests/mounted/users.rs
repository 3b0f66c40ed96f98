//! Several users on one machine: real processes of another user, and services of several.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use spfs_service::{MountRequest, Wanted};
use spfs_testkit::environment::NOBODY;
use spfs_testkit::program::{As, Running, Test, USER, say};

use crate::service::{Service, Shell};
use crate::world::outcome;

pub(crate) const TESTS: &[Test] = &[
    ("users::a_stranger_is_denied_every_call", stranger),
    ("users::the_service_of_one_user_keeps_those_of_others_out", second_user),
    ("users::each_user_sees_his_own_views_alone", own_views),
];

/// All calls of the protocol.
const CALLS: [&str; 9] =
    ["Mount", "Unmount", "Status", "Commit", "SetEditable", "Reset", "Diff", "Export", "Shutdown"];

/// In a process of its own: makes each call, with an empty message, and tells the status of each.
pub(crate) fn call_all(address: &str) {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = tonic::transport::Endpoint::try_from(address.to_owned()).unwrap();
    let codes = executor.block_on(async {
        let Ok(channel) = endpoint.connect().await else { return "no connection".to_owned() };
        let mut client = tonic::client::Grpc::new(channel);
        let mut codes = Vec::new();
        for call in CALLS {
            client.ready().await.unwrap();
            let path = format!("/spfs_vfs.VfsService/{call}").parse().unwrap();
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            let answer = client.unary(tonic::Request::new(()), path, codec).await;
            codes.push(answer.map_or_else(|status| status.code(), |_| tonic::Code::Ok));
        }
        format!("{codes:?}")
    });
    say(&format!("{} {codes}", spfs_sys::ids::euid()));
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn stranger() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let service = Service::start_with("lookup", &["--listen", &free.to_string()]);
    let mut shell = service.shell("one", &[]);
    let socket = service.socket();
    let ask = |address: &str| {
        let stranger = Running::start("call_all", As::User, &[address]);
        let said = stranger.line();
        stranger.finish();
        said
    };
    // The mode of the socket keeps others out in the first place; the check is behind it.
    let address = format!("unix:{}", socket.display());
    assert_eq!(ask(&address), format!("{USER} no connection"));
    open(socket.parent().unwrap(), 0o755);
    open(&socket, 0o666);
    let denied = format!("{USER} {:?}", CALLS.map(|_| tonic::Code::PermissionDenied));
    assert_eq!(ask(&address), denied);
    assert_eq!(ask(&format!("http://{free}")), denied);
    // Nothing of what was asked has been done.
    assert_eq!(service.names(), ["one"]);
    assert_eq!(shell.says("echo work > $M/file; cat $M/file"), "work");
    shell.end();
}

fn second_user() {
    for (first, others) in [(0, [NOBODY, USER]), (NOBODY, [USER, 0])] {
        let service = Service::start_as(first);
        let owner = if first == 0 { "root (uid 0)" } else { "nobody (uid 65534)" };
        for second in others {
            let other = Service::prepare("lookup", second);
            let done = outcome(other.command_at(&service.mountpoint).arg("--foreground"));
            assert_eq!(done.code, Some(1), "{done:?}");
            let told = format!(
                "{} is served already by a process of {owner}",
                service.mountpoint.display()
            );
            assert!(done.err.contains(&told), "uid {second}: {done:?}");
            assert!(!other.socket().exists());
            // Also when it is to stay in the background.
            let done = outcome(&mut other.command_at(&service.mountpoint));
            assert_eq!(done.code, Some(1), "{done:?}");
            assert!(done.err.contains(&told), "uid {second}: {done:?}");
        }
        assert!(service.is_mounted());
        assert_eq!(service.names(), [""; 0], "it answers");
    }
}

fn own_views() {
    let service = Service::start_as(NOBODY);
    let layer = service.layer(&[("name", "mine\n")]);
    let shell_as = |user: u32| {
        let mut command = Command::new("setpriv");
        let id = user.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh"]);
        let mut shell = Shell::run(command.current_dir("/"), &service.mountpoint);
        assert_eq!(shell.says("id -u"), id, "setpriv has become the shell");
        shell
    };
    let (mut own, mut other) = (shell_as(NOBODY), shell_as(USER));
    service.give(own.pid(), "one", &[layer]);
    assert_eq!(own.says("cat $M/name; echo work > $M/file; cat $M/file"), "mine work");
    let refused = "cat $M/name >/dev/null 2>&1 || echo refused";
    assert_eq!(other.says(refused), "refused");
    // Nor is there a view for a process of somebody else.
    let runtime = Wanted::New { env_spec: "-".to_owned(), editable: true, name: None };
    let request = MountRequest { root_pid: other.pid(), runtime };
    let error = service.client().mount(&request).unwrap_err();
    assert!(error.to_string().contains("belongs to uid 54321"), "{error}");
    own.end();
    other.end();
    service.ends("one");
}
