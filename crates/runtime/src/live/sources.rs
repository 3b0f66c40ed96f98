//! Where the layers of a runtime and their bytes come from: the repository of the storage root,
//! then the secondary ones in their order.

use std::fs::File;
use std::io;
use std::sync::Arc;

use spfs_model::{Digest, EnvItem, EnvSpec, Manifest, MergedTree};
use spfs_repo::sync::{SyncOptions, sync};
use spfs_repo::{Address, AnyRepository, Encoding, PlainAddresses, RepoError};
use spfs_vfs::Payloads;

use crate::record::RuntimeRecord;
use crate::runtimes::Runtimes;

/// The repositories of a runtime.
#[derive(Debug)]
pub(super) struct Sources {
    repositories: Vec<Arc<dyn AnyRepository>>,
}

impl Sources {
    /// Without a record only the repository of the storage root is known.
    pub(super) fn new(runtimes: &Runtimes, record: Option<&RuntimeRecord>) -> Self {
        let secondary = record.map(|record| record.config.secondary_repositories.as_slice());
        Self::of(runtimes, secondary.unwrap_or_default())
    }

    /// The repository of the storage root, and those at these addresses.
    pub(super) fn of(runtimes: &Runtimes, secondary: &[String]) -> Self {
        let local: Arc<dyn AnyRepository> = Arc::clone(runtimes.repository()) as _;
        let encoding = runtimes.repository().encoding();
        let secondary = secondary.iter().filter_map(|address| {
            // What is in the others may be enough.
            open(address, encoding)
                .inspect_err(|error| {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(%address, error, "a secondary repository cannot be used");
                })
                .ok()
        });
        Self { repositories: std::iter::once(local).chain(secondary).collect() }
    }

    /// The layers of an environment, bottom first.
    pub(super) fn resolve(&self, spec: &EnvSpec) -> Result<Vec<Digest>, RepoError> {
        let repositories: Vec<&dyn AnyRepository> =
            self.repositories.iter().map(|repository| &**repository).collect();
        spfs_repo::resolve(&repositories, spec)
    }

    /// Merges layers, bottom first, into one tree.
    pub(super) fn merge(&self, layers: &[Digest]) -> Result<Arc<MergedTree>, RepoError> {
        let manifests = self.load(layers)?;
        Ok(Arc::new(spfs_model::merge(&manifests.iter().collect::<Vec<_>>())))
    }

    /// Copies the layers that the repository of the storage root lacks into it: something is about
    /// to be stored there that leads to them.
    pub(super) fn bring(&self, layers: &[Digest]) -> Result<(), RepoError> {
        let Some((local, others)) = self.repositories.split_first() else { return Ok(()) };
        for layer in layers {
            if local.objects().has(layer)? {
                continue;
            }
            let spec = EnvSpec(vec![EnvItem::Digest(*layer)]);
            for other in others {
                if other.objects().has(layer)? {
                    sync(&**other, &**local, &spec, &SyncOptions::default())?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads the manifests of layers, bottom first.
    pub(super) fn load(&self, layers: &[Digest]) -> Result<Vec<Manifest>, RepoError> {
        let repositories: Vec<&dyn AnyRepository> =
            self.repositories.iter().map(|repository| &**repository).collect();
        spfs_repo::load_stack(&repositories, layers)
    }
}

/// Returns the full form of the address of a repository, which can be opened.
///
/// # Errors
/// When it is no address, or the repository cannot be opened.
pub fn check_address(address: &str, encoding: Encoding) -> Result<String, RepoError> {
    let address = parse(address)?;
    address.open(encoding)?;
    Ok(address.to_string())
}

fn parse(address: &str) -> Result<Address, RepoError> {
    let now = crate::runtimes::now().to_zoned(jiff::tz::TimeZone::UTC);
    Address::parse(address, &PlainAddresses { now })
}

fn open(address: &str, encoding: Encoding) -> Result<Arc<dyn AnyRepository>, RepoError> {
    parse(address)?.open(encoding)
}

impl Payloads for Sources {
    fn open(&self, digest: &Digest) -> io::Result<File> {
        let mut failed = None;
        for repository in &self.repositories {
            match repository.payloads().open(digest) {
                Ok(file) => return Ok(file),
                // A later one may have it; the first tells best what is wrong.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.map_or_else(|| io::ErrorKind::NotFound.into(), io::Error::other))
    }
}
