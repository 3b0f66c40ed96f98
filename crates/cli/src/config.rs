//! The configuration: `/etc/spfs.toml`, then `$XDG_CONFIG_HOME/spfs/spfs.toml`, then `SPFS_*`
//! variables; a later source wins key by key. Flags are applied by the commands.
//!
//! The keys are upstream's (a studio has such a file already) with the defaults that upstream
//! documents: they hold whether or not the section is present. A key nobody knows is warned about,
//! a value of the wrong type is an error that names the source.

mod keys;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spfs_model::{DigestStrategy, EncodingFormat};
use spfs_repo::{Encoding, LayerTexts};

use crate::env::Environment;
pub(crate) use source::ConfigError;

/// The system's configuration file.
const SYSTEM_FILE: &str = "/etc/spfs.toml";

/// The effective configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    /// Who tags are signed by.
    pub(crate) user: User,
    /// The local repository.
    pub(crate) storage: Storage,
    /// Other repositories by name.
    pub(crate) remote: BTreeMap<String, Remote>,
    /// How runtimes are mounted.
    pub(crate) filesystem: Filesystem,
    /// The daemon.
    pub(crate) fuse: Fuse,
    /// Accepted and unused: there is no monitor process.
    pub(crate) monitor: Monitor,
    /// Accepted and unused: nothing is sent to anybody.
    pub(crate) sentry: BTreeMap<String, toml::Value>,
    /// What runtimes keep of the caller's environment.
    pub(crate) environment: Variables,
}

impl Config {
    /// How new objects are stored.
    pub(crate) fn encoding(&self) -> Encoding {
        // Other words are refused when the configuration is read.
        let strategy = match self.storage.digest_strategy.as_str() {
            "Legacy" => DigestStrategy::Legacy,
            _ => DigestStrategy::WithKindAndSalt,
        };
        let format = match self.storage.encoding_format.as_str() {
            "Legacy" => EncodingFormat::Legacy,
            _ => EncodingFormat::FlatBuffers,
        };
        Encoding { strategy, format }
    }

    /// Who new tags are signed by.
    pub(crate) fn signature(&self) -> String {
        format!("{}@{}", self.user.name, self.user.domain)
    }
}

/// Who tags are signed by: `name@domain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    /// Login name.
    pub(crate) name: String,
    /// Host name.
    pub(crate) domain: String,
}

/// The local repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Storage {
    /// Where it lies.
    pub(crate) root: PathBuf,
    /// Whether `render` may link payloads of other users into what it makes.
    pub(crate) allow_payload_sharing_between_users: bool,
    /// The namespace that tags are read from and written to.
    pub(crate) tag_namespace: Option<String>,
    /// How new objects are hashed.
    pub(crate) digest_strategy: String,
    /// How new objects are stored.
    pub(crate) encoding_format: String,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            root: PathBuf::new(),
            allow_payload_sharing_between_users: false,
            tag_namespace: None,
            digest_strategy: "WithKindAndSalt".to_owned(),
            encoding_format: "FlatBuffers".to_owned(),
        }
    }
}

/// Another repository: an address, or its parts (`scheme` and parameters).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Remote(BTreeMap<String, toml::Value>);

/// What a remote is given as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemoteForm<'a> {
    /// One text.
    Address(std::borrow::Cow<'a, str>),
    /// A folder.
    Folder {
        /// Where it is.
        path: &'a str,
        /// Whether it is made when it is missing.
        create: bool,
    },
    /// A tar file.
    Tar {
        /// Where it is.
        path: &'a str,
        /// Whether one is begun when it is missing.
        create: bool,
    },
    /// The parts of a proxy, or with `repair` of a fallback.
    Layers {
        /// Whether it is a fallback.
        repair: bool,
        /// The names or addresses of its repositories.
        layers: LayerTexts,
    },
}

impl Remote {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(toml::Value::as_str)
    }

    /// What it is given as; else what is wrong with it.
    pub(crate) fn form(&self) -> Result<RemoteForm<'_>, String> {
        if let Some(address) = self.text("address") {
            return Ok(RemoteForm::Address(address.into()));
        }
        let path = || self.text("path").ok_or("it has no path");
        match self.text("scheme") {
            None => Err("it has neither an address nor a scheme".to_owned()),
            Some("fs" | "file") => {
                Ok(RemoteForm::Folder { path: path()?, create: self.switch("create") })
            }
            Some(scheme @ ("proxy" | "fallback")) => {
                let repair = scheme == "fallback";
                Ok(RemoteForm::Layers { repair, layers: self.layers()? })
            }
            Some("tar") => Ok(RemoteForm::Tar { path: path()?, create: self.switch("create") }),
            // Whoever parses addresses knows what to say.
            Some(scheme) => Ok(RemoteForm::Address(format!("{scheme}:").into())),
        }
    }

    fn switch(&self, key: &str) -> bool {
        match self.0.get(key) {
            Some(toml::Value::String(text)) => text == "true" || text == "1",
            value => value.and_then(toml::Value::as_bool).unwrap_or(false),
        }
    }

    fn layers(&self) -> Result<LayerTexts, String> {
        let primary = self.text("primary").ok_or("it names no primary repository")?.to_owned();
        let secondary = match self.0.get("secondary") {
            None => Vec::new(),
            Some(toml::Value::String(one)) => vec![one.clone()],
            Some(toml::Value::Array(many)) => many
                .iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or("its secondary repositories are not a list of texts")?,
            Some(_) => return Err("its secondary repositories are not a list of texts".to_owned()),
        };
        let include_secondary_tags =
            !self.0.contains_key("include_secondary_tags") || self.switch("include_secondary_tags");
        Ok(LayerTexts { primary, secondary, include_secondary_tags })
    }

    /// The time that this remote's tags are seen at.
    pub(crate) fn when(&self) -> Option<&str> {
        self.text("when")
    }

    /// The namespace that this remote's tags are read from.
    pub(crate) fn tag_namespace(&self) -> Option<&str> {
        self.text("tag_namespace")
    }
}

