//! Requests that no client of ours sends: the service refuses them, and goes on.

use std::io::Write;
use std::os::unix::net::UnixStream;

use spfs_testkit::program::Test;
use tonic::Code;

use crate::service::{Service, Shell};

pub(crate) const TESTS: &[Test] = &[
    ("hostile::requests_that_make_no_sense_are_refused", nonsense),
    ("hostile::what_is_no_protocol_ends_its_connection_alone", no_protocol),
    ("hostile::many_joins_leave_nothing", many_joins),
];

/// The message of a mount, with what ours cannot say.
#[derive(Clone, PartialEq, prost::Message)]
struct Mount {
    #[prost(uint32, tag = "1")]
    root_pid: u32,
    #[prost(string, tag = "2")]
    env_spec: String,
    #[prost(bool, tag = "3")]
    editable: bool,
    #[prost(string, tag = "4")]
    runtime_name: String,
    #[prost(bool, tag = "5")]
    existing: bool,
    #[prost(bool, tag = "6")]
    join: bool,
}

/// Any message that names a runtime first and has a number after that.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    runtime_name: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

/// A reset.
#[derive(Clone, PartialEq, prost::Message)]
struct Reset {
    #[prost(string, tag = "1")]
    runtime_name: String,
    #[prost(string, repeated, tag = "2")]
    patterns: Vec<String>,
    #[prost(bool, tag = "3")]
    replace_stack: bool,
    #[prost(bytes = "vec", repeated, tag = "4")]
    stack: Vec<Vec<u8>>,
}

/// An export.
#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(string, tag = "1")]
    runtime_name: String,
    #[prost(bytes = "vec", tag = "2")]
    directory: Vec<u8>,
}

/// Sends messages of any kind.
struct Caller {
    executor: tokio::runtime::Runtime,
    client: tonic::client::Grpc<tonic::transport::Channel>,
}

impl Caller {
    fn new(service: &Service) -> Self {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = format!("unix:{}", service.socket().display());
        let endpoint = tonic::transport::Endpoint::try_from(address).unwrap();
        let channel = executor.block_on(endpoint.connect()).unwrap();
        Self { executor, client: tonic::client::Grpc::new(channel) }
    }

    fn call<M: prost::Message + Default + 'static>(&mut self, call: &str, message: M) -> Code {
        let path = format!("/spfs_vfs.VfsService/{call}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<M, ()>::default();
        let client = &mut self.client;
        self.executor.block_on(async {
            client.ready().await.unwrap();
            match client.unary(tonic::Request::new(message), path, codec).await {
                Ok(_) => Code::Ok,
                Err(status) => {
                    assert!(status.message().len() < 4096, "a long text comes back short");
                    status.code()
                }
            }
        })
    }
}

