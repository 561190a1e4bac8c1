//! `POST /builder/v1/chroots`: a builder reports the state of chroot images on its engine, and gets the list of chroots
//! whose images it maintains.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use millrace_store::{ImageReport, ImageStanding, WantedImage};
use millrace_wire::{ChrootImage, ChrootOrder, ChrootsAnswer, ChrootsRequest, ImageState};

use crate::error::{ApiError, FieldError};
use crate::http::api::chroots::model::MAX_CHROOTS;
use crate::http::auth::BuilderCaller;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Characters of an image's digest at most; the rest is cut off.
const MAX_DIGEST: usize = 200;
/// Characters of the reason of a failed bake at most; the rest is cut off.
const MAX_ERROR: usize = 1_000;

/// Records the reported images, where the builder sent any, and answers with the wanted ones.
pub async fn chroots(
    BuilderCaller(builder): BuilderCaller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ChrootsRequest>,
) -> Result<Json<ChrootsAnswer>, ApiError> {
    if let Some(images) = request.images {
        let reports = reports(images)?;
        state.store.record_images(builder, &reports).await?;
    }
    let wanted = state.store.wanted_images(builder, MAX_CHROOTS).await?;
    Ok(Json(ChrootsAnswer {
        chroots: wanted.into_iter().map(order).collect(),
    }))
}

/// Converts the reported images: each chroot once, texts cut to their bounds, states that this frontend does not know
/// left out.
fn reports(images: Vec<ChrootImage>) -> Result<Vec<ImageReport>, FieldError> {
    if images.len() > MAX_CHROOTS as usize {
        return Err(FieldError::new("images", "too many").accepted(format!("{MAX_CHROOTS} images")));
    }
    let mut seen = HashSet::new();
    let once = images
        .into_iter()
        .filter(|image| seen.insert(image.chroot.clone()));
    Ok(once.filter_map(report).collect())
}

fn report(image: ChrootImage) -> Option<ImageReport> {
    let cut = |text: String, max: usize| -> String {
        let plain = text.chars().filter(|c| !c.is_control());
        plain.take(max).collect()
    };
    Some(ImageReport {
        standing: match image.state {
            ImageState::Ready => ImageStanding::Ready,
            ImageState::Missing => ImageStanding::Missing,
            ImageState::Baking => ImageStanding::Baking,
            ImageState::Failed => ImageStanding::Failed,
            ImageState::Other => return None,
        },
        chroot: image.chroot,
        digest: image.digest.map(|digest| cut(digest, MAX_DIGEST)),
        baked_at: image.baked_at,
        since: image.since,
        error: image.error.map(|error| cut(error, MAX_ERROR)),
        next_try_at: image.next_try_at,
    })
}

fn order(wanted: WantedImage) -> ChrootOrder {
    ChrootOrder {
        name: wanted.chroot.name,
        image: wanted.chroot.image,
        base: wanted.chroot.base,
        mock_root: wanted.chroot.mock_root,
        refresh_asked_ms_ago: wanted.refresh_asked_ms_ago,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(state: ImageState, error: &str) -> ChrootImage {
        ChrootImage {
            chroot: "a-1-x".parse().unwrap(),
            state,
            digest: None,
            baked_at: None,
            since: None,
            error: Some(error.to_owned()),
            next_try_at: None,
        }
    }

    #[test]
    fn what_a_builder_tells_is_cut_and_each_chroot_is_told_once() {
        let long = format!("a\u{1b}{}", "b".repeat(5000));
        let reported = reports(vec![
            image(ImageState::Failed, &long),
            image(ImageState::Ready, ""),
        ]);
        let reported = reported.unwrap();
        assert_eq!(reported.len(), 1);
        assert_eq!(reported[0].error.as_ref().unwrap().len(), MAX_ERROR);
        assert!(!reported[0].error.as_ref().unwrap().contains('\u{1b}'));
        assert_eq!(reports(vec![image(ImageState::Other, "")]).unwrap(), []);
        assert!(reports(vec![image(ImageState::Ready, ""); 501]).is_err());
    }
}
