//! `/etc/synthetic.conf`, which makes names in the sealed root directory of a Mac
//! (synthetic.conf(5)): a line with a name alone makes an empty directory to mount on, a line with
//! a name, a tab and a path makes a symbolic link.

/// The file.
pub(crate) const FILE: &str = "/etc/synthetic.conf";

/// The line that is ours, and the only one that is ever added or removed.
pub(crate) const LINE: &str = "spfs";

/// The program that makes new lines take effect; `-t` needs no restart.
pub(crate) const TOOL: &str = "/System/Library/Filesystems/apfs.fs/Contents/Resources/apfs.util";

/// What the file says of our name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing.
    Missing,
    /// It is an empty directory.
    Directory,
    /// Somebody made it a link to this path.
    Elsewhere(String),
}

/// What becomes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// It stays as it is.
    Nothing,
    /// It gets this text.
    Write(String),
    /// It goes: nothing is in it any more.
    Remove,
}

/// What the text says of our name.
pub(crate) fn entry(text: &str) -> Entry {
    let named = |line: &str| match line.split_once('\t') {
        None if line == LINE => Some(Entry::Directory),
        Some((LINE, target)) => Some(Entry::Elsewhere(target.to_owned())),
        _ => None,
    };
    text.lines().find_map(named).unwrap_or(Entry::Missing)
}

/// Adds our line at the end.
///
/// # Errors
/// The path that our name leads to, when somebody has made it a link.
pub(crate) fn add(text: &str) -> Result<Edit, String> {
    match entry(text) {
        Entry::Directory => Ok(Edit::Nothing),
        Entry::Elsewhere(target) => Err(target),
        // The last line counts only when it ends.
        Entry::Missing if text.is_empty() || text.ends_with('\n') => {
            Ok(Edit::Write(format!("{text}{LINE}\n")))
        }
        Entry::Missing => Ok(Edit::Write(format!("{text}\n{LINE}\n"))),
    }
}

/// Removes our line wherever it stands, and nothing else.
pub(crate) fn remove(text: &str) -> Edit {
    let is_ours = |line: &&str| line.trim_end_matches(['\r', '\n']) == LINE;
    let kept: String = text.split_inclusive('\n').filter(|line| !is_ours(line)).collect();
    match kept.len() {
        length if length == text.len() => Edit::Nothing,
        0 => Edit::Remove,
        _ => Edit::Write(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> String {
        match add(text).unwrap() {
            Edit::Write(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_line_is_added_and_only_once() {
        for (before, after) in [
            ("", "spfs\n"),
            ("nix\n", "nix\nspfs\n"),
            ("nix", "nix\nspfs\n"),
            ("# spfs\ncvmfs\tUsers/Shared/cvmfs\n", "# spfs\ncvmfs\tUsers/Shared/cvmfs\nspfs\n"),
            ("spfs2\n spfs\n", "spfs2\n spfs\nspfs\n"),
        ] {
            assert_eq!(added(before), after, "{before:?}");
            assert_eq!(entry(after), Entry::Directory);
            assert_eq!(add(after), Ok(Edit::Nothing), "{after:?}");
        }
    }

    #[test]
    fn removing_undoes_adding() {
        for before in ["nix\n", "a\tb/c\n# comment\n", "a\r\nb\r\n"] {
            assert_eq!(remove(&added(before)), Edit::Write(before.to_owned()), "{before:?}");
        }
        assert_eq!(remove(&added("")), Edit::Remove);
        // A missing end of the last line is the one thing that is not taken back.
        assert_eq!(remove(&added("nix")), Edit::Write("nix\n".to_owned()));
    }

    #[test]
    fn only_our_line_is_removed() {
        assert_eq!(remove("a\nspfs\nb"), Edit::Write("a\nb".to_owned()));
        assert_eq!(remove("a\nspfs"), Edit::Write("a\n".to_owned()));
        for text in ["", "nix\n", "spfs\tUsers/x\n", "# spfs\n", "spfs2\n"] {
            assert_eq!(remove(text), Edit::Nothing, "{text:?}");
        }
    }

    #[test]
    fn a_link_of_somebody_else_is_respected() {
        let text = "spfs\tSystem/Volumes/Data/spfs\n";
        assert_eq!(entry(text), Entry::Elsewhere("System/Volumes/Data/spfs".to_owned()));
        assert_eq!(add(text), Err("System/Volumes/Data/spfs".to_owned()));
    }
}