fn nonsense() {
    let service = Service::start("lookup");
    let layer = service.layer(&[("name", "mine\n")]);
    let mut shell = service.shell("one", &[layer]);
    let other = Shell::new(&service.mountpoint);
    let mut caller = Caller::new(&service);
    let free = other.pid();
    let mount = |root_pid, env_spec: &str, name: &str| Mount {
        root_pid,
        env_spec: env_spec.to_owned(),
        editable: true,
        runtime_name: name.to_owned(),
        ..Mount::default()
    };
    let huge = "a".repeat(2 << 20);
    let bad = [
        (mount(0, "-", "x"), Code::InvalidArgument),
        (mount(u32::MAX, "-", "x"), Code::InvalidArgument),
        (mount(i32::MAX as u32, "-", "x"), Code::InvalidArgument),
        (mount(free, "a/../../b", "x"), Code::InvalidArgument),
        (mount(free, "no/such/tag", "x"), Code::InvalidArgument),
        (mount(free, "+", "x"), Code::InvalidArgument),
        (mount(free, &huge, "x"), Code::InvalidArgument),
        (mount(free, &huge[..1 << 20], "x"), Code::InvalidArgument),
        (mount(free, &"-+".repeat(1000), "x/y"), Code::InvalidArgument),
        (mount(free, "-", "../../../etc"), Code::InvalidArgument),
        (mount(free, "-", "a/b"), Code::InvalidArgument),
        (mount(free, "-", ".."), Code::InvalidArgument),
        (mount(free, "-", "a\0b"), Code::InvalidArgument),
        (mount(free, "-", &huge), Code::InvalidArgument),
        (mount(free, "-", "one"), Code::AlreadyExists),
        (Mount { existing: true, ..mount(free, "", "") }, Code::InvalidArgument),
        (Mount { existing: true, ..mount(free, "", "none") }, Code::NotFound),
        (Mount { existing: true, ..mount(free, "", "../one") }, Code::InvalidArgument),
        (Mount { existing: true, ..mount(free, "", "one") }, Code::AlreadyExists),
        (Mount { join: true, ..mount(free, "", "none") }, Code::NotFound),
        (Mount { join: true, ..mount(0, "", "one") }, Code::InvalidArgument),
    ];
    for (message, code) in bad {
        let told = format!("{message:?}");
        assert_eq!(caller.call("Mount", message), code, "{told:.200}");
    }
    // More than a message may have.
    assert_eq!(caller.call("Mount", mount(free, "-", &huge.repeat(3))), Code::OutOfRange);
    let named = |name: &str, number| Named { runtime_name: name.to_owned(), number };
    for call in ["Status", "Commit", "SetEditable", "Diff"] {
        assert_eq!(caller.call(call, named(&huge, 1)), Code::NotFound, "{call}");
        assert_eq!(caller.call(call, named("../one", 1)), Code::NotFound, "{call}");
    }
    assert_eq!(caller.call("Commit", named("one", 77)), Code::InvalidArgument, "no such kind");
    let reset = |stack: &[&[u8]]| Reset {
        runtime_name: "one".to_owned(),
        replace_stack: true,
        stack: stack.iter().map(|digest| digest.to_vec()).collect(),
        ..Reset::default()
    };
    assert_eq!(caller.call("Reset", reset(&[b"short"])), Code::InvalidArgument);
    assert_ne!(caller.call("Reset", reset(&[&[7; 32]])), Code::Ok, "a layer that is not there");
    let patterns = Reset { patterns: vec!["[".repeat(100_000)], ..reset(&[]) };
    assert_ne!(caller.call("Reset", Reset { replace_stack: false, ..patterns }), Code::Unavailable);
    let export =
        |directory: &[u8]| Export { runtime_name: "one".to_owned(), directory: directory.to_vec() };
    let inside = service.mountpoint.join("out").into_os_string().into_encoded_bytes();
    let aside = [service.mountpoint.as_os_str().as_encoded_bytes(), b"/../spfs/out"].concat();
    let places: [&[u8]; 6] = [b"", b"relative", b"/a\0b", b"/proc/version/x", &inside, &aside];
    for place in places {
        assert_ne!(caller.call("Export", export(place)), Code::Ok, "{}", place.escape_ascii());
    }
    assert_eq!(caller.call("NoSuchCall", Named::default()), Code::Unimplemented);
    // All is as before.
    assert_eq!(service.names(), ["one"]);
    assert_eq!(shell.says("cat $M/name; ls $M"), "mine name");
    for name in ["x", "none"] {
        assert!(!service.folder_of(name).exists(), "{name} is left");
    }
    other.end();
    shell.end();
    service.ends("one");
}

fn no_protocol() {
    let service = Service::start("lookup");
    let files = std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let long_frame = [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &[0; 4096]].concat();
    let garbage: [&[u8]; 5] =
        [b"", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 65536], preface, &long_frame];
    let connections: Vec<UnixStream> = garbage
        .iter()
        .cycle()
        .take(50)
        .map(|bytes| {
            let mut stream = UnixStream::connect(service.socket()).unwrap();
            // It may have hung up already.
            drop(stream.write_all(bytes));
            stream
        })
        .collect();
    assert_eq!(service.names(), [""; 0]);
    drop(connections);
    let closed =
        || std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count() <= files + 2;
    assert!(spfs_testkit::wait_until(crate::world::LIMIT, closed), "connections are kept");
    // A connection that says nothing holds nobody's end up.
    let silent = UnixStream::connect(service.socket()).unwrap();
    let mut service = service;
    service.client().shutdown(false).unwrap();
    assert_eq!(service.wait(), Some(0));
    drop(silent);
    service.assert_gone();
}

fn many_joins() {
    use spfs_service::{MountRequest, Wanted};
    let service = Service::start("lookup");
    let mut shell = service.shell("one", &[]);
    shell.says("echo x > $M/file");
    for _ in 0..20 {
        let mut joined = Shell::new(&service.mountpoint);
        let runtime = Wanted::Served("one".to_owned());
        service.client().mount(&MountRequest { root_pid: joined.pid(), runtime }).unwrap();
        assert_eq!(joined.says("cat $M/file"), "x");
        joined.end();
    }
    let only_the_first = || service.client().status().unwrap().views[0].roots == [shell.pid()];
    assert!(spfs_testkit::wait_until(crate::world::LIMIT, only_the_first));
    // The pid of one that has ended means nothing any more.
    let gone = Shell::new(&service.mountpoint);
    let pid = gone.pid();
    gone.end();
    assert!(service.client().unmount(Some(pid), false).is_err());
    // It goes with its last process, which none of the joined ones is.
    shell.end();
    service.ends("one");
}
