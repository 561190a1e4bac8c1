//! Builds of another site as its legacy list shows them, with the key `state` added: checked and converted for storage.

use chrono::{DateTime, Utc};
use millrace_domain::{
    ChrootName, FileName, LimitsPolicy, MemoryClasses, Name, SourceUrl, TaskState,
    require_one_release,
};
use millrace_store::{ImportedBuild, ImportedProject};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::builds::submit::validate::validate_limits;
use crate::error::FieldError;

/// Ids must be lower: from here on, programs that read JSON numbers as floats lose their last digits.
const MAX_NUMBER: i64 = 1 << 53;

/// A build of another site; other keys than these are ignored.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ImportEntry {
    /// Number of the build, which it keeps.
    pub id: i64,
    /// Number of the account that submitted it.
    pub user_id: i64,
    /// URLs of its source packages, joined by spaces.
    pub pkgs: String,
    /// Names of its chroots, joined by spaces.
    pub chroots: String,
    /// URLs of extra repositories, joined by spaces; those of its project when absent.
    #[serde(default)]
    pub repos: Option<String>,
    /// When it was submitted, in seconds since 1970.
    pub submitted_on: f64,
    /// When its build began, in seconds since 1970; null when it has not.
    #[serde(default)]
    pub started_on: Option<f64>,
    /// When it ended, in seconds since 1970; null when it has not.
    #[serde(default)]
    pub ended_on: Option<f64>,
    /// URL of its results; null when there are none.
    #[serde(default)]
    pub results: Option<String>,
    /// Whether it was cancelled; read where neither `state` nor `status` says how it ended.
    #[serde(default)]
    pub canceled: Option<bool>,
    /// How it ended: 1 for success, 0 for failure; null when it has not.
    #[serde(default)]
    pub status: Option<i64>,
    /// Limit on wall time of each package, in seconds; the default when absent.
    #[serde(default)]
    pub timeout: Option<i64>,
    /// Limit on memory of each package, in MB; the default when absent.
    #[serde(default)]
    pub memory_reqs: Option<i64>,
    /// Project that the build belongs to.
    pub copr: ImportCopr,
    /// `waiting`, `succeeded`, `failed` or `cancelled`; derived from the other keys when absent.
    #[serde(default)]
    pub state: Option<TaskState>,
}

/// A project of another site.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ImportCopr {
    /// Number of the project, under which pollers continue to see it.
    pub id: i64,
    /// Name of the project.
    pub name: String,
    /// Number of the owner's account; may be absent when `owner` is given.
    #[serde(default)]
    pub owner_id: Option<i64>,
    /// URLs of the project's repositories, joined by spaces.
    #[serde(default)]
    pub repos: Option<String>,
    /// Names of the project's chroots, joined by spaces; those of the build when absent.
    #[serde(default)]
    pub chroots: Option<String>,
    /// When the project was created, in seconds since 1970.
    #[serde(default)]
    pub created_on: Option<f64>,
    /// Account that owns the project.
    #[serde(default)]
    pub owner: Option<ImportOwner>,
}

/// An owner of another site.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ImportOwner {
    /// Number of the account, under which pollers continue to see it.
    pub id: i64,
    /// Name of the account; `user` and its number when absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// Settings that the checks of an import need.
pub struct ImportRules<'a> {
    /// Defaults and bounds of limits on memory and time.
    pub limits: &'a LimitsPolicy,
    /// Classes by memory, which decide the job queue.
    pub classes: &'a MemoryClasses,
    /// Number of sources of a build at most.
    pub max_sources: usize,
}

/// Converts an entry of the import, the `at`th from 0, to the build to be stored, or says which field cannot be
/// accepted.
pub fn validate_import(
    at: usize,
    entry: &ImportEntry,
    rules: &ImportRules<'_>,
) -> Result<ImportedBuild, FieldError> {
    validate(entry, rules).map_err(|error| FieldError {
        field: format!("builds[{at}].{}", error.field),
        ..error
    })
}

fn validate(entry: &ImportEntry, rules: &ImportRules<'_>) -> Result<ImportedBuild, FieldError> {
    let chroots: Vec<ChrootName> = words("chroots", &entry.chroots)?;
    if chroots.is_empty() {
        return Err(FieldError::new("chroots", "there is none"));
    }
    require_one_release(&chroots).map_err(|error| FieldError::new("chroots", error))?;
    let limits = validate_limits(rules.limits, entry.memory_reqs, entry.timeout)?;
    let of_project = entry.copr.repos.as_deref().unwrap_or_default();
    let repositories = entry.repos.as_deref().unwrap_or(of_project);
    Ok(ImportedBuild {
        id: number("id", entry.id)?,
        submitter_id: number("user_id", entry.user_id)?,
        sources: sources(&entry.pkgs, rules.max_sources)?,
        repositories: words("repos", repositories)?,
        limits,
        memory_class: rules.classes.of(limits.memory_mib).name.clone(),
        submitted_at: time("submitted_on", entry.submitted_on)?,
        started_at: optional_time("started_on", entry.started_on)?,
        ended_at: optional_time("ended_on", entry.ended_on)?,
        state: state(entry)?,
        results: optional("results", entry.results.as_deref())?,
        project: project(&entry.copr, &chroots)?,
        chroots,
    })
}

