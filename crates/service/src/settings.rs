//! What a service works with: repositories, and how new objects are written.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use spfs_model::{DigestStrategy, EncodingFormat};
use spfs_repo::{Encoding, RepoError, Repository};
use spfs_runtime::Runtimes;

use crate::args::StorageArguments;
use crate::failure::chain;
use crate::launch::{format_name, strategy_name};

/// What a service works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The repository that holds records, folders and payloads.
    pub storage_root: PathBuf,
    /// Addresses of repositories that are read when the local one lacks something.
    pub secondary_repositories: Vec<String>,
    /// What is logged, in the form of `RUST_LOG`.
    pub log: String,
    /// How digests of new objects are made.
    pub digest_strategy: DigestStrategy,
    /// How new objects are written.
    pub encoding_format: EncodingFormat,
}

/// What the configuration says.
#[derive(Clone, Copy)]
pub struct Defaults<'a> {
    /// What no argument gives.
    pub settings: &'a dyn Fn() -> Result<Settings, String>,
    /// The full address of a repository that can be opened, by its name, address or path.
    pub remote: &'a dyn Fn(&str) -> Result<String, String>,
}

impl std::fmt::Debug for Defaults<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Defaults").finish_non_exhaustive()
    }
}

/// There is no configuration: a program of its own is told everything, and knows no names.
pub(crate) const NONE: Defaults<'static> = Defaults {
    settings: &|| Err("name the local repository with --storage".to_owned()),
    remote: &|address| {
        spfs_runtime::check_address(address, Encoding::default()).map_err(|error| chain(&error))
    },
};

impl Settings {
    /// Settings for this repository alone.
    pub fn of(storage_root: PathBuf) -> Self {
        Self {
            storage_root,
            secondary_repositories: Vec::new(),
            log: "warn".to_owned(),
            digest_strategy: DigestStrategy::default(),
            encoding_format: EncodingFormat::default(),
        }
    }

    pub(crate) fn new(
        arguments: &StorageArguments,
        defaults: Defaults<'_>,
    ) -> Result<Self, String> {
        let mut settings = match &arguments.storage {
            Some(root) => Self::of(std::path::absolute(root).unwrap_or_else(|_| root.clone())),
            None => (defaults.settings)()?,
        };
        settings.secondary_repositories.extend(arguments.secondary.iter().cloned());
        if let Some(log) = &arguments.log {
            settings.log.clone_from(log);
        }
        settings.digest_strategy = arguments.digest_strategy.unwrap_or(settings.digest_strategy);
        settings.encoding_format = arguments.encoding_format.unwrap_or(settings.encoding_format);
        Ok(settings)
    }

    /// The arguments that give these settings to another process.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--storage".into(),
            self.storage_root.clone().into(),
            "--log".into(),
            self.log.clone().into(),
            "--digest-strategy".into(),
            strategy_name(self.digest_strategy).into(),
            "--encoding-format".into(),
            format_name(self.encoding_format).into(),
        ];
        for address in &self.secondary_repositories {
            arguments.extend(["--secondary".into(), address.into()]);
        }
        arguments
    }

    pub(crate) fn runtimes(&self) -> Result<Runtimes, RepoError> {
        let encoding = Encoding { strategy: self.digest_strategy, format: self.encoding_format };
        let repository = Repository::open(&self.storage_root)?.with_encoding(encoding);
        let uid = spfs_sys::ids::euid();
        let user = spfs_sys::ids::user_name(uid).unwrap_or_else(|| uid.to_string().into());
        let text = |name: OsString| name.to_string_lossy().into_owned();
        Ok(Runtimes::new(Arc::new(repository), text(user), text(spfs_sys::ids::host_name())))
    }

    /// The socket of the service of this repository and user.
    pub fn socket(&self) -> PathBuf {
        let folder = spfs_runtime::service_folder(&self.storage_root, spfs_sys::ids::euid());
        folder.join("control.sock")
    }
}
