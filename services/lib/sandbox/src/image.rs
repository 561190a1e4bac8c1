//! Images of chroots and of self-tests: queries, pulls, and the removal of images that newer ones replaced.

use bollard::models::ImageSummary;
use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use millrace_domain::ImageName;

use crate::engine::Engine;
use crate::error::{SandboxError, status};
use crate::spec::MANAGED;

/// Label of a baked image with the moment at which its bake began, RFC 3339. `deploy/bin/bake-chroots` writes it too.
pub(crate) const BAKED: &str = "millrace.baked";

/// Age below which an image without a name stays, in seconds: a commit makes an image first and names it afterwards.
const NAMELESS_AT_FIRST: i64 = 30;

/// An image that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Digest of its content on this engine.
    pub digest: String,
    /// When its bake began, from its label; none without one.
    pub baked_at: Option<DateTime<Utc>>,
}

impl Engine {
    /// Digest and age of an image; an error where the engine has none of this name.
    pub async fn image_facts(&self, image: &str) -> Result<ImageFacts, SandboxError> {
        let missing = || SandboxError::ImageMissing {
            image: image.to_owned(),
        };
        let found = match self.docker.inspect_image(image).await {
            Ok(found) => found,
            Err(fault) if status(&fault) == Some(404) => return Err(missing()),
            Err(fault) => return Err(SandboxError::of("looking at an image", &fault)),
        };
        let labels = found.config.and_then(|config| config.labels);
        Ok(ImageFacts {
            digest: found.id.ok_or_else(missing)?,
            baked_at: labels.as_ref().and_then(|labels| time(labels.get(BAKED)?)),
        })
    }

    /// Pulls an image from its registry unless the engine has it.
    pub(crate) async fn ensure_pulled(
        &self,
        image: &ImageName,
    ) -> Result<ImageFacts, SandboxError> {
        match self.image_facts(image.as_str()).await {
            Err(SandboxError::ImageMissing { .. }) => {}
            found => return found,
        }
        let (repository, tag) = image.repository_and_tag();
        let options = CreateImageOptions {
            from_image: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let pulled = self.docker.create_image(Some(options), None, None);
        pulled
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(|fault| SandboxError::BakeFailed {
                reason: format!(
                    "the base image {image} is not on the engine and cannot be pulled: {fault}"
                ),
            })?;
        self.image_facts(image.as_str()).await
    }

    /// Removes baked images that have lost their name to a newer one, except those that a container uses. Returns how many.
    pub async fn remove_old_images(&self) -> Result<usize, SandboxError> {
        let found = self
            .labelled(&[("dangling", "true"), ("label", BAKED)])
            .await?;
        let old = Utc::now().timestamp() - NAMELESS_AT_FIRST;
        let old = found.iter().filter(|image| image.created < old);
        Ok(self.remove_unused(old.map(|image| image.id.as_str())).await)
    }

    /// Removes self-test images of other releases that were made `before` a time; `keep` names this release's. Returns how
    /// many.
    pub async fn remove_old_self_tests(
        &self,
        keep: &str,
        before: DateTime<Utc>,
    ) -> Result<usize, SandboxError> {
        let label = format!("{MANAGED}=selftest");
        let found = self.labelled(&[("label", &label)]).await?;
        let old = (found.iter()).filter(|image| image.created < before.timestamp());
        let names = old.flat_map(|image| image.repo_tags.iter().map(String::as_str));
        // Podman puts its own word for this host in front.
        Ok(self
            .remove_unused(names.filter(|name| !name.ends_with(keep)))
            .await)
    }

    async fn labelled(&self, filters: &[(&str, &str)]) -> Result<Vec<ImageSummary>, SandboxError> {
        let owned = |(word, value): &(&str, &str)| ((*word).to_owned(), vec![(*value).to_owned()]);
        let options = ListImagesOptions {
            filters: Some(filters.iter().map(owned).collect()),
            ..ListImagesOptions::default()
        };
        let found = self.docker.list_images(Some(options)).await;
        found.map_err(|fault| SandboxError::of("listing old images", &fault))
    }

    /// Removes images by digest or name, except those in use. Returns how many.
    async fn remove_unused(&self, images: impl Iterator<Item = &str>) -> usize {
        let mut removed = 0;
        for image in images {
            let options = RemoveImageOptions {
                // By force one would go that an ended sandbox, whose results are still in it, was made from.
                force: false,
                ..RemoveImageOptions::default()
            };
            match self.docker.remove_image(image, Some(options), None).await {
                Ok(_) => removed += 1,
                // In use, or another builder removed it first.
                Err(fault) if matches!(status(&fault), Some(404 | 409)) => {}
                Err(fault) => tracing::warn!(image, "an old image cannot be removed: {fault}"),
            }
        }
        removed
    }
}

pub(crate) fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.with_timezone(&Utc))
}
