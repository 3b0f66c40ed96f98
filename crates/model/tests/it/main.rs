//! The laws of the model, and the files that upstream wrote.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod deep;
mod hostile;
mod laws;
mod layering;
mod support;
mod vectors;
mod walks;

#[test]
fn every_file_of_tests_is_part_of_this_program() {
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let module = file.strip_suffix(".rs").unwrap();
        assert!(module == "main" || main.contains(&format!("\nmod {module};")), "{file}");
    }
}
