//! Patterns of paths in the manner of gitignore: what `spfs reset` is told to reset.
//!
//! A pattern without a slash (but one at its end) means a name at any depth, another one a path
//! from the root of the view; a slash at the end means directories alone. `*` and `?` stop at
//! slashes, `**` does not. The last pattern that fits decides, `!` takes out again, and what a
//! directory is told holds for everything in it.

/// A list of patterns.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<Pattern>);

/// A pattern that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern {pattern:?}: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

#[derive(Debug, Clone)]
struct Pattern {
    segments: Vec<Segment>,
    negated: bool,
    directories_only: bool,
}

#[derive(Debug, Clone)]
enum Segment {
    /// Any number of components, also none.
    AnyDepth,
    /// One component.
    Name(Vec<u8>),
}

impl Patterns {
    /// Reads patterns.
    pub fn parse(patterns: &[String]) -> Result<Self, PatternError> {
        let read = |text: &String| {
            Pattern::parse(text).map_err(|reason| PatternError { pattern: text.clone(), reason })
        };
        Ok(Self(patterns.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path relative to the root is meant.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let components: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        (1..=components.len()).any(|depth| {
            let is_directory = is_directory || depth < components.len();
            self.decide(&components[..depth], is_directory)
        })
    }

    fn decide(&self, path: &[&[u8]], is_directory: bool) -> bool {
        self.0
            .iter()
            .rfind(|pattern| {
                (is_directory || !pattern.directories_only) && fits(&pattern.segments, path)
            })
            .is_some_and(|pattern| !pattern.negated)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // People point at what they see: /spfs is where the root of the view is mounted.
        let (from_root, text) = match text.strip_prefix("/spfs") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => (true, rest),
            _ => (false, text),
        };
        if from_root && text.trim_matches('/').is_empty() {
            return Ok(Self {
                segments: vec![Segment::AnyDepth],
                negated,
                directories_only: false,
            });
        }
        let (directories_only, text) = match text.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let anchored = from_root || text.contains('/');
        let mut segments = Vec::new();
        if !anchored {
            segments.push(Segment::AnyDepth);
        }
        for component in text.strip_prefix('/').unwrap_or(text).split('/') {
            segments.push(match component {
                "" => return Err("a component is empty"),
                "." | ".." => return Err("'.' and '..' are not allowed"),
                "**" => Segment::AnyDepth,
                name => {
                    check_classes(name.as_bytes())?;
                    Segment::Name(name.as_bytes().to_vec())
                }
            });
        }
        Ok(Self { segments, negated, directories_only })
    }
}

fn check_classes(mut glob: &[u8]) -> Result<(), &'static str> {
    while let Some((first, rest)) = glob.split_first() {
        glob = match first {
            b'[' => class(rest, b'\0').ok_or("a '[' is not closed")?.1,
            b'\\' => rest.get(1..).ok_or("a '\\' has nothing after it")?,
            _ => rest,
        };
    }
    Ok(())
}

fn fits(segments: &[Segment], path: &[&[u8]]) -> bool {
    match segments.split_first() {
        None => path.is_empty(),
        Some((Segment::AnyDepth, [])) => !path.is_empty(),
        Some((Segment::AnyDepth, rest)) => (0..path.len()).any(|skip| fits(rest, &path[skip..])),
        Some((Segment::Name(glob), rest)) => path
            .split_first()
            .is_some_and(|(name, below)| name_fits(glob, name) && fits(rest, below)),
    }
}

/// Matches one component. A later `*` makes an earlier one's choice final, so this is quadratic at
/// worst.
fn name_fits(mut glob: &[u8], mut name: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', rest)) = glob.split_first() {
            retry = Some((rest, name));
            glob = rest;
            continue;
        }
        let next = match name.split_first() {
            Some((byte, left)) => one_fits(glob, *byte).map(|rest| (rest, left)),
            None if glob.is_empty() => return true,
            None => None,
        };
        (glob, name) = match (next, retry) {
            (Some(next), _) => next,
            (None, Some((after_star, [_, left @ ..]))) => {
                retry = Some((after_star, left));
                (after_star, left)
            }
            (None, _) => return false,
        };
    }
}

/// Matches one byte and returns the rest of the pattern.
fn one_fits(glob: &[u8], byte: u8) -> Option<&[u8]> {
    match glob.split_first()? {
        (b'?', rest) => Some(rest),
        (b'[', rest) => {
            let (fits, rest) = class(rest, byte)?;
            fits.then_some(rest)
        }
        (b'\\', rest) => rest.split_first().filter(|(literal, _)| **literal == byte).map(|x| x.1),
        (literal, rest) => (*literal == byte).then_some(rest),
    }
}

