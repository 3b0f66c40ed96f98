//! Which repository a command works on: the local one, made when missing, or another one by name,
//! address or path.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spfs_model::{Digest, EnvSpec, Layer, Manifest, Object, Tag, TagSpec};
use spfs_repo::{
    Address, AddressContext, AnyRepository, LayeredRepository, Layering, RepoError, Repository,
    ResolvedEnvironment, TagNamespace, TagScope, TarRepository, time,
};
use spfs_runtime::Runtimes;

use crate::args::RepoArgs;
use crate::config::{self, Config, Remote, RemoteForm};
use crate::context::Context;
use crate::error::{CliError, Result};

/// Makes a repository, or completes one.
pub(crate) fn create(path: &Path) -> Result<Repository> {
    Ok(Repository::create(path)?)
}

/// Makes a repository in a folder or an archive, named by its path or address, or completes one.
pub(crate) fn init(context: &Context, place: &Path) -> Result<()> {
    let folder = match place.to_str().filter(|text| Address::has_scheme(text)) {
        None => context.env.absolute(place),
        Some(text) => match address(context, text)? {
            Address::Folder { path, .. } => path,
            Address::Tar { path, .. } => return Ok(TarRepository::create(&path)?.save()?),
            Address::Layered { .. } => {
                return Err(CliError::failed(format!("{text} is more than one repository")).hint(
                    "name the place of one: a folder (a path, or 'file:PATH'), or 'tar:PATH'",
                ));
            }
        },
    };
    create(&folder).map(drop)
}

/// The local repository.
pub(crate) fn local(context: &Context) -> Result<Repository> {
    let config = context.config()?;
    let namespace = namespace(config.storage.tag_namespace.as_deref())?;
    let repository = create(&config.storage.root)?;
    Ok(repository.with_encoding(config.encoding()).with_namespace(namespace))
}

/// A repository of any kind.
pub(crate) type Shared = Arc<dyn AnyRepository>;

/// The repository that the flags name, else the local one.
pub(crate) fn chosen(context: &Context, args: &RepoArgs) -> Result<Shared> {
    named_or_local(context, args.remote.as_deref())
}

/// That repository, else the local one.
pub(crate) fn named_or_local(context: &Context, name: Option<&str>) -> Result<Shared> {
    match name {
        Some(name) => remote(context, name),
        None => Ok(Arc::new(local(context)?)),
    }
}

/// All remotes that the configuration names, each opened or with the reason why not.
pub(crate) fn remotes(context: &Context) -> Result<Vec<(String, Result<Shared>)>> {
    let mut names: Vec<String> = context.config()?.remote.keys().cloned().collect();
    if context.wrap_origin.is_some() && !names.iter().any(|name| name == ORIGIN) {
        names.push(ORIGIN.to_owned());
    }
    let open = |name: String| {
        let opened = remote(context, &name);
        (name, opened)
    };
    Ok(names.into_iter().map(open).collect())
}

/// The runtimes of the local repository.
pub(crate) fn runtimes(context: &Context) -> Result<Runtimes> {
    Ok(runtimes_in(local(context)?))
}

/// The runtimes of that repository, else of the local one.
pub(crate) fn runtimes_of(context: &Context, name: Option<&str>) -> Result<Runtimes> {
    let Some(name) = name else { return runtimes(context) };
    match address(context, name)? {
        Address::Folder { path, tags, .. } => {
            let repository = Repository::open(&path)?;
            Ok(runtimes_in(repository.with_namespace(tags.namespace)))
        }
        Address::Tar { .. } | Address::Layered { .. } => {
            Err(CliError::failed(format!("{name} is no folder, and has no runtimes"))
                .hint("name the storage root of a machine, as a path or 'file:PATH'"))
        }
    }
}

fn runtimes_in(repository: Repository) -> Runtimes {
    Runtimes::new(Arc::new(repository), config::login_name(), config::host_name())
}

/// The repositories that something is read from, the first one first. There is at least one.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Shared>);

/// The local repository and those that runtimes read what it lacks from; or `only` that one.
pub(crate) fn sources(context: &Context, only: Option<&str>) -> Result<Sources> {
    if let Some(name) = only {
        return Ok(Sources(vec![remote(context, name)?]));
    }
    let config = context.config()?;
    let primary: Shared = Arc::new(local(context)?);
    let secondary = secondaries(context)?;
    if !config.fuse.include_secondary_tags {
        let layering = Layering { include_secondary_tags: false, repair: false };
        return Ok(Sources(vec![Arc::new(LayeredRepository::new(primary, secondary, layering))]));
    }
    Ok(Sources(std::iter::once(primary).chain(secondary).collect()))
}

/// The repositories that can be opened of those that runtimes read what is missing from.
fn secondaries(context: &Context) -> Result<Vec<Shared>> {
    Ok(usable(context, configured_secondaries(context)?))
}

/// Those of some repositories, named or by their addresses, that can be opened.
fn usable<N: AsRef<str>>(context: &Context, names: impl IntoIterator<Item = N>) -> Vec<Shared> {
    let open = |name: N| {
        remote(context, name.as_ref())
            // What is in the others can be used all the same.
            .inspect_err(|error| tracing::warn!(remote = name.as_ref(), "{}", error.one_line()))
            .ok()
    };
    names.into_iter().filter_map(open).collect()
}

