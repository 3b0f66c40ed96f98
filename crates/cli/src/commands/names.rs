//! How digests are shown: whole or shortened, with or without their tags.

use std::collections::HashMap;

use spfs_model::{Digest, TagName, TagSpec};
use spfs_repo::AnyRepository;

use crate::error::Result;

/// What a digest is shown as.
#[derive(Debug, Default)]
pub(super) struct Names {
    tags: HashMap<Digest, Vec<TagSpec>>,
    with_tags: bool,
    short: bool,
}

impl Names {
    /// Reads the tags of the repository when they are to be shown.
    pub(super) fn load(
        repository: &dyn AnyRepository,
        with_tags: bool,
        short: bool,
    ) -> Result<Self> {
        let mut tags: HashMap<Digest, Vec<TagSpec>> = HashMap::new();
        if with_tags {
            for name in repository.tags().names()? {
                match versions(repository, name) {
                    Ok(versions) => {
                        for (spec, target) in versions {
                            tags.entry(target).or_default().push(spec);
                        }
                    }
                    // One damaged tag does not hide the others.
                    Err(error) => tracing::warn!("{}", error.one_line()),
                }
            }
        }
        Ok(Self { tags, with_tags, short })
    }

    /// The digest, shortened when asked for.
    pub(super) fn digest(&self, digest: &Digest) -> String {
        if self.short { digest.short() } else { digest.to_string() }
    }

    /// The digest with its tags behind it: `DIGEST -> tag -> tag`.
    pub(super) fn show(&self, digest: &Digest) -> String {
        let mut text = self.digest(digest);
        if self.with_tags {
            for tag in self.tags(digest) {
                text.push_str(&format!(" -> {tag}"));
            }
        }
        text
    }

    /// Every version of every tag that points there, sorted by name.
    pub(super) fn tags(&self, digest: &Digest) -> &[TagSpec] {
        self.tags.get(digest).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The versions of a tag, newest first, with what each points to.
fn versions(
    repository: &dyn AnyRepository,
    name: TagName,
) -> Result<impl Iterator<Item = (TagSpec, Digest)>> {
    let stream = repository.tags().stream(&name)?;
    let newest_first: Vec<_> = stream.into_iter().rev().collect();
    Ok((0..)
        .zip(newest_first)
        .map(move |(version, tag)| (TagSpec::new(name.clone(), version), tag.target)))
}
