//! Memory mappings, by programs that map: execve(2), and Python's mmap.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support;

/// Runs a Python script; says so when there is no Python.
fn python(script: &str, argument: &Path) -> bool {
    let run = Command::new("python3").args(["-c", script]).arg(argument).status();
    match run {
        Ok(status) => {
            assert!(status.success(), "{script}");
            true
        }
        Err(error) => {
            let required = std::env::var_os("SPFS_TEST_REQUIRE_MOUNTS").is_some_and(|v| v == "1");
            assert!(!required, "python3 is required here: {error}");
            eprintln!("SKIPPED: python3 cannot be run: {error}");
            false
        }
    }
}

#[test]
fn a_program_runs_from_the_mount() {
    let Some(mount) = support::model() else { return };
    fs::copy("/bin/cat", mount.path("cat")).unwrap();
    fs::write(mount.path("text"), b"printed").unwrap();
    let output = Command::new(mount.path("cat")).arg(mount.path("text")).output().unwrap();
    assert_eq!(output.stdout, b"printed");
}

#[test]
fn a_running_program_cannot_be_written() {
    let Some(mount) = support::model() else { return };
    fs::copy("/bin/cat", mount.path("cat")).unwrap();
    let mut child = Command::new(mount.path("cat")).stdin(Stdio::piped()).spawn().unwrap();
    let opened = fs::OpenOptions::new().write(true).open(mount.path("cat"));
    drop(child.stdin.take());
    child.wait().unwrap();
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ExecutableFileBusy);
}

#[test]
fn a_shared_mapping_writes_the_file() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, vec![b'.'; 20_000]).unwrap();
    let script = r"
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    with mmap.mmap(file.fileno(), 0) as map:
        map[0:5] = b'start'
        map[10000:10003] = b'mid'
        map.flush()
        map[19997:20000] = b'end'
";
    if !python(script, &path) {
        return;
    }
    let content = fs::read(&path).unwrap();
    assert_eq!(
        (&content[..5], &content[10_000..10_003], &content[19_997..]),
        (&b"start"[..], &b"mid"[..], &b"end"[..])
    );
    assert_eq!(content.iter().filter(|&&byte| byte == b'.').count(), 20_000 - 11);
    // What the mapping wrote last has reached the core, too.
    mount.settle();
    let file = File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut end = [0; 3];
    file.read_exact_at(&mut end, 19_997).unwrap();
    assert_eq!(&end, b"end");
}

#[test]
fn a_private_mapping_does_not() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, vec![b'.'; 5_000]).unwrap();
    let script = r"
import mmap, sys
with open(sys.argv[1], 'rb') as file:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as map:
        map[0:5] = b'start'
        assert map[0:6] == b'start.'
";
    if python(script, &path) {
        assert_eq!(fs::read(&path).unwrap(), vec![b'.'; 5_000]);
    }
}

#[test]
fn a_mapping_and_a_handle_see_each_other() {
    let Some(mount) = support::model() else { return };
    let path = mount.path("file");
    fs::write(&path, vec![b'.'; 5_000]).unwrap();
    python(
        r"
import mmap, os, sys
with open(sys.argv[1], 'r+b', buffering=0) as file:
    with mmap.mmap(file.fileno(), 0) as map:
        os.pwrite(file.fileno(), b'handle', 100)
        assert map[100:106] == b'handle'
        map[200:207] = b'mapping'
        assert os.pread(file.fileno(), 7, 200) == b'mapping'
",
        &path,
    );
}
