use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc as channel;

use parking_lot::Mutex;
use spfs_model::{ChangeKind, Digest, NodeKind, Shown};
use spfs_runtime::control::{CommitKind, MacosFiles};

use super::*;
use crate::client::{Client, ClientError};

/// Answers with what the test expects, and remembers what it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    changes: u32,
    refuses: Option<Failure>,
}

impl Fake {
    fn answer<T>(&self, asked: String, answer: T) -> Result<T, Failure> {
        self.asked.lock().push(asked);
        self.refuses.clone().map_or(Ok(answer), Err)
    }
}

impl Host for Fake {
    type View = Self;

    fn view(self: &Arc<Self>, name: &str) -> Result<Arc<Self>, Failure> {
        check_name("fake", name)?;
        Ok(Arc::clone(self))
    }

    fn views(self: &Arc<Self>) -> Vec<Arc<Self>> {
        vec![Arc::clone(self)]
    }

    fn shutdown(&self, force: bool) -> Result<(), Failure> {
        self.answer(format!("shutdown {force}"), ())
    }
}

impl Control for Fake {
    fn status(&self) -> Result<LiveStatus, Failure> {
        let status = LiveStatus {
            name: "fake".to_owned(),
            backend: "FuseWithScratch".to_owned(),
            editable: true,
            durable: false,
            stack: vec![Digest::of(b"bottom"), Digest::of(b"top")],
            changes: 7,
            open_for_writing: vec![b"a/\xff".to_vec()],
            mount_namespace: Some("mnt:[1]".to_owned()),
            roots: vec![7, 11],
            members: 3,
        };
        self.answer("status".to_owned(), status)
    }

    fn commit(
        &self,
        options: &CommitOptions,
        progress: &mut (dyn FnMut(CommitProgress) + Send),
    ) -> Result<Committed, Failure> {
        progress(CommitProgress { files: 1, bytes: 10 });
        let committed = Committed {
            digest: Digest::of(b"platform"),
            layer: Some(Digest::of(b"layer")),
            stored: CommitProgress { files: 2, bytes: 20 },
            editable: true,
            busy: vec![b"log".to_vec()],
            left_out: 5,
        };
        self.answer(format!("{options:?}"), committed)
    }

    fn set_editable(&self, editable: bool, keep_runtime: bool) -> Result<EditMode, Failure> {
        let mode = EditMode { changed: editable, durable: keep_runtime };
        self.answer(format!("set_editable {editable} {keep_runtime}"), mode)
    }

    fn reset(&self, options: &ResetOptions) -> Result<u64, Failure> {
        self.answer(format!("{options:?}"), 3)
    }

    fn diff(&self) -> Result<Vec<Change>, Failure> {
        let changes = (0..self.changes).map(change).collect();
        self.answer("diff".to_owned(), changes)
    }

    fn export(&self, options: &ExportOptions) -> Result<Exported, Failure> {
        let exported = Exported {
            files: 1,
            removed: vec![b"gone\xff".to_vec(); 1000],
            skipped: vec![(b"pipe".to_vec(), "no file".to_owned())],
            ..Exported::default()
        };
        self.answer(
            format!("export {} {}", options.directory.display(), options.changes_only),
            exported,
        )
    }
}

fn change(number: u32) -> Change {
    let shown =
        |kind, mode| Shown { kind, mode, size: u64::from(number), object: Digest::of(b"x") };
    let file = shown(NodeKind::File, 0o100_644);
    let kind = match number % 4 {
        0 => ChangeKind::Added(shown(NodeKind::Symlink, 0o120_777)),
        1 => ChangeKind::Removed(shown(NodeKind::Directory, 0o040_755)),
        _ => ChangeKind::Changed { before: file, after: Shown { mode: 0o100_755, ..file } },
    };
    Change { path: format!("dir/{number:06}").into_bytes(), kind }
}

