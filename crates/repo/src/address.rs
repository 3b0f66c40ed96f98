//! Addresses of repositories: `file:/a`, `tar:/b.tar`, `proxy:?primary=/a&secondary[0]=/b`.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{Timestamp, Zoned};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use spfs_model::TimeSpec;

use crate::fs::Repository;
use crate::layered::{LayeredRepository, Layering};
use crate::pinned::PinnedRepository;
use crate::repository::{AnyRepository, Encoding};
use crate::tar::TarRepository;
use crate::traits::TagNamespace;
use crate::{RepoError, Result};

/// Repositories within repositories, at most so deep.
const DEPTH_MAX: usize = 8;

/// What has a meaning in an address, or in the value of a parameter.
const RESERVED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'&').add(b'=').add(b'[').add(b']');

/// Where a repository is and how it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A folder.
    Folder {
        /// Its absolute path.
        path: PathBuf,
        /// Whether it is made when it is missing.
        create: bool,
        /// Which tags are seen.
        tags: TagScope,
    },
    /// A tar file.
    Tar {
        /// Its absolute path.
        path: PathBuf,
        /// Whether one is begun when it is missing.
        create: bool,
        /// Which tags are seen.
        tags: TagScope,
    },
    /// Several repositories as one.
    Layered {
        /// Where everything is written to and looked for first.
        primary: Box<Self>,
        /// What is asked for the rest, in this order.
        secondary: Vec<Self>,
        /// How the others are used; with `repair` it is upstream's `fallback:`, else `proxy:`.
        layering: Layering,
    },
}

/// Which tags of a repository are seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagScope {
    /// Those of this namespace.
    pub namespace: Option<TagNamespace>,
    /// Those that were there at this time.
    pub when: Option<Timestamp>,
}

/// What the text of an address may refer to.
pub trait AddressContext {
    /// The address that a name stands for, if it is one.
    fn named(&self, name: &str, depth: usize) -> Result<Option<Address>>;

    /// A path of an address as an absolute one.
    fn absolute(&self, path: &Path) -> PathBuf;

    /// What times are counted from.
    fn now(&self) -> Zoned;
}

/// Addresses that refer to nothing but themselves.
#[derive(Debug, Clone)]
pub struct PlainAddresses {
    /// What times are counted from.
    pub now: Zoned,
}

impl AddressContext for PlainAddresses {
    fn named(&self, _name: &str, _depth: usize) -> Result<Option<Address>> {
        Ok(None)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn now(&self) -> Zoned {
        self.now.clone()
    }
}

impl Address {
    /// Reads a name, an address, or a path that has a `/`.
    pub fn parse(text: &str, context: &dyn AddressContext) -> Result<Self> {
        Self::parse_within(text, context, 0)
    }

    /// Whether a text begins like an address. A path that does so is written with `./` before it.
    pub fn has_scheme(text: &str) -> bool {
        scheme_of(text).is_some()
    }

