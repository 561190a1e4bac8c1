//! A new chroot in words of the domain, or which field cannot be accepted. Each of its names becomes part of a command
//! line of mock or of a name on an engine, where other characters would be code.

use millrace_domain::{ChrootName, ImageName};
use millrace_store::ChrootDef;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::FieldError;

/// Chroots at most: builders ask for all of theirs every few seconds.
pub const MAX_CHROOTS: u32 = 500;
/// Before the name of an image that nobody named.
const IMAGE: &str = "millrace/chroot-";

/// A chroot to be added.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddChroot {
    /// Its name: `<distribution>-<version>-<architecture>`.
    pub name: String,
    /// The image that builders bake it from, which has mock; pulled where an engine lacks it. Without it the image is made
    /// elsewhere.
    #[serde(default)]
    pub base: Option<String>,
    /// The name of its image on the engines; `millrace/chroot-<name>` when absent.
    #[serde(default)]
    pub image: Option<String>,
    /// The name of mock's configuration inside the base; the chroot's own name when absent.
    #[serde(default)]
    pub mock_root: Option<String>,
}

/// Checks all names.
pub fn check(request: &AddChroot) -> Result<ChrootDef, FieldError> {
    let name = chroot("name", &request.name)?;
    let mock_root = match &request.mock_root {
        Some(text) => chroot("mock_root", text)?,
        None => name.clone(),
    };
    let base = request.base.as_deref().map(|text| image("base", text));
    let base = base.transpose()?;
    // Engines want images in lower case, which the names of chroots need not be.
    let default = || format!("{IMAGE}{}", name.as_str().to_lowercase().replace('+', "_"));
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
        let added = check(&request("centos-stream+epel-9-X86_64")).unwrap();
        assert_eq!(added.image, "millrace/chroot-centos-stream_epel-9-x86_64");
        assert_eq!(added.mock_root, added.name);
    }

    #[test]
    fn each_name_that_would_be_code_is_refused_by_its_field() {
        let field = |change: &dyn Fn(&mut AddChroot)| {
            let mut request = request("fedora-44-x86_64");
            change(&mut request);
            check(&request).unwrap_err().field
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
