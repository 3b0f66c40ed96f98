//! Annotations as people type them: `key:value`, `key=value`, or a map in YAML or JSON.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::{RepoError, Result};

/// Nobody writes longer files of annotations; more is refused before it is parsed.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Keys and values in the order in which they were given.
type Pairs = Vec<(String, String)>;

/// Reads `key=value`, `key:value`, or a map such as `{key: value}`.
///
/// # Errors
/// [`RepoError::Annotation`].
pub fn parse_annotations(text: &str) -> Result<Pairs> {
    let refuse = |reason: String| RepoError::Annotation { text: text.to_owned(), reason };
    let trimmed = text.trim();
    if trimmed.starts_with('{') {
        return parse_map(trimmed).map_err(refuse);
    }
    // As upstream: a value may hold colons, and a key too when an equals sign follows it.
    let pair = trimmed.split_once('=').or_else(|| trimmed.split_once(':'));
    match pair {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(vec![(key.trim().to_owned(), value.trim().to_owned())])
        }
        Some(_) => Err(refuse("its key is empty".to_owned())),
        None => Err(refuse("it is neither KEY:VALUE nor KEY=VALUE nor a map".to_owned())),
    }
}

/// Reads a file that holds a map in YAML or JSON.
///
/// # Errors
/// [`RepoError::Annotation`], and [`RepoError::Io`] when the file cannot be read.
pub fn read_annotations(path: &Path) -> Result<Pairs> {
    let io = |source| RepoError::io("read the annotations in", path, source);
    let refuse =
        |reason: String| RepoError::Annotation { text: path.display().to_string(), reason };
    if fs::metadata(path).map_err(io)?.len() > FILE_BYTES_MAX {
        return Err(refuse(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    parse_map(&fs::read_to_string(path).map_err(io)?).map_err(refuse)
}

/// Keeps of several values of one key the last, at the place where the key came first.
pub fn last_values(pairs: Pairs) -> Pairs {
    let mut kept: Pairs = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        match kept.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => kept.push((key, value)),
        }
    }
    kept
}

fn parse_map(text: &str) -> std::result::Result<Pairs, String> {
    // YAML 1.2: `on` and `no` are texts.
    let options = serde_saphyr::options! { strict_booleans: true };
    let Map(pairs) =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    match pairs.iter().any(|(key, _)| key.is_empty()) {
        true => Err("one of its keys is empty".to_owned()),
        false => Ok(pairs),
    }
}

/// A map that keeps its order.
struct Map(Pairs);

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Map;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of keys to texts")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut pairs = Pairs::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    pairs.push((key, value));
                }
                Ok(Map(pairs))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A text, or a number or switch as it is printed.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Scalar;
        macro_rules! printed {
            ($($visit:ident: $type:ty),*) => {
                $(fn $visit<E>(self, value: $type) -> std::result::Result<Text, E> {
                    Ok(Text(value.to_string()))
                })*
            };
        }
        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            printed!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
        }
        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse_annotations(text).unwrap()
    }

    fn one(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    #[test]
    fn pairs_and_maps_are_read() {
        assert_eq!(pairs("name:value"), one("name", "value"));
        assert_eq!(pairs("name=value"), one("name", "value"));
        assert_eq!(pairs("name=a:b=c"), one("name", "a:b=c"));
        assert_eq!(pairs("url:http://x"), one("url", "http://x"));
        assert_eq!(pairs("empty:"), one("empty", ""));
        let both = [one("b", "2"), one("a", "one two")].concat();
        assert_eq!(pairs("{b: 2, a: one two}"), both);
        assert_eq!(pairs(r#"{"b": "2", "a": "one two"}"#), both);
        assert_eq!(pairs("{on: true, at: 5}"), [one("on", "true"), one("at", "5")].concat());
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, said) in [
            ("name", "neither KEY:VALUE"),
            ("", "neither"),
            (":x", "key is empty"),
            ("=x", "key is empty"),
            ("{a: [1]}", ""),
            ("{a: {b: c}}", ""),
            ("{a", ""),
            ("{\"\": x}", "keys is empty"),
        ] {
            let error = parse_annotations(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn files_hold_maps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        fs::write(&path, "# a comment\nb: 2\na: |\n  two\n  lines\n").unwrap();
        let expected = [one("b", "2"), one("a", "two\nlines\n")].concat();
        assert_eq!(read_annotations(&path).unwrap(), expected);
        fs::write(&path, "- a\n- b\n").unwrap();
        assert!(read_annotations(&path).unwrap_err().to_string().contains("a.yaml"));
        assert!(read_annotations(&dir.path().join("none")).is_err());
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        let given = [one("a", "1"), one("b", "2"), one("a", "3")].concat();
        assert_eq!(last_values(given), [one("a", "3"), one("b", "2")].concat());
    }
}
