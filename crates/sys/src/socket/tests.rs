use super::*;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_getfd};

#[test]
fn a_descriptor_arrives_with_its_bytes_and_closes_on_exec() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"through the socket").unwrap();
    file.rewind().unwrap();
    send_fd(&ours, b"hello", file.as_fd()).unwrap();
    let mut buffer = [0; 16];
    let (count, fd) = recv_fd(&theirs, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"hello");
    let fd = fd.expect("the descriptor");
    assert_ne!(fd.as_raw_fd(), file.as_raw_fd());
    assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the socket");
}

#[test]
fn plain_bytes_bring_no_descriptor_and_a_closed_end_brings_nothing() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"x").unwrap();
    let mut buffer = [0; 4];
    let (count, fd) = recv_fd(&theirs, &mut buffer).unwrap();
    assert_eq!((count, fd.is_none()), (1, true));
    drop(ours);
    let (count, fd) = recv_fd(&theirs, &mut buffer).unwrap();
    assert_eq!((count, fd.is_none()), (0, true));
}

#[test]
fn sending_to_nobody_is_an_error_and_no_signal() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let file = tempfile::tempfile().unwrap();
    assert_eq!(send_fd(&ours, &[1], file.as_fd()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let error = send_fd(&ours, &[], file.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn waiting_for_a_descriptor_ends_in_time() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    assert_eq!(recv_fd(&theirs, &mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn more_descriptors_than_fit_are_not_leaked() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    let fds = [file.as_fd(), file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&ours, &[io::IoSlice::new(&[1])], &mut control, SendFlags::empty()).unwrap();
    let (count, fd) = recv_fd(&theirs, &mut [0; 1]).unwrap();
    assert_eq!(count, 1);
    assert!(fd.is_some(), "one of them is given to the caller");
}

#[test]
fn the_peer_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = bind(&path, 0o600).unwrap();
    let client = connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    let me =
        Peer { pid: Some(std::process::id()), uid: crate::ids::euid(), gid: crate::ids::egid() };
    assert_eq!(peer(&server).unwrap(), me);
    assert_eq!(peer(&client).unwrap(), me);
    let file = tempfile::tempfile().unwrap();
    assert!(peer(&file).is_err(), "a file has no peer");
}

fn long_folder(dir: &Path) -> PathBuf {
    let path = (0..4).fold(dir.to_owned(), |path, _| path.join("x".repeat(60)));
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn paths_longer_than_an_address_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = long_folder(dir.path()).join("control.sock");
    assert!(!fits(&path));
    let listener = bind(&path, 0o600).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    let mut client = connect(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
    assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop((listener, server, client));
    assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    fs::remove_file(&path).unwrap();
    assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_longest_path_that_fits_is_used_as_it_is() {
    let room = std::mem::size_of_val(&ADDRESS.sun_path);
    assert!(fits(Path::new(&"x".repeat(room - 1))));
    assert!(!fits(Path::new(&"x".repeat(room))));
}
