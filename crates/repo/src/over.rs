//! Repositories that stand for another one: what they do not do themselves, that one does.

use std::fmt;

use jiff::Timestamp;
use spfs_model::Digest;

use crate::Result;
use crate::render::CleanedRenders;
use crate::repository::{AnyRepository, Batch, Encoding};
use crate::traits::{Objects, Payloads, TagNamespace, Tags};

/// A repository that stands for another one. It is an [`AnyRepository`] by what it says here, and
/// the other one in all else: nothing is passed on by hand, and nothing forgotten.
pub trait Over: Send + Sync + fmt::Debug {
    /// The other one.
    fn base(&self) -> &dyn AnyRepository;

    /// As [`AnyRepository::location`].
    fn location(&self) -> String;

    /// As [`AnyRepository::objects`].
    fn objects(&self) -> &dyn Objects {
        self.base().objects()
    }

    /// As [`AnyRepository::payloads`].
    fn payloads(&self) -> &dyn Payloads {
        self.base().payloads()
    }

    /// As [`AnyRepository::tags`].
    fn tags(&self) -> &dyn Tags {
        self.base().tags()
    }

    /// As [`AnyRepository::tags_in`].
    fn tags_in(&self, namespace: Option<&TagNamespace>) -> Box<dyn Tags + '_> {
        self.base().tags_in(namespace)
    }

    /// As [`AnyRepository::namespaces`].
    fn namespaces(&self) -> Result<Vec<TagNamespace>> {
        self.base().namespaces()
    }

    /// As [`AnyRepository::save`].
    fn save(&self) -> Result<()> {
        self.base().save()
    }

    /// As [`AnyRepository::secondary`].
    fn secondary(&self) -> Vec<&dyn AnyRepository> {
        self.base().secondary()
    }
}

impl<T: Over> AnyRepository for T {
    fn objects(&self) -> &dyn Objects {
        Over::objects(self)
    }

    fn payloads(&self) -> &dyn Payloads {
        Over::payloads(self)
    }

    fn tags(&self) -> &dyn Tags {
        Over::tags(self)
    }

    fn tags_in(&self, namespace: Option<&TagNamespace>) -> Box<dyn Tags + '_> {
        Over::tags_in(self, namespace)
    }

    fn namespaces(&self) -> Result<Vec<TagNamespace>> {
        Over::namespaces(self)
    }

    fn batch(&self) -> Result<Box<dyn Batch + '_>> {
        self.base().batch()
    }

    fn encoding(&self) -> Encoding {
        self.base().encoding()
    }

    fn location(&self) -> String {
        Over::location(self)
    }

    fn save(&self) -> Result<()> {
        Over::save(self)
    }

    fn secondary(&self) -> Vec<&dyn AnyRepository> {
        Over::secondary(self)
    }

    fn clean_renders(
        &self,
        is_gone: &dyn Fn(&Digest) -> Result<bool>,
        keep_proxies: bool,
        dry_run: bool,
    ) -> Result<CleanedRenders> {
        self.base().clean_renders(is_gone, keep_proxies, dry_run)
    }

    fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.base().remove_leftovers(before)
    }
}