/// How runtimes are mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Filesystem {
    /// The mount backend's name.
    pub(crate) backend: String,
    /// Accepted and unused: mounts are always made by system calls.
    pub(crate) use_mount_syscalls: bool,
    /// Remotes that a runtime reads what the local repository lacks from.
    pub(crate) secondary_repositories: Vec<String>,
    /// Longest annotation value that is stored inside its layer, in bytes.
    pub(crate) annotation_size_limit: usize,
    /// Accepted and unused while there is no overlayfs backend.
    pub(crate) overlayfs_options: OverlayFsOptions,
}

impl Default for Filesystem {
    fn default() -> Self {
        Self {
            backend: "FuseWithScratch".to_owned(),
            use_mount_syscalls: false,
            secondary_repositories: vec!["origin".to_owned()],
            annotation_size_limit: 16 * 1024,
            overlayfs_options: OverlayFsOptions::default(),
        }
    }
}

/// Options of overlayfs mounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OverlayFsOptions {
    /// Whether copy-up breaks hard links.
    pub(crate) break_hardlinks: bool,
    /// Whether a change of metadata copies the content.
    pub(crate) metadata_copy_up: bool,
    /// What becomes of renamed directories.
    pub(crate) redirect_dir: String,
}

impl Default for OverlayFsOptions {
    fn default() -> Self {
        Self { break_hardlinks: true, metadata_copy_up: true, redirect_dir: "Follow".to_owned() }
    }
}

/// The daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fuse {
    /// Accepted and unused: threads are started as requests wait.
    pub(crate) worker_threads: usize,
    /// Accepted and unused.
    pub(crate) max_blocking_threads: usize,
    /// Accepted and unused: the kernel tells when a mount ends.
    pub(crate) enable_heartbeat: bool,
    /// Accepted and unused.
    pub(crate) heartbeat_interval_seconds: u64,
    /// Accepted and unused.
    pub(crate) heartbeat_grace_period_seconds: u64,
    /// Whether tags of secondary repositories may be resolved.
    pub(crate) include_secondary_tags: bool,
}

impl Default for Fuse {
    fn default() -> Self {
        Self {
            worker_threads: processors().min(8),
            max_blocking_threads: 512,
            enable_heartbeat: false,
            heartbeat_interval_seconds: 60,
            heartbeat_grace_period_seconds: 300,
            include_secondary_tags: true,
        }
    }
}

/// Upstream's monitor process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Monitor {
    /// Its threads.
    pub(crate) worker_threads: usize,
    /// Its blocking threads.
    pub(crate) max_blocking_threads: usize,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { worker_threads: processors().min(2), max_blocking_threads: 2 }
    }
}

/// What runtimes keep of the caller's environment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Variables {
    /// Variables that are exported again inside the runtime, after the rc file.
    pub(crate) variable_names_to_preserve: Vec<String>,
}

/// A loaded configuration and what its user should hear about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Config,
    /// One sentence for each unknown key or ignored file.
    pub(crate) warnings: Vec<String>,
}

/// Reads every source.
pub(crate) fn load(env: &Environment) -> Result<Loaded, ConfigError> {
    load_with(Path::new(SYSTEM_FILE), env)
}

fn load_with(system_file: &Path, env: &Environment) -> Result<Loaded, ConfigError> {
    let user_file = env.config_home().map(|dir| dir.join("spfs/spfs.toml"));
    let files: Vec<&Path> = std::iter::once(system_file).chain(user_file.as_deref()).collect();
    let mut merged = source::Merged::default();
    for file in files {
        merged.read_file(file)?;
    }
    merged.read_environment(env)?;
    let (table, warnings) = merged.finish();
    let mut config: Config = toml::Value::Table(table)
        .try_into()
        .map_err(|source| ConfigError::Value { source: Box::new(source) })?;
    fill_in(&mut config, env);
    Ok(Loaded { config, warnings })
}

/// Reads a text as a configuration file and returns its warnings. Nothing else is looked at.
pub(crate) fn check_text(text: &str) -> Result<Vec<String>, ConfigError> {
    let mut merged = source::Merged::default();
    merged.read_text(Path::new("text"), text)?;
    let (table, warnings) = merged.finish();
    let config: Result<Config, _> = toml::Value::Table(table).try_into();
    let config = config.map_err(|source| ConfigError::Value { source: Box::new(source) })?;
    for remote in config.remote.values() {
        // What is wrong with a remote is told when it is used.
        drop(remote.form());
    }
    Ok(warnings)
}

/// The defaults that depend on who and where we are.
fn fill_in(config: &mut Config, env: &Environment) {
    let root = &config.storage.root;
    config.storage.root = if root.as_os_str().is_empty() {
        env.data_home().map_or_else(|| PathBuf::from("/tmp/spfs"), |data| data.join("spfs"))
    } else {
        env.absolute(&env.expand_home(&root.to_string_lossy()))
    };
    if config.user.name.is_empty() {
        config.user.name = login_name();
    }
    if config.user.domain.is_empty() {
        config.user.domain = host_name();
    }
}

/// The name of the user that this process runs as.
pub(crate) fn login_name() -> String {
    let uid = spfs_sys::ids::euid();
    match spfs_sys::ids::user_name(uid) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => uid.to_string(),
    }
}

/// The name of this host.
pub(crate) fn host_name() -> String {
    spfs_sys::ids::host_name().to_string_lossy().into_owned()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