/// Reads a class after its `[`: whether `byte` is in it, and what follows.
fn class(glob: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match glob.split_first()? {
        (b'!' | b'^', rest) => (true, rest),
        _ => (false, glob),
    };
    let mut found = false;
    let mut first = true;
    loop {
        let (low, after) = rest.split_first()?;
        if *low == b']' && !first {
            return Some((found != negated, after));
        }
        first = false;
        rest = match after {
            [b'-', high, after @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                after
            }
            _ => {
                found |= *low == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        Patterns::parse(&texts).unwrap()
    }

    fn matched(texts: &[&str], path: &str) -> bool {
        patterns(texts).matches(path.as_bytes(), false)
    }

    #[test]
    fn a_name_means_every_depth() {
        for path in ["a.txt", "x/a.txt", "x/y/a.txt", "a.txt/below"] {
            assert!(matched(&["a.txt"], path), "{path}");
        }
        assert!(!matched(&["a.txt"], "b.txt"));
        assert!(!matched(&["a.txt"], "xa.txt"));
    }

    #[test]
    fn a_path_means_one_place_and_all_below_it() {
        for texts in [["lib/python"], ["/lib/python"], ["/spfs/lib/python"]] {
            assert!(matched(&texts, "lib/python"));
            assert!(matched(&texts, "lib/python/os.py"));
            assert!(!matched(&texts, "usr/lib/python"));
            assert!(!matched(&texts, "lib"));
        }
        assert!(matched(&["/a"], "a") && !matched(&["/a"], "b/a"));
    }

    #[test]
    fn the_mount_point_means_everything() {
        for text in ["/spfs", "/spfs/"] {
            assert!(matched(&[text], "a") && matched(&[text], "b/c"));
        }
        assert!(!matched(&["/spfsx"], "a"));
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        assert!(matched(&["*"], "a") && matched(&["*"], "a/b"));
        assert!(matched(&["*.o"], "x/y.o") && !matched(&["*.o"], "x/y.oo"));
        assert!(matched(&["a*b*c"], "aXbbYc") && !matched(&["a*b*c"], "acb"));
        assert!(matched(&["src/*.c"], "src/a.c") && !matched(&["src/*.c"], "src/x/a.c"));
        assert!(matched(&["src/**/a.c"], "src/a.c") && matched(&["src/**/a.c"], "src/x/y/a.c"));
        assert!(matched(&["**/a/b"], "a/b") && matched(&["**/a/b"], "x/a/b"));
        assert!(matched(&["a/**"], "a/x") && !matched(&["a/**"], "a"));
    }

    #[test]
    fn question_marks_and_classes_match_one_byte() {
        assert!(matched(&["a?c"], "abc") && !matched(&["a?c"], "ac"));
        assert!(matched(&["[a-c]x"], "bx") && !matched(&["[a-c]x"], "dx"));
        assert!(matched(&["[!a-c]x"], "dx") && !matched(&["[!a-c]x"], "ax"));
        assert!(matched(&["[]]"], "]") && matched(&["[a-]"], "-"));
        assert!(matched(&["\\*"], "*") && !matched(&["\\*"], "a"));
    }

    #[test]
    fn a_slash_at_the_end_means_directories() {
        let build = patterns(&["build/"]);
        assert!(build.matches(b"build", true) && build.matches(b"x/build", true));
        assert!(!build.matches(b"build", false));
        assert!(build.matches(b"build/file", false));
    }

    #[test]
    fn the_last_pattern_decides() {
        assert!(!matched(&["*.txt", "!keep.txt"], "keep.txt"));
        assert!(matched(&["*.txt", "!keep.txt"], "other.txt"));
        assert!(matched(&["!keep.txt", "*.txt"], "keep.txt"));
    }

    #[test]
    fn names_need_not_be_text() {
        assert!(patterns(&["a?"]).matches(b"a\xff", false));
    }

    #[test]
    fn patterns_without_meaning_are_refused() {
        for bad in ["", "/", "a//b", "../x", "a/./b", "[a", "a\\", "!"] {
            let error = Patterns::parse(&[bad.to_owned()]).unwrap_err();
            assert_eq!(error.pattern, bad);
        }
    }
}