    /// As [`Address::parse`], for what is named in so many other addresses already.
    pub fn parse_within(text: &str, context: &dyn AddressContext, depth: usize) -> Result<Self> {
        let refuse = |reason: &str| RepoError::BadAddress {
            address: text.to_owned(),
            reason: reason.to_owned(),
        };
        if depth > DEPTH_MAX {
            return Err(refuse("it refers to itself, or to others too deeply"));
        }
        if let Some(address) = context.named(text, depth)? {
            return Ok(address);
        }
        let Some((scheme, rest)) = scheme_of(text) else {
            if !text.contains('/') {
                return Err(RepoError::UnknownRemote { name: text.to_owned() });
            }
            let path = context.absolute(Path::new(text));
            return Ok(Self::Folder { path, create: false, tags: TagScope::default() });
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        let path = decode(path.strip_prefix("//").unwrap_or(path), text)?;
        let mut query = Query::parse(query, text)?;
        let tags = query.tags(&context.now())?;
        let place = |path: &str| match path {
            "" => Err(refuse("it has no path")),
            path => Ok(context.absolute(Path::new(path))),
        };
        let address = match scheme {
            "file" | "fs" => {
                let create = query.switch("create")?.unwrap_or(false);
                Self::Folder { path: place(&path)?, create, tags }
            }
            "tar" => {
                let create = query.switch("create")?.unwrap_or(false);
                Self::Tar { path: place(&path)?, create, tags }
            }
            "proxy" | "fallback" => {
                let layers = query.layers()?;
                let mut address = Self::layered(scheme == "fallback", &layers, context, depth)?;
                address.scope(tags);
                address
            }
            _ => {
                return Err(RepoError::UnsupportedScheme {
                    scheme: scheme.to_owned(),
                    address: text.to_owned(),
                });
            }
        };
        query.warn_of_the_rest();
        Ok(address)
    }

    /// Several repositories as one, from the texts of their addresses.
    pub fn layered(
        repair: bool,
        layers: &LayerTexts,
        context: &dyn AddressContext,
        depth: usize,
    ) -> Result<Self> {
        let parse = |text: &String| Self::parse_within(text, context, depth + 1);
        let primary = parse(&layers.primary)?;
        if repair && !matches!(primary, Self::Folder { .. }) {
            return Err(RepoError::BadAddress {
                address: layers.primary.clone(),
                reason: "the primary repository of a fallback must be a folder".to_owned(),
            });
        }
        Ok(Self::Layered {
            primary: Box::new(primary),
            secondary: layers.secondary.iter().map(parse).collect::<Result<_>>()?,
            layering: Layering { repair, include_secondary_tags: layers.include_secondary_tags },
        })
    }

    /// Narrows which tags are seen; what is not given stays.
    pub fn scope(&mut self, by: TagScope) {
        match self {
            Self::Folder { tags, .. } | Self::Tar { tags, .. } => {
                tags.namespace = by.namespace.or(tags.namespace.take());
                tags.when = by.when.or(tags.when);
            }
            Self::Layered { primary, secondary, .. } => {
                for part in std::iter::once(&mut **primary).chain(secondary) {
                    part.scope(by.clone());
                }
            }
        }
    }

    /// The same address to put something into: where an archive is missing, that begins one.
    pub fn for_writing(mut self) -> Self {
        match &mut self {
            Self::Folder { .. } => {}
            Self::Tar { create, .. } => *create = true,
            Self::Layered { primary, .. } => **primary = primary.clone().for_writing(),
        }
        self
    }

    /// Opens the repository.
    pub fn open(&self, encoding: Encoding) -> Result<Arc<dyn AnyRepository>> {
        match self {
            Self::Folder { path, create, tags } => {
                let repository =
                    if *create { Repository::create(path) } else { Repository::open(path) };
                let repository = repository?.with_encoding(encoding);
                Ok(pinned(Arc::new(repository.with_namespace(tags.namespace.clone())), tags.when))
            }
            Self::Tar { path, create, tags } => {
                let repository =
                    if *create { TarRepository::create(path) } else { TarRepository::open(path) };
                let repository = repository?.with_encoding(encoding);
                Ok(pinned(Arc::new(repository.with_namespace(tags.namespace.clone())), tags.when))
            }
            Self::Layered { primary, secondary, layering } => {
                let secondary = secondary.iter().map(|part| part.open(encoding));
                let secondary = secondary.collect::<Result<_>>()?;
                let primary = primary.open(encoding)?;
                Ok(Arc::new(LayeredRepository::new(primary, secondary, *layering)))
            }
        }
    }
}

fn pinned(repository: Arc<dyn AnyRepository>, when: Option<Timestamp>) -> Arc<dyn AnyRepository> {
    match when {
        Some(time) => Arc::new(PinnedRepository::new(repository, time)),
        None => repository,
    }
}

/// The repositories of a `proxy:` or `fallback:`, each a name, an address or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerTexts {
    /// Where everything is written to and looked for first.
    pub primary: String,
    /// What is asked for the rest, in this order.
    pub secondary: Vec<String>,
    /// Whether tags are looked up in them as well.
    pub include_secondary_tags: bool,
}

/// The scheme of an address, when it has one, and what follows it.
fn scheme_of(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once(':')?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    is_scheme.then_some((scheme, rest))
}

fn decode(text: &str, address: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| RepoError::BadAddress {
        address: address.to_owned(),
        reason: "it is not text when decoded".to_owned(),
    })?;
    Ok(decoded.into_owned())
}

/// The parameters of an address.
struct Query<'a> {
    address: &'a str,
    parameters: Vec<(String, String)>,
}

/// Parameters for what is not done here.
const WITHOUT_EFFECT: &[&str] =
    &["lazy", "timeout_ms", "max_decode_message_size_bytes", "max_encode_message_size_bytes"];