fn project(copr: &ImportCopr, of_build: &[ChrootName]) -> Result<ImportedProject, FieldError> {
    let owner_id = copr
        .owner
        .as_ref()
        .map(|owner| owner.id)
        .or(copr.owner_id)
        .ok_or_else(|| {
            FieldError::new("copr.owner_id", "neither this nor copr.owner.id is there")
        })?;
    if copr.owner_id.is_some_and(|id| id != owner_id) {
        return Err(FieldError::new(
            "copr.owner_id",
            "differs from copr.owner.id",
        ));
    }
    let name: Name = (copr.name.parse()).map_err(|error| FieldError::new("copr.name", error))?;
    let owner = copr.owner.as_ref().and_then(|owner| owner.name.as_deref());
    Ok(ImportedProject {
        id: number("copr.id", copr.id)?,
        name,
        owner_id: number("copr.owner_id", owner_id)?,
        owner: optional("copr.owner.name", owner)?,
        chroots: match &copr.chroots {
            Some(text) => words("copr.chroots", text)?,
            None => of_build.to_vec(),
        },
        repositories: words("copr.repos", copr.repos.as_deref().unwrap_or_default())?,
        created_at: optional_time("copr.created_on", copr.created_on)?,
    })
}

/// The build's state: as given, or as the legacy keys imply it. A build that another site is still building cannot be
/// imported.
fn state(entry: &ImportEntry) -> Result<TaskState, FieldError> {
    let implied = match (entry.status, entry.canceled) {
        (Some(1), _) => TaskState::Succeeded,
        (Some(0), _) => TaskState::Failed,
        (_, Some(true)) => TaskState::Cancelled,
        _ if entry.ended_on.is_some() => TaskState::Failed,
        _ if entry.started_on.is_some() => TaskState::Running,
        _ => TaskState::Waiting,
    };
    let state = entry.state.unwrap_or(implied);
    match state {
        TaskState::Queued | TaskState::Running => Err(FieldError::new(
            "state",
            "a build that somebody has cannot be moved: let it end there, or import it as waiting",
        )
        .accepted("waiting, succeeded, failed or cancelled")),
        TaskState::Waiting | TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => {
            Ok(state)
        }
    }
}

fn sources(pkgs: &str, max: usize) -> Result<Vec<(FileName, SourceUrl)>, FieldError> {
    let urls: Vec<SourceUrl> = words("pkgs", pkgs)?;
    if urls.is_empty() || urls.len() > max {
        let accepted = format!("1 to {max} URLs");
        return Err(FieldError::new("pkgs", "too few or too many").accepted(accepted));
    }
    let named = |(at, url)| Ok((source_name(at, &url)?, url));
    urls.into_iter().enumerate().map(named).collect()
}

/// The file name at the end of the address, or one made from the position: the name only labels the source in logs and
/// results.
fn source_name(at: usize, url: &SourceUrl) -> Result<FileName, FieldError> {
    let last = url.as_str().rsplit('/').next().unwrap_or_default();
    last.parse()
        .or_else(|_| format!("source-{at}.src.rpm").parse())
        .map_err(|error| FieldError::new("pkgs", error))
}

/// Parses the words of a text that are joined by spaces.
fn words<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<Vec<T>, FieldError> {
    let parse = |word: &str| {
        word.parse()
            .map_err(|error: T::Err| FieldError::new(field, error))
    };
    text.split_ascii_whitespace().map(parse).collect()
}

/// Parses a text that may be absent.
fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, FieldError> {
    text.map(|text| {
        text.parse()
            .map_err(|error: T::Err| FieldError::new(field, error))
    })
    .transpose()
}

/// Checks an id: positive, and safe in programs that read JSON numbers as floats.
fn number(field: &str, number: i64) -> Result<i64, FieldError> {
    if (1..MAX_NUMBER).contains(&number) {
        return Ok(number);
    }
    Err(FieldError::new(field, "out of range").accepted(format!("1 to {}", MAX_NUMBER - 1)))
}

fn optional_time(field: &str, seconds: Option<f64>) -> Result<Option<DateTime<Utc>>, FieldError> {
    seconds.map(|seconds| time(field, seconds)).transpose()
}

fn time(field: &str, seconds: f64) -> Result<DateTime<Utc>, FieldError> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction is to be dropped"
    )]
    let whole = seconds as i64;
    // Until the end of the year 9999.
    let is_in_range = (0..=253_402_300_799).contains(&whole);
    is_in_range
        .then(|| DateTime::from_timestamp(whole, 0))
        .flatten()
        .ok_or_else(|| FieldError::new(field, "no time").accepted("seconds since 1970"))
}
