//! Rules that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::run::{output, root};

/// The longest source file.
const LINES_MAX: usize = 1000;

/// Crates whose sources may use `unsafe`.
const UNSAFE_HOME: &str = "crates/sys/";

/// Where the platform may be asked for.
const PLATFORM_HOMES: [&str; 4] = [
    "crates/sys/",
    "crates/fuse/src/linux.rs",
    "crates/fuse/src/macos.rs",
    // The one line that chooses between the two.
    "crates/fuse/src/lib.rs",
];

pub(crate) fn tidy() -> Result {
    let mut problems = Vec::new();
    for path in tracked()? {
        let text = fs::read_to_string(root().join(&path))?;
        check_file(&path, &text, &mut problems);
    }
    if problems.is_empty() {
        println!("tidy");
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    Err(format!("{} places are not tidy", problems.len()).into())
}

fn tracked() -> Result<Vec<String>> {
    let listed =
        output(Command::new("git").current_dir(root()).args(["ls-files", "*.rs", "*.md"]))?;
    let exists = |path: &&str| root().join(PathBuf::from(path)).exists();
    Ok(listed.lines().filter(exists).map(str::to_owned).collect())
}

fn check_file(path: &str, text: &str, problems: &mut Vec<String>) {
    let mut report = |line: usize, what: &str| problems.push(format!("{path}:{line}: {what}"));
    for (number, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            report(number + 1, "white space at the end of the line");
        }
    }
    if Path::new(path).extension().is_none_or(|extension| extension != "rs")
        || path.starts_with("xtask/")
    {
        return;
    }
    if text.lines().count() > LINES_MAX {
        report(1, "a file over 1000 lines");
    }
    let is_crate_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    let may_be_unsafe = path.starts_with(UNSAFE_HOME);
    if is_crate_root && !may_be_unsafe && !text.contains("#![forbid(unsafe_code)]") {
        report(1, "a crate that does not forbid unsafe code");
    }
    let is_module = path.contains("/src/") && !path.ends_with("/tests.rs");
    if is_module && !text.starts_with("//!") {
        report(1, "a module that does not say what it is");
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let is_test = path.contains("/tests/") || path.starts_with("crates/testkit/");
        if code.contains("target_os")
            && !is_test
            && !PLATFORM_HOMES.iter().any(|home| path.starts_with(home))
        {
            report(number + 1, "the platform is asked for outside its home");
        }
        if ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark)) {
            report(number + 1, "an open end; it belongs in an issue");
        }
        if code.contains("#[allow(") {
            report(number + 1, "#[allow]: use #[expect] with a reason");
        }
        if code.contains("#[ignore") {
            report(number + 1, "an ignored test");
        }
    }
}
