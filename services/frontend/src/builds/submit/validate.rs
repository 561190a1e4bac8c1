//! Validates a submission: turns its texts and numbers into types of the domain, or says which field cannot be accepted
//! and what could be. Needs no database.

use millrace_chassis::Guard;
use millrace_domain::{
    ChrootError, ChrootName, FileName, LimitError, Limits, LimitsPolicy, Name, Priority,
    RepositoryUrl, SourceUrl, require_one_release,
};
use millrace_results::Sha256;

use crate::builds::submit::request::{SourceEntry, SubmitRequest};
use crate::error::FieldError;

/// Chroots of one build at most.
const MAX_CHROOTS: usize = 50;
/// Extra repositories of one build at most.
const MAX_REPOSITORIES: usize = 50;

/// Bounds that a submission must keep.
pub struct Rules<'a> {
    /// Defaults and bounds of memory, time and disk space.
    pub limits: &'a LimitsPolicy,
    /// Sources of one build at most.
    pub max_sources: usize,
    /// Refuses source URLs that lead to private addresses.
    pub guard: &'a Guard,
}

/// A valid submission; whether what it names exists is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidSubmission {
    /// The name of the project's owner.
    pub owner: Name,
    /// The name of the project, under its owner.
    pub project: Name,
    /// The source packages, in the order in which they are built.
    pub sources: Vec<ValidSource>,
    /// The chroots, all of one release.
    pub chroots: Vec<ChrootName>,
    /// Repositories beside those of the chroot.
    pub repositories: Vec<RepositoryUrl>,
    /// Memory and time of each package, defaults filled in.
    pub limits: Limits,
    /// Disk space that is asked for, in MiB.
    pub disk_mib: Option<u32>,
    /// The class of priority; `normal` where none was asked for.
    pub priority: Priority,
}

/// One source of a checked submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidSource {
    /// To be fetched by the builder.
    Url {
        /// Its name in logs and results.
        name: FileName,
        /// The address that the builder fetches.
        url: SourceUrl,
    },
    /// Uploaded before; whether the result store has it is to be looked up.
    Stored {
        /// Its name in logs and results.
        name: FileName,
        /// SHA-256 of the file.
        sha256: Sha256,
        /// Its size in bytes as the caller named it; not compared when absent.
        size: Option<u64>,
    },
}

/// Validates all fields; the first wrong one is the error.
pub fn validate(request: &SubmitRequest, rules: &Rules<'_>) -> Result<ValidSubmission, FieldError> {
    let (owner, project) = validate_project(request.project.as_deref().unwrap_or("main/main"))?;
    Ok(ValidSubmission {
        owner,
        project,
        sources: validate_sources(&request.sources, rules)?,
        chroots: validate_chroots(&request.chroots)?,
        repositories: validate_repositories(&request.repositories)?,
        limits: validate_limits(rules.limits, request.memory_reqs, request.timeout)?,
        disk_mib: validate_disk(rules.limits, request.disk)?,
        priority: request.priority.unwrap_or(Priority::Normal),
    })
}

/// Owner and name of a project, from `owner/name`.
pub fn validate_project(text: &str) -> Result<(Name, Name), FieldError> {
    text.split_once('/')
        .and_then(|(owner, name)| Some((owner.parse().ok()?, name.parse().ok()?)))
        .ok_or_else(|| {
            FieldError::new("project", "not the name of a project")
                .accepted("owner/name, such as main/main")
        })
}

/// Memory and time with defaults filled in; an error where one is out of bounds.
pub fn validate_limits(
    policy: &LimitsPolicy,
    memory: Option<i64>,
    timeout: Option<i64>,
) -> Result<Limits, FieldError> {
    policy.resolve(memory, timeout).map_err(out_of_bounds)
}

/// Disk space that was asked for, in MiB; an error where it is out of bounds.
pub fn validate_disk(policy: &LimitsPolicy, disk: Option<i64>) -> Result<Option<u32>, FieldError> {
    if disk.is_some() && policy.max_disk_mib == 0 {
        let reason = "the operator lets no build ask for disk space";
        return Err(FieldError::new("disk", reason).accepted("no value"));
    }
    policy.resolve_disk(disk).map_err(out_of_bounds)
}

