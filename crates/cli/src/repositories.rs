//! Which repository a command works on: the local one, made when missing, or another one by name,
//! address or path.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spfs_model::{Digest, EnvSpec, Layer, Manifest, Object, Tag, TagSpec};
use spfs_repo::{AnyRepository, RepoError, Repository, ResolvedEnvironment, TagNamespace};
use spfs_runtime::Runtimes;

use crate::args::RepoArgs;
use crate::config::{self, Config, Remote};
use crate::context::Context;
use crate::error::{CliError, Result};

/// Makes a repository, or completes one.
pub(crate) fn create(path: &Path) -> Result<Repository> {
    Ok(Repository::create(path)?)
}

/// The local repository.
pub(crate) fn local(context: &Context) -> Result<Repository> {
    let config = context.config()?;
    let namespace = namespace(config.storage.tag_namespace.as_deref())?;
    let repository = create(&config.storage.root)?;
    Ok(repository.with_encoding(config.encoding()).with_namespace(namespace))
}

/// The repository that the flags name, else the local one.
pub(crate) fn chosen(context: &Context, args: &RepoArgs) -> Result<Repository> {
    named_or_local(context, args.remote.as_deref())
}

/// That repository, else the local one.
pub(crate) fn named_or_local(context: &Context, name: Option<&str>) -> Result<Repository> {
    match name {
        Some(name) => remote(context, name),
        None => local(context),
    }
}

/// All remotes that the configuration names, each opened or with the reason why not.
pub(crate) fn remotes(context: &Context) -> Result<Vec<(String, Result<Repository>)>> {
    let config = context.config()?;
    let open = |name: &String| (name.clone(), remote(context, name));
    Ok(config.remote.keys().map(open).collect())
}

/// The runtimes of the local repository.
pub(crate) fn runtimes(context: &Context) -> Result<Runtimes> {
    let user = config::login_name();
    let host = config::host_name();
    Ok(Runtimes::new(Arc::new(local(context)?), user, host))
}

/// The repositories that something is read from, the first one first. There is at least one.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Repository>);

/// The local repository and those that runtimes read what it lacks from; or `only` that one.
pub(crate) fn sources(context: &Context, only: Option<&str>) -> Result<Sources> {
    if let Some(name) = only {
        return Ok(Sources(vec![remote(context, name)?]));
    }
    let mut all = vec![local(context)?];
    for name in configured_secondaries(context.config()?) {
        match remote(context, name) {
            Ok(repository) => all.push(repository),
            // What is local can be used all the same.
            Err(error) => tracing::warn!(remote = name, "{}", error.one_line()),
        }
    }
    Ok(Sources(all))
}

impl Sources {
    /// The one that is asked first.
    pub(crate) fn first(&self) -> &Repository {
        &self.0[0]
    }

    fn all(&self) -> Vec<&dyn AnyRepository> {
        self.0.iter().map(|repository| repository as &dyn AnyRepository).collect()
    }

    /// The layers of an environment, bottom first.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Vec<Digest>> {
        let spec: EnvSpec =
            reference.parse().map_err(|error| CliError::reference(reference, &error))?;
        Ok(spfs_repo::resolve(&self.all(), &spec)?)
    }

    /// The layers of an environment, bottom first, and what it shows of the host.
    pub(crate) fn resolve_environment(&self, reference: &str) -> Result<ResolvedEnvironment> {
        let spec: EnvSpec =
            reference.parse().map_err(|error| CliError::reference(reference, &error))?;
        Ok(spfs_repo::resolve_environment(&self.all(), &spec)?)
    }

    /// What the layers hold, in their order.
    pub(crate) fn load(&self, stack: &[Digest]) -> Result<Vec<Manifest>> {
        Ok(spfs_repo::load_stack(&self.all(), stack)?)
    }

    /// The digest that a single reference means.
    pub(crate) fn find(&self, reference: &str) -> Result<Digest> {
        Ok(spfs_repo::resolve_reference(&self.all(), reference)?)
    }

    /// Reads an object.
    pub(crate) fn object(&self, digest: &Digest) -> Result<Object> {
        self.first_that(|repository| Ok(repository.objects().read(digest)?.1))
    }

    /// The annotations of a layer, in stored order.
    pub(crate) fn annotations(&self, layer: &Layer) -> Result<Vec<(String, String)>> {
        Ok(spfs_repo::annotations(&self.all(), layer)?)
    }

    /// The value of an annotation of an object, when it is a layer that has it.
    pub(crate) fn annotation(&self, object: &Digest, key: &str) -> Result<Option<String>> {
        Ok(spfs_repo::find_annotation(&self.all(), &[*object], key)?)
    }

    /// Opens a payload.
    pub(crate) fn payload(&self, digest: &Digest) -> Result<File> {
        self.first_that(|repository| repository.payloads().open(digest))
    }

    /// A version of a tag.
    pub(crate) fn tag(&self, spec: &TagSpec) -> Result<Tag> {
        self.first_that(|repository| repository.tags().resolve(spec))
    }

    /// What the first repository that has it answers; when none has, what the first one says.
    fn first_that<T>(&self, ask: impl Fn(&dyn AnyRepository) -> Result<T, RepoError>) -> Result<T> {
        let mut first_error = None;
        for repository in &self.0 {
            match ask(repository) {
                Ok(found) => return Ok(found),
                Err(error) if is_absence(&error) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(first_error.map_or_else(|| CliError::failed("no repository is configured"), Into::into))
    }
}

/// Whether another repository may have it.
fn is_absence(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::UnknownReference { .. }
            | RepoError::UnknownVersion { .. }
            | RepoError::UnknownObject { .. }
            | RepoError::MissingPayload { .. }
    )
}

