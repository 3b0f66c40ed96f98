//! A repository as its tags were at some time.

use std::sync::Arc;

use jiff::Timestamp;
use spfs_model::{Digest, Tag, TagName, TagStream};

use crate::over::Over;
use crate::repository::AnyRepository;
use crate::traits::{TagListing, TagNamespace, Tags};
use crate::{RepoError, Result};

/// A repository as its tags were at some time: later versions are not there, and the last one
/// before that time is number 0. Tags cannot be changed through it.
#[derive(Debug)]
pub struct PinnedRepository {
    inner: Arc<dyn AnyRepository>,
    tags: PinnedTags,
}

impl PinnedRepository {
    /// The repository at that time.
    pub fn new(inner: Arc<dyn AnyRepository>, time: Timestamp) -> Self {
        let tags = PinnedTags { inner: Arc::clone(&inner), namespace: None, time };
        Self { inner, tags }
    }
}

impl Over for PinnedRepository {
    fn base(&self) -> &dyn AnyRepository {
        &*self.inner
    }

    fn tags(&self) -> &dyn Tags {
        &self.tags
    }

    fn tags_in(&self, namespace: Option<&TagNamespace>) -> Box<dyn Tags + '_> {
        let inner = Arc::clone(&self.inner);
        Box::new(PinnedTags { inner, namespace: Some(namespace.cloned()), time: self.tags.time })
    }

    fn location(&self) -> String {
        format!("{} at {}", self.inner.location(), self.tags.time)
    }
}

#[derive(Debug)]
struct PinnedTags {
    inner: Arc<dyn AnyRepository>,
    /// `None` for the namespace that the repository was opened with.
    namespace: Option<Option<TagNamespace>>,
    time: Timestamp,
}

impl PinnedTags {
    fn ask<T>(&self, ask: impl FnOnce(&dyn Tags) -> Result<T>) -> Result<T> {
        match &self.namespace {
            None => ask(self.inner.tags()),
            Some(namespace) => ask(&*self.inner.tags_in(namespace.as_ref())),
        }
    }

    fn refuse<T>(&self) -> Result<T> {
        Err(RepoError::Pinned { repository: self.inner.location(), time: self.time })
    }
}

impl Tags for PinnedTags {
    fn namespace(&self) -> Option<&TagNamespace> {
        match &self.namespace {
            None => self.inner.tags().namespace(),
            Some(namespace) => namespace.as_ref(),
        }
    }

    fn stream(&self, tag: &TagName) -> Result<TagStream> {
        let mut stream = self.ask(|tags| tags.stream(tag))?;
        stream.retain(|tag| tag.time <= self.time);
        Ok(stream)
    }

    fn insert(&self, _tag: Tag) -> Result<bool> {
        self.refuse()
    }

    fn push(
        &self,
        _tag: &TagName,
        _target: Digest,
        _user: &str,
        _time: Timestamp,
    ) -> Result<(Tag, bool)> {
        self.refuse()
    }

    fn remove_version(&self, _tag: &TagName, _record: &Tag) -> Result<bool> {
        self.refuse()
    }

    fn remove_stream(&self, _tag: &TagName) -> Result<bool> {
        self.refuse()
    }

    fn list(&self, folder: &str) -> Result<Vec<TagListing>> {
        // The inner listing says whether the folder is a name at all.
        self.ask(|tags| tags.list(folder))?;
        Ok(crate::memory::listing(&self.names()?, folder))
    }

    fn names(&self) -> Result<Vec<TagName>> {
        let mut names = Vec::new();
        for name in self.ask(|tags| tags.names())? {
            if !self.stream(&name)?.is_empty() {
                names.push(name);
            }
        }
        Ok(names)
    }
}
