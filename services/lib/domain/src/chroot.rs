//! Names of chroots: a release and an architecture, such as `fedora-44-x86_64`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name that is accepted, in characters.
const MAX_LENGTH: usize = 64;

/// A chroot's name: `<distribution>-<version>-<architecture>`.
///
/// For mock a chroot's name is a path and a piece of Python, so only letters, digits, `_`, `.` and `+`
/// stand between the dashes.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    utoipa::ToSchema,
)]
#[schema(value_type = String)]
#[serde(try_from = "String", into = "String")]
pub struct ChrootName(String);

/// Why a chroot's name, or a set of them, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChrootError {
    /// The text is no chroot name.
    #[error(
        "'{0}' is no chroot name; expected <distribution>-<version>-<architecture> of letters, digits, '_', '.' and '+', such as fedora-44-x86_64"
    )]
    Malformed(String),
    /// The chroots of one build must be of one release (rule of the seed document).
    #[error("chroots of one build must be of one release, but {0} and {1} differ")]
    MixedReleases(ChrootName, ChrootName),
    /// The same chroot was named twice.
    #[error("chroot {0} is named twice")]
    Repeated(ChrootName),
}

impl ChrootName {
    /// The distribution and version without the architecture, such as `fedora-44`.
    pub fn release(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(release, _)| release)
    }

    /// The architecture, such as `x86_64`.
    pub fn arch(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(_, arch)| arch)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Refuses chroots of mixed release and chroots named twice.
pub fn require_one_release(chroots: &[ChrootName]) -> Result<(), ChrootError> {
    for (index, chroot) in chroots.iter().enumerate() {
        if chroots[..index].contains(chroot) {
            return Err(ChrootError::Repeated(chroot.clone()));
        }
        if chroot.release() != chroots[0].release() {
            return Err(ChrootError::MixedReleases(
                chroots[0].clone(),
                chroot.clone(),
            ));
        }
    }
    Ok(())
}

impl FromStr for ChrootName {
    type Err = ChrootError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let segments: Vec<&str> = text.split('-').collect();
        if text.len() <= MAX_LENGTH && segments.len() >= 3 && segments.iter().all(|s| is_segment(s))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(ChrootError::Malformed(
                text.chars().take(MAX_LENGTH).collect(),
            ))
        }
    }
}

fn is_segment(segment: &str) -> bool {
    segment.starts_with(|c: char| c.is_ascii_alphanumeric())
        && segment
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+'))
        && !segment.contains("..")
}

impl TryFrom<String> for ChrootName {
    type Error = ChrootError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ChrootName> for String {
    fn from(name: ChrootName) -> Self {
        name.0
    }
}

impl fmt::Display for ChrootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ChrootName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_splits_into_release_and_architecture() {
        assert_eq!(name("fedora-44-x86_64").release(), "fedora-44");
        assert_eq!(name("centos-stream+epel-9-aarch64").arch(), "aarch64");
    }

    #[test]
    fn paths_templates_and_blanks_are_refused() {
        for bad in [
            "",
            "fedora",
            "fedora-44",
            "../etc-1-x",
            "a-..-b",
            "fedora-44-x86_64.cfg/",
            "a-{{7}}-b",
            "a b-1-c",
            "a-1-c\n",
        ] {
            assert!(bad.parse::<ChrootName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mixed_releases_and_repeats_are_refused() {
        let f17 = name("fedora-17-i386");
        assert_eq!(
            require_one_release(&[f17.clone(), name("fedora-17-x86_64")]),
            Ok(())
        );
        assert!(matches!(
            require_one_release(&[f17.clone(), name("fedora-18-i386")]),
            Err(ChrootError::MixedReleases(..))
        ));
        assert_eq!(
            require_one_release(&[f17.clone(), f17.clone()]),
            Err(ChrootError::Repeated(f17))
        );
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_a_single_plain_path_segment(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<ChrootName>() {
                let is_plain = !name.as_str().contains(['/', '\\', ' ', '{', '\'']);
                prop_assert!(is_plain);
                prop_assert_eq!(format!("{}-{}", name.release(), name.arch()), text);
            }
        }
    }
}