/// Addresses of the repositories that a runtime reads what the local one lacks from.
pub(crate) fn secondary_addresses(context: &Context, only: Option<&str>) -> Result<Vec<String>> {
    let config = context.config()?;
    let mut addresses = Vec::new();
    for name in only.into_iter().chain(configured_secondaries(config)) {
        if let Ok(repository) = remote(context, name) {
            addresses.push(format!("file://{}", repository.root().display()));
        }
    }
    Ok(addresses)
}

/// Those of the secondary repositories that exist: `origin` is one by default and may be missing.
fn configured_secondaries(config: &Config) -> impl Iterator<Item = &str> {
    let names = config.filesystem.secondary_repositories.iter();
    names.map(String::as_str).filter(|name| config.remote.contains_key(*name))
}

/// Another repository by configured name, address or path.
pub(crate) fn remote(context: &Context, name: &str) -> Result<Repository> {
    let config = context.config()?;
    if let Some(remote) = config.remote.get(name) {
        return configured(name, remote, context);
    }
    let path = match scheme_of(name) {
        Some(_) => path_of(name)?,
        None if name.contains('/') => PathBuf::from(name),
        None => {
            let error = CliError::failed(format!("no remote named {name:?} is configured"));
            return Err(error.hint("'spfs config' shows those that are; a path needs a '/'"));
        }
    };
    open(&context.env.absolute(&path), config)
}

fn configured(name: &str, remote: &Remote, context: &Context) -> Result<Repository> {
    let address = remote.address().ok_or_else(|| {
        CliError::failed(format!("the remote {name:?} has no address"))
            .hint(format!("set remote.{name}.address in the configuration"))
    })?;
    let path = path_of(&address)?;
    let path = context.env.absolute(&context.env.expand_home(&path.to_string_lossy()));
    let repository = open(&path, context.config()?)?;
    Ok(repository.with_namespace(namespace(remote.tag_namespace())?))
}

fn open(path: &Path, config: &Config) -> Result<Repository> {
    Ok(Repository::open(path)?.with_encoding(config.encoding()))
}

fn namespace(name: Option<&str>) -> Result<Option<TagNamespace>> {
    Ok(name.map(str::parse).transpose()?)
}

/// The scheme of an address, when it has one.
fn scheme_of(address: &str) -> Option<&str> {
    let (scheme, _) = address.split_once(':')?;
    (!scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(scheme)
}

/// The folder that an address names.
fn path_of(address: &str) -> Result<PathBuf> {
    let (scheme, rest) = address.split_once(':').unwrap_or(("file", address));
    if !matches!(scheme, "file" | "fs") {
        let error =
            format!("repositories of the kind '{scheme}:' are not supported yet: {address}");
        return Err(CliError::failed(error).hint("use a folder: a path, or 'file:PATH'"));
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_several_addresses() {
        for address in ["file:/a/b", "file:///a/b", "fs:/a/b", "file:///a/b?create=true"] {
            assert_eq!(path_of(address).unwrap(), Path::new("/a/b"), "{address}");
        }
        let said = path_of("http2://host:7737").unwrap_err().to_string();
        assert!(said.contains("http2") && said.contains("not supported yet"), "{said}");
    }

    #[test]
    fn a_path_has_no_scheme() {
        assert_eq!(scheme_of("/a/b"), None);
        assert_eq!(scheme_of("./a:b"), None);
        assert_eq!(scheme_of("tar:/x"), Some("tar"));
    }
}
