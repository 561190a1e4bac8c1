//! The body of a submission as it arrives: texts and numbers that are not validated yet. Fields that later versions
//! added are left out of its serial form where they are absent, so that the digest behind an idempotency key stays the
//! same over an upgrade.

use millrace_domain::Priority;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A build to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// `owner/name` of the project; `main/main` when absent.
    #[serde(default)]
    #[schema(example = "main/main")]
    pub project: Option<String>,
    /// 1 to 100 source packages, built in this order: URLs, or packages uploaded before.
    pub sources: Vec<SourceEntry>,
    /// Chroots of one release.
    #[schema(example = json!(["fedora-44-x86_64"]))]
    pub chroots: Vec<String>,
    /// Extra repositories; `$basearch` stands for the architecture.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Memory limit of each package in MB, which means MiB.
    #[serde(default)]
    pub memory_reqs: Option<i64>,
    /// Time limit of each package in seconds.
    #[serde(default)]
    pub timeout: Option<i64>,
    /// Disk space of each package's sandbox in MB, which means MiB: a lower bound on what its builder gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<i64>,
    /// `background`, `normal` or `high`; `normal` when absent.
    #[serde(default)]
    pub priority: Option<Priority>,
}

/// One source package of a submission, in either form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SourceEntry {
    /// The http(s) URL of a source package.
    Url(String),
    /// A source package uploaded before, as the upload's answer named it.
    Uploaded(UploadedSource),
}

/// A source package in the result store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadedSource {
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// The file's name, ending in `.src.rpm`.
    pub name: String,
    /// The file's size in bytes; checked when it is given.
    #[serde(default)]
    pub size: Option<u64>,
}

/// Changes to the limits of a build that is submitted again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResubmitRequest {
    /// Memory limit in MB; as before when absent.
    #[serde(default)]
    pub memory_reqs: Option<i64>,
    /// Time limit in seconds; as before when absent.
    #[serde(default)]
    pub timeout: Option<i64>,
    /// Disk space in MB, a lower bound on what its builder gives; as before when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<i64>,
    /// Takes the limits that the build's outcomes suggest, where no other is given here.
    #[serde(default)]
    pub with_suggested_limits: bool,
}

// By hand, so that an error names the entry's own field instead of "no variant matched".
impl<'de> Deserialize<'de> for SourceEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = SourceEntry;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a URL, or an object with sha256 and name")
            }

            fn visit_str<E>(self, text: &str) -> Result<SourceEntry, E> {
                Ok(SourceEntry::Url(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SourceEntry, A::Error> {
                UploadedSource::deserialize(MapAccessDeserializer::new(map))
                    .map(SourceEntry::Uploaded)
            }
        }

        deserializer.deserialize_any(Entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_url_or_an_upload() {
        let sources: Vec<SourceEntry> =
            serde_json::from_str(r#"["http://h/a.src.rpm", {"sha256":"00","name":"a.src.rpm"}]"#)
                .unwrap();
        assert!(matches!(&sources[0], SourceEntry::Url(url) if url == "http://h/a.src.rpm"));
        assert!(matches!(&sources[1], SourceEntry::Uploaded(up) if up.name == "a.src.rpm"));
        for bad in [
            "[7]",
            "[null]",
            r#"[{"sha256":"00"}]"#,
            r#"[{"path":"/etc/passwd"}]"#,
        ] {
            assert!(
                serde_json::from_str::<Vec<SourceEntry>>(bad).is_err(),
                "{bad}"
            );
        }
    }
}
