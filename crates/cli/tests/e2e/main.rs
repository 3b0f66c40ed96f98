//! The real binary, end to end: repositories on disk, real mounts, as root and as an ordinary
//! user. Each test has a storage, a home and a configuration of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod bad_input;
mod bugs;
mod doctor;
mod edit;
mod export;
mod flags;
mod harness;
mod help;
mod kinds;
mod life;
mod live;
mod real_work;
mod render;
mod repository;
mod roots;
mod routed;
mod run;
mod semantics;
mod sharing;
mod upstream;
mod volumes;

/// Every file of this folder is a module of this binary.
#[test]
fn no_test_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|ending| ending == "rs") && stem != "main" {
            assert!(main.contains(&format!("mod {stem};")), "{stem} is not a module of main.rs");
        }
    }
}
