//! Builds of another site as its list shows them: the superset's keys, and `state`.

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

/// Numbers from here on lose their last digits in many programs.
const MAX_NUMBER: i64 = 1 << 53;

/// A build of another site; keys that are not named here are not looked at.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ImportEntry {
    /// Its number, which it keeps.
    pub id: i64,
    /// Who submitted it.
    pub user_id: i64,
    /// URLs of source packages, joined by spaces.
    pub pkgs: String,
    /// Chroots, joined by spaces.
    pub chroots: String,
    /// URLs of extra repositories, joined by spaces; those of its project when absent.
    #[serde(default)]
    pub repos: Option<String>,
    /// Seconds since 1970.
    pub submitted_on: f64,
    /// Seconds since 1970.
    #[serde(default)]
    pub started_on: Option<f64>,
    /// Seconds since 1970.
    #[serde(default)]
    pub ended_on: Option<f64>,
    /// Where its results are.
    #[serde(default)]
    pub results: Option<String>,
    /// Whether it was cancelled.
    #[serde(default)]
    pub canceled: Option<bool>,
    /// 1: it succeeded, 0: it failed.
    #[serde(default)]
    pub status: Option<i64>,
    /// Seconds for each package; the default when absent.
    #[serde(default)]
    pub timeout: Option<i64>,
    /// MB for each package; the default when absent.
    #[serde(default)]
    pub memory_reqs: Option<i64>,
    /// Its project.
    pub copr: ImportCopr,
    /// `waiting`, `succeeded`, `failed` or `cancelled`; told from the other keys when absent.
    #[serde(default)]
    pub state: Option<TaskState>,
}

/// A project of another site.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ImportCopr {
    /// Its number, under which pollers go on to see it.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its owner, where `owner` does not say it.
    #[serde(default)]
    pub owner_id: Option<i64>,
    /// URLs of its repositories, joined by spaces.
    #[serde(default)]
    pub repos: Option<String>,
    /// Its chroots, joined by spaces; those of the build when absent.
    #[serde(default)]
    pub chroots: Option<String>,
    /// Seconds since 1970.
    #[serde(default)]
    pub created_on: Option<f64>,
    /// Its owner.
    #[serde(default)]
    pub owner: Option<ImportOwner>,
}

/// An owner of another site.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ImportOwner {
    /// The account's number, under which pollers go on to see it.
    pub id: i64,
    /// The account's name; `user` and its number when absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// What an import is measured by.
pub struct Measures<'a> {
    /// Defaults and bounds of limits.
    pub limits: &'a LimitsPolicy,
    /// Routes by memory.
    pub classes: &'a MemoryClasses,
    /// Sources of a build at most.
    pub max_sources: usize,
}

/// Checks one entry, the `at`th.
pub fn check_import(
    at: usize,
    entry: &ImportEntry,
    measures: &Measures<'_>,
) -> Result<ImportedBuild, FieldError> {
    check(entry, measures).map_err(|error| FieldError {
        field: format!("builds[{at}].{}", error.field),
        ..error
    })
}

fn check(entry: &ImportEntry, measures: &Measures<'_>) -> Result<ImportedBuild, FieldError> {
    let chroots: Vec<ChrootName> = words("chroots", &entry.chroots)?;
    if chroots.is_empty() {
        return Err(FieldError::new("chroots", "there is none"));
    }
    require_one_release(&chroots).map_err(|error| FieldError::new("chroots", error))?;
    let limits = validate_limits(measures.limits, entry.memory_reqs, entry.timeout)?;
    let of_project = entry.copr.repos.as_deref().unwrap_or_default();
    let repositories = entry.repos.as_deref().unwrap_or(of_project);
    Ok(ImportedBuild {
        id: number("id", entry.id)?,
        submitter_id: number("user_id", entry.user_id)?,
        sources: sources(&entry.pkgs, measures.max_sources)?,
        repositories: words("repos", repositories)?,
        limits,
        memory_class: measures.classes.of(limits.memory_mib).name.clone(),
        submitted_at: time("submitted_on", entry.submitted_on)?,
        started_at: some_time("started_on", entry.started_on)?,
        ended_at: some_time("ended_on", entry.ended_on)?,
        state: state(entry)?,
        results: some("results", entry.results.as_deref())?,
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
        owner: some("copr.owner.name", owner)?,
        chroots: match &copr.chroots {
            Some(text) => words("copr.chroots", text)?,
            None => of_build.to_vec(),
        },
        repositories: words("copr.repos", copr.repos.as_deref().unwrap_or_default())?,
        created_at: some_time("copr.created_on", copr.created_on)?,
    })
}

/// As pollers of 2012 told it.
fn state(entry: &ImportEntry) -> Result<TaskState, FieldError> {
    let told = match (entry.status, entry.canceled) {
        (Some(1), _) => TaskState::Succeeded,
        (Some(0), _) => TaskState::Failed,
        (_, Some(true)) => TaskState::Cancelled,
        _ if entry.ended_on.is_some() => TaskState::Failed,
        _ if entry.started_on.is_some() => TaskState::Running,
        _ => TaskState::Waiting,
    };
    let state = entry.state.unwrap_or(told);
    match state {
        TaskState::Queued | TaskState::Running => Err(FieldError::new(
            "state",
            "a build that somebody has cannot be moved: let it end there, or import it as waiting",
        )
        .accepted("waiting, succeeded, failed or cancelled")),
        other => Ok(other),
    }
}

fn sources(pkgs: &str, most: usize) -> Result<Vec<(FileName, SourceUrl)>, FieldError> {
    let urls: Vec<SourceUrl> = words("pkgs", pkgs)?;
    if urls.is_empty() || urls.len() > most {
        let accepted = format!("1 to {most} URLs");
        return Err(FieldError::new("pkgs", "too few or too many").accepted(accepted));
    }
    let named = |(at, url): (usize, SourceUrl)| {
        let last = url.as_str().rsplit('/').next().unwrap_or_default();
        // A name is only what it is called here; its address says where it is.
        let name = last
            .parse()
            .or_else(|_| format!("source-{at}.src.rpm").parse())
            .map_err(|error| FieldError::new("pkgs", error))?;
        Ok((name, url))
    };
    urls.into_iter().enumerate().map(named).collect()
}

/// What is joined by spaces.
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

fn some<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, FieldError> {
    text.map(|text| {
        text.parse()
            .map_err(|error: T::Err| FieldError::new(field, error))
    })
    .transpose()
}

fn number(field: &str, number: i64) -> Result<i64, FieldError> {
    if (1..MAX_NUMBER).contains(&number) {
        return Ok(number);
    }
    Err(FieldError::new(field, "out of range").accepted(format!("1 to {}", MAX_NUMBER - 1)))
}

fn some_time(field: &str, seconds: Option<f64>) -> Result<Option<DateTime<Utc>>, FieldError> {
    seconds.map(|seconds| time(field, seconds)).transpose()
}

fn time(field: &str, seconds: f64) -> Result<DateTime<Utc>, FieldError> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction is what is to go"
    )]
    let whole = seconds as i64;
    let within = (0..=253_402_300_799).contains(&whole);
    within
        .then(|| DateTime::from_timestamp(whole, 0))
        .flatten()
        .ok_or_else(|| FieldError::new(field, "no time").accepted("seconds since 1970"))
}
