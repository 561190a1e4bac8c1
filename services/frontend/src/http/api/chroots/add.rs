//! `POST /api/v1/chroots`. Each name in the request becomes part of a command line of mock or of a name on an engine,
//! where other characters would be code; so each is checked, and the field that cannot be accepted is named.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millrace_chassis::Problem;
use millrace_domain::{ChrootName, ImageName};
use millrace_store::{ChrootAdded, ChrootDef};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::{ApiError, FieldError};
use crate::http::api::chroots::model::{Chroot, MAX_CHROOTS, load};
use crate::http::auth::Admin;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Prefix of the image's name when the request gives none.
const IMAGE_PREFIX: &str = "millrace/chroot-";

/// A chroot to be added.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddChroot {
    /// Name of the form `<distribution>-<version>-<architecture>`.
    pub name: String,
    /// Name of the image that builders bake the chroot's image from. It must contain mock, and is pulled where an
    /// engine lacks it. When absent, builders bake nothing: the image is made elsewhere.
    #[serde(default)]
    pub base: Option<String>,
    /// Name of the chroot's image on the engines; `millrace/chroot-<name>` when absent.
    #[serde(default)]
    pub image: Option<String>,
    /// Name of mock's configuration inside the base; the chroot's own name when absent.
    #[serde(default)]
    pub mock_root: Option<String>,
}

/// Add a chroot for new builds
#[utoipa::path(
    post,
    path = "/api/v1/chroots",
    tag = "service",
    request_body = AddChroot,
    responses(
        (status = 201, description = "The chroot; builders bake its image, and its first builds wait for that", body = Chroot),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn add_chroot(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<AddChroot>,
) -> Result<(StatusCode, Json<Chroot>), ApiError> {
    let new = validate(&request)?;
    match state.store.add_chroot(&new, MAX_CHROOTS).await? {
        ChrootAdded::Added => {}
        ChrootAdded::NameTaken => {
            let detail = format!("there is a chroot {} already", new.name);
            return Err(ApiError::Conflict { detail });
        }
        ChrootAdded::ImageTaken => {
            let taken = FieldError::new("image", "another chroot has this image");
            return Err(taken.accepted("a name of its own").into());
        }
        ChrootAdded::Full => {
            let detail =
                format!("there are {MAX_CHROOTS} chroots, which is as many as there may be");
            return Err(ApiError::Conflict { detail });
        }
    }
    tracing::info!(chroot = %new.name, image = new.image, "chroot added");
    let chroot = load(&state, &new.name).await?;
    Ok((StatusCode::CREATED, Json(chroot)))
}

/// Converts the request to the chroot to be stored, or says which field cannot be accepted.
fn validate(request: &AddChroot) -> Result<ChrootDef, FieldError> {
    let name = chroot("name", &request.name)?;
    let mock_root = match &request.mock_root {
        Some(text) => chroot("mock_root", text)?,
        None => name.clone(),
    };
    let base = request.base.as_deref().map(|text| image("base", text));
    let base = base.transpose()?;
    // Engines accept image names in lower case only; chroots' names may have capitals.
    let default = || {
        format!(
            "{IMAGE_PREFIX}{}",
            name.as_str().to_lowercase().replace('+', "_")
        )
    };
    let own = image("image", &request.image.clone().unwrap_or_else(default))?;
    if base.as_ref() == Some(&own) {
        return Err(FieldError::new("image", "is the base itself").accepted("a name of its own"));
    }
    if base.is_some() && own.as_str().contains(|c: char| c.is_ascii_uppercase()) {
        return Err(FieldError::new("image", "has capital letters")
            .accepted("lower case: engines accept no other name for a new image"));
    }
    Ok(ChrootDef {
        name,
        image: own.into(),
        mock_root,
        base: base.map(String::from),
    })
}

fn chroot(field: &str, text: &str) -> Result<ChrootName, FieldError> {
    text.parse().map_err(|error| {
        FieldError::new(field, error).accepted(
            "<distribution>-<version>-<architecture> of letters, digits, '_', '.' and '+', such as fedora-44-x86_64",
        )
    })
}

fn image(field: &str, text: &str) -> Result<ImageName, FieldError> {
    text.parse().map_err(|error| {
        FieldError::new(field, error)
            .accepted("the name of an image, such as registry.example.org/mock:fedora-44")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> AddChroot {
        AddChroot {
            name: name.to_owned(),
            base: Some("mock:1".to_owned()),
            image: None,
            mock_root: None,
        }
    }

    #[test]
    fn what_is_not_named_follows_from_the_name() {
        let added = validate(&request("centos-stream+epel-9-X86_64")).unwrap();
        assert_eq!(added.image, "millrace/chroot-centos-stream_epel-9-x86_64");
        assert_eq!(added.mock_root, added.name);
    }

    #[test]
    fn each_name_that_would_be_code_is_refused_by_its_field() {
        let field = |change: &dyn Fn(&mut AddChroot)| {
            let mut request = request("fedora-44-x86_64");
            change(&mut request);
            validate(&request).unwrap_err().field
        };
        assert_eq!(field(&|r| r.name = "../etc-1-x".to_owned()), "name");
        assert_eq!(
            field(&|r| r.mock_root = Some("a-{{7}}-b".to_owned())),
            "mock_root"
        );
        assert_eq!(field(&|r| r.base = Some("--privileged".to_owned())), "base");
        assert_eq!(
            field(&|r| r.image = Some("a\nLABEL x=y".to_owned())),
            "image"
        );
        assert_eq!(field(&|r| r.image = Some("mock:1".to_owned())), "image");
        assert_eq!(field(&|r| r.image = Some("Mock".to_owned())), "image");
    }
}