fn out_of_bounds(error: LimitError) -> FieldError {
    let LimitError { min, max, unit, .. } = error;
    FieldError::new(error.field, error).accepted(format!("{min} to {max} {unit}"))
}

/// The file name of an uploaded source package; `field` is its path in the request.
pub fn validate_source_name(field: &str, text: &str) -> Result<FileName, FieldError> {
    let accepted = "a plain file name ending in .src.rpm, such as pkg-1-1.src.rpm";
    let name: FileName = text
        .parse()
        .map_err(|error| FieldError::new(field, error).accepted(accepted))?;
    if !text.ends_with(".src.rpm") {
        return Err(FieldError::new(field, "not the name of a source package").accepted(accepted));
    }
    Ok(name)
}

fn validate_sources(
    entries: &[SourceEntry],
    rules: &Rules<'_>,
) -> Result<Vec<ValidSource>, FieldError> {
    validate_count("sources", entries.len(), 1, rules.max_sources)?;
    entries
        .iter()
        .enumerate()
        .map(|(position, entry)| validate_source(position, entry, rules.guard))
        .collect()
}

fn validate_source(
    position: usize,
    entry: &SourceEntry,
    guard: &Guard,
) -> Result<ValidSource, FieldError> {
    let field = format!("sources[{position}]");
    match entry {
        SourceEntry::Url(text) => {
            let url: SourceUrl = text.parse().map_err(|error| {
                FieldError::new(&field, error)
                    .accepted("an http:// or https:// URL of at most 2048 characters")
            })?;
            guard.check_literal(url.as_str()).map_err(|error| {
                FieldError::new(&field, error).accepted("a URL with a public address")
            })?;
            let name = name_in(&url, position);
            Ok(ValidSource::Url { name, url })
        }
        SourceEntry::Uploaded(upload) => Ok(ValidSource::Stored {
            name: validate_source_name(&format!("{field}.name"), &upload.name)?,
            sha256: upload.sha256.parse().map_err(|error| {
                FieldError::new(format!("{field}.sha256"), error)
                    .accepted("64 hexadecimal digits in lower case")
            })?,
            size: upload.size,
        }),
    }
}

/// The last segment of the URL's path where it is a safe name, else one by position.
fn name_in(url: &SourceUrl, position: usize) -> FileName {
    let path = url::Url::parse(url.as_str())
        .ok()
        .map(|url| url.path().to_owned());
    let last = path
        .as_deref()
        .and_then(|path| path.rsplit('/').next())
        .map(|segment| {
            segment
                .replace("%2B", "+")
                .replace("%7E", "~")
                .replace("%5E", "^")
        });
    last.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fallback_name(position))
}

#[expect(
    clippy::expect_used,
    reason = "digits in a plain name are a plain name"
)]
fn fallback_name(position: usize) -> FileName {
    format!("source-{position}")
        .parse()
        .expect("a plain file name")
}

fn validate_chroots(texts: &[String]) -> Result<Vec<ChrootName>, FieldError> {
    validate_count("chroots", texts.len(), 1, MAX_CHROOTS)?;
    let chroots: Vec<ChrootName> = texts
        .iter()
        .enumerate()
        .map(|(position, text)| {
            text.parse().map_err(|error: ChrootError| {
                FieldError::new(format!("chroots[{position}]"), error)
                    .accepted("a name from /api/v1/chroots")
            })
        })
        .collect::<Result<_, _>>()?;
    require_one_release(&chroots).map_err(|error| {
        FieldError::new("chroots", error).accepted(
            "different chroots of one release, such as fedora-44-x86_64 and fedora-44-aarch64",
        )
    })?;
    Ok(chroots)
}

fn validate_repositories(texts: &[String]) -> Result<Vec<RepositoryUrl>, FieldError> {
    validate_count("repositories", texts.len(), 0, MAX_REPOSITORIES)?;
    texts
        .iter()
        .enumerate()
        .map(|(position, text)| {
            text.parse().map_err(|error| {
                FieldError::new(format!("repositories[{position}]"), error)
                    .accepted("an http:// or https:// URL; $basearch stands for the architecture")
            })
        })
        .collect()
}

