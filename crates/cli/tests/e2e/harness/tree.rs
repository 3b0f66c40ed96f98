//! What a directory tree looks like, in everything the format holds.
//!
//! A script does the looking, since only processes of a runtime see its files.

use std::path::Path;
use std::process::Command;

/// Prints one line for each name below the directory `$1`: type, mode, size, link target and
/// content of everything, in a fixed order.
pub(crate) const LIST: &str = r#"cd "$1" && {
    find . -mindepth 1 \( -type d -printf '%P %y %m\n' -o -printf '%P %y %m %s %l\n' \) | sort
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum
}"#;

/// The listing of a directory that the test itself can see.
pub(crate) fn list(dir: &Path) -> String {
    let output = Command::new("sh").args(["-c", LIST, "sh"]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with the first differences when the listings are not equal.
pub(crate) fn assert_same_tree(wanted: &str, found: &str) {
    if wanted == found {
        return;
    }
    let minus = wanted.lines().filter(|line| !found.lines().any(|other| other == *line));
    let plus = found.lines().filter(|line| !wanted.lines().any(|other| other == *line));
    let told: Vec<String> = minus
        .map(|line| format!("- {line}"))
        .chain(plus.map(|line| format!("+ {line}")))
        .take(20)
        .collect();
    panic!("the trees differ:\n{}", told.join("\n"));
}