impl<'a> Query<'a> {
    fn parse(query: &str, address: &'a str) -> Result<Self> {
        let parameters = query.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(key, address)?, decode(value, address)?))
        });
        Ok(Self { address, parameters: parameters.collect::<Result<_>>()? })
    }

    fn refuse(&self, reason: String) -> RepoError {
        RepoError::BadAddress { address: self.address.to_owned(), reason }
    }

    /// The value of a parameter, the last one when it is given twice.
    fn take(&mut self, key: &str) -> Option<String> {
        let found = self.parameters.iter().rfind(|(name, _)| name == key)?.1.clone();
        self.parameters.retain(|(name, _)| name != key);
        Some(found)
    }

    fn switch(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(self.refuse(format!("{key} is true or false, not {other:?}"))),
        }
    }

    fn tags(&mut self, now: &Zoned) -> Result<TagScope> {
        let namespace = self.take("tag_namespace").filter(|name| !name.is_empty());
        let namespace = namespace.map(|name| name.parse()).transpose()?;
        let Some(text) = self.take("when") else { return Ok(TagScope { namespace, when: None }) };
        let when = time(&text, now).map_err(|reason| self.refuse(reason))?;
        Ok(TagScope { namespace, when: Some(when) })
    }

    fn layers(&mut self) -> Result<LayerTexts> {
        let Some(primary) = self.take("primary") else {
            return Err(self.refuse("it names no primary repository".to_owned()));
        };
        let include_secondary_tags = self.switch("include_secondary_tags")?.unwrap_or(true);
        let mut numbered = Vec::new();
        for (key, value) in &self.parameters {
            let Some(index) = key.strip_prefix("secondary") else { continue };
            let index = index.trim_start_matches('[').trim_end_matches(']');
            // Without a number they stay in the order in which they are given.
            let number: usize = index.parse().unwrap_or(usize::MAX);
            numbered.push((number, value.clone()));
        }
        self.parameters.retain(|(key, _)| !key.starts_with("secondary"));
        numbered.sort_by_key(|(number, _)| *number);
        let secondary = numbered.into_iter().map(|(_, value)| value).collect();
        Ok(LayerTexts { primary, secondary, include_secondary_tags })
    }

    fn warn_of_the_rest(&self) {
        for (key, _) in &self.parameters {
            if !WITHOUT_EFFECT.contains(&key.as_str()) {
                let address = self.address;
                tracing::warn!("the parameter {key:?} of {address} is not known here");
            }
        }
    }
}

/// The time that a `when` means: a time specification, or a time alone.
pub fn time(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let spec = text.parse::<TimeSpec>().or_else(|error| {
        text.parse::<Timestamp>().map(TimeSpec::At).map_err(|_| error.to_string())
    })?;
    spec.resolve(now).map_err(|error| format!("{text} cannot be resolved: {error}"))
}

/// An address that can be parsed again anywhere: names are resolved, times are counted out.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, create, tags } | Self::Tar { path, create, tags } => {
                let scheme = if matches!(self, Self::Tar { .. }) { "tar" } else { "file" };
                let create = create.then(|| ("create".to_owned(), "true".to_owned()));
                let query = Parameters(create.into_iter().chain(tags.parameters()).collect());
                write!(f, "{scheme}://{}{query}", encoded(&path.to_string_lossy()))
            }
            Self::Layered { primary, secondary, layering } => {
                let mut query = vec![("primary".to_owned(), primary.to_string())];
                for (number, part) in secondary.iter().enumerate() {
                    query.push((format!("secondary[{number}]"), part.to_string()));
                }
                if !layering.include_secondary_tags {
                    query.push(("include_secondary_tags".to_owned(), "false".to_owned()));
                }
                let scheme = if layering.repair { "fallback" } else { "proxy" };
                write!(f, "{scheme}:{}", Parameters(query))
            }
        }
    }
}

impl TagScope {
    fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|name| ("tag_namespace".to_owned(), name.to_string()));
        let when = self.when.map(|time| ("when".to_owned(), format!("@{time}")));
        namespace.into_iter().chain(when)
    }
}

fn encoded(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

struct Parameters(Vec<(String, String)>);

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, value)) in self.0.iter().enumerate() {
            f.write_char(if number == 0 { '?' } else { '&' })?;
            write!(f, "{key}={}", encoded(value))?;
        }
        Ok(())
    }
}