fn validate_count(field: &str, count: usize, min: usize, max: usize) -> Result<(), FieldError> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(FieldError::new(field, format!("has {count} entries"))
        .accepted(format!("{min} to {max} entries")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(body: Value) -> Result<ValidSubmission, FieldError> {
        let request: SubmitRequest = serde_json::from_value(body).unwrap();
        let rules = Rules {
            limits: &LimitsPolicy::default(),
            max_sources: 100,
            guard: &Guard::new(millrace_chassis::AllowList::default()),
        };
        validate(&request, &rules)
    }

    fn good() -> Value {
        json!({"sources": ["http://example.org/a-1-1.src.rpm"], "chroots": ["fedora-44-x86_64"]})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut body = good();
        body[key] = value;
        body
    }

    #[test]
    fn the_least_submission_gets_the_defaults() {
        let checked = run(good()).unwrap();
        assert_eq!(checked.owner.as_str(), "main");
        assert_eq!(checked.limits.memory_mib, 2048);
        assert!(
            matches!(&checked.sources[0], ValidSource::Url { name, .. } if name.as_str() == "a-1-1.src.rpm")
        );
    }

    #[test]
    fn a_url_without_a_usable_name_gets_one_by_position() {
        let body = with(
            "sources",
            json!([
                "http://example.org/",
                "http://example.org/x?y=1",
                "http://example.org/a%20b"
            ]),
        );
        let names: Vec<String> = run(body)
            .unwrap()
            .sources
            .iter()
            .map(|source| match source {
                ValidSource::Url { name, .. } | ValidSource::Stored { name, .. } => {
                    name.to_string()
                }
            })
            .collect();
        assert_eq!(names, ["source-0", "x", "source-2"]);
    }

    #[test]
    fn each_wrong_field_is_named() {
        let many = vec!["http://example.org/a.src.rpm"; 101];
        let digest = "0".repeat(64);
        for (key, value, field) in [
            ("project", json!("main"), "project"),
            ("project", json!("../main"), "project"),
            ("sources", json!([]), "sources"),
            ("sources", json!(many), "sources"),
            ("sources", json!(["http://a b/"]), "sources[0]"),
            ("sources", json!(["http://example.org/a\n"]), "sources[0]"),
            ("sources", json!(["http://example.org/'"]), "sources[0]"),
            ("sources", json!(["http://example.org/{{x}}"]), "sources[0]"),
            ("sources", json!(["gopher://example.org/"]), "sources[0]"),
            ("sources", json!(["http://127.0.0.1/a"]), "sources[0]"),
            ("sources", json!(["http://[::1]/a"]), "sources[0]"),
            ("sources", json!(["http://169.254.169.254/a"]), "sources[0]"),
            ("sources", json!(["http://10.1.2.3/a"]), "sources[0]"),
            (
                "sources",
                json!([{"sha256": "zz", "name": "a.src.rpm"}]),
                "sources[0].sha256",
            ),
            (
                "sources",
                json!([{"sha256": digest, "name": "a.rpm"}]),
                "sources[0].name",
            ),
            (
                "sources",
                json!([{"sha256": digest, "name": "../a.src.rpm"}]),
                "sources[0].name",
            ),
            ("chroots", json!([]), "chroots"),
            (
                "chroots",
                json!(["fedora-44-x86_64", "fedora-43-x86_64"]),
                "chroots",
            ),
            (
                "chroots",
                json!(["fedora-44-x86_64", "fedora-44-x86_64"]),
                "chroots",
            ),
            ("chroots", json!(["../../etc/mock"]), "chroots[0]"),
            ("repositories", json!(["file:///etc"]), "repositories[0]"),
            ("memory_reqs", json!(-1), "memory_reqs"),
            ("memory_reqs", json!(i64::MAX), "memory_reqs"),
            ("timeout", json!(0), "timeout"),
            ("disk", json!(0), "disk"),
            ("disk", json!(i64::MAX), "disk"),
        ] {
            let error = run(with(key, value.clone())).unwrap_err();
            assert_eq!(error.field, field, "{value}");
            assert!(error.accepted.is_some(), "{value}");
        }
    }
}
