//! Names that come from outside and become path segments or keys: accounts, projects, result files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not an account or project name.
    #[error("expected 1 to 64 letters, digits, '_', '.' or '-', starting with a letter or digit")]
    Name,
    /// Not a safe file name.
    #[error(
        "expected a plain file name of 1 to 200 letters, digits and any of '_.+~^-', starting with a letter or digit"
    )]
    FileName,
    /// Not the name of an image.
    #[error(
        "expected the name of an image: 1 to 200 letters, digits and any of '_.-/:', starting with a letter or digit, with neither '..' nor '//' nor a digest"
    )]
    Image,
    /// Not an idempotency key.
    #[error("expected 1 to 200 visible ASCII characters")]
    IdempotencyKey,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:ident, $error:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[derive(schemars::JsonSchema, utoipa::ToSchema)]
        #[schema(value_type = String)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text, as it was accepted.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                if $check(&text) { Ok(Self(text)) } else { Err(NameError::$error) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// The name of an account or of a project: one safe path segment, as pollers of 2012 use it.
    Name, is_name, Name
);
text_type!(
    /// The name of a file in a result: one safe path segment.
    FileName, is_file_name, FileName
);
text_type!(
    /// The name of an image on a container engine, with a tag or without: it becomes part of command lines, labels and
    /// names of containers. No digest: what is made anew under a name has another one each time.
    ImageName, is_image, Image
);
text_type!(
    /// The `Idempotency-Key` of a submission, unique per account.
    IdempotencyKey, is_key, IdempotencyKey
);

fn starts_plainly(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && starts_plainly(text)
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_file_name(text: &str) -> bool {
    text.len() <= 200
        && starts_plainly(text)
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.+~^-".contains(c))
}

fn is_image(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && starts_plainly(text)
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-/:".contains(c))
        && !text.contains("..")
        && !text.contains("//")
}

impl ImageName {
    /// The name without its tag, and the tag: `latest` where it has none, as engines have it.
    pub fn repository_and_tag(&self) -> (&str, &str) {
        match self.0.rsplit_once(':') {
            // What follows the colon of a registry's port is a path.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (&self.0, "latest"),
        }
    }
}

fn is_key(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rpm_file_names_are_accepted() {
        for good in [
            "bzip2-1.0.8-1.src.rpm",
            "a-1~rc1^git-2.x86_64.rpm",
            "gtk+-2.noarch.rpm",
            "build.log",
        ] {
            assert!(good.parse::<FileName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in [
            "", ".", "..", "-rf", ".hidden", "a/b", "a\\b", "a b", "a\nb", "ü.rpm",
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn images_are_named_without_digests_and_code() {
        let parts = |text: &str| {
            let name: ImageName = text.parse().unwrap();
            let (repository, tag) = name.repository_and_tag();
            (repository.to_owned(), tag.to_owned())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            parts("millrace/mock:fedora-44"),
            pair("millrace/mock", "fedora-44")
        );
        assert_eq!(parts("h:5000/mock"), pair("h:5000/mock", "latest"));
        for bad in [
            "",
            "-v",
            "a b",
            "a@sha256:0",
            "a..b",
            "a//b",
            "{{7}}",
            "a\nb",
            "a:",
            "$(x)",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_file_name_has_no_separator(text in "\\PC{0,220}") {
            if let Ok(name) = text.parse::<FileName>() {
                prop_assert!(!name.as_str().contains(['/', '\\']) && name.as_str() != ".." && name.as_str().len() <= 200);
            }
        }
    }
}
