//! `POST /builder/v1/chroots`: a builder says how the images of chroots are on its engine, and hears which it keeps.

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

/// Characters of a digest at most, and of the reason of a failure.
const MAX_DIGEST: usize = 200;
const MAX_ERROR: usize = 1_000;

pub async fn chroots(
    BuilderCaller(builder): BuilderCaller,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ChrootsRequest>,
) -> Result<Json<ChrootsAnswer>, ApiError> {
    if let Some(images) = request.images {
        let told = told(images)?;
        state.store.record_images(builder, &told).await?;
    }
    let wanted = state.store.wanted_images(builder, MAX_CHROOTS).await?;
    Ok(Json(ChrootsAnswer {
        chroots: wanted.into_iter().map(order).collect(),
    }))
}

/// What is told, each chroot once and within bounds; what this frontend does not understand is left out.
fn told(images: Vec<ChrootImage>) -> Result<Vec<ImageReport>, FieldError> {
    if images.len() > MAX_CHROOTS as usize {
        return Err(FieldError::new("images", "too many").accepted(format!("{MAX_CHROOTS} images")));
    }
    let mut seen = HashSet::new();
    let once = images
        .into_iter()
        .filter(|image| seen.insert(image.chroot.clone()));
    Ok(once.filter_map(one).collect())
}

fn one(image: ChrootImage) -> Option<ImageReport> {
    let cut = |text: String, most: usize| -> String {
        let plain = text.chars().filter(|c| !c.is_control());
        plain.take(most).collect()
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
        let kept = told(vec![
            image(ImageState::Failed, &long),
            image(ImageState::Ready, ""),
        ]);
        let kept = kept.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].error.as_ref().unwrap().len(), MAX_ERROR);
        assert!(!kept[0].error.as_ref().unwrap().contains('\u{1b}'));
        assert_eq!(told(vec![image(ImageState::Other, "")]).unwrap(), []);
        assert!(told(vec![image(ImageState::Ready, ""); 501]).is_err());
    }
}