/// The local repository and those that runtimes read what it lacks from, as one. With `keep`, what
/// is read from the others is stored in the local one.
pub(crate) fn as_one(context: &Context, keep: bool) -> Result<LayeredRepository> {
    let include_secondary_tags = context.config()?.fuse.include_secondary_tags;
    let layering = Layering { include_secondary_tags, repair: keep };
    Ok(LayeredRepository::new(Arc::new(local(context)?), secondaries(context)?, layering))
}

impl Sources {
    /// The one that is asked first.
    pub(crate) fn first(&self) -> &dyn AnyRepository {
        &*self.0[0]
    }

    /// Adds repositories, as far as they can be opened; they are asked last.
    pub(crate) fn add(&mut self, context: &Context, names: &[String]) {
        self.0.extend(usable(context, names));
    }

    fn all(&self) -> Vec<&dyn AnyRepository> {
        self.0.iter().map(|repository| &**repository).collect()
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
            match ask(&**repository) {
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
    let mut addresses = Vec::new();
    for name in only.into_iter().chain(configured_secondaries(context)?) {
        if let Ok(address) = address(context, name)
            && address.open(context.config()?.encoding()).is_ok()
        {
            addresses.push(address.to_string());
        }
    }
    Ok(addresses)
}

/// Whether there is an `origin` in this call.
pub(crate) fn has_origin(context: &Context) -> Result<bool> {
    Ok(context.wrap_origin.is_some() || context.config()?.remote.contains_key(ORIGIN))
}

/// The remote that things are pushed to and read from when nothing else is said.
pub(crate) const ORIGIN: &str = "origin";

/// Those of the secondary repositories that exist: `origin` is one by default and may be missing.
fn configured_secondaries(context: &Context) -> Result<impl Iterator<Item = &str>> {
    let config = context.config()?;
    let wrapped = context.wrap_origin.is_some();
    let names = config.filesystem.secondary_repositories.iter().map(String::as_str);
    Ok(names.filter(move |name| config.remote.contains_key(*name) || (wrapped && *name == ORIGIN)))
}

/// Another repository by configured name, address or path.
pub(crate) fn remote(context: &Context, name: &str) -> Result<Shared> {
    let repository = address(context, name)?.open(context.config()?.encoding())?;
    context.opened(&repository);
    Ok(repository)
}

/// Another repository that something is put into, else the local one.
///
/// Whoever does so saves it before telling of it: what cannot be saved is not there.
pub(crate) fn target(context: &Context, name: Option<&str>) -> Result<Shared> {
    let Some(name) = name else { return Ok(Arc::new(local(context)?)) };
    Ok(address(context, name)?.for_writing().open(context.config()?.encoding())?)
}

/// The full address of another repository, which can be opened.
pub(crate) fn remote_address(context: &Context, name: &str) -> Result<String> {
    let address = address(context, name)?;
    address.open(context.config()?.encoding())?;
    Ok(address.to_string())
}

fn address(context: &Context, name: &str) -> Result<Address> {
    Ok(Address::parse(name, &Configured { context, config: context.config()? })?)
}

/// What the configuration knows of names.
struct Configured<'a> {
    context: &'a Context,
    config: &'a Config,
}

impl Configured<'_> {
    fn remote(&self, name: &str, remote: &Remote, depth: usize) -> Result<Address, RepoError> {
        let mut address = match remote
            .form()
            .map_err(|reason| RepoError::BadAddress { address: format!("remote.{name}"), reason })?
        {
            RemoteForm::Address(text) => Address::parse_within(&text, self, depth)?,
            RemoteForm::Folder { path, create } => {
                let path = self.absolute(Path::new(path));
                Address::Folder { path, create, tags: TagScope::default() }
            }
            RemoteForm::Tar { path, create } => {
                let path = self.absolute(Path::new(path));
                Address::Tar { path, create, tags: TagScope::default() }
            }
            RemoteForm::Layers { repair, layers } => {
                Address::layered(repair, &layers, self, depth)?
            }
        };
        let namespace = namespace(remote.tag_namespace())?;
        let when = remote.when().map(|text| time(text, &self.now())).transpose();
        let when = when.map_err(|reason| RepoError::BadAddress {
            address: format!("remote.{name}.when"),
            reason,
        })?;
        address.scope(TagScope { namespace, when });
        Ok(address)
    }
}

impl AddressContext for Configured<'_> {
    fn named(&self, name: &str, depth: usize) -> Result<Option<Address>, RepoError> {
        let remote = self.config.remote.get(name);
        let configured = remote.map(|remote| self.remote(name, remote, depth + 1)).transpose()?;
        let Some(path) = self.context.wrap_origin.as_ref().filter(|_| name == ORIGIN) else {
            return Ok(configured);
        };
        let path = self.absolute(path);
        let primary = Address::Folder { path, create: false, tags: TagScope::default() };
        Ok(Some(Address::Layered {
            primary: Box::new(primary),
            secondary: configured.into_iter().collect(),
            layering: Layering::default(),
        }))
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        let env = &self.context.env;
        env.absolute(&env.expand_home(&path.to_string_lossy()))
    }

    fn now(&self) -> jiff::Zoned {
        crate::now().to_zoned(jiff::tz::TimeZone::system())
    }
}

fn namespace(name: Option<&str>) -> Result<Option<TagNamespace>, RepoError> {
    name.map(str::parse).transpose()
}
