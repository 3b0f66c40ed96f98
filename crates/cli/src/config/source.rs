//! Reading the sources of a configuration and laying one over the other.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{self, Kind, VariableKey};
use crate::env::{self, Environment};

/// Endings of the other formats that upstream reads beside TOML.
const OTHER_FORMATS: &[&str] = &["conf", "yaml", "yml", "json", "ini"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file is there and cannot be read.
    #[error("cannot read the configuration file {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not TOML.
    #[error("the configuration file {path} is not valid TOML", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A key has a value of the wrong kind.
    #[error("configuration key {key} in {origin} must be {wanted}, not {found}")]
    Kind {
        /// The key.
        key: String,
        /// The file or variable.
        origin: String,
        /// What it must be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// The values do not fit together.
    #[error("the configuration is not valid")]
    Value {
        /// Why.
        source: Box<toml::de::Error>,
    },
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
enum Origin<'a> {
    File(&'a Path),
    Variable(&'a str),
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}

/// The sources read so far, one over the other.
#[derive(Debug, Default)]
pub(super) struct Merged {
    table: Table,
    warnings: Vec<String>,
}

impl Merged {
    /// Lays the file over what is there; a file that does not exist changes nothing.
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.warn_of_other_formats(path);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(());
            }
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        self.read_text(path, &text)
    }

    /// Lays the text of a file over what is there.
    pub(super) fn read_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table = text.parse::<Table>().map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        self.lay_over(table, &mut Vec::new(), Origin::File(path))
    }

    /// Lays the variables over what is there.
    pub(super) fn read_environment(&mut self, env: &Environment) -> Result<(), ConfigError> {
        for (name, text) in env.texts() {
            match keys::of_variable(name) {
                VariableKey::Other => {}
                VariableKey::Unknown => self
                    .warnings
                    .push(format!("the variable {name} sets no configuration key that spfs knows")),
                VariableKey::Known(path) => {
                    let kind = keys::kind_of(&path).unwrap_or(Kind::Any);
                    let value = from_text(text, kind);
                    self.set(&path, value, Origin::Variable(name))?;
                }
            }
        }
        Ok(())
    }

    /// The values and the warnings.
    pub(super) fn finish(self) -> (Table, Vec<String>) {
        (self.table, self.warnings)
    }

    fn warn_of_other_formats(&mut self, path: &Path) {
        for ending in OTHER_FORMATS {
            let other = path.with_extension(ending);
            if other.exists() {
                self.warnings.push(format!(
                    "{} is not read: move its settings to {}",
                    other.display(),
                    path.display()
                ));
            }
        }
    }

    fn lay_over(
        &mut self,
        table: Table,
        path: &mut Vec<String>,
        origin: Origin<'_>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            path.push(key);
            match value {
                Value::Table(inner) if keys::is_section(path) => {
                    self.lay_over(inner, path, origin)?;
                }
                value if keys::kind_of(path).is_some() => self.set(path, value, origin)?,
                _ => self.warnings.push(unknown(path, origin)),
            }
            path.pop();
        }
        Ok(())
    }

    fn set(
        &mut self,
        path: &[String],
        value: Value,
        origin: Origin<'_>,
    ) -> Result<(), ConfigError> {
        let kind = keys::kind_of(path).unwrap_or(Kind::Any);
        if let Some(wanted) = mismatch(&value, kind) {
            return Err(ConfigError::Kind {
                key: path.join("."),
                origin: origin.to_string(),
                wanted,
                found: value.to_string(),
            });
        }
        let mut table = &mut self.table;
        let Some((last, sections)) = path.split_last() else { return Ok(()) };
        for section in sections {
            let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => table = inner,
                // Sections never hold plain values: `lay_over` and the key table see to it.
                _ => return Ok(()),
            }
        }
        table.insert(last.clone(), value);
        Ok(())
    }
}

fn unknown(path: &[String], origin: Origin<'_>) -> String {
    let meant = keys::nearest(path).map(|key| format!(": did you mean {key}?"));
    format!("unknown configuration key {} in {origin}{}", path.join("."), meant.unwrap_or_default())
}

/// A variable's text as the value that its key holds; text that does not fit stays text, and is
/// then refused with the key's name.
fn from_text(text: &str, kind: Kind) -> Value {
    let plain = || Value::String(text.to_owned());
    match kind {
        Kind::Text | Kind::Word(_) | Kind::Any => plain(),
        Kind::Switch => env::switch(text).map_or_else(plain, Value::Boolean),
        Kind::Number => text.parse().map_or_else(|_| plain(), Value::Integer),
        Kind::TextList => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
    }
}

/// What `value` should have been; `None` when it fits.
fn mismatch(value: &Value, kind: Kind) -> Option<String> {
    let (fits, wanted) = match kind {
        Kind::Any => (true, String::new()),
        Kind::Text => (value.is_str(), "text".to_owned()),
        Kind::Switch => (value.is_bool(), "true or false".to_owned()),
        Kind::Number => (value.as_integer().is_some_and(|n| n >= 0), "a number".to_owned()),
        Kind::TextList => (
            value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
            "a list of texts".to_owned(),
        ),
        Kind::Word(words) => (
            value.as_str().is_some_and(|word| words.contains(&word)),
            format!("one of {}", words.join(", ")),
        ),
    };
    (!fits).then_some(wanted)
}