/// A server on a socket of its own; it ends with the value.
struct Server {
    control: Arc<Fake>,
    socket: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(control: Fake) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = spfs_sys::socket::bind(&socket, 0o600).unwrap();
        listener.set_nonblocking(true).unwrap();
        let control = Arc::new(control);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, wait) = channel::channel();
        let thread = {
            let control = Arc::clone(&control);
            std::thread::spawn(move || {
                let executor =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                executor.block_on(async {
                    let listener = UnixListener::from_std(listener).unwrap();
                    ready.send(()).unwrap();
                    let stopped = async { drop(stopped.await) };
                    serve(Listener::Unix(listener), control, stopped).await.unwrap();
                });
            })
        };
        wait.recv().unwrap();
        Self { control, socket, stop: Some(stop), thread: Some(thread), folder }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    fn last(&self) -> String {
        self.control.asked.lock().last().cloned().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_status_arrives_whole() {
    let server = Server::start(Fake::default());
    let status = server.client().status().unwrap();
    assert_eq!(status.pid, std::process::id());
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(status.views, [server.control.status().unwrap()]);
}

#[test]
fn a_commit_reports_its_progress_and_its_result() {
    let server = Server::start(Fake::default());
    let options = CommitOptions {
        kind: CommitKind::Platform,
        annotations: vec![("message".to_owned(), "why".to_owned())],
        keep_editing: true,
        allow_empty: true,
        macos_files: MacosFiles::LeaveOut,
    };
    let mut heard = Vec::new();
    let done = server.client().commit(&options, &mut |progress| heard.push(progress)).unwrap();
    assert_eq!(heard, [CommitProgress { files: 1, bytes: 10 }]);
    assert_eq!(done.digest, Digest::of(b"platform"));
    assert_eq!(done.layer, Some(Digest::of(b"layer")));
    assert_eq!(done.stored, CommitProgress { files: 2, bytes: 20 });
    assert!(done.editable);
    assert_eq!(done.busy, [b"log"]);
    assert_eq!(server.last(), format!("{options:?}"));
}

#[test]
fn requests_and_their_answers_cross_unchanged() {
    let server = Server::start(Fake::default());
    let mut client = server.client();
    assert_eq!(
        client.set_editable(true, false).unwrap(),
        EditMode { changed: true, durable: false }
    );
    assert_eq!(server.last(), "set_editable true false");
    assert_eq!(
        client.set_editable(false, true).unwrap(),
        EditMode { changed: false, durable: true }
    );
    let options =
        ResetOptions { patterns: vec!["*.o".to_owned()], stack: Some(vec![Digest::of(b"a")]) };
    assert_eq!(client.reset(&options).unwrap(), 3);
    assert_eq!(server.last(), format!("{options:?}"));
    assert_eq!(client.reset(&ResetOptions::default()).unwrap(), 3);
    assert_eq!(server.last(), format!("{:?}", ResetOptions::default()));
    client.shutdown(true).unwrap();
    assert_eq!(server.last(), "shutdown true");
}

#[test]
fn an_export_goes_to_an_absolute_place_outside_and_tells_the_beginning_of_long_lists() {
    let server = Server::start(Fake::default());
    let options =
        |directory: &str| ExportOptions { directory: directory.into(), changes_only: true };
    let exported = server.client().export(&options("/elsewhere")).unwrap();
    assert_eq!(server.last(), "export /elsewhere true");
    assert_eq!((exported.files, exported.removed.len()), (1, 256));
    assert_eq!(exported.removed[0], b"gone\xff");
    assert_eq!(exported.skipped, [(b"pipe".to_vec(), "no file".to_owned())]);
    for bad in ["relative", "/spfs", "/spfs/inside"] {
        let error = server.client().export(&options(bad)).unwrap_err();
        assert!(
            matches!(&error, ClientError::Failed(failure) if failure.code == FailureCode::Invalid),
            "{bad}: {error}"
        );
    }
}

#[test]
fn a_long_list_of_changes_arrives_in_order() {
    let server = Server::start(Fake { changes: 5000, ..Fake::default() });
    let changes = server.client().diff().unwrap();
    assert_eq!(changes, (0..5000).map(change).collect::<Vec<_>>());
    let server = Server::start(Fake::default());
    assert_eq!(server.client().diff().unwrap(), []);
}

#[test]
fn a_failure_carries_its_reason_and_paths() {
    let failure = Failure {
        code: FailureCode::Busy,
        message: "files are open for writing: x".to_owned(),
        paths: vec![b"x".to_vec()],
    };
    let server = Server::start(Fake { refuses: Some(failure.clone()), ..Fake::default() });
    let mut client = server.client();
    let options = CommitOptions {
        kind: CommitKind::Layer,
        annotations: Vec::new(),
        keep_editing: false,
        allow_empty: false,
        macos_files: MacosFiles::Keep,
    };
    let errors = [
        client.commit(&options, &mut |_| {}).unwrap_err(),
        client.set_editable(false, false).unwrap_err(),
        client.status().unwrap_err(),
        client.diff().unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, ClientError::Failed(found) if found == failure));
    }
}

