//! Spec files: environments in files of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use spfs_model::{EnvItem, EnvSpec};

use crate::live_layer::{LiveLayer, LiveSpec};
use crate::nearest::nearest;
use crate::{RepoError, Result};

/// What the names of spec files end in.
const SUFFIX: &str = ".spfs.yaml";

/// What stands in for a folder.
const IN_FOLDER: &str = "layer.spfs.yaml";

/// Nobody writes longer ones; more is refused before it is parsed.
const BYTES_MAX: u64 = 1 << 20;

/// What any spec file says first.
#[derive(Deserialize)]
struct Api {
    api: Option<String>,
}

#[derive(Deserialize)]
struct RunSpec {
    #[serde(default)]
    layers: Vec<String>,
}

/// An environment whose spec files have been read.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    /// What is in repositories, with the items of run specs in their places.
    pub(crate) items: Vec<EnvItem>,
    /// What is not, and the spec file of each.
    pub(crate) live: Vec<(PathBuf, LiveLayer)>,
}

/// The items of an environment with those of its spec files in their places.
pub(crate) fn expand(spec: &EnvSpec) -> Result<Expanded> {
    let mut expanded = Expanded::default();
    expand_into(spec, &mut Vec::new(), &mut expanded)?;
    Ok(expanded)
}

/// The items of an environment that repositories keep, spec files put in their place; what they
/// show of the host is left out.
pub fn stored_items(spec: &EnvSpec) -> Result<Vec<EnvItem>> {
    Ok(expand(spec)?.items)
}

/// As [`expand`], for what works on repositories alone.
pub(crate) fn expand_stored(spec: &EnvSpec) -> Result<Vec<EnvItem>> {
    let Expanded { items, live } = expand(spec)?;
    match live.into_iter().next() {
        None => Ok(items),
        Some((path, _)) => Err(RepoError::LiveLayer { path }),
    }
}

fn expand_into(spec: &EnvSpec, within: &mut Vec<PathBuf>, expanded: &mut Expanded) -> Result<()> {
    for item in &spec.0 {
        let EnvItem::SpecFile(path) = item else {
            expanded.items.push(item.clone());
            continue;
        };
        let (path, text) = read(path)?;
        // A file may be named twice, as long as it is not named within itself.
        if within.contains(&path) {
            return Err(RepoError::SpecFileLoop { path });
        }
        let refuse = |reason| RepoError::SpecFile { path: path.clone(), reason };
        let spec = parse(&text).map_err(refuse)?;
        warn_of_unknown_keys(&path, &text, &spec);
        match spec {
            Spec::Run(inner) => {
                within.push(path);
                expand_into(&inner, within, expanded)?;
                within.pop();
            }
            Spec::Live(spec) => {
                let layer = spec.below(path.parent().unwrap_or(&path)).map_err(refuse)?;
                // As layers: what is named again is there once.
                if !expanded.live.iter().any(|(_, known)| *known == layer) {
                    expanded.live.push((path, layer));
                }
            }
        }
    }
    Ok(())
}

/// The true path and the content of a spec file.
fn read(path: &Path) -> Result<(PathBuf, String)> {
    let refuse =
        |path: &Path, reason: String| Err(RepoError::SpecFile { path: path.to_owned(), reason });
    let file = if path.is_dir() { path.join(IN_FOLDER) } else { path.to_owned() };
    if !file.as_os_str().to_string_lossy().ends_with(SUFFIX) {
        return refuse(&file, format!("its name does not end in \"{SUFFIX}\""));
    }
    let file = fs::canonicalize(&file)
        .map_err(|source| RepoError::io("read the spec file", &file, source))?;
    let metadata =
        fs::metadata(&file).map_err(|source| RepoError::io("read the spec file", &file, source))?;
    if !metadata.is_file() {
        return refuse(&file, "it is not a file".to_owned());
    }
    if metadata.len() > BYTES_MAX {
        return refuse(&file, format!("it is longer than {BYTES_MAX} bytes"));
    }
    match fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(RepoError::io("read the spec file", file, source)),
    }
}

/// What a spec file says.
#[derive(Debug)]
enum Spec {
    /// Items in place of the file.
    Run(EnvSpec),
    /// Files and directories of the host.
    Live(LiveSpec),
}

/// Reads the text of a spec file, or says what is wrong with it.
fn parse(text: &str) -> Result<Spec, String> {
    let yaml = |error: serde_saphyr::Error| error.to_string();
    let api = serde_saphyr::from_str::<Api>(text).map_err(yaml)?.api;
    match api.as_deref() {
        Some("spfs/v0/runspec" | "v0/runspec") => {}
        // upstream takes what does not say otherwise for a live layer
        None | Some("spfs/v0/livelayer" | "v0/livelayer" | "v0/layer") => {
            return serde_saphyr::from_str(text).map(Spec::Live).map_err(yaml);
        }
        Some(other) => return Err(format!("{other:?} is an api that is not known here")),
    }
    let spec = serde_saphyr::from_str::<RunSpec>(text).map_err(yaml)?;
    let item = |text: &String| {
        let refused = |error| format!("{text:?} is not an item: {}", chain(&error));
        text.parse::<EnvItem>().map_err(refused)
    };
    spec.layers.iter().map(item).collect::<Result<_, _>>().map(EnvSpec).map(Spec::Run)
}

/// Says which keys mean nothing. As upstream has it they do no harm, but whoever wrote one expects
/// something of it.
fn warn_of_unknown_keys(path: &Path, text: &str, spec: &Spec) {
    for (key, known) in unknown_keys(text, spec) {
        let meant = nearest(&key, known.iter().copied());
        let meant = meant.map(|name| format!(": did you mean {name:?}?")).unwrap_or_default();
        tracing::warn!("the key {key:?} in the spec file {} is not known{meant}", path.display());
    }
}

/// The keys that mean nothing, each with those that would mean something in its place.
fn unknown_keys(text: &str, spec: &Spec) -> Vec<(String, &'static [&'static str])> {
    const OF_ENTRY: &[&str] = &["src", "bind", "dest"];
    type Keys = BTreeMap<String, IgnoredAny>;
    #[derive(Default, Deserialize)]
    struct Entries {
        #[serde(default)]
        contents: Vec<Keys>,
    }
    let top: Keys = serde_saphyr::from_str(text).unwrap_or_default();
    let (known, entries) = match spec {
        Spec::Run(_) => (&["api", "layers"], Entries::default()),
        Spec::Live(_) => (&["api", "contents"], serde_saphyr::from_str(text).unwrap_or_default()),
    };
    let of_top = top.into_keys().map(|key| (key, &known[..]));
    let of_entries = entries.contents.into_iter().flat_map(Keys::into_keys);
    let all = of_top.chain(of_entries.map(|key| (key, OF_ENTRY)));
    all.filter(|(key, known)| !known.contains(&key.as_str())).collect()
}

/// Whether a text can be that of a spec file. Nothing is looked for on the disk.
pub fn check_spec_text(text: &str) -> Result<(), String> {
    let spec = parse(text)?;
    drop(unknown_keys(text, &spec));
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
