//! Tests of repositories, against the files of upstream and against what can go wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod addresses;
mod archive;
mod checking;
mod cleaning;
mod commit;
mod damage;
mod full_disk;
mod hostile;
mod kill;
mod kinds;
mod layered;
mod rendering;
mod resolving;
mod source_tree;
mod support;
mod syncing;
mod tagging;
mod vectors;

#[test]
fn every_file_of_tests_is_part_of_this_program() {
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let module = file.strip_suffix(".rs").unwrap();
        assert!(module == "main" || main.contains(&format!("\nmod {module};")), "{file}");
    }
}