#[test]
fn requests_for_another_runtime_and_for_views_are_refused() {
    let server = Server::start(Fake::default());
    let service = Service { host: Arc::clone(&server.control) };
    let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let request = |name: &str| Request::new(proto::StatusRequest { runtime_name: name.to_owned() });
    let status = executor.block_on(service.status(request("other"))).unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(status.message().contains("other") && status.message().contains("fake"));
    executor.block_on(service.status(request("fake"))).unwrap();
    let request = Request::new(proto::MountRequest::default());
    let status = executor.block_on(service.mount(request)).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

#[test]
fn a_request_of_upstreams_client_is_understood() {
    // MountRequest { root_pid: 300, env_spec: "a+b" } as upstream's vfs.proto writes it.
    let bytes = [0x08, 0xac, 0x02, 0x12, 0x03, b'a', b'+', b'b'];
    let request: proto::MountRequest = prost::Message::decode(&bytes[..]).unwrap();
    let options = MountOptions {
        root_pid: 300,
        env_spec: "a+b".to_owned(),
        editable: false,
        name: None,
        runtime: WhichRuntime::New,
    };
    assert_eq!(MountOptions::from(request), options);
    // The plan's: editable = 3, runtime_name = 4.
    let bytes = [0x08, 0x01, 0x12, 0x01, b'a', 0x18, 0x01, 0x22, 0x01, b'n'];
    let request: proto::MountRequest = prost::Message::decode(&bytes[..]).unwrap();
    let options = MountOptions::from(request);
    assert_eq!((options.editable, options.name.as_deref()), (true, Some("n")));
}

#[test]
fn a_socket_that_nobody_listens_on_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    assert!(matches!(Client::connect(&socket), Err(ClientError::NotServed { .. })));
    drop(spfs_sys::socket::bind(&socket, 0o600).unwrap());
    assert!(matches!(Client::connect(&socket), Err(ClientError::NotServed { .. })));
}

#[test]
fn a_server_that_ends_in_between_is_an_error() {
    let server = Server::start(Fake::default());
    let mut client = server.client();
    client.status().unwrap();
    drop(server);
    assert!(client.status().is_err());
}

/// Names the socket for a run of this program as another user.
const SOCKET_OF_ANOTHER: &str = "SPFS_TEST_SOCKET_OF_ANOTHER_USER";

/// The other user: not a test of its own.
#[test]
fn another_user_asks() {
    let Some(socket) = std::env::var_os(SOCKET_OF_ANOTHER) else { return };
    match Client::connect(Path::new(&socket)).unwrap().status() {
        Err(ClientError::Failed(failure)) => println!("{:?}: {failure}", failure.code),
        other => println!("{other:?}"),
    }
}

#[test]
fn another_user_is_refused_and_root_is_not() {
    if spfs_sys::ids::euid() != 0 {
        eprintln!("SKIPPED: only root can act as another user");
        return;
    }
    let server = Server::start(Fake::default());
    // What keeps others out in the first place must not hide what is tested here.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(server.folder.path(), 0o755);
    open(&server.socket, 0o666);
    let program = server.folder.path().join("other");
    let own = std::env::current_exe().unwrap();
    std::fs::hard_link(&own, &program)
        .or_else(|_| std::fs::copy(&own, &program).map(drop))
        .unwrap();
    let ask = |uid: u32| {
        let output = Command::new(&program)
            .args(["--exact", "serve::tests::another_user_asks", "--nocapture"])
            .env(SOCKET_OF_ANOTHER, &server.socket)
            .current_dir("/")
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answer = ask(65534);
    assert!(answer.contains("Denied: this runtime belongs to uid 0, not to uid 65534"), "{answer}");
    assert!(server.control.asked.lock().is_empty(), "the request was let through");
    assert!(ask(0).contains("FuseWithScratch"));
}
